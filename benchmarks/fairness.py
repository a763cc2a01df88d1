# SPDX-License-Identifier: Apache-2.0
"""Who gets how much of one CPU device thread: `python benchmarks/fairness.py [--seconds 10]`.

Shares are of accounted device time, so that other work on the machine changes how long it takes and not who gets what.
The lone client is compared with a bare busy process that ran just before and after it, the interactive one with itself
on an idle device. One table; exit code 1 when an aim is missed. `make bench` does the same (bench_fairness.py).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orion_server import embedded

import orion_shm
from orion_shm.cli.tables import RIGHT, Table

ROOT = Path(__file__).resolve().parent.parent
BUSY = ROOT / "examples" / "busy.py"
MILLISECOND = 500_000  # rounds of a block, about
RECLAIM = 0.1 + 0.001  # seconds of device time: 100 ms, and one block of a millisecond
WINDOW = (
    0.5  # over which a share that is had back is looked at: 3 points of it are a pause of 30 ms
)
BARE = """
import time
began, used = time.monotonic(), time.process_time()
while time.monotonic() < began + {seconds}:
    for _ in range(1000):
        pass
print((time.process_time() - used) / (time.monotonic() - began))
"""
INTERACTIVE = """
import json, sys, time
sys.path.insert(0, {folder!r})
from busy import Busy
busy, waits = Busy(), []
busy.launch(1, 1)
busy.wait()
for _ in range({times}):
    began = time.monotonic()
    busy.launch(1, {rounds})
    busy.wait()
    waits.append(time.monotonic() - began)
    time.sleep(0.03)
