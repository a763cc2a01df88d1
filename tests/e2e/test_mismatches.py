# SPDX-License-Identifier: Apache-2.0
"""Compilers, drivers and machine code that do not go together: beside the package's own exception one sentence of ours
names what is wrong and what to do, once, and nothing hangs."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from e2e_support import Build, OrionRun, Result
from python_programs import need
from wheels import make_environment

SOON = 15.0  # seconds, the start of a Python package included
CUPY = "import cupy; print(int((cupy.arange(10) + 1).sum()))"
CORE = (
    "from cuda.core import Device, Program\nDevice().set_current()\n"
    "Program('extern \"C\" __global__ void f() {}', 'c++').compile('cubin').get_kernel('f')\n"
    "print(55)"
)
NUMBA = (
    "import numpy\nfrom numba import cuda\n"
    "@cuda.jit\ndef add(x): x[cuda.grid(1)] += 1\n"
    "x = numpy.arange(10); add[1, 10](x); print(x.sum())"
)
PACKAGES = [("cupy", CUPY), ("cuda.core", CORE), ("numba.cuda", NUMBA)]
# pip install --no-deps --target DIR 'cupy-cuda12x==14.*' 'cuda-bindings==12.*' nvidia-cuda-nvrtc-cu12: 230 MB
CUDA12 = os.environ.get("ORION_CUDA12_SITE", "")
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


def build_library(output: Path, source: str) -> None:
    """A shared library of one line of C."""
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(output)]
    subprocess.run(command, input=source, text=True, check=True)


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


RunIn = Callable[..., Result]


@pytest.fixture
def run_in(orion_run: OrionRun, tmp_path: Path) -> RunIn:
    """Runs a Python program with the packages of an environment and nothing of a toolkit elsewhere; every kernel is
    compiled anew."""

    def command(python: Path, program: str) -> Result:
        nowhere = dict.fromkeys(("CUDA_HOME", "CUDA_PATH", "CONDA_PREFIX", "PYTHONPATH"), "")
        caches = {"CUPY_CACHE_DIR": str(tmp_path / "c"), "NUMBA_CACHE_DIR": str(tmp_path / "n")}
        return orion_run(python, "-c", program, **nowhere, **caches)

    return command


def assert_works(done: Result) -> None:
    """The program's result is right, and there was nothing to say."""
    assert done.code == 0, done.said()
    assert done.out.splitlines()[-1:] == ["55"], done.said()
    assert ours(done) == [], done.said()


@pytest.mark.parametrize(("package", "program"), PACKAGES)
def test_environment_in_which_nothing_is_missing_works(
    run_in: RunIn, tmp_path: Path, package: str, program: str
) -> None:
    need(package)
    assert_works(run_in(make_environment(tmp_path / "env"), program))


@pytest.mark.parametrize(("package", "program"), PACKAGES[:2])
def test_no_nvrtc(run_in: RunIn, tmp_path: Path, package: str, program: str) -> None:
    need(package)
    with suppress(OSError):
        ctypes.CDLL("libnvrtc.so.13")
        pytest.skip("the loader of this machine finds an NVRTC")
    done = run_in(make_environment(tmp_path / "env", ["libnvrtc.so*"]), program)
    assert_one_sentence(done, "NVRTC of CUDA 13 (libnvrtc.so.13)", "pip install nvidia-cuda-nvrtc")
    assert "libnvrtc.so" in done.err.replace(ours(done)[0], "")  # the package's own exception


@pytest.mark.parametrize("what", ["no library", "another library"])
@pytest.mark.parametrize(
    ("package", "program", "library"),
    [
        ("cupy", CUPY, "libnvrtc.so.13"),
        ("cuda.core", CORE, "libnvrtc.so.13"),
        ("numba.cuda", NUMBA, "libnvvm.so.4"),
    ],
)
def test_compiler_that_is_broken_is_named_by_the_package(
    run_in: RunIn, tmp_path: Path, package: str, program: str, library: str, what: str
) -> None:
    """A download that was cut, or a library under the compiler's name that has none of its functions."""
    need(package)
    broken = tmp_path / "broken" / "nvidia" / "cu13" / "lib"
    broken.mkdir(parents=True)
    if what == "no library":
        (broken / library).write_bytes(b"\x7fELF and no more")
    else:
        build_library(broken / library, "int nothing;")
    done = run_in(make_environment(tmp_path / "env", layers=[tmp_path / "broken"]), program)
    assert done.code == 1, done.said()
    assert done.seconds < SOON, done.said()
    assert re.search("nvrtc|nvvm", done.err.splitlines()[-1], re.IGNORECASE), done.said()


@pytest.mark.parametrize(("package", "program"), PACKAGES)
@pytest.mark.parametrize("library", ["libnvJitLink.so*", "libcudart.so*"])
def test_library_that_is_not_needed_may_be_missing(
    run_in: RunIn, tmp_path: Path, package: str, program: str, library: str
) -> None:
    """Without nvJitLink the driver links; CuPy and the bindings have the CUDA runtime in themselves."""
    need(package)
    assert_works(run_in(make_environment(tmp_path / "env", [library]), program))


@pytest.mark.skipif(not CUDA12, reason="needs packages of CUDA 12, in ORION_CUDA12_SITE")
@pytest.mark.parametrize(("package", "program"), PACKAGES)
@pytest.mark.parametrize("compiler", ["12", "13"])
def test_packages_of_cuda_12_work_with_compilers_of_both(
    run_in: RunIn, tmp_path: Path, package: str, program: str, compiler: str
) -> None:
    need(package)
    hidden = ["cupy_cuda13x*", "cuda_bindings-13*"]
    hidden += ["libnvrtc*.so.13*", "libnvJitLink*"] if compiler == "12" else ["libnvrtc*.so.12*"]
    python = make_environment(tmp_path / "env", hidden, [Path(CUDA12)])
    which = (
        "import cuda.bindings, importlib.metadata\nassert cuda.bindings.__version__[:3] == '12.'\n"
    )
    which += "assert importlib.metadata.version('cupy-cuda12x')\n"
    assert_works(run_in(python, which + program))


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
