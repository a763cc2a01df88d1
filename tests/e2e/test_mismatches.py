# SPDX-License-Identifier: Apache-2.0
"""Compilers, drivers and machine code that do not go together: beside the package's own exception one sentence of ours
names what is wrong and what to do, once, and nothing hangs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from e2e_support import Build, OrionRun, Result
from python_programs import need

SOON = 15.0  # seconds, the start of a Python package included
CUPY = "import cupy; print(int((cupy.arange(10) + 1).sum()))"
CORE = (
    "from cuda.core import Device, Program\nDevice().set_current()\n"
    "Program('extern \"C\" __global__ void f() {}', 'c++').compile('cubin')"
)
# A driver that is ours but for its age. It finds functions by name alone, so that ours are not found behind its back.
OLD_DRIVER = """
int cuGetProcAddress_v2(const char *name, void **f, int version, unsigned long long flags, int *status)
{
    *f = 0;
    return 500;
}
int cuDriverGetVersion(int *version)
{
    *version = VERSION;
    return 0;
}
#ifdef LOAD_RESULT
int cuModuleLoadDataEx(void **module, const void *image, unsigned n, int *options, void **values)
{
    return LOAD_RESULT;
}
#endif
"""


def ours(done: Result) -> list[str]:
    """What we said, but for the line that names the device."""
    return [
        line
        for line in done.err.splitlines()
        if line.startswith("orion") and not line.startswith("orion: running on ")
    ]


def assert_one_sentence(done: Result, *words: str) -> None:
    """The program failed soon, and one line of ours has all the words."""
    assert done.code != 0, done.said()
    assert done.seconds < SOON, done.said()
    said = ours(done)
    assert len(said) == 1, done.said()
    for word in words:
        assert word in said[0], done.said()


@pytest.fixture
def old_driver(libcuda: Path, tmp_path: Path) -> Path:
    """The source; `build_driver` compiles it."""
    source = tmp_path / "old.c"
    source.write_text(OLD_DRIVER)
    return source


def build_driver(source: Path, libcuda: Path, *defines: str) -> Path:
    """A libcuda.so.1 in a folder of its own, in front of ours."""
    folder = source.parent / "driver"
    folder.mkdir()
    output = folder / "libcuda.so.1"
    compiler = os.environ.get("CC", "cc").split()
    front = ["-Wl,--no-as-needed", str(libcuda), f"-Wl,-rpath,{libcuda.parent}"]
    command = [*compiler, "-shared", "-fPIC", *defines, "-o", str(output), str(source), *front]
    subprocess.run(command, check=True)
    return output


@pytest.mark.parametrize(("package", "program"), [("cupy", CUPY), ("cuda.core", CORE)])
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs a virtual environment to hide")
def test_no_nvrtc(orion_run: OrionRun, tmp_path: Path, package: str, program: str) -> None:
    """A Python that finds the packages but not the libraries that lie beside them in site-packages."""
    need(package)
    base = getattr(sys, "_base_executable", sys.executable)
    done = orion_run(
        base,
        "-S",
        "-c",
        program,
        PYTHONPATH=sysconfig.get_path("purelib"),
        CUPY_CACHE_DIR=str(tmp_path),
        CUDA_HOME="",
        CUDA_PATH="",
        CONDA_PREFIX="",
    )
    assert_one_sentence(done, "NVRTC", "libnvrtc.so.", "pip install nvidia-cuda-nvrtc")
    assert "libnvrtc.so" in done.err.replace(ours(done)[0], "")  # the package's own exception


def test_nvrtc_that_is_found_in_a_later_place_is_no_reason_to_speak(orion_run: OrionRun) -> None:
    need("cuda.pathfinder")
    script = (
        "import ctypes\n"
        "try: ctypes.CDLL('libnvrtc.so.11')\n"
        "except OSError as error: print('not there:', error)\n"
        "from cuda.pathfinder import load_nvidia_dynamic_lib\n"
        "library = ctypes.CDLL(load_nvidia_dynamic_lib('nvrtc').abs_path)\n"
        "library.nvrtcVersion\n"
    )
    done = orion_run(sys.executable, "-c", script)
    assert done.code == 0, done.said()
    assert "not there: libnvrtc.so.11" in done.out
    assert ours(done) == []


@pytest.mark.parametrize("version", [9020, 11030])
def test_driver_too_old(orion_run: OrionRun, old_driver: Path, libcuda: Path, version: int) -> None:
    driver = build_driver(old_driver, libcuda, f"-DVERSION={version}")
    done = orion_run("true", options=("--device", "cuda"), ORION_DRIVER=str(driver))
    named = f"{version // 1000}.{version % 1000 // 10}"
    assert_one_sentence(done, f"the driver is too old (CUDA {named})", "11.4 or later is needed")


def test_ptx_newer_than_the_driver(
    build: Build, cascade_run: OrionRun, old_driver: Path, libcuda: Path
) -> None:
    """A program of CUDA 13 at a server whose driver is of CUDA 12.4, as that driver would say it."""
    driver = build_driver(old_driver, libcuda, "-DVERSION=12040", "-DLOAD_RESULT=222")
    done = cascade_run(build("vectorAdd"), ORION_DRIVER=str(driver))
    assert_one_sentence(done, "driver, which is of CUDA 12.4", "update the driver", "CUDA 12")
    assert re.search("cudaErrorUnsupportedPtxVersion|unsupported toolchain", done.out + done.err)


def test_machine_code_for_another_gpu_at_a_driver(
    build: Build, cascade_run: OrionRun, old_driver: Path, libcuda: Path
) -> None:
    driver = build_driver(old_driver, libcuda, "-DVERSION=13000", "-DLOAD_RESULT=209")
    done = cascade_run(build("vectorAdd"), ORION_DRIVER=str(driver))
    assert_one_sentence(
        done, "machine code for other GPUs", "8.0", "arch=compute_80,code=compute_80"
    )


@pytest.mark.parametrize("way", ["cpu", "cascade"])
def test_machine_code_for_another_gpu(
    build: Build, orion_run: OrionRun, cascade_run: OrionRun, way: str
) -> None:
    code = ("-gencode", "arch=compute_90,code=sm_90")
    program = build("vectorAdd", code=code)
    done = orion_run(program) if way == "cpu" else cascade_run(program)
    assert_one_sentence(done, "no code for compute capability 8.0", "build it with PTX")
