# SPDX-License-Identifier: Apache-2.0
"""The two Python programs of `make demo`, as a user copies them: over shared memory, over tcp, through two servers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from e2e_support import OrionRun, said_once
from python_programs import SECONDS, need

pytestmark = pytest.mark.timeout(1000)
EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
DEMOS = (("cupy_demo", "cupy", "CuPy"), ("numba_demo", "numba.cuda", "Numba"))


@pytest.mark.parametrize("way", ["shm", "tcp", "cascade"])
@pytest.mark.parametrize(("demo", "module", "title"), DEMOS)
def test_demo_passes(
    orion_run: OrionRun, cascade_run: OrionRun, demo: str, module: str, title: str, way: str
) -> None:
    need(module)
    command = cascade_run if way == "cascade" else orion_run
    options = () if way == "cascade" else ("--transport", way)
    done = command(sys.executable, EXAMPLES / f"{demo}.py", options=options, seconds=SECONDS)
    assert done.code == 0, done.said()
    assert done.out.endswith("Test PASSED\n"), done.said()
    assert f"{title}" in done.out.splitlines()[0]
    assert "Orion CPU device" in done.out.splitlines()[0]
    if way == "tcp":
        assert "transport tcp" in said_once(done.err)
