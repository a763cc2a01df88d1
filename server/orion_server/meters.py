# SPDX-License-Identifier: Apache-2.0
"""How much device time a worker has used, in thread seconds.

Where the host's processors are the device, the kernel's own clock of the worker's process tells: kernels, copies,
compilation and the worker's loop alike. A worker cannot hide from it. A GPU's time is the worker's own account, bounded
by the clock: kernels on a GPU cannot write the worker's memory, and the driver tells nobody else soon enough.
"""

from __future__ import annotations

import contextlib
import math
import os
import time

from .workers import Worker


class ProcessClock:
    """The processor time of one process, all its threads together."""

    def __init__(self, worker: Worker) -> None:
        self._clock = (
            ~worker.pid << 3 | 2
        )  # CPUCLOCK_SCHED of a process, as clock_getcpuclockid() makes it
        self._used = self._first = 0.0
        with contextlib.suppress(OSError):
            self._first = time.clock_gettime(self._clock)

    def used(self) -> float:
        with contextlib.suppress(OSError):  # it has ended
            self._used = max(self._used, time.clock_gettime(self._clock) - self._first)
        return self._used


class OwnAccount:
    """What the worker says, which never runs ahead of time."""

    def __init__(self, worker: Worker) -> None:
        self._stats = worker.stats
        self._said = worker.stats.usage().busy_seconds
        self._looked = time.monotonic()
        self._used = 0.0

    def used(self) -> float:
        said, now = self._stats.usage().busy_seconds, time.monotonic()
        self._used += max(0.0, min(said - self._said, now - self._looked))
        self._said, self._looked = said, now
        return self._used


class IdleHost:
    """Processor time in which the host had nothing to do, all processors together."""

    def __init__(self) -> None:
        self._last = 0.0
        try:
            self._fd = os.open("/proc/uptime", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1
        self.passed()

    def passed(self) -> float:
        """Thread seconds since it was last asked; infinite where the host does not say."""
        try:
            idle = float(os.pread(self._fd, 64, 0).split()[1])
        except (OSError, IndexError, ValueError):
            return math.inf
        last, self._last = self._last, idle
        return max(0.0, idle - last)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def meter_of(kind: str, worker: Worker) -> ProcessClock | OwnAccount:
    return OwnAccount(worker) if kind == "cuda" else ProcessClock(worker)
