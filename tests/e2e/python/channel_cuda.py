# SPDX-License-Identifier: Apache-2.0
"""Two processes that send CuPy arrays to each other over a channel; prints one line for each thing that held."""

from __future__ import annotations

import os
import subprocess
import sys

import cupy

import orion_shm

SECONDS = 120.0


def answer(name: str) -> None:
    """The second process: what comes is doubled in place."""
    with orion_shm.connect(name, SECONDS) as channel:
        for array in channel:
            mine = cupy.asarray(array)
            assert cupy.from_dlpack(array).data.ptr == mine.data.ptr
            mine *= 2
            cupy.cuda.Device().synchronize()
            assert mine.data.ptr == array.__cuda_array_interface__["data"][0]
            channel.send(f"{array.dtype} {array.shape} {int(mine.sum())}".encode())


def main() -> None:
    name = f"cuda-{os.getpid()}"
    with orion_shm.listen(name) as listener:
        child = subprocess.Popen([sys.executable, __file__, name])
        channel = listener.accept(SECONDS)
    base = cupy.arange(1000, dtype="f4")
    square = cupy.arange(12, dtype="i8").reshape(4, 3).T  # contiguous the other way
    channel.send_array(base)
    assert channel.recv(SECONDS) == b"float32 (1000,) 999000"
    assert float(base[999]) == 1998.0
    print("the same memory")
    channel.send_array(base[10:20])
    assert channel.recv(SECONDS) == b"float32 (10,) 580"
    print("a part of it")
    channel.send_array(square)
    assert channel.recv(SECONDS) == b"int64 (3, 4) 132"
    print("Fortran order")
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        for round_ in range(20):
            filled = cupy.full(100_000, round_, dtype="i4")
            channel.send_array(
                filled
            )  # not waited for: the event orders the other process behind the kernel
            assert channel.recv(SECONDS) == f"int32 (100000,) {200_000 * round_}".encode()
    print("in the stream's order")
    try:
        channel.send_array(base[::2])
    except ValueError as error:
        print(f"refused: {error}")
    channel.close()
    assert child.wait(SECONDS) == 0


if len(sys.argv) > 1:
    answer(sys.argv[1])
else:
    main()
