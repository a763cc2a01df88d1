# SPDX-License-Identifier: Apache-2.0
"""Waits with several threads on a side lose no wake-up; see model_wakes.py."""

from __future__ import annotations

import pytest
from model_checker import NO_END, Result, explore
from model_limits import DEEP
from model_memory import Machine, Tso, Weak
from model_wakes import BROKEN, Events, PortWake

MEMORIES = pytest.mark.parametrize("memory", [Tso, Weak])
BARRIERS = pytest.mark.parametrize("membarrier", [True, False], ids=["membarrier", "fences"])


def port_wake(memory: type[Machine], model: PortWake) -> Result:
    return explore(memory(model.words(), {}, {}, 2), [model.loop, model.waker])


def two_wait(memory: type[Machine], model: Events) -> Result:
    """For one event, which nobody takes."""
    watcher = model.orion_memory_event_there
    return explore(memory(model.words(), model.cells(), {}, 3), [model.worker, watcher, watcher])


def one_takes(memory: type[Machine], model: Events) -> Result:
    """One thread takes the first of two events, another waits until there is one to be taken."""
    programs = [model.worker, model.orion_memory_event_wait, model.orion_memory_event_there]
    return explore(memory(model.words(), model.cells(), {}, 3), programs)


@MEMORIES
@BARRIERS
def test_a_wake_of_its_own_process_always_reaches_the_loop(
    memory: type[Machine], membarrier: bool
) -> None:
    result = port_wake(memory, PortWake(membarrier, times=2))
    assert result.problem is None, str(result)


@MEMORIES
@BARRIERS
def test_every_thread_that_waits_for_an_event_is_woken(
    memory: type[Machine], membarrier: bool
) -> None:
    result = two_wait(memory, Events(membarrier))
    assert result.problem is None, str(result)


@pytest.mark.parametrize("memory", [Tso, pytest.param(Weak, marks=DEEP)])
@BARRIERS
def test_a_thread_may_wait_for_an_event_beside_the_one_that_takes_them(
    memory: type[Machine], membarrier: bool
) -> None:
    result = one_takes(memory, Events(membarrier, count=2))
    assert result.problem is None, str(result)


@pytest.mark.parametrize(
    ("broken", "memory"),
    [("wake unseen", Tso), ("wake unseen", Weak), ("wake without a fence", Weak)],
)
def test_a_lost_wake_of_the_loop_is_found(broken: str, memory: type[Machine]) -> None:
    assert broken in BROKEN
    assert port_wake(memory, PortWake(membarrier=False, broken=broken)).problem == NO_END


@MEMORIES
def test_a_forgotten_second_waiter_is_found(memory: type[Machine]) -> None:
    assert two_wait(memory, Events(broken="one wake for all")).problem == NO_END
