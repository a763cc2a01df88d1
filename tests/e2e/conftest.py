# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests: compiled programs, servers, and a look at what is left behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(HERE), str(REPOSITORY / "scripts")]

import nvcc as nvcc_finder  # noqa: E402
from e2e_support import (  # noqa: E402
    ERROR_SECONDS,
    ORION,
    WATCHDOG_SECONDS,
    Build,
    OrionRun,
    Result,
    Server,
    run,
    running_server,
    shared_files,
    wait_until,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is an end-to-end test."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session", autouse=True)
def installed() -> None:
    """The tests run what is installed beside this Python, not the checkout."""
    if not ORION.exists():
        pytest.skip(f"{ORION} is not installed; `make test` does it", allow_module_level=True)


@pytest.fixture(scope="session")
def nvcc() -> nvcc_finder.Nvcc:
    """The compiler; tests that need one are skipped where there is none."""
    try:
        return nvcc_finder.find_nvcc()
    except nvcc_finder.NvccError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def build(nvcc: nvcc_finder.Nvcc, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles a program of ours once: build("tour"), build("vectorAdd", cudart="shared")."""
    folder = tmp_path_factory.mktemp("programs")
    built: dict[tuple[Any, ...], Path] = {}

    def compile_once(
        name: str,
        cudart: str = "static",
        arguments: tuple[str, ...] = (),
        code: tuple[str, ...] = nvcc_finder.PTX_ONLY,
    ) -> Path:
        key = (name, cudart, arguments, code)
        if key not in built:
            source = HERE / "programs" / f"{name}.cu"
            if not source.exists():
                source = REPOSITORY / "examples" / f"{name}.cu"
            output = folder / f"{name}-{len(built)}"
            built[key] = nvcc.compile(
                source,
                output,
                cudart if cudart in ("static", "shared") else "none",
                arguments,
                code,
                runtime_libraries(cudart),
            )
        return built[key]

    return compile_once


def runtime_libraries(cudart: str) -> list[Path]:
    """What to link for "12-shared" and "12-static"; nothing for the runtime of nvcc itself."""
    if cudart in ("static", "shared"):
        return []
    found = nvcc_finder.find_cudart12()
    if found is None:
        pytest.skip("no cudart 12; pip install nvidia-cuda-runtime-cu12")
    shared, static = found
    return [shared] if cudart == "12-shared" else static


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of everything that a test starts: its own folders, no configured server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ORION_") or name == "ORION_LIBRARY_DIR"
    }
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    return {**kept, "XDG_RUNTIME_DIR": str(runtime)}


@pytest.fixture
def orion(environment: dict[str, str]) -> OrionRun:
    """Runs the `orion` command."""

    def command(
        *arguments: str | os.PathLike[str], seconds: float = WATCHDOG_SECONDS, **variables: str
    ) -> Result:
        return run([ORION, *arguments], {**environment, **variables}, seconds)

    return command


@pytest.fixture
def orion_run(orion: OrionRun) -> OrionRun:
    """Runs a program under `orion run` with a private server."""

    def command(
        *program: str | os.PathLike[str], options: tuple[str, ...] = (), **rest: Any
    ) -> Result:
        return orion("run", *options, "--", *program, **rest)

    return command


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[Server]:
    """A server on the CPU device."""
    with running_server(environment) as running:
        yield running


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The second server of a cascade; all programs of a file share it, and it has to survive them."""
    runtime = tmp_path_factory.mktemp("inner")
    runtime.chmod(0o700)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ORION_")}
    with running_server({**kept, "XDG_RUNTIME_DIR": str(runtime)}, "--gmem", "1G") as running:
        yield running


@pytest.fixture
def cascade(environment: dict[str, str], inner: Server) -> dict[str, str]:
    """The environment of `orion run` in front of the second server."""
    library = Path(inner.environment["LD_LIBRARY_PATH"]) / "libcuda.so.1"
    return {**environment, "ORION_DRIVER": str(library), "ORION_DRIVER_SERVER": inner.address}


@pytest.fixture
def cascade_run(cascade: dict[str, str], inner: Server) -> Iterator[OrionRun]:
    """Runs a program through both; afterwards no client is left in the second one."""

    def command(
        *program: str | os.PathLike[str],
        options: tuple[str, ...] = (),
        seconds: float = WATCHDOG_SECONDS,
        **variables: str,
    ) -> Result:
        line = [ORION, "run", "--device", "cuda", *options, "--", *program]
        return run(line, {**cascade, **variables}, seconds)

    yield command
    wait_until(lambda: inner.clients() == [], "the second server to be left alone", ERROR_SECONDS)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the test /dev/shm holds nothing of ours that it did not hold before."""
    before = shared_files()
    yield
    wait_until(lambda: shared_files() <= before, "our files to leave /dev/shm", 5.0)
