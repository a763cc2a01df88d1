# SPDX-License-Identifier: Apache-2.0
"""Where a worker keeps what it counts, as root may look it up: what a hostile kernel would have to guess."""

from __future__ import annotations

import os
import re
import struct

MOST = 64 << 20  # of one mapping


def counters_in(worker: int, value: int) -> list[int]:
    """Where a process keeps that number in its private memory."""
    found = []
    with open(f"/proc/{worker}/maps") as maps, open(f"/proc/{worker}/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0 +(\[heap\])?$", line)
            if match is None:
                continue
            first, end = (int(part, 16) for part in match.groups()[:2])
            try:
                data = os.pread(memory.fileno(), min(end - first, MOST), first)
            except OSError:
                continue
            at = data.find(struct.pack("<Q", value))
            while at >= 0:
                if at % 8 == 0:
                    found.append(first + at)
                at = data.find(struct.pack("<Q", value), at + 1)
    return found


def first_address(worker: int, name: str) -> int:
    """Where a mapping of that name begins."""
    with open(f"/proc/{worker}/maps") as maps:
        line = next(line for line in maps if name in line)
    return int(line.split("-")[0], 16)
