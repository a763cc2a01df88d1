# SPDX-License-Identifier: Apache-2.0
"""LLVM: from IR text to a relocatable object, and from an object to code in memory.

`prepare` must run before the process is locked down: it loads everything that later steps need.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import llvmlite.binding as llvm

from .errors import PtxError
from .helpers import COMPILER_HELPERS, HELPERS

_LIBM_NAMES = """fma fmaf floor floorf ceil ceilf trunc truncf rint rintf roundeven roundevenf nearbyint nearbyintf
fmod fmodf sin sinf cos cosf exp2 exp2f log2 log2f tanh tanhf sqrt sqrtf fmin fminf fmax fmaxf ldexp
ldexpf exp expf pow powf"""
_LIBM = _LIBM_NAMES.split()
_LIBC = ["memcpy", "memmove", "memset"]


@dataclass(frozen=True)
class Target:
    """The machine that objects are made for."""

    triple: str
    cpu: str
    features: str

    @property
    def key(self) -> str:
        return f"{self.triple}/{self.cpu}/{self.features}/{llvm.llvm_version_info}"


class _Runtime:
    """The process's LLVM state."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.target = Target(
            llvm.get_process_triple(),
            llvm.get_host_cpu_name(),
            llvm.get_host_cpu_features().flatten(),
        )
        self.symbols: dict[str, int] = {}
        self.machines: dict[Target, llvm.TargetMachine] = {}
        self.jit = llvm.create_lljit_compiler(self._machine(self.target), suppress_errors=True)
        self.serial = itertools.count()
        # llvmlite guards single calls only; compile steps of one process go one at a time.
        self.lock = threading.RLock()
        self._collect_libc()

    def _machine(self, target: Target) -> llvm.TargetMachine:
        machine = self.machines.get(target)
        if machine is None:
            machine = self.machines[target] = llvm.Target.from_triple(
                target.triple
            ).create_target_machine(
                cpu=target.cpu,
                features=target.features,
                opt=1,
                reloc="pic",
                codemodel="small",
                jit=True,
            )
        return machine

    def _collect_libc(self) -> None:
        everything = ctypes.CDLL(None)
        try:
            libm = ctypes.CDLL("libm.so.6")
        except OSError:
            libm = everything
        for name in (*_LIBM, *_LIBC):
            for library in (libm, everything):
                try:
                    function = getattr(library, name)
                except AttributeError:
                    continue
                address = ctypes.cast(function, ctypes.c_void_p).value
                if address:
                    self.symbols[name] = address
                    break

    def machine(self, target: Target) -> llvm.TargetMachine:
        return self._machine(target)


_runtime: _Runtime | None = None


def runtime() -> _Runtime:
    global _runtime
    if _runtime is None:
        _runtime = _Runtime()
    return _runtime


def learn_helpers(helpers: ctypes.CDLL | Mapping[str, int]) -> None:
    """Initialises LLVM and learns the addresses of the C helpers."""
    state = runtime()
    if isinstance(helpers, Mapping):
        state.symbols.update(helpers)
    else:
        for name in (*HELPERS, *COMPILER_HELPERS.values()):
            function = getattr(helpers, name, None)
            address = ctypes.cast(function, ctypes.c_void_p).value if function is not None else None
            if address:
                state.symbols[name] = address
    for name, ours in COMPILER_HELPERS.items():
        if ours in state.symbols:
            state.symbols[name] = state.symbols[ours]
    _warm_up(state)


def _warm_up(state: _Runtime) -> None:
    """Compiles a trifle, so that whatever LLVM loads or allocates lazily is in place."""
    compile_text(
        "define i32 @warm(float %x) {\n  %i = fptosi float %x to i32\n  ret i32 %i\n}\n",
        state.target,
    )


def compile_text(text: str, target: Target, vectorise: bool = False) -> bytes:
    """IR text -> relocatable object."""
    state = runtime()
    with state.lock:
        try:
            module = llvm.parse_assembly(f'target triple = "{target.triple}"\n' + text)
            module.verify()
        except RuntimeError as error:
            raise PtxError(f"internal: LLVM refused the translation: {str(error)[:400]}") from None
        machine = state.machine(target)
        options = llvm.create_pipeline_tuning_options(speed_level=1)
        options.loop_vectorization = vectorise
        options.slp_vectorization = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        return bytes(machine.emit_object(module))


def undefined_symbols(data: bytes) -> list[str]:
    """Names that an ELF64 object needs from elsewhere."""
    import struct

    if data[:6] != b"\x7fELF\x02\x01":
        raise PtxError("not an object of this machine")
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, offset + i * size) for i in range(count)]
    names = []
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        strings = sections[section[6]]
        for at in range(section[4] + 24, section[4] + section[5], 24):
            name, _, _, shndx, _, _ = struct.unpack_from("<IBBHQQ", data, at)
            if shndx == 0 and name:
                begin = strings[4] + name
                names.append(data[begin : data.index(b"\0", begin)].decode())
    return names


class Code:
    """An object in memory. Its code lives as long as this does."""

    def __init__(self, data: bytes) -> None:
        state = runtime()
        needed = undefined_symbols(data)
        missing = [n for n in needed if n not in state.symbols]
        if missing:
            raise PtxError(f"internal: no such helper: {', '.join(missing[:8])}")
        with state.lock:
            library = llvm.JITLibraryBuilder().add_object_img(data)
            for name in needed:
                library.import_symbol(name, state.symbols[name])
            library.export_symbol("orion_kernel")
            self._tracker = library.link(state.jit, f"k{next(state.serial)}")
            self.address: int = self._tracker["orion_kernel"]
