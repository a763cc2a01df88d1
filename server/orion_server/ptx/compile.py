# SPDX-License-Identifier: Apache-2.0
"""From a kernel's name to code: cache lookup, translation, LLVM, linking."""

from __future__ import annotations

import ctypes
import hashlib
import re
from functools import lru_cache
from pathlib import Path

from .cache import ObjectCache, pack, unpack
from .errors import PtxError
from .index import Module
from .layout import KERNEL_BYTES
from .llvm import Code, Target, compile_text, runtime
from .unit import Unit, check_known

_WORD = re.compile(r"[A-Za-z_$][\w$]*")


class CompiledKernel:
    """Native code of one kernel. `address` is a struct orion_cpu_kernel that lives as long as this object."""

    def __init__(self, name: str, object_bytes: bytes, cached: bool, key: str = "") -> None:
        self.name = name
        self.key = key  # of the object in the cache; "" when there was no cache
        self.object_bytes = object_bytes
        self.cached = cached
        self._code = Code(object_bytes)
        self.address: int = self._code.address

    @property
    def descriptor(self) -> bytes:
        """A copy of the struct; its pointers are into this object's code."""
        return ctypes.string_at(self.address, KERNEL_BYTES)


def _source_of(module: Module, name: str) -> str:
    """The text that decides what a kernel compiles to: itself and all it may reach, by name."""
    names = [name]
    seen = {name}
    parts = []
    taken_added = False
    while names:
        function = module.functions[names.pop()]
        text = module.text[function.pos : function.end]
        parts.append(text)
        words = set(_WORD.findall(text))
        for word in sorted(words):
            if word in seen:
                continue
            if word in module.functions and not module.functions[word].entry:
                seen.add(word)
                names.append(word)
            elif word in module.variables:
                seen.add(word)
                variable = module.variables[word]
                parts.append(
                    f"{word} {variable.space} {variable.offset} {variable.size} {variable.extern}"
                )
        if "callprototype" in text and not taken_added:
            taken_added = True
            for word in module.taken():
                parts.append(f"{word} {module.ordinals[word]}")
                if word not in seen:
                    seen.add(word)
                    names.append(word)
    shared = [v for v in module.variables.values() if v.space == "shared"]
    parts.extend(f"{v.name} {v.size} {v.align} {v.extern}" for v in shared)
    parts.append(f"{module.data.const_begin} {module.data.const_end} {len(module.functions)}")
    parts.extend(
        f"{word} {module.ordinals[word]}" for word in sorted(seen) if word in module.ordinals
    )
    return "\0".join(parts)


@lru_cache(maxsize=1)
def translator_version() -> str:
    """Part of every cache key: objects made by another translator are not found."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def cache_key(module: Module, name: str, target: Target, fibers: bool = False) -> str:
    """Names the object of a kernel: equal keys mean equal objects."""
    text = f"{translator_version()}\0{target.key}\0{fibers}\0{name}\0{_source_of(module, name)}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def translate(module: Module, name: str, *, fibers: bool = False) -> tuple[str, bool]:
    """The LLVM IR of a kernel, before optimisation, and whether the loop vectoriser is worth its time."""
    check_known(module, name)
    try:
        unit = Unit(module, name, fibers)
        return unit.write(), unit.facts.vectorise
    except PtxError:
        raise
    except RecursionError:
        raise PtxError(f"kernel {name}: nested too deeply") from None
    except (
        ArithmeticError,
        AssertionError,
        LookupError,
        StopIteration,
        TypeError,
        ValueError,
    ) as error:
        # Text that no compiler writes can break an assumption anywhere; it must not break the caller.
        raise PtxError(f"kernel {name}: malformed ({type(error).__name__}: {error})") from error


def compile_kernel(
    module: Module,
    name: str,
    *,
    cpu: Target | None = None,
    cache: ObjectCache | None = None,
    fibers: bool = False,
) -> CompiledKernel:
    """Compiles one kernel of a module. Raises PtxError naming opcode and line for what is not supported."""
    check_known(module, name)
    target = cpu or runtime().target
    key = ""
    if cache is not None:
        key = cache_key(module, name, target, fibers)
        known = cached_kernel(name, key, cache)
        if known is not None:
            return known
    text, vectorise = translate(module, name, fibers=fibers)
    data = compile_text(text, target, vectorise)
    if cache is not None:
        cache.put(key, pack(key, data))
    return CompiledKernel(name, data, False, key)


def cached_kernel(name: str, key: str, cache: ObjectCache) -> CompiledKernel | None:
    """A kernel that was compiled before, by the key that it had then; None when it is not there any more."""
    blob = cache.get(key)
    data = unpack(key, blob) if blob is not None else None
    return CompiledKernel(name, data, True, key) if data is not None else None
