# SPDX-License-Identifier: Apache-2.0
"""CUDA arrays over a channel between two programs under `orion run`, on the CPU device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from e2e_support import OrionRun
from python_programs import SECONDS, need

need("cupy")
pytestmark = pytest.mark.timeout(1000)

PROGRAM = Path(__file__).resolve().parent / "python" / "channel_cuda.py"


def test_cupy_arrays_are_shared_between_programs(orion_run: OrionRun) -> None:
    assert lines(orion_run) == [
        "the same memory",
        "a part of it",
        "opened once, closed when dropped",
        "opened again when it comes again, by the same handle",
        "Fortran order",
        "a DLPack tensor of either kind",
        "in the stream's order",
        "in more streams than there are events",
        "refused: a CUDA array that is sent has to be contiguous: make a contiguous copy of it",
        "refused: managed memory",
    ]


def test_numba_arrays_are_shared_between_programs(orion_run: OrionRun) -> None:
    need("numba.cuda")
    assert lines(orion_run, "numba") == ["an array of Numba's"]


def lines(orion_run: OrionRun, *arguments: str) -> list[str]:
    done = orion_run(sys.executable, PROGRAM, *arguments, seconds=SECONDS)
    assert done.code == 0, done.said()
    return done.out.splitlines()
