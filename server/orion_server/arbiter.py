# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is on a device: start-time fair queueing over measured device time. No clock, no I/O.

Each client has a virtual time, the device time it has used divided by its weight. Turns are short; at the end of each,
those with the smallest virtual time go next, until the device is full. A client that comes back from idleness begins
at the present virtual time: what it did not use is not saved up. One that ran ahead, in a block that could not be
interrupted, say, waits until the others have caught up. A client that does nothing keeps the device's door open, so
that its first kernel needs nobody's leave. docs/sharing.md tells what comes of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .lease_page import Turn
from .limits import Limits, Mode

SLICE = 0.005  # seconds of a turn while several clients compete
EXCLUSIVE_SLICE = (
    0.02  # switching costs more than a turn of SLICE is worth where clients must not overlap
)
LOOK = 0.02  # between looks while one client works and others could begin to
IDLE_LOOK = 0.05  # while none does
CROWD = 16  # clients that compete, above which turns get longer, so that judging costs no more
OVERRUN = (
    0.1  # seconds of device time after the end of its turn, before a client is stopped by force
)
STOP_MOST = 1.0  # seconds at a time: then it may answer its client for
RELEASE = 0.02  # seconds
BURST = 0.02  # seconds: what a capped client may catch up with after a pause
ROOM = 0.5  # of a thread: less is not worth another client
BUSY = 0.01  # of a thread: who uses less does nothing
PATIENCE = 0.05  # seconds until one who claims to work and uses nothing is believed to be idle


@dataclass(frozen=True)
class Sample:
    """What was seen of a client: `used` is measured from outside, `wanting` only its own claim."""

    used: float  # device seconds since it came
    wanting: int  # threads that work or wait for their turn


@dataclass(eq=False)
class Client:
    limits: Limits
    used: float = 0.0
    spent: float = 0.0  # part of it, since the last judgement
    virtual: float = 0.0  # seconds of the whole device
    active: bool = False
    quiet: float = 0.0  # seconds of its turns in which it used nothing
    turn: Turn = Turn.ALONE
    stopped: bool = False  # by force
    stopped_at: float = 0.0
    released_at: float = 0.0  # when it was last seen stopped
    width: float = 0.0  # threads that it keeps busy, smoothed
    holder: bool = False  # its width keeps others out
    credit: float = 0.0  # mode CAPPED: device seconds it may use now; negative: debt
    overrun: float = 0.0  # device seconds since its turn ended

    @property
    def weight(self) -> float:
        return self.limits.ratio / 100

    @property
    def capped(self) -> bool:
        return self.limits.mode is Mode.CAPPED and self.limits.ratio < 100


