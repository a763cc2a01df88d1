# SPDX-License-Identifier: Apache-2.0
"""Who tells what a death did to others: programs that nobody touches."""

from __future__ import annotations

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
