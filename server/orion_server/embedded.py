# SPDX-License-Identifier: Apache-2.0
"""A private server for one program: what `orion run` starts before the program and stops after it.

The server is a child process in a session of its own (Ctrl-C goes to the program, not to it). It ends with stop(), or
when its parent dies in whatever way: it holds one end of a socket pair and sees the other close.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from . import drivers
from .errors import OrionServerError
from .paths import private_directory, socket_path
from .status import query
from .tokens import make_token

READY_SECONDS = 20.0


class OwnToken:
    """A token for one private server alone, in a file beside its socket: its port is open to every user of the host."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = make_token("private")
        self.remove()  # of a process that had our number and was killed
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.text + "\n")

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Embedded:
    def __init__(
        self,
        address: str,
        process: subprocess.Popen[bytes],
        line: socket.socket,
        token: OwnToken | None = None,
    ) -> None:
        self.address = address
        self._process = process
        self._line = line
        self._token = token
        self._report: dict[str, Any] | None = None

    @property
    def devices(self) -> list[dict[str, Any]]:
        """Waits until the server knows its device."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            status = self.status()
            state = status["server"]["state"]
            if state == "ready":
                devices: list[dict[str, Any]] = status["devices"]
                return devices
            if state != "starting" or time.monotonic() > deadline:
                raise OrionServerError(f"the private server cannot serve: {state}")
            time.sleep(0.01)

    @property
    def token(self) -> str | None:
        """ID.SECRET that its clients over TCP need, if it made one for itself."""
        return self._token.text if self._token is not None else None

    @property
    def bound(self) -> str | None:
        """HOST:PORT where it listens as well; None when it does not."""
        bind: str | None = self.status()["server"]["bind"]
        return bind

    def status(self) -> dict[str, Any]:
        return query(self.address)

    def stop(self) -> dict[str, Any]:
        """Ends everything and returns the report; the same report when called again."""
        if self._report is not None:
            return self._report
        self._report = {"schema": 1, "device": "", "sessions": [], "totals": {}}
        with contextlib.suppress(OrionServerError, ValueError):
            self._report = query(self.address, request={"op": "report"})
        self._line.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        if self._token is not None:
            self._token.remove()
        return self._report

    def __enter__(self) -> Embedded:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start(
    device: str = "cpu",
    gmem_mib: int | None = None,
    address: str | None = None,
    bind: str | None = None,
    own_token: bool = False,
    options: Sequence[str] = (),
) -> Embedded:
    """A private server whose socket accepts clients already; OrionServerError says why there is none.

    bind: ADDR:PORT to listen on as well; a private server does not follow BIND_ADDR and PORT by itself.
    own_token: clients over TCP need the token that it makes up. options: further ones of `orion-server`.
    """
    check_device(device)
    if address is None:
        address = f"unix:{private_directory()}/private-{os.getpid()}.sock"
    path = socket_path(address)
    ours, theirs = socket.socketpair()
    arguments = [
        sys.executable,
        "-m",
        "orion_server",
        "--socket",
        os.fspath(path),
        "--device",
        device,
        "--witness",
        str(theirs.fileno()),
    ]
    if gmem_mib is not None:
        arguments += ["--memory", f"{gmem_mib}M"]
    if bind is not None:
        arguments += ["--bind", bind]
    token = OwnToken(path.with_suffix(".token")) if own_token else None
    if token is not None:
        arguments += ["--token-file", os.fspath(token.path)]
    arguments += options
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
            env=_environment(),
        )
    except OSError as e:
        ours.close()
        if token is not None:
            token.remove()
        raise OrionServerError(f"cannot start a private server: {e}") from e
    finally:
        theirs.close()
    try:
        _await_ready(ours, process)
    except OrionServerError:
        ours.close()
        if token is not None:
            token.remove()
        raise
    return Embedded(address, process, ours, token)


def check_device(device: str) -> None:
    """What only a try would tell otherwise, without importing it."""
    from importlib.util import find_spec

    if device not in drivers.DEVICES:
        raise OrionServerError(f"there is no device {device!r}: choose cpu, cuda or null")
    needed = {"cpu": ["llvmlite", "zstandard", "lz4"]}.get(device, [])
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise OrionServerError(
            f"the {device} device needs {', '.join(missing)}: pip install 'orion-vgpu[cpu]'"
        )


def _environment() -> dict[str, str]:
    """The child finds the same packages; a libcuda of ours on the library path is not for it."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    for name in ("LD_PRELOAD", "ORION_SERVER"):
        environment.pop(name, None)
    return environment


def _await_ready(line: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """One line of JSON: {"ready": true} or {"error": sentence}."""
    received = b""
    deadline = time.monotonic() + READY_SECONDS
    while b"\n" not in received:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([line], [], [], left)[0]:
            process.kill()
            process.wait()
            raise OrionServerError(
                f"the private server was not ready within {READY_SECONDS:.0f} seconds"
            )
        data = line.recv(4096)
        if not data:
            process.wait()
            raise OrionServerError(
                f"the private server ended at once with code {process.returncode}"
            )
        received += data
    message = json.loads(received)
    if "error" in message:
        process.wait()
        raise OrionServerError(str(message["error"]))
