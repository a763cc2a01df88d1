# SPDX-License-Identifier: Apache-2.0
"""Builds the native benchmark programs once per session, runs them, and reports at the end: tables of ratios, a JSON
file and a plot (benchmarks/report.py)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import report  # noqa: E402

CORE = ("base", "shm", "stream", "channel", "wire", "transport")
FLAGS = ("-std=gnu11", "-O2", "-fno-strict-aliasing", "-D_GNU_SOURCE=")
PROGRAM_SECONDS = 280

Figures = dict[str, dict[str, Any]]
_results: list[report.Entry] = []


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles C files of benchmarks/, with parts of csrc (`without` files that a benchmark has its own for), into a
    program or (shared=True) a library."""
    folder = tmp_path_factory.mktemp("native")

    def run(
        name: str,
        sources: Sequence[str],
        *,
        parts: Sequence[str] = CORE,
        flags: Sequence[str] = (),
        shared: bool = False,
        without: Collection[str] = (),
    ) -> Path:
        target = folder / name
        if target.exists():
            return target
        files = [HERE / source for source in sources]
        for part in parts:
            found = sorted((ROOT / "csrc" / part).glob("*.c"))
            files += [path for path in found if f"{part}/{path.name}" not in without]
        command = [os.environ.get("CC", "cc"), *FLAGS, "-o", str(target)]
        command += ["-shared", "-fPIC"] if shared else []
        command += [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}", f"-I{HERE}"]
        command += [f"-I{HERE / 'native'}", *map(str, files), *flags, "-lpthread", "-ldl"]
        subprocess.run(command, check=True)
        return target

    return run


@pytest.fixture(scope="session")
def run_program() -> Callable[[Sequence[str], Mapping[str, str]], Figures]:
    """Runs a command with more environment and returns the figures that it prints."""
    return _run_program


def _run_program(command: Sequence[str], environment: Mapping[str, str]) -> Figures:
    if os.cpu_count() == 1 or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors: every figure is a ratio to what passes between them")
    with subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as program:
        _hurry(program.pid)
        try:
            out, errors = program.communicate(timeout=PROGRAM_SECONDS)
        except BaseException:
            os.killpg(program.pid, signal.SIGKILL)
            raise
    if program.returncode != 0:
        pytest.fail(f"{command[0]} ended with {program.returncode}: {errors.strip()}")
    figures: Figures = json.loads(out)["figures"]
    return figures


def _hurry(session: int) -> None:
    """Ahead of other people's work, where that is allowed (root). The programs do so for themselves (bench_hurry), but
    where the kernel groups processes by session (sched_autogroup) a process's own priority holds within its group."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{session}/autogroup").write_text("-15")


@pytest.fixture(scope="session")
def record() -> Callable[..., None]:
    """Puts figures into the report."""

    def add(title: str, figures: Figures, **about: Any) -> None:
        _results.append(report.Entry(title, figures, **about))

    return add


@pytest.fixture(scope="session")
def native(build: Callable[..., Path], record: Callable[..., None]) -> Callable[..., Figures]:
    """Runs benchmarks/native/NAME.c and returns its figures, which also go into the report."""

    def run(name: str, *args: str, title: str | None = None, **environment: str) -> Figures:
        program = build(name, [f"native/{name}.c", "native/sample.c"])
        figures = _run_program([str(program), *args], environment)
        record(title or name, figures)
        return figures

    return run


@pytest.fixture(scope="session")
def libcuda() -> Path:
    """The installed libcuda.so.1."""
    return _installed("orion_shm", Path("lib", "cuda", "libcuda.so.1"))


@pytest.fixture(scope="session")
def worker_library() -> Path:
    """The installed in-process worker."""
    return _installed("orion_server", Path("liborion_worker.so"))


def _installed(package: str, name: Path) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / name).exists():
            return path
    pytest.skip(f"{package}/{name} is not installed in this Python (make bench builds it)")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _results:
        return
    terminalreporter.section("figures; pair = a cache line each way between two processors")
    folder = ROOT / "build" / "bench"
    report.write(report.Run.here(_results), folder)
    terminalreporter.write_line(f"kept in {folder}: results.json, report.md, peers.svg, peers.png")
