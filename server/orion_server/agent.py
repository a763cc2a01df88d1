# SPDX-License-Identifier: Apache-2.0
"""The server's voice at the controller: a process beside the supervisor that sends heartbeats and does what comes back.

It asks the supervisor over the administrator's socket, as `orion smi` does, and holds nothing that matters: it may die
and be started again, and the controller may be away for as long as it likes, without any client noticing.
A heartbeat says everything. One is sent each second, and at once when a session has begun or ended.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import os
import select
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .clocks import boot_id
from .errors import OrionServerError
from .lease_tokens import decode_id, key_id
from .paths import control_path
from .peer import is_here
from .settings import host_port
from .status import query

log = logging.getLogger("orion.agent")

HTTP_SECONDS = 3.0
GAP_SECONDS = 0.02  # between two heartbeats, however much happens
AWAY_SECONDS_MOST = 5.0  # between attempts when the controller does not answer
ANSWER_MOST = 1 << 20
COUNT_MOST = 1 << 53
MIB = 1 << 20


class Away(Exception):
    """The controller cannot be reached, or did not understand us; it will be tried again."""


@dataclass
class Controller:
    """HTTP towards the controller, one connection that is kept."""

    address: str  # HOST:PORT, or https://HOST:PORT
    key: str = field(repr=False)
    insecure: bool = False
    ca_file: str | None = None

    def __post_init__(self) -> None:
        url = urlsplit(self.address if "://" in self.address else f"http://{self.address}")
        if url.scheme not in ("http", "https") or not url.hostname or url.path not in ("", "/"):
            raise OrionServerError(
                f"{self.address!r} is no address of a controller: write HOST:PORT or https://HOST:PORT"
            )
        self._host, self._port = host_port(9123)(url.netloc, "controller_addr")
        self._tls = url.scheme == "https"
        self._connection: http.client.HTTPConnection | None = None

    def put(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        return self._request("PUT", path, json.dumps(document).encode())

    def delete(self, path: str) -> None:
        self._request("DELETE", path, None)

    def _request(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection = self._connection or self._connect()
            self._connection = connection
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read(ANSWER_MOST)
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.close()
            raise Away(f"the controller at {self.address} cannot be reached: {e}") from e
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.close()
            raise Away(f"what answers at {self.address} is no Orion controller")
        if response.status != 200:
            reason = str(answer.get("reason", response.reason))[:500]
            raise Away(f"the controller at {self.address} refused: {reason}")
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        if self._tls:
            context = ssl.create_default_context(cafile=self.ca_file)
            secured = http.client.HTTPSConnection(
                self._host, self._port, timeout=HTTP_SECONDS, context=context
            )
            secured.connect()
            return secured
        connection = http.client.HTTPConnection(self._host, self._port, timeout=HTTP_SECONDS)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.insecure and not is_here(connection.sock):
            connection.close()
            raise Away(
                f"the controller at {self.address} is on another host, and keys would travel unencrypted: "
                "use https://HOST:PORT, a tunnel, or insecure_tcp on a network that you trust"
            )
        return connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def server_name(status: dict[str, Any]) -> str:
    """A name that no other server has: the host's with the port, or with what the socket's path comes to."""
    bind = status["server"]["bind"]
    if bind:
        return f"{socket.gethostname()}:{bind.rpartition(':')[2]}"
    import zlib

    return f"{socket.gethostname()}:{zlib.crc32(status['server']['address'].encode()):08x}"


def report_of(status: dict[str, Any], boot: str, sequence: int, address: str) -> dict[str, Any]:
    """The supervisor's status as a heartbeat."""
    server = status["server"]
    return {
        "boot": boot,
        "epoch": server["epoch"],
        "sequence": sequence,
        "clock": server["clock"],
        "key_id": server["key_id"],  # no lease is granted here before the tokens' key has arrived
        "address": address or server["bind"] or "",
        "local": server["address"].removeprefix("unix:"),
        "version": server["version"][:64],
        "draining": server["state"] == "draining",
        "devices": [
            {
                "index": d["index"],
                "name": d["name"][:256],
                "uuid": d["uuid"][:256],
                "kind": d["kind"],
                "memory": d["memory_total"],
                "vgpus": d["vgpus"],
                "reserved": d["vgpus_reserved"],
                "memory_reserved": d["memory_reserved"],
                "memory_granted": d["memory_granted"],
                "memory_promised": d["memory_promised"],
                "threads": d["threads"],
            }
            for d in status["devices"]
        ],
        "sessions": [session_of(row) for row in status["clients"]],
        "ended": [{"lease": f"{lease:016x}", "part": part} for lease, part in status["ended"]],
        "totals": {key: bounded(value) for key, value in status["totals"].items()},
    }


