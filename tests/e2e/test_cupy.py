# SPDX-License-Identifier: Apache-2.0
"""CuPy, unmodified, on the CPU device: each check of python/cupy_checks.py against NumPy, and bad input."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from e2e_support import OrionRun, Server, run
from python_programs import Checks, check_names, need, run_checks

need("cupy")
pytestmark = pytest.mark.timeout(1000)
known: dict[str, Checks] = {}

ADD = "import cupy; print(int((cupy.arange(10) + 1).sum()))"


@pytest.fixture
def checks(orion_run: OrionRun) -> Checks:
    """All checks ran in one process, as a program would have it."""
    if "all" not in known:
        known["all"] = run_checks(orion_run, "cupy_checks")
    return known["all"]


@pytest.mark.parametrize("name", check_names("cupy_checks"))
def test_cupy(checks: Checks, name: str) -> None:
    checks.assert_ok(name)


def test_printf_of_kernels_comes_out_at_the_program(checks: Checks) -> None:
    said = re.findall(r"^thread (\d) says (\S+) hello$", checks.done.out, re.MULTILINE)
    assert said == [("0", "0.00"), ("1", "0.50"), ("2", "1.00")]


def test_at_a_running_server(server: Server, environment: dict[str, str]) -> None:
    command = [Path(sys.executable).parent / "orion", "run", "--server", server.address, "--"]
    done = run([*command, sys.executable, "-c", ADD], environment)
    assert done.code == 0, done.said()
    assert done.out == "55\n"


def test_cache_is_apart_from_that_of_a_gpu(orion_run: OrionRun, tmp_path: Path) -> None:
    cache = tmp_path / "cupy"
    done = orion_run(sys.executable, "-c", ADD, CUPY_CACHE_DIR=str(cache))
    assert done.code == 0, done.said()
    assert [entry.name for entry in cache.iterdir()] == ["orion-ptx"]


def test_machine_code_from_a_gpus_cache_is_refused_with_a_remedy(orion_run: OrionRun) -> None:
    """With the preloaded library switched off CuPy gets machine code."""
    done = orion_run(sys.executable, "-c", ADD, ORION_PTX="0", CUPY_CACHE_DIR=os.devnull + "-none")
    assert done.code == 1, done.said()
    assert re.search(r"^orion: .*machine code.*CUPY_COMPILE_WITH_PTX=1", done.err, re.MULTILINE)
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in done.err


def test_preloaded_library_asks_the_device_when_nobody_says(server: Server, tmp_path: Path) -> None:
    """As a program is started that knows only the server's address."""
    library = Path(server.environment["LD_LIBRARY_PATH"])
    done = server.run(
        sys.executable,
        "-c",
        ADD,
        LD_PRELOAD=str(library.parent / "preload" / "liborion_compilers.so"),
        CUPY_CACHE_DIR=str(tmp_path),
    )
    assert done.code == 0, done.said()
    assert done.out == "55\n"
