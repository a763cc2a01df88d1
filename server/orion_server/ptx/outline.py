# SPDX-License-Identifier: Apache-2.0
"""What a host asks of a module, kept on disk: its kernels, its variables, and under which keys compiled kernels lie.

A library brings megabytes of PTX and a program uses few of its kernels. With the outline of an image that this tenant
has sent before, and the objects of the kernels, the text is not even decompressed. An entry comes from this tenant's
own workers and is checked all the same: what does not fit is as good as not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .cache import pack, unpack
from .compile import translator_version
from .layout import MAX_THREADS
from .llvm import runtime
from .model import KernelInfo, ModuleData, Relocation

OUTLINE_LEAST = 64 << 10  # bytes of an image; smaller ones are indexed in a few milliseconds
_SPACES = ("global", "const", "managed")
_NUMBERS = ("param_bytes", "max_threads", "static_shared", "local_bytes", "registers")
_MOST = 1 << 40


@dataclass
class Outline:
    """A module without its text. `keys` names the objects of those kernels that have been compiled."""

    target: int  # 80 for .target sm_80
    prints: bool
    kernels: Mapping[str, KernelInfo]
    data: ModuleData
    keys: dict[str, str] = field(default_factory=dict)


def outline_key(image: bytes) -> str:
    """The cache key of an image's outline; another translator, or processor, has others."""
    version = f"outline\0{translator_version()}\0{runtime().target.key}\0"
    digest = hashlib.sha256(version.encode())
    digest.update(image)
    return digest.hexdigest()


def pack_outline(key: str, outline: Outline) -> bytes:
    """As it is stored; describes all kernels."""
    data = outline.data
    return pack(
        key,
        json.dumps(
            {
                "target": outline.target,
                "prints": outline.prints,
                "kernels": [
                    [k.name, k.params, *(getattr(k, name) for name in _NUMBERS)]
                    for k in outline.kernels.values()
                ],
                "keys": list(outline.keys.items()),
                "size": data.size,
                "align": data.align,
                "image": base64.b64encode(data.image).decode(),
                "relocations": [
                    [r.offset, r.target, r.addend, r.is_function] for r in data.relocations
                ],
                "variables": [[name, *place] for name, place in data.variables.items()],
                "const": [data.const_begin, data.const_end],
            },
            separators=(",", ":"),
        ).encode(),
    )


def unpack_outline(key: str, blob: bytes) -> Outline | None:
    """The outline, or None when the entry is damaged, another's, or says what cannot be."""
    text = unpack(key, blob)
    if text is None:
        return None
    try:
        return _read(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _read(said: dict[str, Any]) -> Outline:
    size = _number(said["size"])
    align = _number(said["align"])
    image = base64.b64decode(said["image"], validate=True)
    begin, end = (_number(n, size) for n in said["const"])
    if align & (align - 1) or not align or len(image) > size or begin > end:
        raise ValueError("data")
    relocations = [
        Relocation(
            _number(offset, size - 8), _number(target), _number(addend, low=-_MOST), bool(function)
        )
        for offset, target, addend, function in said["relocations"]
    ]
    variables = {
        _text(name): (_number(offset, size), _number(n, size - offset), _one_of(space, _SPACES))
        for name, offset, n, space in said["variables"]
    }
    data = ModuleData(size, align, image, relocations, variables, begin, end)
    kernels = {}
    for name, params, *numbers in said["kernels"]:
        info = KernelInfo(_text(name), [(_number(a), _number(b)) for a, b in params], 0, 0, 0)
        for attribute, n in zip(_NUMBERS, numbers, strict=True):
            setattr(info, attribute, _number(n))
        if info.max_threads > MAX_THREADS:
            raise ValueError("max_threads")
        kernels[info.name] = info
    keys = {_text(name): _key(value) for name, value in said["keys"]}
    return Outline(_number(said["target"]), bool(said["prints"]), kernels, data, keys)


def _number(value: Any, most: int = _MOST, low: int = 0) -> int:
    if type(value) is not int or not low <= value <= most:
        raise ValueError("number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("text")
    return value


def _key(value: Any) -> str:
    if len(bytes.fromhex(_text(value))) != hashlib.sha256().digest_size:
        raise ValueError("key")
    return str(value)


def _one_of(value: Any, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ValueError("word")
    return str(value)
