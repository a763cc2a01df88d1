# SPDX-License-Identifier: Apache-2.0
"""Compiled objects on disk, one folder per tenant (a user, or a namespace of Kubernetes).

A tenant never runs what another tenant's worker has produced.

The supervisor keeps it; caged workers ask by key. An entry appears by rename, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .messages import CACHE_KEY

OBJECT_MOST = 32 << 20  # bytes of one entry


class ObjectCache:
    def __init__(self, directory: Path, tenant: str, most: int) -> None:
        self.directory = directory / "objects" / tenant
        self.most = most
        self._used: int | None = None  # counted at the first put

    def path(self, key: bytes) -> Path:
        if len(key) != CACHE_KEY:
            raise ValueError(f"a cache key has {CACHE_KEY} bytes, not {len(key)}")
        name = key.hex()
        return self.directory / name[:2] / name[2:]

    def open(self, key: bytes) -> tuple[int, int] | None:
        """A readable descriptor and its size; the entry counts as used now."""
        path = self.path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        size = os.fstat(fd).st_size
        if not 0 < size <= OBJECT_MOST:
            os.close(fd)
            return None
        with contextlib.suppress(OSError):
            os.utime(fd)
        return fd, size

    def put(self, key: bytes, fd: int, size: int) -> bool:
        """Keeps the first `size` bytes of the descriptor. False: it could not be kept, which is no error."""
        if not 0 < size <= OBJECT_MOST or size > self.most:
            return False
        path = self.path(key)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            with open(
                temporary, "wb", opener=lambda p, f: os.open(p, f | os.O_NOFOLLOW, 0o600)
            ) as out:
                out.write(os.pread(fd, size, 0))
            os.rename(temporary, path)
        except OSError:
            return False
        self._used = self._count() if self._used is None else self._used + size
        if self._used > self.most:
            self._evict()
        return True

    def _entries(self) -> list[tuple[float, int, Path]]:
        found = []
        for path in self.directory.glob("??/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                found.append((stat.st_mtime, stat.st_size, path))
        return found

    def _count(self) -> int:
        return sum(size for _, size, _ in self._entries())

    def _evict(self) -> None:
        """The least recently used go until a tenth is free."""
        entries = sorted(self._entries())
        used = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if used <= self.most * 9 // 10:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                used -= size
        self._used = used
