# SPDX-License-Identifier: Apache-2.0
"""Ring, doorbell, full ring and answers: nothing is torn, nothing overtakes, no wake-up is lost, and each rule that the
code keeps is one without which the checker finds something. See model_session.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import model_session
import model_wait
import model_wakes
import pytest
from model_checker import NO_END, Result, explore
from model_limits import DEEP
from model_memory import Machine, Tso, Weak
from model_session import Session

CSRC = Path(__file__).resolve().parents[2] / "csrc"
MEMORIES = pytest.mark.parametrize("memory", [Tso, Weak])
BARRIERS = pytest.mark.parametrize("membarrier", [True, False], ids=["membarrier", "fences"])

SHAPES: dict[str, dict[str, Any]] = {
    "answer": {"calls": (((2, True), (2, True)),)},
    "post and answer": {"calls": (((2, False), (2, True)),)},
    # the second record, padded, needs all of the ring
    "full": {"calls": (((3, False), (3, False)),), "ring": 4},
    "laps": {"calls": (((3, False), (2, False), (3, True), (3, False)),), "ring": 8},
    "filled": {"calls": (((2, False), (2, False), (2, False)),), "ring": 4},
    "rare": {"calls": (((3, False), (3, False), (3, False)),), "ring": 8, "part": 1},
    "threads": {"calls": (((2, True),), ((2, True),))},
}
TORN = "torn record"


def run(memory: type[Machine], session: Session) -> Result:
    threads = range(len(session.calls))
    machine = memory(session.words(), session.cells(), session.owned(), len(threads) + 1)
    programs = [lambda thread=thread: session.client(thread) for thread in threads]
    return explore(machine, [*programs, session.worker])


def test_every_modelled_step_is_a_function_of_the_code() -> None:
    code = "".join(path.read_text() for path in CSRC.rglob("*.[ch]"))
    drivers = {"client", "worker", "loop", "waker"}  # what a program and a worker do with them
    for module in (model_wait, model_session, model_wakes):
        source = Path(module.__file__).read_text()
        for name in re.findall(r"def (\w+)\([^)]*\) -> (?:Steps|Generator)", source):
            assert name in drivers or re.search(rf"\b{name}\([^;]*\)\n{{", code), name


@pytest.mark.parametrize(
    ("memory", "shape"),
    [
        (Tso, "answer"),
        (Tso, "post and answer"),
        (Tso, "full"),
        (Tso, "filled"),
        (Tso, "rare"),
        (Weak, "answer"),
        (Weak, "post and answer"),
        (Weak, "full"),
        pytest.param(Tso, "laps", marks=DEEP),
        pytest.param(Tso, "threads", marks=DEEP),
        pytest.param(Weak, "filled", marks=DEEP),
        pytest.param(Weak, "rare", marks=DEEP),
    ],
)
@BARRIERS
def test_a_session_loses_nothing_and_ends(
    memory: type[Machine], shape: str, membarrier: bool
) -> None:
    result = run(memory, Session(membarrier, **SHAPES[shape]))
    assert result.problem is None, str(result)


@MEMORIES
@pytest.mark.parametrize(
    ("broken", "shape", "membarrier", "problem"),
    [
        ("no barrier before the second look", "post and answer", True, NO_END),
        ("no fence at the sender", "post and answer", False, NO_END),
        ("sleep on the second look", "post and answer", True, NO_END),
        ("look at the flag first", "post and answer", True, NO_END),
        ("wakes are not counted", "post and answer", True, NO_END),
        ("a wake for nobody counts", "post and answer", True, NO_END),
        ("tail is kept", "rare", True, NO_END),
        ("publish first", "post and answer", True, TORN),
        ("sequence first", "post and answer", True, ""),
        ("tail before the copy", "full", True, TORN),
    ],
)
def test_a_broken_rule_is_found(
    memory: type[Machine], broken: str, shape: str, membarrier: bool, problem: str
) -> None:
    result = run(memory, Session(membarrier, broken, **SHAPES[shape]))
    assert result.problem is not None
    assert problem in result.problem
    assert len(result.trace) > 5


@pytest.mark.parametrize(
    ("broken", "shape"),
    [
        ("plain head", "post and answer"),
        ("plain look", "post and answer"),
        ("plain tail", "full"),
        ("plain refresh", "full"),
        ("plain sequence", "post and answer"),
        ("plain await", "post and answer"),
    ],
)
def test_a_missing_release_or_acquire_is_found_though_x86_would_hide_it(
    broken: str, shape: str
) -> None:
    result = run(Weak, Session(True, broken, **SHAPES[shape]))
    assert result.problem is not None
    assert TORN in result.problem
    assert run(Tso, Session(True, broken, **SHAPES[shape])).problem is None


def test_every_rule_is_tried_without_it() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for module in (model_wait, model_session, model_wakes):
        for broken in module.BROKEN:
            assert f'"{broken}"' in tests, f"no test breaks the rule: {broken}"
