# SPDX-License-Identifier: Apache-2.0
"""A small CUDA program: takes a device, says how much memory it may have, and waits for a line of input."""

from __future__ import annotations

import ctypes
import json
import sys


def main() -> None:
    cuda = ctypes.CDLL("libcuda.so.1")
    result = cuda.cuInit(0)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    context = ctypes.c_void_p()
    if result == 0:
        result = cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    if result == 0:
        cuda.cuCtxSetCurrent(context)
        result = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    print(json.dumps({"result": result, "total": total.value}), flush=True)
    sys.stdin.readline()
    if result == 0 and cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)):
        sys.exit(1)


if __name__ == "__main__":
    main()
