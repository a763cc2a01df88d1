# SPDX-License-Identifier: Apache-2.0
"""A device in simulated time for the arbiter: threads, clients that want some of them, an operating system between."""

from __future__ import annotations

from dataclasses import dataclass, field

from orion_server.arbiter import Arbiter, Sample
from orion_server.lease_page import Turn
from orion_server.limits import Limits, Mode


@dataclass
class Load:
    """A client as it is: `width` threads of work, `block` seconds that cannot be interrupted."""

    width: float = 1.0
    block: float = 0.0
    wants: bool = True
    obeys: bool = True
    claims: int | None = None  # None: the truth
    used: float = 0.0
    tied: float = 0.0  # until when its block runs

    def wanting(self) -> int:
        if self.claims is not None:
            return self.claims
        return max(1, round(self.width)) if self.wants else 0


@dataclass
class Machine:
    arbiter: Arbiter
    cores: float
    loads: dict[str, Load] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    now: float = 0.0
    due: float | None = None
    judged: int = 0
    idle: float = 0.0  # thread seconds since the last judgement

    def add(self, name: str, load: Load, ratio: int = 100, mode: Mode = Mode.FAIR) -> Load:
        self.loads[name] = load
        self.numbers[name] = len(self.numbers)
        self.arbiter.add(self.numbers[name], Limits(0, ratio, mode))
        self.due = self.now
        return load

    def remove(self, name: str) -> None:
        del self.loads[name]
        self.arbiter.remove(self.numbers[name])
        self.due = self.now

    def runs(self, name: str) -> bool:
        load, client = self.loads[name], self.arbiter.clients[self.numbers[name]]
        if client.stopped or not load.wants:
            return False
        return client.turn is not Turn.OVER or not load.obeys or load.tied > self.now

    def step(self, seconds: float) -> None:
        """Processors go to all running threads alike."""
        running = [name for name in self.loads if self.runs(name)]
        asked = sum(self.loads[name].width for name in running)
        speed = min(1.0, self.cores / asked) if asked else 1.0
        for name in running:
            load = self.loads[name]
            load.used += load.width * speed * seconds
            if load.block and load.tied <= self.now:
                load.tied = self.now + load.block
        self.idle += max(0.0, self.cores - asked) * seconds
        self.now += seconds

    def run(self, seconds: float, step: float = 0.001) -> None:
        end = self.now + seconds
        while self.now < end:
            if self.due is not None and self.due <= self.now:
                samples = {
                    self.numbers[name]: Sample(load.used, load.wanting())
                    for name, load in self.loads.items()
                }
                after = self.arbiter.judge(self.now, samples, self.idle)
                self.idle = 0.0
                self.due = None if after is None else self.now + after
                self.judged += 1
            self.step(step)

    def shares(self, seconds: float) -> dict[str, float]:
        """What each got of what was used, over the next `seconds`."""
        before = {name: load.used for name, load in self.loads.items()}
        self.run(seconds)
        got = {name: load.used - before[name] for name, load in self.loads.items()}
        total = sum(got.values()) or 1.0
        return {name: value / total for name, value in got.items()}
