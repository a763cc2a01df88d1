# SPDX-License-Identifier: Apache-2.0
"""A server as users start it, and a look at what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orion_server.status import query


def wait_for(condition: Callable[[], bool], timeout: float = 5.0, what: str = "condition") -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.005)


def processes_of(marker: str) -> list[int]:
    """Live processes whose command line holds the marker: forks of the server share it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if os.fsencode(marker) in command and state != "Z":
            found.append(int(entry.name))
    return found


class Server:
    """`orion-server` as users start it."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.socket = folder / "s.sock"
        self.address = f"unix:{self.socket}"
        self.log = open(folder / "log", "ab")  # noqa: SIM115 - closed with the server
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "orion_server",
                "--socket",
                str(self.socket),
                "--state-dir",
                str(folder / "state"),
                *arguments,
            ],
            env={**os.environ, **environment},
            stderr=self.log,
            start_new_session=True,
        )
        wait_for(self.answers, 20.0, "server ready")

    def answers(self) -> bool:
        assert self.process.poll() is None, self.text()
        try:
            return bool(self.status()["server"]["state"] == "ready")
        except Exception:
            return False

    def status(self) -> dict[str, Any]:
        return query(self.address)

    def report(self) -> dict[str, Any]:
        return query(self.address, request={"op": "report"})

    def text(self) -> str:
        return (self.folder / "log").read_text()

    def processes(self) -> list[int]:
        return processes_of(str(self.socket))

    def wait_idle(self, timeout: float = 5.0) -> None:
        wait_for(lambda: not self.status()["clients"], timeout, "all sessions ended")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        self.log.close()
