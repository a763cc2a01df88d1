# SPDX-License-Identifier: Apache-2.0
"""Explores every interleaving of a few modelled threads, on a given memory, and says what went wrong first.

A thread is a Python generator that yields one operation (model_ops.py) at a time and is sent its result. What it does
next must depend on its local variables and its place alone: each `yield` is a statement of its own, and a loop's
variable tells its turns apart. Then equal locals mean an equal future, each thread becomes a small automaton, and a
generator is run only once for each of its steps; the rest is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from model_memory import Machine
from model_ops import Op, Violation

Program = Callable[[], Generator[Op, int, None]]
END = 0
NO_END = "no end can be reached any more: a lost wake-up or a deadlock"


class Thread:
    """One program as an automaton; states are numbers, END is its end."""

    def __init__(self, program: Program, merge: bool = True) -> None:
        self._program = program
        self._merge = merge
        self._numbers: dict[Hashable, int] = {"end": END}
        self._inputs: list[tuple[int, ...]] = [()]  # what leads to each state
        self.ops: list[Op | None] = [None]
        self.places: list[str] = ["end"]  # the C function that the operation belongs to
        self._next: dict[tuple[int, int], int] = {}
        self.first = self._run(())

    def advance(self, state: int, value: int) -> int:
        """Raises Violation when the program finds that something is wrong."""
        after = self._next.get((state, value))
        if after is None:
            after = self._next[state, value] = self._run((*self._inputs[state], value))
        return after

    def _run(self, inputs: tuple[int, ...]) -> int:
        generator = self._program()
        try:
            op = next(generator)
            for value in inputs:
                op = generator.send(value)
        except StopIteration:
            return END
        frames = list(_frames(generator))
        key: Hashable = (tuple(map(_snapshot, frames)), op) if self._merge else inputs
        if key not in self._numbers:
            self._numbers[key] = len(self._inputs)
            self._inputs.append(inputs)
            self.ops.append(op)
            self.places.append(frames[-1].f_code.co_name)
        return self._numbers[key]


def _frames(generator: Any) -> Iterator[FrameType]:
    """Of a suspended generator and those that it has delegated to."""
    while generator is not None and generator.gi_frame is not None:
        yield generator.gi_frame
        generator = generator.gi_yieldfrom


def _snapshot(frame: FrameType) -> tuple[CodeType, int, tuple[tuple[str, Hashable], ...]]:
    given = {"self", *frame.f_code.co_freevars}
    found = {name: value for name, value in frame.f_locals.items() if name not in given}
    return frame.f_code, frame.f_lasti, tuple(sorted(found.items(), key=lambda item: item[0]))


@dataclass(frozen=True)
class Result:
    """`problem` is None when nothing is wrong; `trace` leads there, a line for each step. `ends`: the owned words of
    every end."""

    states: int
    problem: str | None
    trace: tuple[str, ...] = ()
    ends: frozenset[tuple[int, ...]] = frozenset()

    def __str__(self) -> str:
        return "\n".join([f"{self.problem or 'holds'} ({self.states} states)", *self.trace])


class Incomplete(Exception):
    """There are more states than allowed: nothing has been shown."""


def explore(
    machine: Machine, programs: Sequence[Program], *, limit: int = 2_000_000, merge: bool = True
) -> Result:
    """All states that the programs can reach. Each must keep the programs' own checks, and from each all programs
    must be able to reach their end: a sleep that nobody will end, or a loop without an exit, is a problem."""
    return _Search(machine, [Thread(program, merge) for program in programs], limit).run()


class _Search:
    def __init__(self, machine: Machine, threads: list[Thread], limit: int) -> None:
        self.machine, self.threads, self.limit = machine, threads, limit
        self.numbers: dict[Hashable, int] = {}
        self.states: list[Any] = []
        self.came: list[tuple[int, str]] = []  # from which state, by what
        self.before: list[list[int]] = []  # all states that lead here
        self.ends: list[int] = []
        self.left: set[tuple[int, ...]] = set()  # owned words at the ends

    def run(self) -> Result:
        first = (tuple(t.first for t in self.threads), self.machine.start())
        self.add(first, -1, "start")
        at = 0
        while at < len(self.states):  # breadth first: traces are as short as can be
            locals_, memory = self.states[at]
            moved = False
            try:
                for after, what in self.moves(locals_, memory):
                    self.add(after, at, what)
                    moved = True
            except Violation as problem:
                return self.failed(at, str(problem))
            if not any(locals_):
                self.ends.append(at)
                self.left.add(memory.owned)
            elif not moved:
                return self.failed(at, NO_END)
            self.states[at] = None  # its number is all that is still wanted
            at += 1
        return self.liveness()

    def moves(
        self, locals_: tuple[int, ...], memory: Any
    ) -> Iterator[tuple[tuple[tuple[int, ...], Any], str]]:
        order = range(len(self.threads))
        for thread in order:
            op = self.threads[thread].ops[locals_[thread]]
            if op is not None and self.machine.at_once(memory, thread, op):
                order = range(thread, thread + 1)
                break
        for thread in order:
            automaton, local = self.threads[thread], locals_[thread]
            op = automaton.ops[local]
            if op is None:
                continue
            for value, after, what in self.machine.steps(memory, thread, op):
                place = f"{thread} {automaton.places[local]}: {what}"
                moved = locals_
                if value is not None:
                    try:
                        moved = (
                            *locals_[:thread],
                            automaton.advance(local, value),
                            *locals_[thread + 1 :],
                        )
                    except Violation as problem:
                        raise Violation(f"{problem}, after {place}") from None
                yield (moved, self.machine.tidy(after)), place
        if len(order) < len(self.threads):
            return
        for after, what in self.machine.settle(memory):
            yield (locals_, after), what
        for after, what in self.machine.interrupts(memory):
            yield (locals_, self.machine.tidy(after)), what

    def add(self, state: tuple[tuple[int, ...], Any], came: int, what: str) -> None:
        number = self.numbers.get(state)
        if number is None:
            number = self.numbers[state] = len(self.states)
            if number >= self.limit:
                raise Incomplete(f"more than {self.limit} states")
            self.states.append(state)
            self.came.append((came, what))
            self.before.append([])
        if came >= 0:
            self.before[number].append(came)

    def failed(self, at: int, problem: str) -> Result:
        trace = []
        number = at
        while number >= 0:
            number, what = self.came[number]
            trace.append(what)
        return Result(len(self.came), problem, tuple(reversed(trace)))

    def liveness(self) -> Result:
        can_end = [False] * len(self.came)
        todo = list(self.ends)
        for number in todo:
            can_end[number] = True
        while todo:
            for number in self.before[todo.pop()]:
                if not can_end[number]:
                    can_end[number] = True
                    todo.append(number)
        if all(can_end):
            return Result(len(self.came), None, (), frozenset(self.left))
        return self.failed(can_end.index(False), NO_END)
