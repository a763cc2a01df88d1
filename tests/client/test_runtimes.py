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


# What a runtime that is linked into a program does at its start, by the ways that such runtimes have had: it opens the
# driver and asks for its own table, having found the functions by cuGetProcAddress or by their symbols.
STATIC = r"""
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
static const unsigned char cudart[16] = {0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a,
                                         0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9};
static const unsigned char integrity[16] = {0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b,
                                            0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2};
typedef int (*get_table_fn)(const void **, const void *);
int main(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    int (*init)(unsigned) = (int (*)(unsigned))dlsym(driver, "cuInit");
    get_table_fn get_table = (get_table_fn)dlsym(driver, "cuGetExportTable");
    const void *table = NULL;
#ifdef FINDS
    void *pfn;
    int (*find)(const char *, void **, int, uint64_t) =
        (int (*)(const char *, void **, int, uint64_t))dlsym(driver, "cuGetProcAddress");
    find("", &pfn, 0, 0);
#endif
#ifdef MENTIONS
    static const char *volatile names[] = {"cuGetProcAddress_v2"};
    if (!names[0])
        return 1;
#endif
    int result = get_table(&table, cudart);
    printf("%d %d ", result, table != NULL);
    printf("%d ", init(0)); /* later: the twin, which is loaded now, has the name of the function in it as well */
#ifdef RUNTIME
    for (unsigned step = 0; step < 3; step++) {
        uint64_t answer[2];
        if (get_table(&table, integrity))
            return 1;
        int (*check)(uint32_t, uint64_t, uint64_t *) = (int (*)(uint32_t, uint64_t, uint64_t *))((void **)table)[1];
        printf("%d ", check(RUNTIME + step, (uint64_t)time(NULL), answer));
    }
#endif
    return 0;
}
"""


@pytest.mark.parametrize(
    ("defines", "results", "sentence"),
    [
        ([], "801 0 0", "the program's CUDA runtime, from before CUDA 11.3, is older"),
        (["MENTIONS"], "0 1 0", None),
        (["FINDS"], "0 1 0", None),
        (
            ["FINDS", "RUNTIME=11030"],
            "0 1 0 801 801 801",
            "the program's CUDA runtime 11.3 is older",
        ),
        (
            ["FINDS", "RUNTIME=11070"],
            "0 1 0 801 801 801",
            "the program's CUDA runtime 11.7 is older",
        ),
        (["FINDS", "RUNTIME=11080"], "0 1 0 0 0 0", None),
        (["FINDS", "RUNTIME=12090"], "0 1 0 0 0 0", None),
    ],
)
def test_runtime_inside_a_program_that_is_too_old_is_refused(
    libcuda: Path, tmp_path: Path, defines: list[str], results: str, sentence: str | None
) -> None:
    program, source = tmp_path / "program", tmp_path / "program.c"
    source.write_text(STATIC)
    compiler = [*os.environ.get("CC", "cc").split(), *(f"-D{define}" for define in defines)]
    subprocess.run([*compiler, "-o", program, source, "-ldl"], check=True)
    done = subprocess.run(
        [str(program)],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(libcuda.parent),
            "ORION_SERVER": twin_address(),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == results.split(), done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("orion:")]
    if sentence is None:
        assert ours == []
    else:
        assert len(ours) == 1, done.stderr  # once, whatever is asked again
        assert sentence in ours[0]
        assert "CUDA 11.8: build the program with CUDA 12 or 13" in ours[0]
