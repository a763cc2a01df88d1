# SPDX-License-Identifier: Apache-2.0
"""CUDA arrays over a channel between two programs under `orion run`, on the CPU device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from e2e_support import OrionRun
from python_programs import need

need("cupy")

PROGRAM = Path(__file__).resolve().parent / "python" / "channel_cuda.py"


def test_cupy_arrays_are_shared_between_programs(orion_run: OrionRun) -> None:
    done = orion_run(sys.executable, PROGRAM)
    if "does not share memory between processes" in done.err:
        pytest.skip("this build's driver refuses CUDA IPC")
    assert done.code == 0, done.said()
    assert done.out.splitlines() == [
        "the same memory",
        "a part of it",
        "Fortran order",
        "in the stream's order",
        "refused: a CUDA array that is sent has to be contiguous: make a contiguous copy of it",
    ]
