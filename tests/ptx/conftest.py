# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the PTX tests: the C runtime built once, and CUDA sources compiled where nvcc is at hand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "scripts")]

import nvcc as nvcc_finder  # noqa: E402
import ptxhost as host  # noqa: E402
from orion_server import ptx  # noqa: E402


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> host.Device:
    library = host.build(tmp_path_factory.mktemp("cpu"))
    ptx.prepare(library)
    return host.Device(library)


@pytest.fixture(scope="session")
def load(device: host.Device) -> Callable[..., host.Loaded]:
    """Loads a committed .ptx file by name."""

    def load_file(name: str, fibers: bool = False) -> host.Loaded:
        return device.load((HERE / "kernels" / f"{name}.ptx").read_text(), fibers=fibers)

    return load_file


@pytest.fixture(scope="session")
def nvcc(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Compiles CUDA source text to PTX."""
    try:
        compiler = nvcc_finder.find_nvcc().path
    except nvcc_finder.NvccError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("nvcc")

    def compile_(source: str, *flags: str) -> str:
        path = folder / f"k{abs(hash((source, flags)))}.cu"
        path.write_text(source)
        target = path.with_suffix(".ptx")
        subprocess.run(
            [
                str(compiler),
                "-ptx",
                "-arch=compute_80",
                "-std=c++17",
                *flags,
                "-o",
                str(target),
                str(path),
            ],
            check=True,
        )
        return target.read_text()

    return compile_
