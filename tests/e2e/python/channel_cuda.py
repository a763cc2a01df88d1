# SPDX-License-Identifier: Apache-2.0
"""Two processes that send arrays on the device to each other over a channel; prints one line for each thing that held.

channel_cuda.py [numba]
"""

from __future__ import annotations

import collections
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cupy
import numpy as np

import orion_shm
from orion_shm import cuda_arrays

SECONDS = 600.0  # kernels may have to be compiled first
calls: collections.Counter[str] = collections.Counter()


def count_calls() -> None:
    """Of the driver, by this process's channels."""
    original = cuda_arrays.Driver.__call__

    def counted(self: cuda_arrays.Driver, name: str, *arguments: Any) -> None:
        calls[name] += 1
        original(self, name, *arguments)

    cuda_arrays.Driver.__call__ = counted  # type: ignore[method-assign]


def answer(name: str) -> None:
    """The second process: what comes is doubled in place, and kept until a message says that it shall be dropped."""
    kept: list[Any] = []
    with orion_shm.connect(name, SECONDS) as channel:
        for array in channel:
            if isinstance(array, bytes):
                kept.clear()
                gc.collect()
                channel.send(json.dumps(calls).encode())
            else:
                channel.send(doubled(array, kept).encode())
            del array


def doubled(array: cuda_arrays.CudaArray, kept: list[Any]) -> str:
    mine = cupy.asarray(array)
    assert cupy.from_dlpack(array).data.ptr == mine.data.ptr
    mine *= 2
    cupy.cuda.Device().synchronize()
    assert mine.data.ptr == array.__cuda_array_interface__["data"][0]
    kept.append(mine)
    return f"{array.dtype} {array.shape} {int(mine.sum())}"


class OnlyDlpack:
    """An array without __cuda_array_interface__."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        assert options["stream"] == 1, "the stream that the event is recorded on"
        return self.array.__dlpack__(**options)


class OldDlpack(OnlyDlpack):
    """As packages had it before DLPack 1.0."""

    def __dlpack__(self, stream: int | None = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__(stream=stream)


def sent(channel: orion_shm.Channel, array: Any) -> str:
    channel.send_array(array)
    return str(channel.recv(SECONDS), "ascii")


def dropped(channel: orion_shm.Channel) -> dict[str, int]:
    """The other process drops all that it has; what it has called so far."""
    channel.send(b"drop")
    return json.loads(channel.recv(SECONDS))  # type: ignore[no-any-return]


def refusal(action: Callable[[], object], kind: type[Exception]) -> str:
    try:
        action()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def share_with_cupy(channel: orion_shm.Channel) -> None:
    base = cupy.arange(1000, dtype="f4")
    assert sent(channel, base) == "float32 (1000,) 999000"
    assert float(base[999]) == 1998.0
    print("the same memory")
    assert sent(channel, base[10:20]) == "float32 (10,) 580"
    print("a part of it")
    assert calls["cuIpcGetMemHandle"] == 1
    there = dropped(channel)
    assert (there["cuIpcOpenMemHandle_v2"], there["cuIpcCloseMemHandle"]) == (1, 1)
    print("opened once, closed when dropped")
    assert sent(channel, base[:10]) == "float32 (10,) 180"
    assert calls["cuIpcGetMemHandle"] == 1
    assert dropped(channel)["cuIpcOpenMemHandle_v2"] == 2
    print("opened again when it comes again, by the same handle")
    square = cupy.arange(12, dtype="i8").reshape(4, 3).T  # contiguous the other way
    assert sent(channel, square) == "int64 (3, 4) 132"
    print("Fortran order")
    for make in (OnlyDlpack, OldDlpack):
        tensor = cupy.arange(12, dtype="i4").reshape(3, 4)
        assert sent(channel, make(tensor)) == "int32 (3, 4) 132"
        assert int(tensor.sum()) == 132
    print("a DLPack tensor of either kind")
    share_in_streams(channel)
    text = refusal(lambda: channel.send_array(base[::2]), ValueError)
    print(f"refused: {text}")
    with cupy.cuda.using_allocator(cupy.cuda.malloc_managed):
        managed = cupy.zeros(10)
    assert managed.__dlpack_device__()[0] == 13
    for array in (managed, OnlyDlpack(managed)):
        assert "copy the array" in refusal(
            lambda array=array: channel.send_array(array), RuntimeError
        )  # type: ignore[misc]
    print("refused: managed memory")


def share_in_streams(channel: orion_shm.Channel) -> None:
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        for round_ in range(20):
            filled = cupy.full(100_000, round_, dtype="i4")
            # not waited for: the event orders the other process behind the kernel
            array = OnlyDlpack(filled) if round_ % 2 else filled
            assert sent(channel, array) == f"int32 (100000,) {200_000 * round_}"
    print("in the stream's order")
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(cuda_arrays.EVENTS_KEPT + 10)]
    for number, stream in enumerate(streams):
        with stream:
            filled = cupy.full(1000, number, dtype="i4")
            assert sent(channel, filled) == f"int32 (1000,) {2000 * number}"
    kept = cuda_arrays.driver().events
    assert max(map(len, kept.values())) == cuda_arrays.EVENTS_KEPT
    print("in more streams than there are events")
    there = dropped(channel)
    assert there["cuIpcOpenMemHandle_v2"] == there["cuIpcCloseMemHandle"]


def share_with_numba(channel: orion_shm.Channel) -> None:
    from numba import cuda

    device = cuda.to_device(np.arange(1000, dtype="f4"))
    assert sent(channel, device) == "float32 (1000,) 999000"
    np.testing.assert_array_equal(device.copy_to_host(), 2 * np.arange(1000, dtype="f4"))
    print("an array of Numba's")


def main(share: Callable[[orion_shm.Channel], None]) -> None:
    name = f"cuda-{os.getpid()}"
    with orion_shm.listen(name) as listener:
        child = subprocess.Popen([sys.executable, __file__, "answer", name])
        channel = listener.accept(SECONDS)
    share(channel)
    channel.close()
    assert child.wait(SECONDS) == 0


count_calls()
if sys.argv[1:2] == ["answer"]:
    answer(sys.argv[2])
else:
    main(share_with_numba if sys.argv[1:] == ["numba"] else share_with_cupy)
