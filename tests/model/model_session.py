# SPDX-License-Identifier: Apache-2.0
"""The protocol of a session, step by step as in C: each generator has the name of the C function whose steps it takes.

Left out, because they change nothing here: spinning (a thread that looks often is one that looks late), the 50 ms limit
of a sleep (it hides a lost wake-up, which is what is looked for), and the checks against a peer that breaks the rules
(tests/csrc/transport/hostile_test.c). Sizes are in words of 8 bytes, and the ring is far smaller than the real one in
relation to its records, so that laps, padding and full rings come soon; indices wrap at twice the ring.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from model_ops import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    FutexWake,
    Get,
    Load,
    Lock,
    Op,
    Put,
    Store,
    Unlock,
    Violation,
)
from model_wait import Steps, Waiting

BROKEN = {
    "look at the flag first": "the sender looks whether anybody sleeps before it publishes",
    "publish first": "ring.h: head moves before the record is written",
    "plain head": "ring.h: head is published without release",
    "plain look": "ring.h: head is read without acquire",
    "plain tail": "ring.h: tail is published without release",
    "plain refresh": "ring.h: tail is read without acquire",
    "plain sequence": "port.c: the answer's sequence is published without release",
    "plain await": "memory.c: the answer's sequence is read without acquire",
    "sequence first": "port.c: the answer's sequence is published before its data",
    "tail is kept": "port.c: the worker sleeps without saying what it has consumed",
    "tail before the copy": "ring.c: a record is given back before it has been copied",
    "wakes are not counted": "port.c: worker_sleeping is 1 or 0, and the sender still wakes once per value",
    "a wake for nobody counts": "memory.c: one wake per sleep, even if it came before the sleep",
}
PAD = -100  # a header that says: skip this many words (PAD - words)
MORE = 100  # headers are number * MORE + words


@dataclass(frozen=True)
class Session(Waiting):
    """A worker and some client threads; `calls[i]` lists the records of client thread i: (words, waits)."""

    calls: tuple[tuple[tuple[int, bool], ...], ...] = ()
    ring: int = 8
    part: int = 2  # tail is published each ring / part (8 in C: a rarer tail is the harder case)

    # ---- what there is ----

    def words(self) -> dict[str, int]:
        words = dict.fromkeys(("head", "tail", "worker_sleeping", "space_waiting", "lock"), 0)
        for thread in range(len(self.calls)):
            words |= {f"sequence{thread}": 0, f"waiting{thread}": 0}
        return words

    def cells(self) -> dict[str, int]:
        cells = {f"ring{at}": 0 for at in range(self.ring)}
        for thread in range(len(self.calls)):
            cells |= {f"result{thread}": 0, f"data{thread}": 0}
        return cells

    def owned(self) -> dict[str, int]:
        """The producer's, under its lock: head, tail, the latest wake. The worker's: its count of sleeps."""
        return dict.fromkeys(("own_head", "own_tail", "own_woken", "own_sleeps"), 0)

    def after(self, index: int, words: int) -> int:
        return (index + words) % (2 * self.ring)

    def between(self, later: int, earlier: int) -> int:
        return (later - earlier) % (2 * self.ring)

    # ---- channel/ring.h, ring.c ----

    def orion_ring_claim(self, head: int, tail: int, words: int) -> Generator[Op, int, int]:
        """Result: words of padding before the record, or -1: full."""
        to_end = self.ring - head % self.ring
        padding = 0 if words <= to_end else to_end
        if self.ring - self.between(head, tail) < words + padding:
            return -1
        if padding:
            yield Put(f"ring{head % self.ring}", PAD - padding)
        return padding

    def orion_ring_refresh(self, head: int, tail: int) -> Generator[Op, int, int]:
        new = yield Load("tail", self.order(ACQUIRE, "plain refresh"))
        if self.between(head, new) > self.between(head, tail):
            raise Violation("orion_ring_refresh: the worker's tail went backwards")
        return new

    def orion_ring_next(self, tail: int, head: int) -> Generator[Op, int, tuple[int, int, int]]:
        """Result: the record (0 = none), and our tail and the head that we know behind it."""
        while True:
            if tail == head:
                head = yield Load("head", self.order(ACQUIRE, "plain look"))
                if head == tail:
                    return 0, tail, head
            at = tail % self.ring
            header = yield Get(f"ring{at}")
            if header <= PAD:
                if at + PAD - header != self.ring:
                    raise Violation("orion_ring_next: padding that does not end the ring")
                tail = self.after(tail, PAD - header)
                continue
            number, words = divmod(header, MORE)
            if number == 0 or at + words > self.ring or words > self.between(head, tail):
                raise Violation("orion_ring_next: a header that was never written (torn record)")
            if self.broken == "tail before the copy":
                yield Store("tail", self.after(tail, words), RELEASE)
            for index in range(1, words):
                value = yield Get(f"ring{at + index}")
                if value != number:
                    raise Violation(f"orion_ring_next: word {index} of a torn record")
            return header, self.after(tail, words), head

    # ---- transport/memory.c: the client ----

    def client(self, thread: int) -> Steps:
        """Several threads take the process's own lock around claim and commit, as client/call.c does."""
        for index in range(len(self.calls[thread])):
            words, waits = self.calls[thread][index]
            number = 1 + index * len(self.calls) + thread
            yield Lock("lock")
            head = yield Get("own_head")
            tail = yield Get("own_tail")
            padding, tail = yield from self.memory_claim(head, tail, words)
            start, head = self.after(head, padding), self.after(head, padding + words)
            if self.broken == "publish first":
                yield Store("head", head, RELEASE)
            yield Put(f"ring{start % self.ring}", number * MORE + words)
            for at in range(1, words):
                yield Put(f"ring{(start + at) % self.ring}", number)
            yield Put("own_head", head)
            yield Put("own_tail", tail)
            yield from self.memory_commit(head)
            yield Unlock("lock")
            if waits:
                yield from self.memory_await(thread, number)

    def memory_claim(self, head: int, tail: int, words: int) -> Generator[Op, int, tuple[int, int]]:
        """claim_slow included: refresh, try again, sleep on tail."""
        padding = yield from self.orion_ring_claim(head, tail, words)
        while padding < 0:
            tail = yield from self.orion_ring_refresh(head, tail)
            padding = yield from self.orion_ring_claim(head, tail, words)
            if padding < 0:
                yield from self.orion_wait_changed("tail", "space_waiting", -1, tail)
        return padding, tail

    def memory_commit(self, head: int) -> Steps:
        if self.broken == "look at the flag first":
            sleeping = yield Load("worker_sleeping", RELAXED)
        if self.broken != "publish first":
            yield Store("head", head, self.order(RELEASE, "plain head"))
        if self.broken != "look at the flag first":
            yield from self.orion_wake_order()
            sleeping = yield Load("worker_sleeping", RELAXED)
        if self.broken == "wakes are not counted":
            sleeping %= 2
        woken = yield Get("own_woken")
        if sleeping % 2 and sleeping != woken:
            count = yield FutexWake("head", 1)
            if count > 0 or self.broken == "a wake for nobody counts":
                yield Put("own_woken", sleeping)

    def memory_await(self, thread: int, number: int) -> Steps:
        """await_slow included."""
        order = self.order(ACQUIRE, "plain await")
        seen = yield Load(f"sequence{thread}", order)
        while seen != number:
            yield from self.orion_wait_changed(f"sequence{thread}", f"waiting{thread}", -1, seen)
            seen = yield Load(f"sequence{thread}", order)
        for cell in (f"result{thread}", f"data{thread}"):
            value = yield Get(cell)
            if value != number:
                raise Violation(f"memory_await: {cell} of another answer")

    # ---- transport/port.c: the worker ----

    def worker(self) -> Steps:
        tail = head = published = 0
        left = sum(len(calls) for calls in self.calls)
        last = (0,) * len(self.calls)
        while left > 0:
            if self.between(tail, published) >= self.ring // self.part:
                published = yield from self.publish_tail(tail, published)
            header, tail, head = yield from self.orion_ring_next(tail, head)
            if header == 0:
                if self.broken != "tail is kept":
                    published = yield from self.publish_tail(tail, published)
                while header == 0:  # next_slow, wait_for_client
                    yield from self.orion_wait_changed(
                        "head", "own_sleeps", 1, tail, "worker_sleeping"
                    )
                    header, tail, head = yield from self.orion_ring_next(tail, head)
            number, words = divmod(header, MORE)
            thread, index = (number - 1) % len(self.calls), (number - 1) // len(self.calls)
            if index != last[thread] or self.calls[thread][index][0] != words:
                raise Violation(f"worker: record {number} came twice, too soon or never")
            last = (*last[:thread], index + 1, *last[thread + 1 :])
            left -= 1
            if self.calls[thread][index][1]:
                yield from self.orion_port_reply(thread, number)

    def publish_tail(self, tail: int, published: int) -> Generator[Op, int, int]:
        if tail == published:
            return published
        yield Store("tail", tail, self.order(RELEASE, "plain tail"))
        yield from self.orion_wake_order()
        waiting = yield Load("space_waiting", RELAXED)
        if waiting:
            yield FutexWake("tail", 99)
        return tail

    def orion_port_reply(self, thread: int, number: int) -> Steps:
        if self.broken == "sequence first":
            yield Store(f"sequence{thread}", number, RELEASE)
        yield Put(f"data{thread}", number)
        yield Put(f"result{thread}", number)
        if self.broken != "sequence first":
            yield Store(f"sequence{thread}", number, self.order(RELEASE, "plain sequence"))
        yield from self.orion_wake_order()
        waiting = yield Load(f"waiting{thread}", RELAXED)
        if waiting:
            yield FutexWake(f"sequence{thread}", 99)
