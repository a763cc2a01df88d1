# SPDX-License-Identifier: Apache-2.0
"""Lets Numba send its IPC handles to other processes; as a program it runs the tests of a module.

Numba reads the bytes of a handle from an attribute that cuda-bindings no longer has (13.5; 13.2 had it). Where it is
missing they are taken from memory instead; how Numba uses the driver stays as it is.
"""

from __future__ import annotations

import ctypes
import sys
import unittest
from typing import Any

from cuda.bindings import driver
from numba.cuda.cudadrv.driver import IpcHandle

HANDLE_BYTES = 64


def rebuild(data: bytes, size: int, source: Any, offset: int) -> IpcHandle:
    handle = driver.CUipcMemHandle()
    ctypes.memmove(int(handle.getPtr()), data, HANDLE_BYTES)
    return IpcHandle(base=None, handle=handle, size=size, source_info=source, offset=offset)


def reduce(self: IpcHandle) -> tuple[Any, ...]:
    data = ctypes.string_at(int(self.handle.getPtr()), HANDLE_BYTES)
    return rebuild, (data, self.size, self.source_info, self.offset)


if not hasattr(driver.CUipcMemHandle, "reserved"):
    IpcHandle.__reduce__ = reduce


if __name__ == "__main__":
    sys.modules["numba_ipc"] = sys.modules[
        "__main__"
    ]  # where the other process looks for rebuild()
    rebuild.__module__ = "numba_ipc"
    unittest.main(module=None, argv=[sys.argv[0], "-v", *sys.argv[1:]])