@dataclass
class Arbiter:
    """Device time is counted in thread seconds: a device of 4 threads gives 4 in a second."""

    threads: int = 1
    clients: dict[int, Client] = field(default_factory=dict)
    virtual: float = 0.0  # the least virtual time of those who work
    last: float | None = None
    runners: list[Client] = field(default_factory=list)  # whose turn it is, first come first

    def add(self, key: int, limits: Limits) -> Client:
        """A client that has used nothing yet; the next turn may be due at once."""
        client = Client(limits, virtual=self.virtual)
        self.clients[key] = client
        return client

    def remove(self, key: int) -> None:
        gone = self.clients.pop(key, None)
        self.runners = [c for c in self.runners if c is not gone]

    def judge(
        self, now: float, samples: Mapping[int, Sample], idle: float = math.inf
    ) -> float | None:
        """Ends the turn that has passed and begins the next: sets turn and stopped of each client. Returns the seconds
        until it wants to be asked again; None: not before a client comes. idle: thread seconds since the last
        judgement in which the host had nothing to do."""
        passed = 0.0 if self.last is None else max(0.0, now - self.last)
        self.last = now
        before = [c for c in self.clients.values() if c.active]
        for key, client in self.clients.items():
            sample = samples.get(key, Sample(client.used, 0))
            client.spent = max(0.0, sample.used - client.used)
            client.used += client.spent
            client.active = self._is_active(client, sample, passed)
            self._observe(client, sample, passed)
        active = [c for c in self.clients.values() if c.active]
        unused = passed * self.threads - sum(c.spent for c in self.clients.values())
        unused = max(0.0, min(unused, idle))
        for client in before:
            self._charge(client, unused)
        self._forgive()
        self._advance([c for c in before if c.active])
        for client in active:
            if client not in before:
                # up to a slice in hand: a short burst after a pause runs at once
                client.virtual = max(client.virtual, self.virtual - SLICE / client.weight)
                self._charge(client, unused)
        self._advance(active)
        self._give_turns(active)
        self._stop_and_release(now)
        return self._next_look(active)

    def _is_active(self, client: Client, sample: Sample, passed: float) -> bool:
        """An open client is judged by what it uses, though a busy host may keep it from that for a moment; one that
        waits by what it claims. One that had to be stopped is taken to have more of the same in mind."""
        if client.spent > BUSY * passed or client.stopped:
            client.quiet = 0.0
            return True
        if client.turn is Turn.OVER:
            return sample.wanting > 0
        client.quiet += passed
        return client.active and sample.wanting > 0 and client.quiet < PATIENCE

    def _charge(self, client: Client, unused: float) -> None:
        """A holder pays for what it left unused: claiming a wide device and leaving it idle gains nothing."""
        charged = client.spent + (unused if client.holder and client.active else 0.0)
        client.virtual += charged / (client.weight * self.threads)

    def _observe(self, client: Client, sample: Sample, passed: float) -> None:
        width = float(min(sample.wanting, self.threads))
        if client.turn is Turn.OVER:
            client.overrun += client.spent
        else:
            client.overrun = 0.0
            width = max(width, client.spent / passed if passed else 0.0)
        client.width = (client.width + width) / 2
        if client.capped:
            rate = client.weight * self.threads
            client.credit = min(client.credit + rate * passed, rate * BURST) - client.spent

    def _forgive(self) -> None:
        """Who had the first turn and left room for others has no claim to what it left."""
        later = None
        for client in reversed(self.runners):
            if later is not None and client.active:
                client.virtual = max(client.virtual, later - SLICE / client.weight)
            if client.active:
                later = client.virtual if later is None else min(later, client.virtual)

    def _advance(self, working: list[Client]) -> None:
        if working:
            self.virtual = max(self.virtual, min(c.virtual for c in working))

    def _give_turns(self, active: list[Client]) -> None:
        """In the order of virtual time until the device is full."""
        candidates = sorted(
            (c for c in active if not c.capped or c.credit > 0), key=lambda c: c.virtual
        )
        runners: list[Client] = []
        room = float(self.threads)
        for client in candidates:
            alone = client.limits.mode is Mode.EXCLUSIVE
            if runners and (alone or room < ROOM):
                continue
            runners.append(client)
            room = 0.0 if alone else room - client.width
        self.runners = runners
        closed = bool(runners) and runners[0].limits.mode is Mode.EXCLUSIVE
        for client in self.clients.values():
            # an idle one begins without asking, unless that would disturb
            spent = client.capped and client.credit <= 0
            idle = not client.active and not closed and not spent
            client.turn = Turn.ALONE if idle else Turn.OVER
            client.holder = False
        for client in runners:
            client.turn = Turn.SHARED if len(active) > 1 else Turn.ALONE
            client.holder = len(runners) == 1 and len(active) > 1

    def _stop_and_release(self, now: float) -> None:
        """By force only while somebody else is kept from his share, or against a cap."""
        for client in self.clients.values():
            needed = client.turn is Turn.OVER and (bool(self.runners) or client.capped)
            if client.stopped:
                client.stopped = needed and now < client.stopped_at + STOP_MOST
            elif needed and client.overrun > OVERRUN and now >= client.released_at + RELEASE:
                client.stopped, client.stopped_at = True, now
            if client.stopped:
                client.released_at = now

    def _next_look(self, active: list[Client]) -> float | None:
        if len(self.clients) < 2 and not any(c.capped for c in self.clients.values()):
            return None
        if len(active) > 1 or any(c.capped for c in active):
            exclusive = any(c.limits.mode is Mode.EXCLUSIVE for c in active)
            slice_ = EXCLUSIVE_SLICE if exclusive else SLICE
            return slice_ * max(1.0, len(active) / CROWD)
        return LOOK if active else IDLE_LOOK
