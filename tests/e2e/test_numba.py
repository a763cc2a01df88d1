# SPDX-License-Identifier: Apache-2.0
"""Numba, its CUDA target, unmodified, on the CPU device: each check of python/numba_checks.py."""

from __future__ import annotations

import pytest
from e2e_support import OrionRun
from python_programs import Checks, check_names, need, run_checks

need("numba.cuda")
pytestmark = pytest.mark.timeout(1000)
known: dict[str, Checks] = {}


@pytest.fixture
def checks(orion_run: OrionRun) -> Checks:
    """All checks ran in one process, as a program would have it."""
    if "all" not in known:
        known["all"] = run_checks(orion_run, "numba_checks")
    return known["all"]


@pytest.mark.parametrize("name", check_names("numba_checks"))
def test_numba(checks: Checks, name: str) -> None:
    checks.assert_ok(name)


def test_print_of_kernels_comes_out_at_the_program(checks: Checks) -> None:
    assert "thread 0 has 0.500000\nthread 1 has 0.500000\n" in checks.done.out
