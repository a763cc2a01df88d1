# SPDX-License-Identifier: Apache-2.0
"""Builds the native benchmark programs once per session, runs them, and prints one table of ratios at the end."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ["base", "shm", "stream", "channel", "wire", "transport"]
PROGRAM_SECONDS = 280

Figures = dict[str, dict[str, Any]]
_rows: list[tuple[str, str, dict[str, Any]]] = []


def _compile(name: str, folder: Path) -> Path:
    native = ROOT / "benchmarks" / "native"
    sources = [native / f"{name}.c", native / "sample.c"]
    for part in CORE:
        sources += sorted((ROOT / "csrc" / part).glob("*.c"))
    program = folder / name
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-fno-strict-aliasing"]
    command += [
        "-D_GNU_SOURCE=",
        f"-I{ROOT / 'csrc'}",
        f"-I{ROOT / 'csrc/include'}",
        "-o",
        str(program),
    ]
    command += [*map(str, sources), "-lpthread", "-ldl"]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Figures]:
    """Runs benchmarks/native/NAME.c and returns its figures, which also go into the table."""
    folder = tmp_path_factory.mktemp("native")
    built: dict[str, Path] = {}

    def run(name: str, *args: str, title: str | None = None, **environment: str) -> Figures:
        if os.cpu_count() == 1 or len(os.sched_getaffinity(0)) < 2:
            pytest.skip("needs two processors: every figure is a ratio to what passes between them")
        if name not in built:
            built[name] = _compile(name, folder)
        finished = subprocess.run(
            [str(built[name]), *args],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )
        if finished.returncode != 0:
            pytest.fail(f"{name} ended with {finished.returncode}: {finished.stderr.strip()}")
        figures: Figures = json.loads(finished.stdout)["figures"]
        _rows.extend((title or name, figure, value) for figure, value in figures.items())
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
    """One table: each figure beside the floor of its own samples."""
    if not _rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("native figures; pair = a cache line each way between two cores")
    write(
        f"{'program':22} {'figure':34} {'median':>12} {'unit':14} {'/ pair':>8} {'pair ns':>8} dropped"
    )
    for title, figure, value in _rows:
        ratio = value.get("ratio_to_pair")
        timed = ratio is not None and value["unit"].startswith("ns")
        write(
            f"{title:22} {figure:34} {value['median']:12.2f} {value['unit']:14} "
            f"{ratio if timed else 0:8.2f} {value['pair']:8.0f} {value['dropped']}"
            if timed
            else f"{title:22} {figure:34} {value['median']:12.2f} {value['unit']:14}"
        )
