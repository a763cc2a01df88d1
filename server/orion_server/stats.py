# SPDX-License-Identifier: Apache-2.0
"""A session's counters: a sealed memfd page that the worker writes and the supervisor reads; worker/stats.h."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from dataclasses import dataclass

PAGE = 4096
MAGIC = 0x5453524F
LAYOUT = struct.Struct("<II7Q")
MOST = 1 << 62  # beyond it a counter has been overwritten


@dataclass(frozen=True)
class Counters:
    calls: int = 0
    bytes: int = 0
    kernels: int = 0
    memory_used: int = 0
    memory_peak: int = 0
    compiled: int = 0


class StatsPage:
    """Owned by the supervisor. The worker has a writable descriptor of the same page and may write anything."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("orion-stats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, PAGE)
        fcntl.fcntl(
            self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        )
        self._map = mmap.mmap(self.fd, PAGE, prot=mmap.PROT_READ)

    def read(self, memory_most: int) -> Counters:
        """The counters, believed only as far as the ledger goes: `memory_most` is what was really granted."""
        magic, _, *values = LAYOUT.unpack_from(self._map)
        if magic != MAGIC:
            return Counters()
        calls, moved, kernels, used, peak, compiled, _ = (min(v, MOST) for v in values)
        return Counters(calls, moved, kernels, min(used, memory_most), min(peak, MOST), compiled)

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        self.close_fd()
        self._map.close()
