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
LATENCIES = 20
USAGE = struct.Struct(f"<QIIQ{LATENCIES}Q")
USAGE_AT = LAYOUT.size
WANTING = struct.Struct("<I")
WANTING_AT = USAGE_AT + 8
MOST = 1 << 62  # beyond it a counter has been overwritten


@dataclass(frozen=True)
class Counters:
    calls: int = 0
    bytes: int = 0
    kernels: int = 0
    memory_used: int = 0
    memory_peak: int = 0
    compiled: int = 0


@dataclass(frozen=True)
class Usage:
    """What the device's threads did, by the worker's own account (devices/share.h)."""

    busy_seconds: float = 0.0
    wanting: int = 0
    latency_seconds: float = 0.0  # sum over the launches in the buckets
    latency: tuple[int, ...] = (0,) * LATENCIES  # bucket i: below 1.024 us << i


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

    def usage(self) -> Usage:
        """Claims: the caller bounds them by what it knows."""
        busy, wanting, _, latency, *buckets = USAGE.unpack_from(self._map, USAGE_AT)
        counts = tuple(min(v, MOST) for v in buckets)
        return Usage(min(busy, MOST) / 1e9, wanting, min(latency, MOST) / 1e9, counts)

    def wanting(self) -> int:
        """Usage.wanting alone: asked at every turn."""
        claimed: int = WANTING.unpack_from(self._map, WANTING_AT)[0]
        return claimed

    def close_fd(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def close(self) -> None:
        self.close_fd()
        self._map.close()
