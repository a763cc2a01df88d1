# SPDX-License-Identifier: Apache-2.0
"""How kernels run: cancelling, several OS threads, a process that may open nothing, cooperative launches."""

from __future__ import annotations

import ctypes
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from orion_server.ptx import CompiledKernel, compile_kernel, parse_module
from ptxhost import Device, Launch, LaunchError, Loaded

KERNELS = Path(__file__).parent / "kernels"
HEAD = ".version 7.8\n.target sm_80\n.address_size 64\n"

ENDLESS = HEAD + (
    ".visible .entry k(.param .u64 p) {\n.reg .b64 %p; .reg .b32 %v; .reg .pred %q;\n"
    "ld.param.u64 %p, [p];\nL: {how} %v, [%p]; setp.eq.u32 %q, %v, 0; @%q bra L; ret; }\n"
)


@pytest.mark.parametrize(
    "how", ["ld.global.u32", "ld.volatile.global.u32", "ld.acquire.gpu.global.u32"]
)
@pytest.mark.parametrize("fibers", [False, True])
def test_polling_kernel_can_be_cancelled(device: Device, how: str, fibers: bool) -> None:
    if fibers and how == "ld.global.u32":
        pytest.skip(
            "a loop over plain loads is not a poll: only the worker's end stops it on fibers"
        )
    loaded = device.load(ENDLESS.replace("{how}", how), fibers=fibers)
    flag = ctypes.c_uint32(0)
    timer = threading.Timer(0.1, lambda: setattr(flag, "value", 1))
    timer.start()
    begin = time.monotonic()
    with pytest.raises(LaunchError) as caught:
        loaded.launch("k", 2, 64, np.zeros(1, np.uint32), cancel=flag)
    assert caught.value.code == 6
    assert time.monotonic() - begin < 20


def test_polling_kernel_goes_on_when_memory_changes(device: Device) -> None:
    loaded = device.load(ENDLESS.replace("{how}", "ld.volatile.global.u32"))
    word = np.zeros(1, np.uint32)
    timer = threading.Timer(0.05, lambda: word.__setitem__(0, 1))
    timer.start()
    loaded.launch("k", 4, 32, word)


def run_range(
    device: Device, kernel: CompiledKernel, launch: Launch, first: int, count: int
) -> int:
    scratch = device.library.orion_cpu_scratch_new()
    err = ctypes.create_string_buffer(256)
    code = device.library.orion_cpu_kernel_run(
        kernel.address, launch, first, count, scratch, err, 256
    )
    device.library.orion_cpu_scratch_free(scratch)
    return int(code)


def test_threads_share_a_launch(device: Device) -> None:
    module = parse_module((KERNELS / "atomics.ptx").read_text())
    kernel = compile_kernel(module, "histogram")
    data = np.random.default_rng(8).integers(0, 256, 200_000).astype(np.uint8)
    out = np.zeros(256, np.uint32)
    params = b"".join(
        int(v).to_bytes(8, "little") for v in (data.ctypes.data, out.ctypes.data, len(data))
    )
    buffer = ctypes.create_string_buffer(params, len(params))
    launch = Launch()
    launch.grid[:] = (16, 1, 1)
    launch.block[:] = (128, 1, 1)
    launch.params, launch.param_bytes = ctypes.addressof(buffer), 20
    codes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda i=i: codes.append(run_range(device, kernel, launch, 4 * i, 4))
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0] * 4
    assert np.array_equal(out, np.bincount(data, minlength=256))


def test_compiles_in_a_forked_process_that_may_open_nothing(device: Device) -> None:
    text = (KERNELS / "maths.ptx").read_text()
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
            x = np.array([0.5, 1.5])
            out = np.zeros((11, 2))
            device.load(text).launch("doubles", 1, 32, x, out, 2)
            os._exit(0 if np.allclose(out[0], np.sin(x)) else 3)
        except BaseException:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_small_blocks_cost_little(device: Device) -> None:
    text = HEAD + ".visible .entry k(.param .u32 a) { ret; }\n"
    loaded: Loaded = device.load(text)
    loaded.launch("k", 10, 32, 0)
    begin = time.perf_counter()
    loaded.launch("k", 100_000, 32, 0)
    assert time.perf_counter() - begin < 1.0  # 10 us a block; it takes some tens of nanoseconds


def test_grid_barrier_of_a_cooperative_launch(device: Device, nvcc: Callable[[str], str]) -> None:
    source = """
#include <cooperative_groups.h>
extern "C" __global__ void turn(int *a, int *out, int n)
{
    auto grid = cooperative_groups::this_grid();
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    a[i] = i * 3;
    grid.sync();
    out[i] = a[(i + 77) % n];
    grid.sync();
    a[i] = out[(i + 5) % n];
}
"""
    n = 8 * 64
    a, out, space = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(64, np.uint32)
    device.load(nvcc(source)).launch("turn", 8, 64, a, out, n, workspace=int(space.ctypes.data))
    i = np.arange(n)
    assert np.array_equal(out, (i + 77) % n * 3)
    assert np.array_equal(a, out[(i + 5) % n])


def test_block_sort_of_cub(device: Device, nvcc: Callable[[str], str]) -> None:
    source = """
#include <cub/cub.cuh>
extern "C" __global__ void sort(unsigned *data)
{
    using Sort = cub::BlockRadixSort<unsigned, 128, 4>;
    __shared__ typename Sort::TempStorage storage;
    unsigned keys[4];
    for (int i = 0; i < 4; i++)
        keys[i] = data[threadIdx.x * 4 + i];
    Sort(storage).Sort(keys);
    for (int i = 0; i < 4; i++)
        data[threadIdx.x * 4 + i] = keys[i];
}
"""
    try:
        text = nvcc(source)
    except Exception:
        pytest.skip("no CUB beside nvcc")
    data = np.random.default_rng(9).integers(0, 2**32, 512, dtype=np.uint32)
    want = np.sort(data)
    for fibers in (False, True):
        got = data.copy()
        device.load(text, fibers=fibers).launch("sort", 1, 128, got)
        assert np.array_equal(got, want)