def bounded(count: float) -> float:
    """Of a worker's own account: a client may have written anything there."""
    return min(count, COUNT_MOST)


def session_of(row: dict[str, Any]) -> dict[str, Any]:
    token = decode_id(row["token"] or "")
    found = {
        "session": row["session"],
        "device": row["device"],
        "memory_limit": row["memory_limit"],
        "memory_held": row["memory_held"],  # others cannot have it, used or not
        "memory_promised": row["memory_promised"],
        "memory_used": bounded(row["memory_used"]),
        "ratio": row["ratio"] if token else 0,
        "share": row["share"],
        "mode": row["mode"],
        "busy": row["busy"],
        "busy_seconds": min(row["busy_seconds"], 1e12),
        "calls": bounded(row["calls"]),
        "copied": bounded(row["bytes"]),
        "kernels": bounded(row["kernels"]),
        "launch_latency": {
            "buckets": [bounded(count) for count in row["launch_latency"]["buckets"]],
            "seconds": min(row["launch_latency"]["seconds"], 1e12),
        },
        "transport": row["transport"][:16],
        "command": row["command"][:256],
        "pid": row["host_pid"] or row["pid"],
        "uid": -1 if row["uid"] is None else row["uid"],
        "pod": row["labels"].get("pod", "")[:253],
    }
    if token is not None:
        found |= {
            "lease": f"{token.lease:016x}",
            "part": token.part,
            "held": token.held,
            "token_expires": float(token.expires),
            "token_memory": token.memory,
            "token_ratio": token.ratio,
        }
    return found


