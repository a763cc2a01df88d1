# SPDX-License-Identifier: Apache-2.0
"""The Python programs of test_cupy.py and its like over tcp and through two servers: nothing above the transport
differs, but for memory that both sides would need at one address.

Each program runs once for each way, as a whole; what it compiles has mostly been compiled by those tests.
"""

from __future__ import annotations

import re

import pytest
from e2e_support import OrionRun
from python_programs import Checks, check_names, need, run_checks

need("cupy", "numba.cuda", "cuda.core")
pytestmark = pytest.mark.timeout(1000)

PROGRAMS = ("cupy_checks", "numba_checks", "cuda_python_checks")
# What each says of memory that host and device share, where there is such memory and where there is not.
SHARED = {
    "cupy_checks": [("managed", "used", "refused")],
    "numba_checks": [("mapped", "used", "refused"), ("managed", "used", "refused")],
    "cuda_python_checks": [("mapped", "used", "copied")],
}


def assert_all_ok(checks: Checks, program: str) -> None:
    """Every check of the program has run and was right."""
    for name in check_names(program):
        checks.assert_ok(name)
    assert checks.done.code == 0, checks.done.said()


def said_of_memory(checks: Checks) -> list[tuple[str, str]]:
    """Which kinds of memory the program used."""
    found: list[tuple[str, str]] = re.findall(
        r"^(\w+) memory: (\w+)$", checks.done.out, re.MULTILINE
    )
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_over_tcp_all_but_shared_memory_works(orion_run: OrionRun, program: str) -> None:
    checks = run_checks(orion_run, program, options=("--transport", "tcp"))
    assert_all_ok(checks, program)
    assert "orion: transport tcp" in checks.done.err, checks.done.said()
    assert said_of_memory(checks) == [(kind, word) for kind, _, word in SHARED[program]]


@pytest.mark.parametrize("program", PROGRAMS)
def test_through_two_servers_everything_works(cascade_run: OrionRun, program: str) -> None:
    checks = run_checks(cascade_run, program)
    assert_all_ok(checks, program)
    assert said_of_memory(checks) == [(kind, word) for kind, word, _ in SHARED[program]]
