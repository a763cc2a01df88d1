# SPDX-License-Identifier: Apache-2.0
"""What a running worker is told without a message: a page that only the supervisor can write; worker/lease.h."""

from __future__ import annotations

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
    """Owned by the supervisor, who mapped it before it was sealed: whoever else gets the descriptor can only read."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("orion-lease", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, PAGE)
        self._map = mmap.mmap(self.fd, PAGE)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)
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
