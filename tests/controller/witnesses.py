# SPDX-License-Identifier: Apache-2.0
"""Who tells what a death did to others: programs that nobody touches, and a clock that knows how busy the host is."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from controller_processes import HoldingProgram, wait_for
from orion_server_fixtures import Server


def session_of(server: Server, program: HoldingProgram) -> dict[str, Any] | None:
    """The program's line in the server's status; None: it has no session."""
    rows: list[dict[str, Any]] = server.status()["clients"]
    return next((row for row in rows if row["pid"] == program.process.pid), None)


class Bystander:
    """A program that works all the time, and must not notice who dies around it."""

    BLOCKS = 30  # of a millisecond each: under way when the next one dies

    def __init__(self, server: Server, libcuda: Path, **environment: str) -> None:
        self.server = server
        self.program = HoldingProgram(libcuda, **environment)
        self.pid = self.program.process.pid
        assert self.program.ready()["result"] == 0, self.program.finish()
        assert self.program.do("alloc 4194304")["result"] == 0
        self._work()
        assert self.program.do("wait")["result"] == 0
        self.memory = self.program.do("info")
        row = self._row()
        self.session, self.busy = row["session"], row["busy_seconds"]
        self._work()

    def check(self, where: str) -> None:
        """It got what it had asked for before, has its memory and its session, and is being served."""
        assert self.program.do("wait") == {"result": 0}, where
        assert self.program.do("info") == self.memory, where
        assert self._row()["session"] == self.session, where
        self._work()
        wait_for(lambda: self._row()["busy_seconds"] > self.busy, f"{where}: a bystander works")
        self.busy = self._row()["busy_seconds"]

    def finish(self) -> str:
        return self.program.finish()

    def _work(self) -> None:
        assert self.program.do(f"burn {self.BLOCKS}")["result"] == 0

    def _row(self) -> dict[str, Any]:
        row = session_of(self.server, self.program)
        assert row is not None, "a bystander has lost its session"
        return row


class Pulse:
    """A thread that sleeps and wakes: how late it wakes is how long this host lets a process wait for a processor."""

    SECONDS = 0.002

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=100_000)  # when, by how much
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._end.is_set():
            begun = time.monotonic()
            time.sleep(self.SECONDS)
            now = time.monotonic()
            self._late.append((now, now - begun - self.SECONDS))

    def worst(self, since: float) -> float:
        time.sleep(2 * self.SECONDS)  # a delay that is not over yet counts as well
        return max((late for when, late in list(self._late) if when >= since), default=0.0)

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
