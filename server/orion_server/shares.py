# SPDX-License-Identifier: Apache-2.0
"""The arbiter at work: measures the workers, gives them their turns through their lease pages, stops who goes on."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field

from .arbiter import LOOK, Arbiter, Client, Sample
from .lease_page import Turn
from .limits import Limits
from .meters import IdleHost, OwnAccount, ProcessClock, meter_of
from .workers import Worker

HISTORY_SECONDS = 1.0  # that the share in use is averaged over
HISTORY_STEP = 0.2


@dataclass
class Account:
    """One worker's use of the device."""

    worker: Worker
    meter: ProcessClock | OwnAccount
    stopped: bool = False
    sample: Sample = field(default_factory=lambda: Sample(0.0, 0))
    looked: float = 0.0
    history: deque[tuple[float, float]] = field(default_factory=deque)  # (when, used), ascending

    def used(self) -> float:
        """Device seconds (of threads) since the session began."""
        return self.meter.used()

    def note(self, now: float) -> float:
        used = self.used()
        if not self.history or now >= self.history[-1][0] + HISTORY_STEP:
            self.history.append((now, used))
            while len(self.history) > 1 and self.history[1][0] <= now - HISTORY_SECONDS:
                self.history.popleft()
        return used

    def rate(self, now: float) -> float:
        """Threads of the device that it has kept busy lately."""
        used = self.note(now)
        then, before = self.history[0]
        return (used - before) / (now - then) if now > then else 0.0


class Shares:
    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._arbiter = Arbiter()
        self._accounts: dict[int, Account] = {}
        self._idle = None if kind == "cuda" else IdleHost()  # of a GPU nobody says
        self._noted = 0.0
        self.due = math.inf  # monotonic: when turn() wants to be called

    @property
    def threads(self) -> int:
        return self._arbiter.threads

    def set_threads(self, threads: int) -> None:
        """Device seconds in a second."""
        self._arbiter.threads = max(1, threads)

    def add(self, worker: Worker, limits: Limits) -> None:
        """From now on that worker's time counts. Its process is there."""
        account = Account(worker, meter_of(self._kind, worker))
        account.note(time.monotonic())
        self._accounts[worker.id] = account
        self._arbiter.add(worker.id, limits)
        self.due = 0.0

    def change(self, worker: Worker, limits: Limits) -> None:
        if worker.id in self._arbiter.clients:
            self._arbiter.clients[worker.id].limits = limits
            self.due = 0.0

    def remove(self, worker: Worker) -> None:
        if self._accounts.pop(worker.id, None) is not None:
            self._arbiter.remove(worker.id)
            self.due = 0.0

    def turn(self, now: float) -> None:
        """Called when due, and now and then anyway."""
        if now < self.due:
            return
        clients = self._arbiter.clients
        samples = {n: self._look_at(a, clients[n], now) for n, a in self._accounts.items()}
        idle = self._idle.passed() if self._idle is not None else math.inf
        after = self._arbiter.judge(now, samples, idle)
        self.due = math.inf if after is None else now + after
        for number, account in self._accounts.items():
            client = self._arbiter.clients[number]
            account.worker.lease.set_turn(client.turn)
            if client.stopped != account.stopped:
                account.stopped = client.stopped
                account.worker.halt(client.stopped)

    def _look_at(self, account: Account, client: Client, now: float) -> Sample:
        """Those that do nothing are many, perhaps: they are looked at less often."""
        idle = not client.active and client.turn is Turn.ALONE
        if not idle or now >= account.looked + LOOK:
            account.looked = now
            account.sample = Sample(account.note(now), account.worker.stats.wanting())
        return account.sample

    def note_all(self, now: float) -> None:
        """Keeps the histories going while nobody competes."""
        if now < self._noted + HISTORY_STEP:
            return
        self._noted = now
        for account in self._accounts.values():
            account.note(now)

    def close(self) -> None:
        if self._idle is not None:
            self._idle.close()

    def seconds_of(self, worker: Worker) -> float:
        account = self._accounts.get(worker.id)
        return account.used() if account else 0.0

    def busy_of(self, worker: Worker) -> float:
        """Part of the device that the worker has used lately: 0 to 1."""
        account = self._accounts.get(worker.id)
        if account is None:
            return 0.0
        return min(1.0, max(0.0, account.rate(time.monotonic()) / self.threads))
