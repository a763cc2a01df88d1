# SPDX-License-Identifier: Apache-2.0
"""Two waits with more than one thread on a side: the worker's loop, which its own process may wake (orion_port_wake),
and the event ring, which one client thread reads while another waits for an event without taking it."""

from __future__ import annotations

from dataclasses import dataclass

from model_ops import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    Fence,
    FutexWake,
    Get,
    Load,
    Put,
    Store,
    Swap,
    Violation,
)
from model_wait import Steps, Waiting

BROKEN = {
    "wake unseen": "port.c: the loop looks for its process's wake before it says that it sleeps, and not after",
    "wake without a fence": "port.c: orion_port_wake looks at the count of sleeps without a fence",
    "one wake for all": "port.c: of the client threads that wait for one event, a single one is woken",
}


@dataclass(frozen=True)
class PortWake(Waiting):
    """The loop waits for records that never come; another thread of its process wakes it `times` times."""

    times: int = 1

    def words(self) -> dict[str, int]:
        return dict.fromkeys(("head", "wake", "sleeps", "worker_sleeping", "heard"), 0)

    def loop(self) -> Steps:
        heard = 0
        while heard < self.times:
            yield from self.next_slow()
            heard += 1
            yield Store("heard", heard, RELEASE)

    def next_slow(self) -> Steps:
        while True:
            wake = yield Load("wake", ACQUIRE)
            if wake:
                wake = yield Swap("wake", 0)
            if wake:
                return
            yield from self.orion_wait_changed("head", "sleeps", 1, 0, "worker_sleeping", "wake")

    def waker(self) -> Steps:
        """Each wake is sent after the one before has been heard."""
        for time in range(self.times):
            yield from self.orion_port_wake()
            heard = time
            while heard == time:
                heard = yield Load("heard", ACQUIRE)

    def orion_port_wake(self) -> Steps:
        yield Swap("wake", 1)
        if self.broken != "wake without a fence":
            yield Fence()
        sleeping = yield Load("sleeps", ACQUIRE)
        now = sleeping
        while sleeping % 2 and now == sleeping:
            woken = yield FutexWake("head", 1)
            if woken:
                return
            now = yield Load("sleeps", ACQUIRE)


@dataclass(frozen=True)
class Events(Waiting):
    """The worker sends `count` events; one client thread takes the first, others wait until there is one to take."""

    count: int = 1

    def words(self) -> dict[str, int]:
        return dict.fromkeys(("event_head", "event_tail", "event_sleeping"), 0)

    def cells(self) -> dict[str, int]:
        return {f"event{number}": 0 for number in range(self.count)}

    def worker(self) -> Steps:
        for number in range(self.count):
            yield from self.orion_port_event(number)

    def orion_port_event(self, number: int) -> Steps:
        yield Put(f"event{number}", number + 1)
        yield Store("event_head", number + 1, RELEASE)
        yield from self.orion_wake_order()
        sleeping = yield Load("event_sleeping", RELAXED)
        if sleeping:
            yield FutexWake("event_head", 1 if self.broken == "one wake for all" else 99)

    def orion_memory_event_wait(self) -> Steps:
        head = 0
        while head == 0:
            head = yield Load("event_head", ACQUIRE)
            if head == 0:
                yield from self.orion_wait_changed("event_head", "event_sleeping", -1, 0)
        value = yield Get("event0")
        if value != 1:
            raise Violation("orion_memory_event_wait: not the event that was sent")
        yield Store("event_tail", 1, RELEASE)

    def orion_memory_event_there(self) -> Steps:
        while True:
            tail = yield Load("event_tail", ACQUIRE)
            head = yield Load("event_head", ACQUIRE)
            if head != tail:
                return
            yield from self.orion_wait_changed("event_head", "event_sleeping", -1, tail)
