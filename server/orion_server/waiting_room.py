# SPDX-License-Identifier: Apache-2.0
"""Guests that come while a session is just ending: what it leaves may be what they need, so they wait for that long.

A guest keeps its lease token while it waits; whoever is sent away or hangs up gives it back.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from . import messages, wire
from .errors import Refusal
from .greeter import Guest
from .loop import Loop

log = logging.getLogger("orion.server")

SECONDS = 2.0  # a killed worker is reaped long before
GUESTS_MOST = 64


@dataclass
class Waiting:
    guest: Guest
    deadline: float
    refusal: Refusal


class WaitingRoom:
    def __init__(
        self, loop: Loop, admit: Callable[[Guest], None], give_up: Callable[[Guest], None]
    ) -> None:
        self._loop = loop
        self._admit = admit  # raises Refusal as long as there is no room
        self._give_up = give_up  # the guest goes without having been admitted
        self._waiting: deque[Waiting] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, guest: Guest, refusal: Refusal) -> None:
        """Takes the guest over. The refusal is raised again when nobody else fits in here."""
        if len(self._waiting) >= GUESTS_MOST:
            raise refusal
        self._waiting.append(Waiting(guest, time.monotonic() + SECONDS, refusal))
        self._watch(guest)

    def next_deadline(self) -> float:
        return min((w.deadline for w in self._waiting), default=math.inf)

    def retry(self, last: bool = False) -> None:
        """In the order of their coming. last: nothing will change any more, who does not fit is sent away."""
        for _ in range(len(self._waiting)):
            if not self._waiting:
                return  # a session that failed at once has been here meanwhile
            waiting = self._waiting.popleft()
            self._loop.unwatch(waiting.guest.client)
            try:
                self._admit(waiting.guest)
            except Refusal as refusal:
                waiting.refusal = refusal
                if last:
                    self._send_away(waiting)
                else:
                    self._waiting.append(waiting)
                    self._watch(waiting.guest)

    def remove(self, which: Callable[[Guest], bool], refusal: Refusal) -> None:
        """They have nothing to wait for any more."""
        for waiting in [w for w in self._waiting if which(w.guest)]:
            self._waiting.remove(waiting)
            waiting.refusal = refusal
            self._send_away(waiting)

    def expire(self, now: float) -> None:
        while self._waiting and self._waiting[0].deadline <= now:
            self._send_away(self._waiting.popleft())

    def close(self) -> None:
        while self._waiting:
            self._send_away(self._waiting.popleft())

    def _watch(self, guest: Guest) -> None:
        """It has nothing to say now: whatever there is to read, the end of its connection above all, ends its wait."""
        self._loop.watch(guest.client, lambda: self._hung_up(guest))

    def _hung_up(self, guest: Guest) -> None:
        left = [w for w in self._waiting if w.guest is not guest]
        if len(left) == len(self._waiting):
            return  # admitted, or sent away, in this very turn
        self._waiting = deque(left)
        log.info("a client has left while it waited for a vGPU")
        self._leave(guest)

    def _leave(self, guest: Guest) -> None:
        self._loop.unwatch(guest.client)
        self._give_up(guest)
        guest.client.close()

    def _send_away(self, waiting: Waiting) -> None:
        refusal = waiting.refusal
        log.info("refused a client: %s", refusal)
        with contextlib.suppress(OSError):
            said = wire.encode_refusal(refusal, waiting.guest.hello)
            messages.send_packet(waiting.guest.client, said)
        self._leave(waiting.guest)
