# SPDX-License-Identifier: Apache-2.0
"""PTX for the CPU device: reads modules, compiles kernels to native code through LLVM.

Call `prepare` with the device's C library once, before the process is sandboxed; then `parse_module` and, for each
kernel when it is first needed, `compile_kernel`.
"""

from __future__ import annotations

from . import emit as _emit  # enters all opcodes in the table
from .cache import MemoryCache, ObjectCache
from .compile import CompiledKernel, cached_kernel, compile_kernel, translate
from .device_runtime import complete
from .errors import PtxError
from .index import Module, parse_module
from .join import join
from .llvm import Target
from .model import KernelInfo, ModuleData, Relocation
from .opcodes import supported_forms
from .outline import OUTLINE_LEAST, Outline, outline_key, pack_outline, unpack_outline
from .start import prepare

__all__ = [
    "OUTLINE_LEAST",
    "CompiledKernel",
    "KernelInfo",
    "MemoryCache",
    "Module",
    "ModuleData",
    "ObjectCache",
    "Outline",
    "PtxError",
    "Relocation",
    "Target",
    "cached_kernel",
    "compile_kernel",
    "complete",
    "join",
    "outline_key",
    "pack_outline",
    "parse_module",
    "prepare",
    "supported_forms",
    "translate",
    "unpack_outline",
]

del _emit
