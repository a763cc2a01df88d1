# SPDX-License-Identifier: Apache-2.0
"""The compiler behind the device: images become modules, kernels become code when they are first asked for.

It runs in the caged worker, on executor threads, one call at a time per module. Untrusted bytes end here in an
ImageError or PtxError, never in more than that.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import errors
from .errors import ImageError

CAPABILITY = 80
MAX_THREADS = 1024
SHARED_BYTES = 48 << 10  # of a block, static and dynamic, unless raised
SHARED_MOST = 163 << 10
GLOBAL_CONSTANT, GLOBAL_MANAGED = 1, 2
_TARGET = re.compile(r"^\s*\.target\s+(?:sm|compute)_(\d{2,3})", re.MULTILINE)


class Line(Protocol):
    """The worker's way to the supervisor, as far as a compiler needs it."""

    def cached(self, key: bytes) -> bytes | None: ...

    def store(self, key: bytes, data: bytes) -> None: ...


@dataclass(frozen=True)
class LoadedImage:
    """What the device needs to know of a module; _worker.pyx copies it into C."""

    id: int
    data_bytes: int
    data_align: int
    initial: bytes
    globals: list[tuple[str, int, int, int]]  # name, offset, bytes, flags
    kernels: list[str]
    relocations: list[tuple[int, int]]


@dataclass(frozen=True)
class FunctionInfo:
    max_threads: int
    static_shared: int
    const_bytes: int
    local_bytes: int
    registers: int
    ptx_version: int
    binary_version: int
    max_dynamic_shared: int
    param_bytes: int
    params: list[tuple[int, int]]
    prints: bool  # it, or a kernel beside it, calls printf or assert: the client listens then


@dataclass
class _Module:
    outline: Any  # orion_server.ptx.Outline
    ptx: Any  # orion_server.ptx.Module; None as long as the outline alone was needed
    image: bytes  # to be indexed when a kernel has to be compiled
    key: str  # of the outline in the cache; "": it is not kept
    code: dict[str, Any] = field(default_factory=dict)  # name -> CompiledKernel


class _Cache:
    """The tenant's object cache as orion_server.ptx sees it: hex keys outside, bytes on the line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def get(self, key: str) -> bytes | None:
        return self._line.cached(bytes.fromhex(key))

    def put(self, key: str, value: bytes) -> None:
        self._line.store(bytes.fromhex(key), value)


def warm_up(device: str) -> None:
    """Everything that a caged worker could not load any more: decompressors, translator, LLVM and its helpers."""
    import encodings.latin_1  # decode() looks codecs up by file
    import encodings.utf_8

    import lz4.block
    import zstandard

    from . import images, ptx

    del encodings, lz4, zstandard, images
    if device != "cpu":
        return
    from . import _worker

    ptx.prepare(_worker.symbols())
    module = ptx.parse_module(_TRIFLE)
    ptx.compile_kernel(module, "trifle")


class Compiler:
    def __init__(self, device: str, line: Line) -> None:
        self._runs = device == "cpu"
        self._cache = _Cache(line)
        self._modules: dict[int, _Module] = {}
        self._ids = itertools.count(1)

    def load(self, image: bytes) -> LoadedImage:
        """What the device needs of an image; a large one that this tenant has sent before is not read again."""
        from . import ptx

        number = next(self._ids)
        kept = self._runs and len(image) >= ptx.OUTLINE_LEAST
        key = ptx.outline_key(image) if kept else ""
        blob = self._cache.get(key) if key else None
        outline = ptx.unpack_outline(key, blob) if blob is not None else None
        module = _Module(outline, None, image, key)
        if outline is None:
            outline = module.outline = self._index(module)
            self._keep(module)
        if not key:
            module.image = b""
        self._modules[number] = module
        data, kernels = outline.data, list(outline.kernels)
        return LoadedImage(
            number,
            data.size,
            data.align,
            bytes(data.image),
            [
                (name, offset, size, _flags(space))
                for name, (offset, size, space) in data.variables.items()
            ],
            kernels,
            # a function's value is its number: it needs no address
            [(r.offset, r.target + r.addend) for r in data.relocations if not r.is_function],
        )

    def _index(self, module: _Module) -> Any:
        """Reads the image's text; the outline of what is in it."""
        from . import ptx
        from .images import ptx_of

        texts = ptx_of(module.image, CAPABILITY)
        try:
            text = texts[0] if len(texts) == 1 else ptx.join(texts)
            module.ptx = ptx.complete(text)
        except ptx.PtxError as e:
            raise ImageError(errors.INVALID_PTX, str(e)) from e
        except RecursionError as e:
            raise ImageError(errors.INVALID_PTX, "the PTX is nested too deeply") from e
        found = _TARGET.search(text)
        target = int(found[1]) if found else CAPABILITY  # CUB chooses its tuning by it
        prints = any(name in text for name in ("vprintf", "__assertfail"))
        return ptx.Outline(target, prints, module.ptx.kernels, module.ptx.data)

    def _keep(self, module: _Module) -> None:
        """Stores the outline for the next process of this tenant."""
        from . import ptx

        if not module.key:
            return
        try:
            packed = ptx.pack_outline(module.key, module.outline)
        except ptx.PtxError:
            return  # one of its kernels cannot be described, which matters to who asks for that one
        self._cache.put(module.key, packed)

    def _compile(self, module: _Module, name: str) -> Any:
        """A kernel's code: by the key that it had when it was compiled before, or from the text."""
        from . import ptx

        known = module.outline.keys.get(name)
        compiled = ptx.cached_kernel(name, known, self._cache) if known else None
        if compiled is None:
            if module.ptx is None:
                self._index(module)
            try:
                compiled = ptx.compile_kernel(module.ptx, name, cache=self._cache)
            except ptx.PtxError as e:
                raise ImageError(errors.INVALID_PTX, f"kernel {name}: {e}") from e
            module.outline.keys[name] = compiled.key
            self._keep(module)
        return compiled

    def function(self, number: int, name: str, wants_code: bool) -> tuple[int, FunctionInfo]:
        """Address of the compiled kernel (0 when no code is wanted) and what the client may know of it."""
        module = self._modules[number]
        kernel = module.outline.kernels.get(name)
        if kernel is None:
            raise ImageError(errors.NOT_FOUND, f"the module has no kernel {name!r}")
        address = 0
        if wants_code and self._runs:
            compiled = module.code.get(name)
            if compiled is None:
                compiled = module.code[name] = self._compile(module, name)
            address = compiled.address
        data = module.outline.data
        return address, FunctionInfo(
            max_threads=kernel.max_threads or MAX_THREADS,
            static_shared=kernel.static_shared,
            const_bytes=data.const_end - data.const_begin,
            local_bytes=kernel.local_bytes,
            registers=kernel.registers or 32,
            ptx_version=module.outline.target,
            binary_version=CAPABILITY,
            max_dynamic_shared=max(SHARED_BYTES - kernel.static_shared, 0),
            param_bytes=kernel.param_bytes,
            params=list(kernel.params),
            prints=module.outline.prints,
        )

    def unload(self, number: int) -> None:
        self._modules.pop(number, None)


def _flags(space: str) -> int:
    return {"const": GLOBAL_CONSTANT, "managed": GLOBAL_MANAGED}.get(space, 0)


_TRIFLE = """\
.version 7.0
.target sm_80
.address_size 64
.visible .entry trifle(.param .u64 p)
{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    ld.param.u64 %rd1, [p];
    mov.u32 %r1, %tid.x;
    st.global.u32 [%rd1], %r1;
    ret;
}
"""
