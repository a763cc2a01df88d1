# SPDX-License-Identifier: Apache-2.0
"""A small program on the CUDA driver API: python driver_api.py init | load FILE | data FILE.

Prints `STEP NUMBER` for each call; ends with 0 if all calls gave CUDA_SUCCESS, else with 1.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


def step(name: str, result: int) -> None:
    """Prints the result; ends the program at the first error."""
    print(f"{name} {result}", flush=True)
    if result:
        raise SystemExit(1)


def main() -> None:
    """Does what the first argument says."""
    cuda = ctypes.CDLL("libcuda.so.1")
    step("cuInit", cuda.cuInit(0))
    if sys.argv[1] == "init":
        return
    context, module = ctypes.c_void_p(), ctypes.c_void_p()
    step("retain", cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
    step("current", cuda.cuCtxSetCurrent(context))
    file = Path(sys.argv[2])
    if sys.argv[1] == "load":
        step("load", cuda.cuModuleLoad(ctypes.byref(module), str(file).encode()))
    else:
        step("data", cuda.cuModuleLoadData(ctypes.byref(module), file.read_bytes() + b"\0"))


if __name__ == "__main__":
    main()
