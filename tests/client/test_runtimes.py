# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's runtimes, unmodified, initialise against our driver and copy memory through it (twin, null device)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
import ctypes, sys
cudart = ctypes.CDLL(sys.argv[1])
def check(code, what):
    if code:
        cudart.cudaGetErrorName.restype = ctypes.c_char_p
        sys.exit(f"{what}: {cudart.cudaGetErrorName(code).decode()}")
version, count = ctypes.c_int(), ctypes.c_int()
check(cudart.cudaRuntimeGetVersion(ctypes.byref(version)), "cudaRuntimeGetVersion")
check(cudart.cudaGetDeviceCount(ctypes.byref(count)), "cudaGetDeviceCount")
assert count.value == 1, count.value
for turn in range(3):
    device, host, managed = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    size = 300_000
    data = bytes(range(256)) * (size // 256 + 1)
    back = ctypes.create_string_buffer(size)
    check(cudart.cudaMalloc(ctypes.byref(device), ctypes.c_size_t(size)), "cudaMalloc")
    check(cudart.cudaMemcpy(device, data, ctypes.c_size_t(size), 4), "cudaMemcpy in")
    check(cudart.cudaMemcpy(back, device, ctypes.c_size_t(size), 4), "cudaMemcpy out")
    assert back.raw == data[:size]
    check(cudart.cudaMallocHost(ctypes.byref(host), ctypes.c_size_t(size)), "cudaMallocHost")
    check(cudart.cudaMemset(device, 7, ctypes.c_size_t(size)), "cudaMemset")
    check(cudart.cudaMemcpy(host, device, ctypes.c_size_t(size), 2), "cudaMemcpy pinned")
    assert ctypes.string_at(host, size) == b"\7" * size
    check(cudart.cudaMallocManaged(ctypes.byref(managed), ctypes.c_size_t(64), 1), "cudaMallocManaged")
    ctypes.memset(managed, 3, 64)
    attributes = (ctypes.c_int * 64)()
    check(cudart.cudaPointerGetAttributes(attributes, managed), "cudaPointerGetAttributes")
    assert attributes[0] == 3, attributes[0]
    check(cudart.cudaPointerGetAttributes(attributes, back), "cudaPointerGetAttributes of host memory")
    assert attributes[0] == 0, attributes[0]
    stream, event = ctypes.c_void_p(), ctypes.c_void_p()
    check(cudart.cudaStreamCreate(ctypes.byref(stream)), "cudaStreamCreate")
    check(cudart.cudaEventCreate(ctypes.byref(event)), "cudaEventCreate")
    check(cudart.cudaEventRecord(event, stream), "cudaEventRecord")
    check(cudart.cudaStreamSynchronize(stream), "cudaStreamSynchronize")
    check(cudart.cudaFree(device), "cudaFree")
    check(cudart.cudaDeviceReset(), "cudaDeviceReset")
print(version.value)
"""

RUNTIMES = [
    ("nvidia-cuda-runtime-cu12", "libcudart.so.12", 12),
    ("nvidia-cuda-runtime", "libcudart.so.13", 13),
]


def runtime_library(distribution: str, name: str) -> Path:
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install {distribution}")
    for file in files:
        if file.name == name:
            return Path(str(file.locate()))
    pytest.fail(f"{distribution} has no {name}")


def twin_address() -> str:
    spec = importlib.util.find_spec("orion_server")
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = Path(folder, "liborion_worker.so")
        if path.exists():
            return f"local:{path}?device=null"
    pytest.fail("Orion is not installed in this Python: run make test, or pip install . first")


@pytest.mark.parametrize(("distribution", "name", "major"), RUNTIMES)
@pytest.mark.parametrize("loading", ["LAZY", "EAGER"])
def test_runtime_starts_copies_and_resets(
    libcuda: Path, distribution: str, name: str, major: int, loading: str
) -> None:
    library = runtime_library(distribution, name)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libcuda.parent),
        "ORION_SERVER": twin_address(),
        "CUDA_MODULE_LOADING": loading,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(library)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) // 1000 == major
    assert "orion:" not in done.stderr


def test_library_costs_little_static_tls(libcuda: Path) -> None:
    """Programs load it late with dlopen, when few bytes of static TLS are left."""
    output = subprocess.run(
        ["readelf", "-lW", str(libcuda)], capture_output=True, text=True, check=True
    ).stdout
    for line in output.splitlines():
        if line.split()[:1] == ["TLS"]:
            assert int(line.split()[5], 16) <= 64
            return


OLD = r"""
import ctypes, sys
ctypes.CDLL(sys.argv[1])
print(ctypes.CDLL("libcuda.so.1").cuInit(0))
"""


@pytest.mark.parametrize(
    ("name", "result"),
    [("libcudart.so.9.0", 801), ("libcudart.so.10.2", 801), ("libcudart.so.11.0", 0)],
)
def test_runtime_that_is_too_old_is_named(
    libcuda: Path, tmp_path: Path, name: str, result: int
) -> None:
    """Only the names of these: the runtimes themselves are not on PyPI."""
    library = tmp_path / name
    source = tmp_path / "empty.c"
    source.write_text("")
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", library, source]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [sys.executable, "-c", OLD, str(library)],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(libcuda.parent),
            "ORION_SERVER": twin_address(),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == [str(result)], done.stderr
    assert (f"{name} is older than what Orion serves" in done.stderr) == (result != 0)
