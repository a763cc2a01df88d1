# SPDX-License-Identifier: Apache-2.0
"""Two memories in which modelled threads run, and the kernel's futex and membarrier on top of them.

`Tso` is an x86 processor: each thread has a first-in first-out store buffer, so a load may pass an earlier store of its
own thread and nothing else is reordered. Ordinary accesses carry values: a torn record is read as one.

`Weak` is C11 without load buffering (RC11's release and acquire as views): each word keeps the stores that somebody may
still read, and a load may take any of them that its thread has not seen overwritten. An ordinary access that does not
happen after the accesses it conflicts with is a race, which is what a torn record is in C. It permits what Arm, RISC-V
and an optimising compiler do to the orders written in the code, except that a load never takes effect after a later
store of its thread: for ordinary words the race detector finds that case too. It permits more than C11 in one respect:
a fence orders nothing but later loads, it makes no release or acquire of the relaxed accesses beside it.

Words that one process keeps to itself, under a lock or for one thread, are `owned`: always up to date.

A state is a value; `steps` yields (result, next state, what happened). The kernel's promises used here: FUTEX_WAIT and
FUTEX_WAKE pass a full barrier and compare, queue and dequeue under one lock; membarrier is a full fence at its start
and end, and one of every other thread in between, each at an instant of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

from model_ops import (
    ACQUIRE,
    RELEASE,
    Add,
    Fence,
    FutexWait,
    FutexWake,
    Get,
    Load,
    Lock,
    Membarrier,
    Op,
    Put,
    Store,
    Swap,
    Unlock,
    Violation,
)

AWAKE, WOKEN = "", "woken"
Step = tuple[int | None, Any, str]  # None: the operation is not over yet
Access = Load | Store | Add | Swap | Put | Get


class Kernel(NamedTuple):
    """Per thread: the word it sleeps on ("" = runs, "woken"), and whom its membarrier has still to reach."""

    asleep: tuple[str, ...]
    pending: tuple[frozenset[int] | None, ...]

    @classmethod
    def fresh(cls, threads: int) -> Kernel:
        return cls((AWAKE,) * threads, (None,) * threads)

    def with_asleep(self, thread: int, word: str) -> Kernel:
        return self._replace(asleep=_put(self.asleep, thread, word))

    def with_pending(self, thread: int, others: frozenset[int] | None) -> Kernel:
        return self._replace(pending=_put(self.pending, thread, others))

    def wakes(self, word: str, count: int) -> Iterator[tuple[int, Kernel]]:
        """Each choice of sleepers that the kernel may wake."""
        sleepers = [thread for thread, on in enumerate(self.asleep) if on == word]
        for chosen in combinations(sleepers, min(count, len(sleepers))):
            kernel = self
            for thread in chosen:
                kernel = kernel.with_asleep(thread, WOKEN)
            yield len(chosen), kernel


def _put(values: tuple[Any, ...], at: int, value: Any) -> tuple[Any, ...]:
    return (*values[:at], value, *values[at + 1 :])


class Machine:
    """What both memories share: names to numbers, sleeping, and barriers that reach other threads."""

    eager: tuple[type[Op], ...] = ()  # may be done at once, whatever the others could do

    def __init__(
        self, words: dict[str, int], cells: dict[str, int], owned: dict[str, int], threads: int
    ) -> None:
        """First values, by name: words are accessed atomically, cells ordinarily, and so are those that are owned."""
        self.words, self.cells, self.owned, self.threads = words, cells, owned, threads
        self.number = {name: i for kind in (words, cells, owned) for i, name in enumerate(kind)}
        self.nothing = (0,) * (len(words) + threads)

    def start(self) -> Any:
        raise NotImplementedError

    def fence(self, state: Any, thread: int) -> Any | None:
        """The state after a full fence of the thread; None: it has to wait for its buffer."""
        raise NotImplementedError

    def access(self, state: Any, thread: int, op: Access) -> Iterator[Step]:
        raise NotImplementedError

    def settle(self, state: Any) -> Iterator[tuple[Any, str]]:
        """What memory does by itself."""
        return iter(())

    def tidy(self, state: Any) -> Any:
        """One name for states that nobody can tell apart."""
        return state

    def at_once(self, state: Any, thread: int, op: Op) -> bool:
        """Nobody can tell whether this step is taken now or later: only its being taken now is explored."""
        if state.kernel.asleep[thread]:
            return state.kernel.asleep[thread] == WOKEN
        return isinstance(op, Put | Get) and (op.word in self.owned or isinstance(op, self.eager))

    def steps(self, state: Any, thread: int, op: Op) -> Iterator[Step]:
        kernel: Kernel = state.kernel
        if kernel.asleep[thread] == WOKEN:
            yield 1, state._replace(kernel=kernel.with_asleep(thread, AWAKE)), "woken"
            return
        if kernel.asleep[thread]:
            return
        if isinstance(op, Fence | FutexWait | FutexWake | Membarrier):
            pending = kernel.pending[thread]
            if pending:
                return
            state = self.fence(state, thread)
            if state is None:
                return
            if isinstance(op, Membarrier):
                others = None if pending is not None else frozenset(range(self.threads)) - {thread}
                after = state._replace(kernel=kernel.with_pending(thread, others))
                if others is None:
                    yield 0, after, "membarrier ends"
                else:
                    yield None, after, "membarrier begins"
            elif isinstance(op, FutexWake):
                for woken, after in kernel.wakes(op.word, op.count):
                    yield woken, state._replace(kernel=after), f"futex_wake({op.word}) = {woken}"
            elif isinstance(op, FutexWait):
                for value, after, _ in self.access(state, thread, Load(op.word, "relaxed")):
                    if value == op.expected:
                        asleep = kernel.with_asleep(thread, op.word)
                        yield None, after._replace(kernel=asleep), f"sleeps on {op.word} == {value}"
                    else:
                        yield 0, after, f"does not sleep: {op.word} == {value}"
            else:
                yield 0, state, "fence"
            return
        if isinstance(op, Lock | Unlock):
            for old, after, _ in self.access(state, thread, Swap(op.word, isinstance(op, Lock))):
                if not (old and isinstance(op, Lock)):
                    yield 0, after, type(op).__name__.lower()
            return
        if isinstance(op, Put | Get) and op.word in self.owned:
            index = self.number[op.word]
            if isinstance(op, Put):
                state = state._replace(owned=_put(state.owned, index, op.value))
            yield state.owned[index], state, _said(op, state.owned[index])
            return
        yield from self.access(state, thread, op)

    def interrupts(self, state: Any) -> Iterator[tuple[Any, str]]:
        """Barriers arriving at threads that some other thread's membarrier has yet to reach."""
        for sender, pending in enumerate(state.kernel.pending):
            for thread in pending or ():
                after = self.fence(state, thread)
                if after is not None:
                    kernel = state.kernel.with_pending(sender, pending - {thread})
                    yield after._replace(kernel=kernel), f"membarrier reaches thread {thread}"