class Agent:
    def __init__(
        self,
        server: str,
        controller: Controller,
        name: str,
        address: str,
        ask: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ) -> None:
        self._controller = controller
        self._name = name
        self._address = address
        self._ask = ask or (lambda request: query(server, request=request))
        self._boot = boot_id()
        # an agent that follows one that died goes on counting beyond it
        self._sequence = time.monotonic_ns() // 1000
        self._key = ""
        self._problem = ""
        self._undone: set[str] = set()  # what was ordered last and could not be done
        self.interval = 1.0
        self.eager = False  # the controller waits to hear what it has just ordered

    def beat(self) -> bool:
        """One heartbeat; False when the controller did not take it. OrionServerError: the supervisor is gone."""
        status = self._ask({"op": "status"})
        if status["server"]["state"] not in ("ready", "draining"):
            return True  # its device is not known yet
        if not self._name:
            self._name = server_name(status)
        self._sequence += 1
        try:
            answer = self._controller.put(
                self._path(), report_of(status, self._boot, self._sequence, self._address)
            )
            self._obey(answer, status)
        except (Away, KeyError, TypeError, ValueError) as e:
            if str(e) != self._problem:
                self._problem = str(e)
                log.warning("%s; clients that run are not affected", e)
            return False
        if self._problem:
            log.info("the controller at %s is there again", self._controller.address)
        self._problem = ""
        return True

    def _path(self) -> str:
        return f"/v1/servers/{quote(self._name, safe='')}"

    def _obey(self, answer: dict[str, Any], status: dict[str, Any]) -> None:
        """What a controller of another release does not say has a default; what it says beyond is not for us."""
        self.interval = min(max(float(answer.get("interval", 1.0)), 0.1), 60.0)
        self.eager = key_id(bytes.fromhex(answer["key"])) != status["server"]["key_id"]
        if self.eager:
            problem = self._do({"op": "token_key", "key": answer["key"]})
            if problem:
                raise Away(problem)
        if answer["key"] != self._key:
            self._key = answer["key"]
            log.info("registered as %s at %s", self._name, self._controller.address)
        rows = {}
        for row in status["clients"]:
            token = decode_id(row["token"] or "")
            if token is not None:
                rows[f"{token.lease:016x}", token.part] = row
        requests = []
        for order in answer.get("end", []):
            lease, part = str(order["lease"]), int(order["part"])
            requests.append({"op": "revoke", "lease": lease, "part": part})
        for order in answer.get("limits", []):
            row = rows.get((order["lease"], order["part"]))
            memory, ratio = int(order["gmem_mib"]) * MIB, int(order["ratio"])
            if row is not None:
                requests.append(
                    {"op": "limit", "session": row["session"], "memory": memory, "ratio": ratio}
                )
        undone = {problem for request in requests if (problem := self._do(request))}
        for problem in undone - self._undone:
            log.warning("%s", problem)
        self._undone = undone

    def _do(self, request: dict[str, Any]) -> str:
        """What went wrong, if anything did. The controller repeats its order as long as it stands."""
        try:
            self._ask(request)
        except OrionServerError as e:
            return f"the controller's order {json.dumps(request)} cannot be carried out: {e}"
        return ""

    def goodbye(self) -> None:
        """The supervisor is gone, and with it every session."""
        if self._key:
            with contextlib.suppress(Away):
                self._controller.delete(self._path())
        self._controller.close()


def run(agent: Agent, watch: socket.socket) -> None:
    """Until the supervisor closes its end of `watch`, on which it writes when something has changed."""
    away = 0.0
    while True:
        begun, problem = time.monotonic(), ""
        try:
            taken = agent.beat()
        except OrionServerError as e:  # most likely it ends, which `watch` tells
            taken, problem = True, str(e)
        away = 0.0 if taken else min(max(0.25, 2 * away), AWAY_SECONDS_MOST)
        pause = GAP_SECONDS if agent.eager else agent.interval
        if not wait(watch, begun + (pause if taken else away), eager=taken):
            agent.goodbye()
            return
        if problem:
            log.info("%s", problem)


def wait(watch: socket.socket, until: float, eager: bool) -> bool:
    """Until then, or until something has changed if that is worth a heartbeat; False when the supervisor is gone."""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([watch], [], [], left)[0]:
            return True
        if not hear(watch):
            return False
        if eager:
            time.sleep(GAP_SECONDS)  # what comes together goes into one heartbeat
            return hear(watch)


def hear(watch: socket.socket) -> bool:
    """Takes what it says; False when its other end is closed."""
    while select.select([watch], [], [], 0)[0]:
        try:
            if not watch.recv(1 << 16):
                return False
        except OSError:
            return False
    return True


def watch_supervisor(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    line.connect(os.fspath(control_path(path)))
    line.sendall(b'{"op": "watch"}\n')
    return line


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="orion-server agent", description=__doc__)
    parser.add_argument("--socket", required=True, type=Path)
    parser.add_argument("--controller", required=True)
    parser.add_argument("--name", default="")
    parser.add_argument("--address", default="", help="HOST:PORT for clients, as they see it")
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--ca-file")
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    try:
        controller = Controller(
            options.controller,
            os.environ.get("ORION_SERVER_KEY", ""),
            options.insecure,
            options.ca_file,
        )
        watch = watch_supervisor(options.socket)
    except (OSError, OrionServerError) as e:
        log.error("%s", e)
        return 2
    with contextlib.suppress(KeyboardInterrupt):
        run(Agent(f"unix:{options.socket}", controller, options.name, options.address), watch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
