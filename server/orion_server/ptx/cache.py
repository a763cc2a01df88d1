# SPDX-License-Identifier: Apache-2.0
"""Compiled objects between processes: what is stored, and how it is checked when it comes back."""

from __future__ import annotations

import hashlib
import struct
from typing import Protocol

MAGIC = b"ORNOBJ1\0"
_HEAD = struct.Struct("<8s32sQ")


class ObjectCache(Protocol):
    """Where blobs are kept. A cache belongs to one tenant; its content is still not trusted to be whole."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


class MemoryCache:
    """A cache that lasts as long as the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self._blobs.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._blobs[key] = value


def pack(key: str, data: bytes) -> bytes:
    """An object with what is needed to recognise damage or a mix-up."""
    digest = hashlib.sha256(key.encode() + data).digest()
    return _HEAD.pack(MAGIC, digest, len(data)) + data


def unpack(key: str, blob: bytes) -> bytes | None:
    """The object, or None when the blob is not exactly what `pack` made for this key."""
    if len(blob) < _HEAD.size:
        return None
    magic, digest, length = _HEAD.unpack_from(blob)
    data = blob[_HEAD.size :]
    if (
        magic != MAGIC
        or length != len(data)
        or hashlib.sha256(key.encode() + data).digest() != digest
    ):
        return None
    return data
