# SPDX-License-Identifier: Apache-2.0
"""CuPy and Numba: arrays of this process, opened by others that it starts."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from typing import Any

import checks
import cupy as cp
import numba_ipc  # noqa: F401 - makes Numba's handles travel
import numpy as np
from cupy.cuda import runtime
from numba import cuda

SPAWN = multiprocessing.get_context("spawn")


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the function in a process of its own."""
    with SPAWN.Pool(1) as pool:
        return pool.apply(function, arguments)


def opened_by_cupy(handle: bytes, offset: int, count: int) -> tuple[Any, str]:
    pointer = runtime.ipcOpenMemHandle(handle)
    try:
        memory = cp.cuda.UnownedMemory(pointer, offset + count * 4, None)
        array = cp.ndarray(count, "i4", cp.cuda.MemoryPointer(memory, offset))
        seen = array.get()
        array += 1
        cp.cuda.Device().synchronize()
        try:
            runtime.ipcOpenMemHandle(b"\x01" * 64)
        except runtime.CUDARuntimeError as error:
            refused = str(error)
        return seen, refused
    finally:
        runtime.ipcCloseMemHandle(pointer)


def check_cupy_memory():
    array = cp.arange(1000, dtype="i4")
    base = array.data.mem.ptr
    handle = runtime.ipcGetMemHandle(array.data.ptr)
    cp.cuda.Device().synchronize()
    seen, refused = elsewhere(opened_by_cupy, handle, array.data.ptr - base, 1000)
    np.testing.assert_array_equal(seen, np.arange(1000))
    np.testing.assert_array_equal(array.get(), np.arange(1000) + 1)
    assert "cudaErrorInvalidResourceHandle" in refused
    assert "cudaErrorDeviceUninitialized" in checks.failure(
        lambda: runtime.ipcOpenMemHandle(handle)
    )


def waited_by_cupy(memory: bytes, event: bytes) -> int:
    pointer, shared = runtime.ipcOpenMemHandle(memory), runtime.ipcOpenEventHandle(event)
    stream = cp.cuda.Stream()
    runtime.streamWaitEvent(stream.ptr, shared)
    with stream:
        value = cp.ndarray(
            1, "i4", cp.cuda.MemoryPointer(cp.cuda.UnownedMemory(pointer, 4, None), 0)
        )
        seen = int((value + 0).get()[0])
    runtime.eventDestroy(shared)
    runtime.ipcCloseMemHandle(pointer)
    return seen


def check_cupy_event():
    pointer = runtime.malloc(4)
    value = cp.ndarray(1, "i4", cp.cuda.MemoryPointer(cp.cuda.UnownedMemory(pointer, 4, None), 0))
    event = cp.cuda.Event(disable_timing=True, interprocess=True)
    for turn in (1, 2):
        value.fill(turn)
        event.record()
        handles = runtime.ipcGetMemHandle(pointer), runtime.ipcGetEventHandle(event.ptr)
        assert elsewhere(waited_by_cupy, *handles) == turn
    runtime.free(pointer)


def opened_by_numba(handle: Any) -> Any:
    with handle as array:
        seen = array.copy_to_host()
        array[:3] = 99
        cuda.synchronize()
        return seen


def check_numba_array():
    host = np.arange(50, dtype=np.float64)
    array = cuda.to_device(host)
    np.testing.assert_array_equal(elsewhere(opened_by_numba, array.get_ipc_handle()), host)
    host[:3] = 99
    np.testing.assert_array_equal(array.copy_to_host(), host)


def check_numba_slice():
    """The handle is one of the whole allocation; Numba sends the offset along."""
    host = np.arange(60, dtype=np.int32)
    part = cuda.to_device(host)[20:30]
    np.testing.assert_array_equal(elsewhere(opened_by_numba, part.get_ipc_handle()), host[20:30])


if __name__ == "__main__":
    sys.exit(checks.main(globals()))
