# SPDX-License-Identifier: Apache-2.0
"""The process that answers Prometheus (metrics.py): started beside the supervisor, started again when it dies."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

from .errors import OrionServerError
from .loop import Loop

log = logging.getLogger("orion.server")

AGAIN_SECONDS = 5.0
END_SECONDS = 2.0


class Exporter:
    """Ends with this process, in whatever way that ends: it holds the other end of a socket pair."""

    def __init__(self, loop: Loop, server: str, bind: tuple[str, int]) -> None:
        if find_spec("prometheus_client") is None:
            raise OrionServerError(
                "--metrics-port needs prometheus-client: pip install 'orion-vgpu[metrics]'"
            )
        self._loop = loop
        self._server = server
        self._bind = bind
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._due = math.inf
        self.port = 0  # where it listens; 0: not yet

    def open(self) -> None:
        self._due = math.inf
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        command = [sys.executable, "-m", "orion_server.metrics", "--server", self._server]
        command += ["--address", self._bind[0], "--port", str(self._bind[1])]
        command += ["--witness", str(theirs.fileno())]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        except OSError as e:
            ours.close()
            log.error("metrics are not served: %s", e.strerror)
            self._due = time.monotonic() + AGAIN_SECONDS
            return
        finally:
            theirs.close()
        self._line = ours
        self._loop.watch(ours, self._hear)

    def expire(self, now: float) -> None:
        """Once it has died: another, after a while."""
        if now >= self._due:
            self.open()

    def close(self) -> None:
        self._due = math.inf
        self._end()

    def _hear(self) -> None:
        assert self._line is not None
        try:
            data = self._line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            said = json.loads(data)
            if "port" in said:
                self.port = said["port"]
                log.info("metrics on http://%s:%d/metrics", self._bind[0], self.port)
            else:
                log.error("metrics are not served: %s", said.get("error"))
            return
        if self._process is not None:
            self._process.kill()  # most likely it is dead: the loop waits for nobody
        self._end()
        log.warning("the metrics process has ended; another one in %.0f seconds", AGAIN_SECONDS)
        self._due = time.monotonic() + AGAIN_SECONDS

    def _end(self) -> None:
        self.port = 0
        if self._line is not None:
            self._loop.unwatch(self._line)
            self._line.close()
            self._line = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._process = None
