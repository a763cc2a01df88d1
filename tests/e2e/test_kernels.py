# SPDX-License-Identifier: Apache-2.0
"""Kernels against NumPy; kernels_numpy.py holds the checks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from e2e_support import Build, OrionRun
from kernels_numpy import CHECKS

SCRIPT = Path(__file__).parent / "kernels_numpy.py"


@pytest.mark.parametrize("name", CHECKS)
def test_kernel_agrees_with_numpy(build: Build, orion_run: OrionRun, name: str) -> None:
    library = build("kernels", arguments=("-shared", "-Xcompiler", "-fPIC"))
    done = orion_run(sys.executable, SCRIPT, library, name)
    assert done.code == 0, done.said()
    assert "agrees with NumPy" in done.out
