# SPDX-License-Identifier: Apache-2.0
"""The wheel that `make wheel` makes: all of each package and nothing else, for any glibc since 2.34."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from elf_files import LIBC, newer_than, tags
from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "venv"
PACKAGES = {
    "orion_shm": ROOT,
    "orion_server": ROOT / "server",
    "orion_controller": ROOT / "server",
    "orion_device_plugin": ROOT / "k8s",
    "orion_elect": ROOT / "k8s",
}
COMMANDS = {
    "orion", "orion-server", "orion-controller", "orion-smi", "orion-check", "orion-device-plugin", "orion-elect",
}  # fmt: skip
NEWEST_GLIBC = (2, 34)  # manylinux_2_34
pytestmark = pytest.mark.timeout(1000)  # what has changed is compiled


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    if Path(sys.prefix) != ROOT / ".venv" or not BUILD.exists():
        pytest.skip("build/venv is another Python's: `make test` builds there")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run(
        [*command, f"-Cbuild-dir={BUILD.relative_to(ROOT)}", "-w", folder, "."],
        cwd=ROOT,
        check=True,
        env={**os.environ, "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}"},
    )
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def shared_objects(wheel: zipfile.ZipFile) -> dict[str, ELFFile]:
    names = [name for name in wheel.namelist() if ".so" in Path(name).name]
    return {name: ELFFile(io.BytesIO(wheel.read(name))) for name in names}


def test_it_has_every_module_of_every_package(wheel: zipfile.ZipFile) -> None:
    wanted = {
        str(path.relative_to(folder))
        for package, folder in PACKAGES.items()
        for path in (folder / package).rglob("*")
        if path.suffix in (".py", ".pyi", ".typed", ".json") and "__pycache__" not in path.parts
    }
    assert wanted <= set(wheel.namelist())


def test_it_has_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    (info,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {*PACKAGES, info}
    sources = (".c", ".h", ".pyx", ".pxd", ".pxi", ".toml", ".o", ".a")
    assert not [name for name in wheel.namelist() if Path(name).suffix in sources]
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    commands = wheel.read(f"{info}/entry_points.txt").decode()
    assert {line.partition(" = ")[0] for line in commands.splitlines() if " = " in line} == COMMANDS


def test_its_shared_objects_are_those_that_it_must_have(wheel: zipfile.ZipFile) -> None:
    names = {name.partition(".cpython-")[0] for name in shared_objects(wheel)}
    assert names == {
        "orion_shm/_channel",
        "orion_shm/lib/cuda/libcuda.so.1",
        "orion_shm/lib/preload/liborion_compilers.so",
        "orion_server/_worker",
        "orion_server/liborion_worker.so",
    }
    assert [n for n in wheel.namelist() if n.startswith("orion_shm/lib/cuda/")] == [
        "orion_shm/lib/cuda/libcuda.so.1"
    ]


def test_its_shared_objects_need_libc_alone(wheel: zipfile.ZipFile) -> None:
    for name, elf in shared_objects(wheel).items():
        assert set(tags(elf, "DT_NEEDED")) <= LIBC, name
        assert not tags(elf, "DT_RPATH") + tags(elf, "DT_RUNPATH"), name


def test_its_shared_objects_need_no_glibc_newer_than_2_34(wheel: zipfile.ZipFile) -> None:
    here = tuple(int(part) for part in platform.libc_ver()[1].split("."))
    if here > (2, 36):
        pytest.skip(
            "a newer glibc's headers name newer symbols: release wheels are made on Debian 12"
        )
    for name, elf in shared_objects(wheel).items():
        assert not newer_than(NEWEST_GLIBC, elf), name
