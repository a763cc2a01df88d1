# SPDX-License-Identifier: Apache-2.0
"""cuda-bindings and cuda-core, unmodified, on the CPU device: each check of python/cuda_python_checks.py."""

from __future__ import annotations

import pytest
from e2e_support import OrionRun
from python_programs import Checks, check_names, need, run_checks

need("cuda.core")
pytestmark = pytest.mark.timeout(1000)
known: dict[str, Checks] = {}


@pytest.fixture
def checks(orion_run: OrionRun) -> Checks:
    """All checks ran in one process, as a program would have it."""
    if "all" not in known:
        known["all"] = run_checks(orion_run, "cuda_python_checks")
    return known["all"]


@pytest.mark.parametrize("name", check_names("cuda_python_checks"))
def test_cuda_python(checks: Checks, name: str) -> None:
    checks.assert_ok(name)