def _said(op: Put | Get, value: int) -> str:
    return f"{op.word} = {value}" if isinstance(op, Put) else f"{op.word} is {value}"


class TsoState(NamedTuple):
    memory: tuple[int, ...]
    buffers: tuple[tuple[tuple[int, int], ...], ...]
    owned: tuple[int, ...]
    kernel: Kernel


class Tso(Machine):
    """Total store order: x86. Words and cells are alike."""

    def __init__(
        self, words: dict[str, int], cells: dict[str, int], owned: dict[str, int], threads: int
    ) -> None:
        super().__init__({**words, **cells}, {}, owned, threads)

    def start(self) -> TsoState:
        return TsoState(
            tuple(self.words.values()),
            ((),) * self.threads,
            tuple(self.owned.values()),
            Kernel.fresh(self.threads),
        )

    def fence(self, state: TsoState, thread: int) -> TsoState | None:
        return state if not state.buffers[thread] else None

    def settle(self, state: TsoState) -> Iterator[tuple[TsoState, str]]:
        for thread, buffer in enumerate(state.buffers):
            if buffer:
                (word, value), rest = buffer[0], buffer[1:]
                after = state._replace(
                    memory=_put(state.memory, word, value),
                    buffers=_put(state.buffers, thread, rest),
                )
                yield after, f"a store of thread {thread} reaches memory"

    def access(self, state: TsoState, thread: int, op: Access) -> Iterator[Step]:
        word, buffer = self.number[op.word], state.buffers[thread]
        if isinstance(op, Load | Get):
            own = [value for at, value in buffer if at == word]
            value = own[-1] if own else state.memory[word]
            yield value, state, f"{op.word} is {value}"
        elif isinstance(op, Store | Put):
            after = state._replace(buffers=_put(state.buffers, thread, (*buffer, (word, op.value))))
            yield 0, after, f"{op.word} = {op.value}"
        elif isinstance(op, Add | Swap) and not buffer:  # a locked instruction
            old = state.memory[word]
            new = old + op.value if isinstance(op, Add) else op.value
            after = state._replace(memory=_put(state.memory, word, new))
            yield old, after, f"{op.word}: {old} becomes {new}"


