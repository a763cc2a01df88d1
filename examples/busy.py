# SPDX-License-Identifier: Apache-2.0
"""Takes device memory until there is no more, and keeps the device busy: `orion run -- python busy.py --seconds 5`.

Plain ctypes on the CUDA driver API, so that it runs wherever there is a libcuda.so.1. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import time
from pathlib import Path

OUT_OF_MEMORY = 2
# One thread a block; `rounds` multiplications that wait for each other, about a nanosecond each.
PTX = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry burn(.param .u64 cell, .param .u64 rounds)
{
    .reg .pred %p<2>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [cell];
    ld.param.u64 %rd2, [rounds];
    mov.u64 %rd3, 1;
AGAIN:
    mul.lo.u64 %rd3, %rd3, 6364136223846793005;
    add.u64 %rd3, %rd3, 1442695040888963407;
    sub.u64 %rd2, %rd2, 1;
    setp.ne.u64 %p1, %rd2, 0;
    @%p1 bra AGAIN;
    st.global.u64 [%rd1], %rd3;
    ret;
}
"""


class Driver:
    """libcuda.so.1; a call that fails raises RuntimeError with its name."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")

    def call(self, name: str, *arguments: object) -> None:
        """Calls it; OSError-free: CUDA says what is wrong by a number."""
        result = getattr(self.library, name)(*arguments)
        if result == OUT_OF_MEMORY:
            raise MemoryError(name)
        if result:
            raise RuntimeError(f"{name}: CUDA error {result}")


class Busy:
    """A context, the kernel, and one cell that it writes to."""

    def __init__(self) -> None:
        self.cuda = Driver()
        device, context, module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self.function, self.cell = ctypes.c_void_p(), ctypes.c_uint64()
        self.cuda.call("cuInit", 0)
        self.cuda.call("cuDeviceGet", ctypes.byref(device), 0)
        self.cuda.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.cuda.call("cuCtxSetCurrent", context)
        self.cuda.call("cuModuleLoadData", ctypes.byref(module), PTX)
        self.cuda.call("cuModuleGetFunction", ctypes.byref(self.function), module, b"burn")
        self.cuda.call("cuMemAlloc_v2", ctypes.byref(self.cell), ctypes.c_size_t(8))

    def take(self, pieces: int, piece: int) -> tuple[int, bool]:
        """Allocates so many pieces; bytes, and whether the device refused one."""
        address = ctypes.c_uint64()
        for i in range(pieces):
            try:
                self.cuda.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(piece))
            except MemoryError:
                return i * piece, True
        return pieces * piece, False

    def launch(self, blocks: int, rounds: int) -> None:
        """Asks for `blocks` blocks and does not wait."""
        count = ctypes.c_uint64(rounds)
        parameters = (ctypes.c_void_p * 2)(ctypes.addressof(self.cell), ctypes.addressof(count))
        self.cuda.call(
            "cuLaunchKernel", self.function, blocks, 1, 1, 1, 1, 1, 0, None, parameters, None
        )

    def wait(self) -> None:
        """Until the device has done all that was asked."""
        self.cuda.call("cuCtxSynchronize")


def main() -> int:
    """Reads the command line, does what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=int, default=0, metavar="MIB", help="try to take so much")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long")
    parser.add_argument("--blocks", type=int, default=20, help="of one kernel")
    parser.add_argument("--rounds", type=int, default=500_000, help="of one block, about a ns each")
    parser.add_argument("--ahead", type=int, default=4, help="kernels asked for before it waits")
    parser.add_argument("--name", default="", help="what orion smi and the dashboard call it")
    options = parser.parse_args()
    if options.name:
        Path("/proc/self/comm").write_text(options.name[:15], encoding="utf-8")
    busy = Busy()
    piece = 4 << 20
    held, refused = busy.take(-(-(options.memory << 20) // piece), piece)
    busy.launch(1, 1)
    busy.wait()
    print(json.dumps({"held": held, "refused": refused}), flush=True)
    kernels, end = 0, time.monotonic() + options.seconds
    while time.monotonic() < end:
        for _ in range(options.ahead):
            busy.launch(options.blocks, options.rounds)
        busy.wait()
        kernels += options.ahead
    print(json.dumps({"kernels": kernels}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
