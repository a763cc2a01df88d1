# SPDX-License-Identifier: Apache-2.0
"""Guests that come while a session is just ending: what it leaves may be what they need, so they wait for that long."""

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

log = logging.getLogger("orion.server")

SECONDS = 2.0  # a killed worker is reaped long before
GUESTS_MOST = 64


@dataclass
class Waiting:
    guest: Guest
    deadline: float
    refusal: Refusal


class WaitingRoom:
    def __init__(self, admit: Callable[[Guest], None]) -> None:
        self._admit = admit  # raises Refusal as long as there is no room
        self._waiting: deque[Waiting] = deque()

    def put(self, guest: Guest, refusal: Refusal) -> None:
        """Takes the guest over. The refusal is raised again when nobody else fits in here."""
        if len(self._waiting) >= GUESTS_MOST:
            raise refusal
        self._waiting.append(Waiting(guest, time.monotonic() + SECONDS, refusal))

    def next_deadline(self) -> float:
        return min((w.deadline for w in self._waiting), default=math.inf)

    def retry(self, last: bool = False) -> None:
        """In the order of their coming. last: nothing will change any more, who does not fit is sent away."""
        for _ in range(len(self._waiting)):
            if not self._waiting:
                return  # a session that failed at once has been here meanwhile
            waiting = self._waiting.popleft()
            try:
                self._admit(waiting.guest)
            except Refusal as refusal:
                waiting.refusal = refusal
                if last:
                    self._send_away(waiting)
                else:
                    self._waiting.append(waiting)

    def expire(self, now: float) -> None:
        while self._waiting and self._waiting[0].deadline <= now:
            self._send_away(self._waiting.popleft())

    def close(self) -> None:
        while self._waiting:
            self._send_away(self._waiting.popleft())

    def _send_away(self, waiting: Waiting) -> None:
        refusal = waiting.refusal
        log.info("refused a client: %s", refusal)
        welcome = wire.Welcome(
            status=refusal.status, cuda_result=refusal.cuda_result, message=str(refusal)
        )
        with contextlib.suppress(OSError):
            messages.send_packet(waiting.guest.client, wire.encode_welcome(welcome))
        waiting.guest.client.close()
