# SPDX-License-Identifier: Apache-2.0
"""A program on the CUDA driver API that does what it is told, line by line, and answers each line with one.

take BYTES         allocate so much                                -> CUDA result
fill PIECE...      allocate pieces until each size is refused      -> bytes
free               free all of it                                  -> 0
info               cuMemGetInfo                                    -> free total
burn               keep the device busy from now on                -> 0
wreck Q WORDS P... the same, and with each block write all ones to WORDS words from Q on and 0 to each word at P
"""

from __future__ import annotations

import ctypes
import sys

KERNELS = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry wreck(.param .u64 list, .param .u64 count, .param .u64 q, .param .u64 words, .param .u64 rounds,
                      .param .u64 cell)
{
    .reg .pred %p<5>;
    .reg .b64 %rd<11>;
    ld.param.u64 %rd1, [list];
    ld.param.u64 %rd8, [count];
    ld.param.u64 %rd2, [q];
    ld.param.u64 %rd3, [words];
    ld.param.u64 %rd4, [rounds];
    ld.param.u64 %rd5, [cell];
    mov.u64 %rd6, -1;
    mov.u64 %rd7, 0;
    setp.eq.u64 %p1, %rd8, 0;
    @%p1 bra WORK;
ZERO:
    ld.global.u64 %rd9, [%rd1];
    st.global.u64 [%rd9], %rd7;
    add.u64 %rd1, %rd1, 8;
    sub.u64 %rd8, %rd8, 1;
    setp.ne.u64 %p4, %rd8, 0;
    @%p4 bra ZERO;
FILL:
    st.global.u64 [%rd2], %rd6;
    add.u64 %rd2, %rd2, 8;
    sub.u64 %rd3, %rd3, 1;
    setp.ne.u64 %p2, %rd3, 0;
    @%p2 bra FILL;
WORK:
    mul.lo.u64 %rd6, %rd6, 6364136223846793005;
    add.u64 %rd6, %rd6, 1442695040888963407;
    sub.u64 %rd4, %rd4, 1;
    setp.ne.u64 %p3, %rd4, 0;
    @%p3 bra WORK;
    st.global.u64 [%rd5], %rd6;
    ret;
}
"""
BLOCKS = 1 << 24  # more than any test waits for
ROUNDS = 500_000  # of a block: about half a millisecond


class Tenant:
    """A context, the kernel, and what has been allocated."""

    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        context, module = ctypes.c_void_p(), ctypes.c_void_p()
        self.function = ctypes.c_void_p()
        self.must("cuInit", 0)
        self.must("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self.must("cuCtxSetCurrent", context)
        self.must("cuModuleLoadData", ctypes.byref(module), KERNELS)
        self.must("cuModuleGetFunction", ctypes.byref(self.function), module, b"wreck")
        self.held: list[int] = []
        self.cell = self.allocate(4096)
        self.list = self.allocate(4096)

    def must(self, name: str, *arguments: object) -> None:
        """A call that may not fail."""
        result = getattr(self.cuda, name)(*arguments)
        if result:
            raise SystemExit(f"{name}: CUDA error {result}")

    def allocate(self, size: int) -> int:
        """The address, or minus the error."""
        address = ctypes.c_uint64()
        result = int(self.cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)))
        return -result if result else address.value

    def take(self, size: int) -> int:
        address = self.allocate(size)
        if address < 0:
            return -address
        self.held.append(address)
        return 0

    def fill(self, *pieces: int) -> int:
        got = 0
        for piece in pieces:
            while (result := self.take(piece)) == 0:
                got += piece
            if result != 2:
                raise SystemExit(f"cuMemAlloc: CUDA error {result} where memory is short")
        return got

    def free(self) -> int:
        for address in self.held:
            self.must("cuMemFree_v2", ctypes.c_uint64(address))
        self.held.clear()
        return 0

    def info(self) -> str:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.must("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return f"{free.value} {total.value}"

    def burn(self) -> int:
        return self.wreck(0, 0)

    def wreck(self, q: int, words: int, *places: int) -> int:
        there = (ctypes.c_uint64 * 512)(*places)
        self.must("cuMemcpyHtoD_v2", ctypes.c_uint64(self.list), there, ctypes.c_size_t(4096))
        numbers = (self.list, len(places), q, words, ROUNDS, self.cell)
        values = [ctypes.c_uint64(number) for number in numbers]
        parameters = (ctypes.c_void_p * 6)(*(ctypes.addressof(value) for value in values))
        self.must("cuLaunchKernel", self.function, BLOCKS, 1, 1, 1, 1, 1, 0, None, parameters, None)
        return 0


def main() -> None:
    tenant = Tenant()
    print("ready", flush=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        print(getattr(tenant, word)(*map(int, numbers)), flush=True)


if __name__ == "__main__":
    main()
