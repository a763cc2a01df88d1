# SPDX-License-Identifier: Apache-2.0
"""The two memories allow what they should and nothing else: the litmus tests that the protocol rests on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from model_checker import NO_END, Incomplete, explore
from model_memory import Machine, Tso, Weak
from model_ops import (
    ACQUIRE,
    RELAXED,
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
from model_wait import Steps

MEMORIES = pytest.mark.parametrize("memory", [Tso, Weak])


def outcomes(
    memory: type[Machine], *programs: Callable[[], Steps], merge: bool = True
) -> set[tuple[int, ...]]:
    """What the programs have left in the owned words a, b, c, d, in all their interleavings."""
    machine = memory({"x": 0, "y": 0}, {"p": 0}, dict.fromkeys("abcd", 0), len(programs))
    result = explore(machine, programs, merge=merge)
    assert result.problem is None, str(result)
    return set(result.ends)


def sequence(*steps: Op | tuple[str, Op]) -> Callable[[], Steps]:
    """A program of these operations; ("a", op) keeps the operation's result in a."""

    def program() -> Steps:
        for index in range(len(steps)):
            step = steps[index]
            if type(step) is tuple:
                value = yield step[1]
                yield Put(step[0], value)
            else:
                yield step  # type: ignore[misc]

    return program


def store_then_load(*between: Op) -> tuple[Callable[[], Steps], Callable[[], Steps]]:
    """Each side stores, then looks at the other's word; between the two, the first and second of `between`."""
    return (
        sequence(Store("x", 1, RELEASE), *between[:1], ("a", Load("y", ACQUIRE))),
        sequence(Store("y", 1, RELEASE), *between[1:], ("b", Load("x", ACQUIRE))),
    )


def seen(memory: type[Machine], *programs: Callable[[], Steps]) -> set[tuple[int, int]]:
    return {(a, b) for a, b, _, _ in outcomes(memory, *programs)}


@MEMORIES
def test_a_load_may_pass_an_earlier_store(memory: type[Machine]) -> None:
    assert (0, 0) in seen(memory, *store_then_load())
    assert (1, 1) in seen(memory, *store_then_load())


@MEMORIES
def test_two_fences_keep_stores_before_loads(memory: type[Machine]) -> None:
    assert seen(memory, *store_then_load(Fence(), Fence())) == {(0, 1), (1, 0), (1, 1)}


@MEMORIES
def test_one_fence_is_not_enough(memory: type[Machine]) -> None:
    assert (0, 0) in seen(memory, *store_then_load(Fence()))


