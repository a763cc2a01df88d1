# SPDX-License-Identifier: Apache-2.0
"""The `orion-elect` command: waits for the Lease, runs the program while it holds it, ends with it.

    orion-elect --lease orion-controller --service orion-controller --port 9123 -- orion-controller

The program is started when the Lease is held and ended before it can be another's; this process ends with it, and the
container is started again.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from . import endpoint
from .api import ACCOUNT, Api, ApiError, in_cluster
from .election import Election

log = logging.getLogger("orion.elect")

STOP_SECONDS = 3.0  # for the program to end by itself


def parser() -> argparse.ArgumentParser:
    env = os.environ
    p = argparse.ArgumentParser(prog="orion-elect", description=__doc__.split("\n\n")[0])
    p.add_argument("--lease", required=True, metavar="NAME")
    p.add_argument("--service", required=True, metavar="NAME", help="Service without a selector")
    p.add_argument("--port", required=True, type=int, metavar="N", help="where the program listens")
    p.add_argument("--health", metavar="ADDR:PORT", help="/livez and /readyz, waiting or leading")
    p.add_argument("--namespace", default=env.get("POD_NAMESPACE"), help="default: POD_NAMESPACE")
    p.add_argument("--identity", default=env.get("POD_NAME"), help="default: POD_NAME")
    p.add_argument("--address", default=env.get("POD_IP"), help="of this pod; default: POD_IP")
    p.add_argument("--seconds", type=float, default=15.0, help="the Lease lasts (default: 15)")
    p.add_argument("--api", metavar="URL", help="default: as every pod is told")
    p.add_argument("--account", type=Path, default=ACCOUNT, help=argparse.SUPPRESS)
    p.add_argument("program", nargs="+", help="after --")
    return p


_libc = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """In the child, before the program: whoever kills us must not leave a second leader behind."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Stopped(Exception):
    """SIGTERM or SIGINT has come."""


class Runner:
    def __init__(self, options: argparse.Namespace, api: Api) -> None:
        self._options = options
        self._api = api
        self._election = Election(
            api, options.namespace, options.lease, options.identity, options.seconds
        )
        self._seconds: float = options.seconds
        self._program: subprocess.Popen[bytes] | None = None
        self._pointed = False
        self._turned = time.monotonic()

    def run(self) -> int:
        """The exit status; Stopped comes through."""
        pause = self._seconds / 7.5
        try:
            while True:
                self._election.turn()
                self._turned = time.monotonic()
                if self._election.leads:
                    self._lead()
                elif self._program is not None:
                    log.error("the Lease could not be renewed in time: another one may lead now")
                    return 1
                until = time.monotonic() + pause
                while time.monotonic() < until:
                    code = self._program.poll() if self._program is not None else None
                    if code is not None:
                        log.error("%s has ended (%d)", self._options.program[0], code)
                        return code or 1
                    time.sleep(min(0.1, pause))
        finally:
            self._end_program()
            self._election.release()

    def _lead(self) -> None:
        if self._program is None:
            log.info("%s leads", self._options.identity)
            self._program = subprocess.Popen(self._options.program, preexec_fn=_die_with_parent)
        if self._pointed or not self._listens():
            return
        o = self._options
        try:
            endpoint.point(self._api, o.namespace, o.service, o.address, o.port)
            self._pointed = True
        except (ApiError, KeyError) as e:
            log.warning("the Service %s does not lead here yet: %s", o.service, e)

    def _listens(self) -> bool:
        try:
            socket.create_connection((self._options.address, self._options.port), 0.5).close()
        except OSError:
            return False
        return True

    def _end_program(self) -> None:
        """Within the time that is left of the Lease, whatever the program thinks of it."""
        if self._program is None:
            return
        self._program.terminate()
        try:
            self._program.wait(min(STOP_SECONDS, self._seconds / 5))
        except subprocess.TimeoutExpired:
            self._program.kill()
            self._program.wait()

    def alive(self) -> bool:
        return time.monotonic() - self._turned < 30 + self._seconds

    def ready(self) -> bool:
        """It knows who leads."""
        return time.monotonic() - self._election.heard < self._seconds


class _Quiet(WSGIRequestHandler):
    timeout = 5

    def log_message(self, *_: object) -> None:
        """Probes are no news."""


def serve_health(address: tuple[str, int], runner: Runner) -> None:
    probes = {"/livez": runner.alive, "/readyz": runner.ready}

    def app(environment: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        probe = probes.get(environment.get("PATH_INFO", ""))
        good = probe is not None and probe()
        respond("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
        return [b"ok\n" if good else b"not ok\n"]

    server = make_server(*address, app, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise Stopped


def main(argv: list[str] | None = None) -> int:
    options = parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    unset = [n for n in ("namespace", "identity", "address") if not getattr(options, n)]
    if unset:
        print(f"orion-elect: --{unset[0]} is not set (downward API)", file=sys.stderr)
        return 2
    try:
        runner = Runner(options, Api(options.api or in_cluster(), options.account))
        if options.health:
            host, _, port = options.health.rpartition(":")
            serve_health((host, int(port)), runner)
    except (KeyError, OSError, ValueError) as e:
        print(
            f"orion-elect: cannot start here: {e}; it runs in a pod, or with --api", file=sys.stderr
        )
        return 2
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    try:
        return runner.run()
    except Stopped:
        return 0
