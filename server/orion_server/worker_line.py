# SPDX-License-Identifier: Apache-2.0
"""The object cache as a caged worker sees it: questions to the supervisor over the C control line."""

from __future__ import annotations

import mmap
import os

from . import _worker
from .messages import Kind

OBJECT_MOST = 32 << 20


class WorkerLine:
    def cached(self, key: bytes) -> bytes | None:
        """The object of that key, as this tenant's workers have stored it."""
        answer = _worker.ask(int(Kind.CACHE_GET), 0, key)
        if answer is None:
            return None
        result, size, fd = answer
        if fd < 0:
            return None
        try:
            if result or not 0 < size <= OBJECT_MOST:
                return None
            data = os.pread(fd, size, 0)
            return data if len(data) == size else None
        finally:
            os.close(fd)

    def store(self, key: bytes, data: bytes) -> None:
        """Hands the object over; that it is kept is not promised."""
        if not 0 < len(data) <= OBJECT_MOST:
            return
        answer = _worker.ask(int(Kind.CACHE_SLOT), len(data), b"")
        if answer is None:
            return
        result, _, fd = answer
        if fd < 0:
            return
        try:
            if result:
                return
            with mmap.mmap(fd, len(data)) as slot:
                slot[:] = data
        finally:
            os.close(fd)
        _worker.tell(int(Kind.CACHE_PUT), 0, key)

    def log(self, text: str) -> None:
        _worker.tell(int(Kind.LOG), 0, text.encode()[:1000])
