# SPDX-License-Identifier: Apache-2.0
"""A small host for compiled kernels: the C runtime through ctypes, memory as NumPy arrays."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from orion_server.ptx import CompiledKernel, Module, ObjectCache, compile_kernel, parse_module

SOURCE = Path(__file__).parents[2] / "server" / "devices" / "cpu"
FILES = ("grid.c", "barrier.c", "warp.c", "fiber.c", "math.c", "runtime.c", "print.c")
PRINT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), ctypes.c_size_t)


class Launch(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("param_bytes", ctypes.c_uint32),
        ("params", ctypes.c_void_p),
        ("module_base", ctypes.c_uint64),
        ("grid_workspace", ctypes.c_uint64),
        ("cancel", ctypes.c_void_p),
        ("print", PRINT),
        ("print_user", ctypes.c_void_p),
        ("turn", ctypes.c_void_p),
        ("pause", ctypes.c_void_p),
        ("pause_user", ctypes.c_void_p),
    ]


class LaunchError(RuntimeError):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


def build(folder: Path) -> ctypes.CDLL:
    """Compiles the C side into a shared library."""
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    target = folder / "liborion_cpu_test.so"
    command = [
        *compiler.split(),
        "-std=c11",
        "-D_GNU_SOURCE",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
    ]
    subprocess.run(
        [*command, "-o", str(target), *(str(SOURCE / f) for f in FILES), "-lm"], check=True
    )
    library = ctypes.CDLL(str(target))
    library.orion_cpu_scratch_new.restype = ctypes.c_void_p
    library.orion_cpu_scratch_free.argtypes = [ctypes.c_void_p]
    library.orion_cpu_kernel_run.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(Launch),
        ctypes.c_uint64,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library


class Loaded:
    """A module with its variables in memory."""

    def __init__(
        self, device: Device, text: str, cache: ObjectCache | None = None, fibers: bool = False
    ) -> None:
        self.device = device
        self.module: Module = parse_module(text)
        self.cache = cache
        self.fibers = fibers
        self.kernels: dict[str, CompiledKernel] = {}
        data = self.module.data
        self.memory = np.zeros(data.size + 4096, np.uint8)
        self.base = (self.memory.ctypes.data + 4095) & ~4095
        start = self.base - self.memory.ctypes.data
        self.bytes = self.memory[start : start + data.size]
        image = data.image_at(self.base)
        self.bytes[: len(image)] = np.frombuffer(image, np.uint8)

    def variable(self, name: str, dtype: object) -> np.ndarray:
        offset, size, _ = self.module.data.variables[name]
        return self.bytes[offset : offset + size].view(dtype)

    def kernel(self, name: str) -> CompiledKernel:
        if name not in self.kernels:
            self.kernels[name] = compile_kernel(
                self.module, name, cache=self.cache, fibers=self.fibers
            )
        return self.kernels[name]

    def launch(
        self,
        name: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        *args: object,
        shared: int = 0,
        workspace: int = 0,
        ranges: int = 1,
        cancel: object = None,
    ) -> str:
        """Runs a kernel to its end; returns what it printed."""
        kernel = self.kernel(name)
        params = self.pack(name, args)
        text: list[bytes] = []
        launch = Launch()
        launch.grid[:] = triple(grid)
        launch.block[:] = triple(block)
        launch.shared_bytes = shared
        buffer = ctypes.create_string_buffer(params, len(params) or 1)
        launch.params = ctypes.addressof(buffer)
        launch.param_bytes = len(params)
        launch.module_base = self.base
        launch.grid_workspace = workspace
        if cancel is not None:
            launch.cancel = ctypes.addressof(cancel)  # type: ignore[arg-type]
        launch.print = PRINT(lambda _, chars, size: text.append(ctypes.string_at(chars, size)))
        total = int(np.prod(triple(grid)))
        err = ctypes.create_string_buffer(512)
        step = -(-total // ranges)
        for first in range(0, total, step):
            code = self.device.library.orion_cpu_kernel_run(
                kernel.address,
                launch,
                first,
                min(step, total - first),
                self.device.scratch,
                err,
                512,
            )
            if code:
                raise LaunchError(code, err.value.decode())
        return b"".join(text).decode()

    def pack(self, name: str, args: Sequence[object]) -> bytes:
        info = self.module.kernels[name]
        assert len(args) == len(info.params), f"{name} takes {len(info.params)} arguments"
        out = bytearray(info.param_bytes)
        for arg, (offset, size) in zip(args, info.params, strict=True):
            if isinstance(arg, np.ndarray):
                raw = int(arg.ctypes.data).to_bytes(8, "little")
            elif isinstance(arg, bytes):
                raw = arg
            elif isinstance(arg, (np.generic,)):
                raw = arg.tobytes()
            else:
                raw = int(arg).to_bytes(size, "little", signed=int(arg) < 0)  # type: ignore[call-overload]
            assert len(raw) == size, f"argument at {offset} has {len(raw)} bytes, not {size}"
            out[offset : offset + size] = raw
        return bytes(out)


def triple(value: int | Sequence[int]) -> tuple[int, int, int]:
    if isinstance(value, int):
        return value, 1, 1
    padded = [*value, 1, 1]
    return padded[0], padded[1], padded[2]


class Device:
    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.scratch = library.orion_cpu_scratch_new()

    def load(self, text: str, cache: ObjectCache | None = None, fibers: bool = False) -> Loaded:
        return Loaded(self, text, cache, fibers)