View = tuple[
    int, ...
]  # per word the oldest store still to be read; then per thread its accesses known of


class Cell(NamedTuple):
    """An ordinary word: value, the access that wrote it, and per thread the last that read it."""

    value: int
    writer: int
    written: int
    reads: tuple[int, ...]


class WeakState(NamedTuple):
    stores: tuple[tuple[tuple[int, View], ...], ...]  # per word, in modification order
    cells: tuple[Cell, ...]
    seen: tuple[View, ...]  # what each thread knows
    fences: View  # what the latest full fence knew
    owned: tuple[int, ...]
    kernel: Kernel


def _join(a: View, b: View) -> View:
    return a if a == b else tuple(map(max, a, b))


class Weak(Machine):
    """C11's release and acquire; every word has one writing thread, or is only written by read-modify-writes."""

    eager = (Get, Put)  # a race is found in whichever order the two accesses are tried

    def start(self) -> WeakState:
        zero: View = (0,) * (len(self.words) + self.threads)
        return WeakState(
            tuple(((value, zero),) for value in self.words.values()),
            tuple(Cell(value, 0, 0, (0,) * self.threads) for value in self.cells.values()),
            (zero,) * self.threads,
            zero,
            tuple(self.owned.values()),
            Kernel.fresh(self.threads),
        )

    def fence(self, state: WeakState, thread: int) -> WeakState:
        view = _join(state.seen[thread], state.fences)
        return state._replace(seen=_put(state.seen, thread, view), fences=view)

    def access(self, state: WeakState, thread: int, op: Access) -> Iterator[Step]:
        if isinstance(op, Put | Get):
            yield self._ordinary(state, thread, op)
            return
        word = self.number[op.word]
        stores, view = state.stores[word], state.seen[thread]
        if isinstance(op, Load):
            for at in range(view[word], len(stores)):
                value, released = stores[at]
                known = _put(view, word, at)
                if op.order == ACQUIRE:
                    known = _join(known, released)
                late = "" if at == len(stores) - 1 else " (stale)"
                after = state._replace(seen=_put(state.seen, thread, known))
                yield value, after, f"{op.word} is {value}{late}"
            return
        last = len(stores) - 1
        old, released = stores[last]
        if isinstance(op, Store):
            if view[word] != last:
                raise Violation(f"{op.word} has two writers: the model does not hold")
            new, view = op.value, _put(view, word, last + 1)
            released = view if op.order == RELEASE else _put(self.nothing, word, last + 1)
            what = f"{op.word} = {new}"
        else:
            new = old + op.value if isinstance(op, Add) else op.value
            released = view = _join(_put(view, word, last + 1), released)
            what = f"{op.word}: {old} becomes {new}"
        yield (
            old,
            state._replace(
                stores=_put(state.stores, word, (*stores, (new, released))),
                seen=_put(state.seen, thread, view),
            ),
            what,
        )

    def _ordinary(self, state: WeakState, thread: int, op: Put | Get) -> Step:
        index, clock = self.number[op.word], len(self.words) + thread
        cell, view = state.cells[index], state.seen[thread]
        known, mine = view[len(self.words) :], view[clock] + 1
        if cell.written > known[cell.writer]:
            raise Violation(
                f"{op.word}: a race with what thread {cell.writer} writes (torn record)"
            )
        if isinstance(op, Put):
            for reader, read in enumerate(cell.reads):
                if read > known[reader]:
                    raise Violation(
                        f"{op.word}: overwritten while thread {reader} reads it (torn record)"
                    )
            cell = Cell(op.value, thread, mine, (0,) * self.threads)
        else:
            cell = cell._replace(reads=_put(cell.reads, thread, mine))
        after = state._replace(
            cells=_put(state.cells, index, cell),
            seen=_put(state.seen, thread, _put(view, clock, mine)),
        )
        return cell.value, after, _said(op, cell.value)

    def tidy(self, state: WeakState) -> WeakState:
        """Forgets stores that no thread can read any more and counts the others from there."""
        old = tuple(map(min, zip(*state.seen, strict=True)))[: len(self.words)]
        if not any(old):
            return state
        down = (*old, *(0,) * self.threads)

        def shift(view: View) -> View:
            return tuple([at - by if at > by else 0 for at, by in zip(view, down, strict=True)])

        return state._replace(
            stores=tuple(
                tuple([(value, shift(view)) for value, view in stores[old[word] :]])
                for word, stores in enumerate(state.stores)
            ),
            seen=tuple(map(shift, state.seen)),
            fences=shift(state.fences),
        )
