# SPDX-License-Identifier: Apache-2.0
"""What a running worker is told without a message: a page that only the supervisor can write; worker/lease.h."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
from enum import IntEnum

from . import futex

PAGE = 4096
MAGIC = 0x4553454C
VERSION = 1
F_SEAL_FUTURE_WRITE = 0x10  # not in every Python's fcntl


class Turn(IntEnum):
    """devices/share.h"""

    OVER = 0
    ALONE = 1
    SHARED = 2


class LeasePage:
    """Owned by the supervisor. `fd` is for the worker: it is open for reading alone, and the memory is sealed."""

    def __init__(self) -> None:
        fd = os.memfd_create("orion-lease", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, PAGE)
            self._map = mmap.mmap(fd, PAGE)
            with contextlib.suppress(
                OSError
            ):  # not before Linux 5.1; the descriptor allows no writing either way
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            self.fd = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(fd)
        self._head = (ctypes.c_uint32 * 2).from_buffer(self._map)
        self._limit = ctypes.c_uint64.from_buffer(self._map, 8)
        self._turn = ctypes.c_uint32.from_buffer(self._map, 64)
        self._head[:] = [MAGIC, VERSION]
        self._turn.value = Turn.ALONE

    def set_memory_limit(self, limit: int) -> None:
        """Bytes; the worker's next allocation is measured against it."""
        self._limit.value = limit

    def set_turn(self, turn: Turn) -> None:
        """Wakes the worker's threads when their turn begins."""
        before = self._turn.value
        self._turn.value = turn
        if before == Turn.OVER and turn != Turn.OVER:
            futex.wake(ctypes.addressof(self._turn))

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        self.close_fd()
        del self._head, self._limit, self._turn  # or the map could not be closed
        self._map.close()
