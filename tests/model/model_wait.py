# SPDX-License-Identifier: Apache-2.0
"""Waiting for a word to change, as in channel/wait.c and wait.h; what all the models share."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from model_ops import (
    RELAXED,
    Add,
    Fence,
    FutexWait,
    Get,
    Load,
    Membarrier,
    Op,
    Put,
    Store,
)

Steps = Generator[Op, int, None]
BROKEN = {
    "no barrier before the second look": "wait.c: the sleeper neither fences nor calls membarrier",
    "no fence at the sender": "wait.h: without membarrier, the sender looks at the flag without a fence",
    "sleep on the second look": "wait.c: the futex compares with what was seen last, not with what was waited for",
}


@dataclass(frozen=True)
class Waiting:
    """`broken` names one rule that this protocol does not keep: the checker has to notice each of BROKEN."""

    membarrier: bool = True
    broken: str = ""

    def order(self, order: str, rule: str) -> str:
        return RELAXED if self.broken == rule else order

    def orion_wait_changed(
        self, word: str, sleeping: str, leave: int, old: int, mirror: str = "", also: str = ""
    ) -> Steps:
        """`mirror`: the count of sleeps is our own, the other side is shown a copy. `also`: a word of this process that
        keeps us awake as well."""
        value = yield Load(word, RELAXED)
        if value != old:
            return
        yield from self.announce(sleeping, mirror, 1)
        if self.broken != "no barrier before the second look":
            yield Membarrier() if self.membarrier else Fence()
        value = yield Load(word, RELAXED)
        kept = 0
        if also and self.broken != "wake unseen":
            kept = yield Load(also, RELAXED)
        if self.broken == "sleep on the second look":
            yield FutexWait(word, value)
        elif value == old and not kept:
            yield FutexWait(word, old)
        yield from self.announce(sleeping, mirror, leave)

    def announce(self, sleeping: str, mirror: str, change: int) -> Steps:
        if sleeping.startswith("own_"):  # nobody else looks at it
            count = yield Get(sleeping)
            yield Put(sleeping, count + change)
        else:
            count = yield Add(sleeping, change)
        if mirror:
            yield Store(mirror, count + change, RELAXED)

    def orion_wake_order(self) -> Steps:
        """Between the store that a sleeper may wait for and the load of its flag."""
        if not self.membarrier and self.broken != "no fence at the sender":
            yield Fence()