@MEMORIES
def test_a_membarrier_on_one_side_is_enough(memory: type[Machine]) -> None:
    assert seen(memory, *store_then_load(Membarrier())) == {(0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("memory", "publish", "look", "stale"),
    [
        (Tso, RELAXED, RELAXED, False),
        (Weak, RELEASE, ACQUIRE, False),
        (Weak, RELAXED, ACQUIRE, True),
        (Weak, RELEASE, RELAXED, True),
    ],
)
def test_a_message_is_seen_with_its_flag_if_both_sides_order_it(
    memory: type[Machine], publish: str, look: str, stale: bool
) -> None:
    sender = sequence(Store("x", 1, RELAXED), Store("y", 1, publish))
    receiver = sequence(("a", Load("y", look)), ("b", Load("x", RELAXED)))
    assert ((1, 0) in seen(memory, sender, receiver)) is stale


@MEMORIES
def test_a_word_never_goes_backwards(memory: type[Machine]) -> None:
    writer = sequence(Store("x", 1, RELAXED), Store("x", 2, RELAXED))
    reader = sequence(("a", Load("x", RELAXED)), ("b", Load("x", RELAXED)))
    found = seen(memory, writer, reader)
    assert {(0, 0), (0, 2), (1, 2), (2, 2)} <= found
    assert all(a <= b for a, b in found)


@MEMORIES
def test_read_modify_writes_lose_nothing(memory: type[Machine]) -> None:
    adder = sequence(Add("x", 1), Add("x", 1))
    swapper = sequence(("a", Swap("y", 1)))
    other = sequence(("b", Swap("y", 1)), Lock("x"), Unlock("x"))
    assert {(0, 1), (1, 0)} == seen(memory, swapper, other)
    last = sequence(Add("x", 1), ("a", Load("x", RELAXED)))
    assert max(a for a, _ in seen(memory, adder, last)) == 3


@MEMORIES
def test_a_lock_is_held_by_one_at_a_time(memory: type[Machine]) -> None:
    def counts() -> Steps:
        yield Lock("x")
        value = yield Get("p")
        yield Put("p", value + 1)
        yield Unlock("x")
        yield Lock("x")
        value = yield Get("p")
        yield Put("a", value)
        yield Unlock("x")

    assert {a for a, _ in seen(memory, counts, counts)} == {2}


def test_an_unordered_access_is_a_race_and_an_ordered_one_is_not() -> None:
    def reader(order: str) -> Callable[[], Steps]:
        def program() -> Steps:
            there = yield Load("x", order)
            if there:
                value = yield Get("p")
                yield Put("a", value)

        return program

    writer = sequence(Put("p", 7), Store("x", 1, RELEASE))
    assert seen(Weak, writer, reader(ACQUIRE)) == {(0, 0), (7, 0)}
    machine = Weak({"x": 0, "y": 0}, {"p": 0}, {"a": 0}, 2)
    assert "torn record" in str(explore(machine, [writer, reader(RELAXED)]).problem)


@MEMORIES
def test_a_futex_compares_and_sleeps_in_one_step(memory: type[Machine]) -> None:
    sleeper = sequence(("a", FutexWait("x", 0)))
    waker = sequence(Store("x", 1, RELAXED), ("b", FutexWake("x", 1)))
    assert seen(memory, sleeper, waker) == {(0, 0), (1, 1)}


@MEMORIES
def test_a_sleep_that_nobody_ends_is_a_problem(memory: type[Machine]) -> None:
    machine = memory({"x": 0}, {}, {}, 2)
    result = explore(machine, [sequence(FutexWait("x", 0)), sequence(FutexWake("x", 1))])
    assert result.problem == NO_END
    assert "sleeps on x" in result.trace[-1]


@MEMORIES
def test_a_loop_without_an_exit_is_a_problem(memory: type[Machine]) -> None:
    def spins() -> Steps:
        value = 0
        while value == 0:
            value = yield Load("x", RELAXED)

    assert explore(memory({"x": 0}, {}, {}, 1), [spins]).problem == NO_END


def test_too_many_states_are_no_result() -> None:
    machine = Tso({"x": 0, "y": 0}, {}, dict.fromkeys("ab", 0), 2)
    with pytest.raises(Incomplete, match="more than 20 states"):
        explore(machine, store_then_load(), limit=20)


def test_a_second_writer_of_a_word_is_refused() -> None:
    machine = Weak({"x": 0}, {}, {}, 2)
    writer = sequence(Store("x", 1, RELEASE))
    assert "two writers" in str(explore(machine, [writer, writer]).problem)


@MEMORIES
def test_programs_are_told_apart_by_their_locals_alone(memory: type[Machine]) -> None:
    """With every history kept apart the same outcomes are found: nothing hides from the merging of states."""

    def waits() -> Steps:
        value = yield Load("x", ACQUIRE)
        while value == 0:
            yield Add("y", 1)
            yield Membarrier()
            yield FutexWait("x", 0)
            yield Add("y", -1)
            value = yield Load("x", ACQUIRE)
        yield Put("a", value)

    def sends() -> Steps:
        for index in range(2):
            yield Store("x", index + 1, RELEASE)
            asleep = yield Load("y", RELAXED)
            if asleep:
                yield FutexWake("x", 1)
                yield Put("b", index + 1)

    found = outcomes(memory, waits, sends)
    assert found == outcomes(memory, waits, sends, merge=False)
    assert len(found) > 3


def test_a_violation_carries_the_way_there() -> None:
    def looks() -> Steps:
        value = yield Load("x", ACQUIRE)
        if value == 1:
            raise Violation("one was seen")

    result = explore(Tso({"x": 0}, {}, {}, 2), [sequence(Store("x", 1, RELEASE)), looks])
    assert result.problem is not None
    assert result.problem.startswith("one was seen")
    assert any("x = 1" in line for line in result.trace)
