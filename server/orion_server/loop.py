# SPDX-License-Identifier: Apache-2.0
"""One selector and its handlers: a handler that fails costs its peer, never the loop."""

from __future__ import annotations

import contextlib
import logging
import select
import selectors
import socket
from collections.abc import Callable

log = logging.getLogger("orion.server")


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._ends: select.epoll | None = None
        self._end_handlers: dict[int, Callable[[], None]] = {}

    def watch(self, watched: socket.socket | int, handler: Callable[[], None]) -> None:
        """Calls the handler whenever there is something to read; it must not wait for anything."""
        self._selector.register(watched, selectors.EVENT_READ, handler)

    def watch_end(self, watched: socket.socket, handler: Callable[[], None]) -> None:
        """Calls the handler when the other side has hung up; what it sends is for another process to read."""
        if self._ends is None:
            self._ends = select.epoll()
            self.watch(self._ends.fileno(), self._on_ends)
        self._end_handlers[watched.fileno()] = handler
        self._ends.register(watched, select.EPOLLRDHUP)

    def _on_ends(self) -> None:
        for fd, _ in self._ends.poll(0) if self._ends is not None else ():
            handler = self._end_handlers.get(fd)
            if handler is None:
                continue
            try:
                handler()
            except Exception:
                log.exception("a handler failed; its peer is cut off")
                self.unwatch(fd)

    def unwatch(self, watched: socket.socket | int) -> None:
        """Safe for what is not watched, or closed already."""
        fd = watched if isinstance(watched, int) else watched.fileno()
        if fd in self._end_handlers and self._ends is not None:
            del self._end_handlers[fd]
            with contextlib.suppress(OSError):
                self._ends.unregister(fd)
        if fd >= 0:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(fd)

    def turn(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            handler: Callable[[], None] = key.data
            try:
                handler()
            except Exception:
                # a mistake of ours: that peer is not listened to any more, the others are
                log.exception("a handler failed; its peer is cut off")
                self.unwatch(key.fd)

    def descriptors(self) -> list[int]:
        """Its own and all that it watches: what a forked child must not keep."""
        own = getattr(self._selector, "fileno", None)
        watched = [key.fd for key in self._selector.get_map().values()]
        return [*watched, own()] if own is not None else watched

    def close(self) -> None:
        if self._ends is not None:
            self._ends.close()
        self._selector.close()
