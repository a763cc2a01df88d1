# SPDX-License-Identifier: Apache-2.0
"""A small CUDA program: takes a device, says how much memory it may have, and does what it is told until it ends.

Each line of input is a word and perhaps a number: `info`, `alloc BYTES`, `burn BLOCKS` (of about a millisecond each,
not waited for), `wait` (until all is done). An empty line, or none any more, ends it.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

BURN_ROUNDS = 500_000  # about a millisecond


class Program:
    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        self.burner: object = None
        context = ctypes.c_void_p()
        self.result = self.cuda.cuInit(0)
        if self.result == 0:
            self.result = self.cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
        if self.result == 0:
            self.cuda.cuCtxSetCurrent(context)
            self.result = self.info()["result"]

    def info(self) -> dict[str, int]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        result = self.cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        return {"result": result, "total": total.value, "free": free.value}

    def alloc(self, size: int) -> dict[str, int]:
        address = ctypes.c_uint64()
        return {"result": self.cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size))}

    def burn(self, blocks: int) -> dict[str, int]:
        import busy

        burner = busy.Busy() if self.burner is None else self.burner
        self.burner = burner
        burner.launch(blocks, BURN_ROUNDS)
        return {"result": 0}

    def wait(self) -> dict[str, int]:
        return {"result": self.cuda.cuCtxSynchronize()}


def main() -> None:
    program = Program()
    total = program.info()["total"] if program.result == 0 else 0
    print(json.dumps({"result": program.result, "total": total}), flush=True)
    for line in sys.stdin:
        word, *numbers = line.split() or [""]
        if not word:
            break
        answer = getattr(program, word)(*map(int, numbers))
        print(json.dumps(answer), flush=True)
    if program.result == 0 and program.info()["result"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
