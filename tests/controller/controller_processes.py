# SPDX-License-Identifier: Apache-2.0
"""A controller as operators start it, and programs that look for a vGPU there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def clean_environment(**more: str) -> dict[str, str]:
    """Ours without any setting of the developer's."""
    names = ("ORION_", "BIND", "PORT", "VGPU", "LOG", "HOST_IP")
    return {**{k: v for k, v in os.environ.items() if not k.startswith(names)}, **more}


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class ControllerProcess:
    def __init__(self, folder: Path, *arguments: str, port: int = 0, **environment: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.arguments = arguments
        self.environment = clean_environment(**environment)
        self.port = port
        self.start()

    def start(self) -> None:
        """The same port as before when it is started again: its clients know it."""
        self.log = open(self.folder / "log", "ab")  # noqa: SIM115 - closed in stop()
        begins = self.log.tell()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "orion_controller",
                "--state-dir",
                str(self.folder / "state"),
                "--port",
                str(self.port),
                *self.arguments,
            ],
            env=self.environment,
            stderr=self.log,
        )

        def listening() -> Any:
            assert self.process.poll() is None, self.text()
            return [e for e in self.events(begins) if e["event"] == "listening"]

        # it imports for a second, which on a machine with other work may be many
        self.port = wait_for(listening, "the controller listens", 60.0)[0]["port"]
        wait_for(self.is_live, "the controller is live", 60.0)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def is_live(self) -> bool:
        try:
            return self.ask("GET", "/livez")[0] == 200
        except OSError:
            return False

    def text(self) -> str:
        return (self.folder / "log").read_text()

    def events(self, begins: int = 0) -> list[dict[str, Any]]:
        """The log's lines; each has to be JSON with an event and a reason."""
        lines = (self.folder / "log").read_bytes()[begins:].decode().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def ask(
        self, method: str, path: str, document: Any = None, key: str = ""
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(
            f"http://{self.address}{path}", body, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as e:
            return e.code, json.loads(e.read())

    def overview(self) -> dict[str, Any]:
        status, found = self.ask("GET", "/v1/overview")
        assert status == 200, found
        return found

    def administrator_key(self) -> str:
        return (self.folder / "state" / "administrator.key").read_text().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self.log.close()
        return code


def live_servers(controller: ControllerProcess) -> int:
    """Servers that take what is leased."""
    return sum(s["state"] == "live" for s in controller.overview()["servers"])


def nothing_leased(controller: ControllerProcess) -> bool:
    now = controller.overview()
    return not now["leases"] and not now["clients"]


class HoldingProgram:
    """An unmodified program with a vGPU: it says what it got, and keeps it until it is told to end."""

    def __init__(self, libcuda: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "holding_program.py")],
            env=clean_environment(LD_LIBRARY_PATH=str(libcuda.parent), **environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, Any]:
        """What it says when it has its vGPU, or why it has none."""
        return self.hear()

    def do(self, request: str) -> dict[str, Any]:
        """One of the requests that holding_program.py knows."""
        self.tell(request)
        return self.hear()

    def tell(self, request: str) -> None:
        """The same, without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        found: dict[str, Any] = json.loads(line)
        return found

    def finish(self) -> str:
        """Lets it end; what it said on stderr."""
        try:
            return self.process.communicate("\n", timeout=20)[1]
        finally:
            self.process.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
