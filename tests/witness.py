# SPDX-License-Identifier: Apache-2.0
"""Promises in milliseconds, checked strictly on a machine that may be busy.

A witness on each processor sleeps a millisecond at a time; what its wakes come late, the machine gave to others. What
the kernel counts as waiting for a processor (schedstat) of the processes that take part is added to that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROMISE = 0.1  # seconds from a death to everybody's knowing
LANES = 8
LATE = 0.003
LOOP = f"""
import os, select, sys, time
os.sched_setaffinity(0, [int(sys.argv[1])])
late, slept = [], time.monotonic()
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]:
    woke = time.monotonic()
    if woke - slept > {LATE}:
        late.append((slept, woke))
    slept = woke
late.append((slept, time.monotonic()))
for stretch in late:
    print(*stretch)
"""


def waited(pid: int) -> float:
    """Seconds that a process was ready to run and did not; 0 where nobody counts or it has gone."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


class Stretch:
    """What was measured from the beginning of the block to its end."""

    def __init__(self) -> None:
        self.began = self.ended = self.lost = 0.0
        self.lanes: list[subprocess.Popen[str]] = []

    def check(self, what: str, seconds: float | None = None) -> None:
        """Fails if it took longer than promised, but for what was lost; `seconds`: of it, as another clock had it."""
        took = self.ended - self.began if seconds is None else seconds
        assert took - self.lost <= PROMISE, (
            f"{what}: {took * 1000:.0f} ms, of which {self.lost * 1000:.0f} ms were lost to others"
        )

    def _start(self) -> None:
        for cpu in sorted(os.sched_getaffinity(0))[:LANES]:
            self.lanes.append(
                subprocess.Popen(
                    [sys.executable, "-S", "-c", LOOP, str(cpu)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
        for lane in self.lanes:
            assert lane.stdout is not None
            assert lane.stdout.readline() == "ready\n"

    def _stop(self) -> None:
        for lane in self.lanes:
            late, _ = lane.communicate()
            lost = 0.0
            for line in late.splitlines():
                slept, woke = map(float, line.split())
                within = min(woke, self.ended) - max(slept, self.began)
                lost += max(0.0, min(within, woke - slept - 0.001))
            self.lost = max(self.lost, lost)


@contextmanager
def witnessed(*pids: int) -> Iterator[Stretch]:
    """Measures the block; `pids`: of processes that have to run for what is promised."""
    stretch = Stretch()
    stretch._start()
    try:
        before = {pid: waited(pid) for pid in pids}
        stretch.began = time.monotonic()
        yield stretch
        stretch.ended = time.monotonic()
        waits = sum(max(0.0, waited(pid) - before[pid]) for pid in pids)
    finally:
        stretch._stop()
    stretch.lost += waits
