# SPDX-License-Identifier: Apache-2.0
"""Channels in asyncio: what waits is armed, and the channel's descriptor wakes the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orion_shm._channel import Channel


class Waiter:
    """The tasks of one event loop that wait for something of one channel."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.loop: asyncio.AbstractEventLoop | None = None
        self.watched = -1
        self.readers: set[asyncio.Future[None]] = set()
        self.calls: dict[int, asyncio.Future[None]] = {}

    # ---- the descriptor

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        if self.watched >= 0 and self.loop is not loop:
            raise RuntimeError(f"{self.channel.address}: another event loop waits for this channel")
        if self.watched < 0:
            self.loop, self.watched = loop, self.channel.fileno()
            if self.watched >= 0:  # else it has ended: whoever waits finds out
                loop.add_reader(self.watched, self._wake)

    def _unwatch(self) -> None:
        if self.watched >= 0 and not self.readers and not self.calls:
            assert self.loop is not None
            self.loop.remove_reader(self.watched)
            self.watched = -1

    def _wake(self) -> None:
        """Something has come, or the channel has ended: each that waits looks for itself and arms again."""
        self.channel._disarm()
        for future in [*self.readers, *self.calls.values()]:
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        """The channel is about to be closed: whoever waits finds out."""
        if self.watched >= 0 and self.loop is not None and not self.loop.is_closed():
            self.loop.remove_reader(self.watched)
            self.watched = -1
            self.loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        for future in [*self.readers, *self.calls.values()]:
            if not future.done():
                future.set_result(None)

    # ---- what tasks do

    async def recv(self) -> Any:
        while True:
            got = self.channel._try_recv()
            if got is not None:
                return got[0]
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.readers.add(future)
            try:
                self._watch()
                if not self.channel._arm():
                    continue  # it came in between
                await future
            finally:
                self.readers.discard(future)
                self._unwatch()

    async def send(self, data: Any) -> None:
        try:
            self.channel._try_send(data)
        except TimeoutError:
            await asyncio.get_running_loop().run_in_executor(None, self.channel.send, data)

    async def call(self, data: Any) -> Any:
        try:
            number = self.channel._call_begin(data)
        except TimeoutError:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, self.channel.call, data)
        answered = False
        try:
            while True:
                got = self.channel._call_try(number)
                if got is not None:
                    answered = True
                    return got[0]
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self.calls[number] = future
                try:
                    self._watch()
                    if not self.channel._call_arm(number):
                        continue  # it came in between
                    await future
                finally:
                    del self.calls[number]
                    self._unwatch()
        except asyncio.CancelledError:
            if not answered:
                self.channel._call_cancel(number)
            raise
