# SPDX-License-Identifier: Apache-2.0
"""What `orion run` adds for CUDA's Python packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from orion_shm.cli import python_programs


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Folders as they are installed."""
    (tmp_path / "preload").mkdir()
    (tmp_path / "preload" / python_programs.PRELOAD).touch()
    return tmp_path / "cuda"


CPU = {"kind": "cpu", "name": "Orion CPU device (x)"}
GPU = {"kind": "cuda", "name": "NVIDIA H100"}
CASCADE = {"kind": "cuda", "name": "Orion CPU device (x)"}  # its driver is our own library


@pytest.mark.parametrize(
    ("devices", "ptx"),
    [([CPU], True), ([GPU], False), ([CASCADE], True), ([CPU, GPU], False), ([], None)],
)
def test_cpu_devices_want_ptx_and_gpus_do_not(
    devices: list[dict[str, str]], ptx: bool | None
) -> None:
    assert python_programs.wants_ptx(devices) is ptx


def test_preloaded_library_comes_before_those_of_the_user(library: Path) -> None:
    environment = {"LD_PRELOAD": "libother.so", "HOME": "/me"}
    python_programs.prepare(environment, library, True)
    preload = str(library.parent / "preload" / python_programs.PRELOAD)
    assert environment == {
        "HOME": "/me",
        "LD_PRELOAD": f"{preload}:libother.so",
        "ORION_PTX": "1",
        "CUPY_CACHE_DIR": "/me/.cupy/kernel_cache/orion-ptx",
    }
    again = dict(environment)
    python_programs.prepare(again, library, True)
    assert again == environment


def test_unknown_device_is_left_to_the_program(library: Path) -> None:
    environment = {"CUPY_CACHE_DIR": "/cache"}
    python_programs.prepare(environment, library, None)
    assert "ORION_PTX" not in environment
    assert environment["CUPY_CACHE_DIR"] == "/cache/orion-ptx"
    assert environment["LD_PRELOAD"]


@pytest.mark.parametrize(("ptx", "said"), [(False, {}), (True, {"ORION_PTX": "0"})])
def test_nothing_is_changed_for_gpus_and_where_it_is_switched_off(
    library: Path, ptx: bool, said: dict[str, str]
) -> None:
    environment = dict(said)
    python_programs.prepare(environment, library, ptx)
    assert environment == said