print(json.dumps(waits))
"""


@dataclass(frozen=True)
class Figure:
    """One line: what was measured, as text and as a number, and whether it is what was aimed at."""

    title: str
    measured: str
    aim: str
    holds: bool
    value: float
    unit: str


class Bench:
    """A server with one device thread, and what was measured there."""

    def __init__(self, server: embedded.Embedded, seconds: float) -> None:
        self.server = server
        self.seconds = seconds
        self.figures: list[Figure] = []
        library = orion_shm.library_directory()
        self.environment = {
            **os.environ,
            "ORION_SERVER": server.address,
            "LD_LIBRARY_PATH": f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        }

    def note(
        self, title: str, measured: str, aim: str, holds: bool, value: float, unit: str
    ) -> None:
        self.figures.append(Figure(title, measured, aim, holds, value, unit))

    @contextmanager
    def clients(self, *kinds: dict[str, Any]) -> Iterator[list[int]]:
        """Busy processes; their pids, when each is at work."""
        started: list[subprocess.Popen[str]] = []
        try:
            for kind in kinds:
                environment = {**self.environment, "ORION_RATIO": str(kind.get("ratio", 100))}
                command = [sys.executable, str(BUSY), "--seconds", "3600"]
                for name in ("blocks", "rounds", "ahead"):
                    if name in kind:
                        command += [f"--{name}", str(kind[name])]
                started.append(
                    subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
                )
            for process in started:
                assert process.stdout is not None
                process.stdout.readline()
            yield [process.pid for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
            gone = {process.pid for process in started}
            while gone & {row["pid"] for row in self.server.status()["clients"]}:
                time.sleep(0.01)

    def used(self, pids: Sequence[int]) -> list[float]:
        rows = {row["pid"]: row["busy_seconds"] for row in self.server.status()["clients"]}
        return [rows[pid] for pid in pids]

    def shares(self, pids: Sequence[int], seconds: float) -> list[float]:
        """Of the device time that all used, over so much of it."""
        before = self.used(pids)
        while True:
            time.sleep(0.05)
            got = [now - then for now, then in zip(self.used(pids), before, strict=True)]
            if sum(got) >= seconds:
                return [value / sum(got) for value in got]

    # --- the figures

    def weights(self, *ratios: int) -> None:
        with self.clients(*({"ratio": ratio} for ratio in ratios)) as pids:
            self.shares(pids, 0.5)
            got = self.shares(pids, self.seconds)
        due = [ratio / sum(ratios) for ratio in ratios]
        worst = max(abs(g - d) for g, d in zip(got, due, strict=True))
        self.note(
            f"busy clients, ratios {' '.join(map(str, ratios))}",
            " ".join(f"{100 * g:.1f}" for g in got) + " %",
            "+- 3 points",
            worst <= 0.03,
            100 * worst,
            "points off, at most",
        )

    def launches(self) -> None:
        many = {"blocks": 1, "rounds": MILLISECOND // 10, "ahead": 1000}
        few = {"blocks": 1, "rounds": 10 * MILLISECOND, "ahead": 4}
        with self.clients(many, few) as pids:
            self.shares(pids, 0.5)
            got = self.shares(pids, self.seconds)
        measured = f"{100 * got[0]:.1f} %"
        holds = abs(got[0] - 0.5) <= 0.03
        title = "client with 100 times as many launches"
        self.note(title, measured, "50 +- 3 %", holds, 100 * got[0], "%")

    def lone(self, beside: int) -> None:
        """Samples take turns with a bare process, so that both see the same neighbours."""
        ratios = []
        part = max(0.5, self.seconds / 10)
        for _ in range(5):
            before = self.bare(part)
            with self.sleepers(beside), self.clients({"ahead": 100}) as pids:
                time.sleep(0.2)
                began, used = time.monotonic(), self.used(pids)[0]
                time.sleep(part)
                rate = (self.used(pids)[0] - used) / (time.monotonic() - began)
            floor = (before + self.bare(part)) / 2
            ratios.append(rate / floor)
        ratio = statistics.median(ratios)
        figure = f"lone client beside {beside} idle ones" if beside else "lone client"
        title, measured = f"{figure}, of a bare process", f"{100 * ratio:.1f} %"
        self.note(title, measured, ">= 98 %", ratio >= 0.98, 100 * ratio, "%")

    def bare(self, seconds: float) -> float:
        done = subprocess.run(
            [sys.executable, "-c", BARE.format(seconds=seconds)],
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout)

    @contextmanager
    def sleepers(self, count: int) -> Iterator[None]:
        """Connected clients that want nothing."""
        code = f"import sys, time; sys.path.insert(0, {str(BUSY.parent)!r}); import busy; busy.Busy(); "
        code += "print(flush=True); time.sleep(3600)"
        started = [
            subprocess.Popen(
                [sys.executable, "-c", code],
                env=self.environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(count)
        ]
        try:
            for process in started:
                assert process.stdout is not None
                process.stdout.readline()
            yield
        finally:
            for process in started:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()

    def reclaim(self) -> None:
        """After how much device time an idle client that begins to work has its share, and keeps it."""
        after = []
        for _ in range(5):
            with self.clients({}) as busy:
                time.sleep(0.5)
                with self.clients_beside() as late:
                    after.append(had_back(self.trace([*late, *busy], 2 * WINDOW)))
        worst = max(after)
        self.note(
            "client that comes back: device time until it has its half, worst of 5",
            f"{1000 * worst:.0f} ms",
            "100 ms and a block",
            worst <= RECLAIM,
            1000 * worst,
            "ms",
        )

    @contextmanager
    def clients_beside(self) -> Iterator[list[int]]:
        """One that is connected, and begins to work when this returns."""
        code = (
            f"import sys; sys.path.insert(0, {str(BUSY.parent)!r}); import busy; b = busy.Busy(); "
        )
        code += f"print(flush=True); input(); b.launch(1 << 20, {MILLISECOND}); print(flush=True); input()"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            process.stdout.readline()
            time.sleep(0.3)
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            yield [process.pid]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stdin.close()

    def trace(self, pids: Sequence[int], seconds: float) -> list[tuple[float, float]]:
        """Device time of the first, and of all, until all have used so much of it."""
        before, points = self.used(pids), [(0.0, 0.0)]
        while points[-1][1] < seconds:
            time.sleep(0.002)
            got = [now - then for now, then in zip(self.used(pids), before, strict=True)]
            points.append((got[0], sum(got)))
        return points

    def interactive(self) -> None:
        alone = self.waits()
        with self.clients({}, {}):
            beside = self.waits()
        p50, p95 = statistics.median(beside), sorted(beside)[int(len(beside) * 0.95)]
        self.note(
            "short kernel each 30 ms: wait alone; p50, p95 beside two busy clients",
            f"{1000 * statistics.median(alone):.1f}; {1000 * p50:.1f}, {1000 * p95:.1f} ms",
            "p95 <= 100 ms",
            p95 <= 0.1,
            1000 * p95,
            "ms, p95 beside two busy clients",
        )

    def waits(self) -> list[float]:
        code = INTERACTIVE.format(folder=str(BUSY.parent), times=100, rounds=MILLISECOND)
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        waits: list[float] = json.loads(done.stdout)
        return waits


def had_back(points: Sequence[tuple[float, float]]) -> float:
    """The device time after which the first of two has its half, less 3 points, of the WINDOW that follows."""
    for at, (mine, all_of_it) in enumerate(points):
        later = next((p for p in points[at:] if p[1] >= all_of_it + WINDOW), None)
        if later is None:
            break
        if (later[0] - mine) / (later[1] - all_of_it) >= 0.47:
            return all_of_it
    return float("inf")


def measure(seconds: float) -> list[Figure]:
    """All figures, each over so much device time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded.start(
            device="cpu", address=f"unix:{folder}/s.sock", options=("--threads", "1")
        ) as server,
    ):
        bench = Bench(server, seconds)
        bench.weights(50, 50)
        bench.weights(20, 30, 50)
        bench.launches()
        bench.lone(0)
        bench.lone(10)
        bench.reclaim()
        bench.interactive()
        return bench.figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="device time of one figure (10)"
    )
    options = parser.parse_args()
    load = os.getloadavg()[0]
    table = Table("figure", ("measured", RIGHT), ("aim", RIGHT), "", title="fairness")
    figures = measure(options.seconds)
    for figure in figures:
        table.add(figure.title, figure.measured, figure.aim, "" if figure.holds else "MISSED")
    print(f"one thread of the CPU device, other load {load:.1f}")
    table.print()
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
