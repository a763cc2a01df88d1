# SPDX-License-Identifier: Apache-2.0
"""The administrator's socket (SOCKET.ctl): one JSON object per line each way, for the server's own user and root.

`orion smi`, `orion run` and the restartable control plane (metrics, heartbeats) are its clients; the supervisor keeps
running whatever becomes of them. Requests: {"op": "status"}, {"op": "report"}, {"op": "end", "session": N},
{"op": "stop"}; {"op": "watch"}, after which a line comes whenever a session or draining has begun or ended; those of
operations.py; a controller's orders, see leasing.py; and the device plugin's, see allocations.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING, Any

from . import errors, operations
from .limits import Mode
from .loop import Loop
from .session import Session, State
from .stats import Usage

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger("orion.server")

SCHEMA = 1
REQUEST_MOST = 65536
CLIENTS_MOST = 32
ALLOCATION_OPERATIONS = ("allocate", "describe", "release", "allocations")


def version() -> str:
    try:
        return metadata.version("orion-vgpu")
    except metadata.PackageNotFoundError:
        return "0+unpacked"


class ControlPort:
    """Accepts, reads a line, answers it. A client that does not read its answer is dropped."""

    def __init__(
        self,
        listener: socket.socket,
        loop: Loop,
        handle: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> None:
        self._listener = listener
        self._loop = loop
        self._handle = handle
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}
        self._watchers: set[int] = set()
        loop.watch(listener, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setblocking(False)
        _, uid, _ = struct.unpack(
            "3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if uid not in (0, os.geteuid()) or len(self._clients) >= CLIENTS_MOST:
            client.close()
            return
        # an answer may be long (256 ended sessions): it goes out at once or not at all
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._clients[client.fileno()] = (client, bytearray())
        self._loop.watch(client, lambda: self._read(client))

    def _read(self, client: socket.socket) -> None:
        received = self._clients[client.fileno()][1]
        try:
            data = client.recv(REQUEST_MOST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        received += data
        if not data or len(received) > REQUEST_MOST:
            self._drop(client)
            return
        while b"\n" in received:
            line, _, rest = bytes(received).partition(b"\n")
            received[:] = rest
            try:
                client.sendall(json.dumps(self._answer(line, client)).encode() + b"\n")
            except OSError:
                self._drop(client)
                return

    def notify(self) -> None:
        """Something that a controller wants to know has changed: a line for each client that watches."""
        for fd in list(self._watchers):
            with contextlib.suppress(
                OSError
            ):  # full: it has a line to read already; gone: _read() sees it
                self._clients[fd][0].send(b'{"changed": true}\n')

    def _answer(self, line: bytes, client: socket.socket) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "a request is one JSON object on one line"}
        if request.get("op") == "watch":
            self._watchers.add(client.fileno())
            return {"watching": True}
        return self._handle(request)

    def _drop(self, client: socket.socket) -> None:
        self._clients.pop(client.fileno(), None)
        self._watchers.discard(client.fileno())
        self._loop.unwatch(client)
        client.close()

    def close(self) -> None:
        for client, _ in list(self._clients.values()):
            self._drop(client)
        self._loop.unwatch(self._listener)
        self._listener.close()


def answer(supervisor: Supervisor, request: dict[str, Any]) -> dict[str, Any]:
    operation = request.get("op")
    if operation == "status":
        return status(supervisor)
    if operation == "report":
        return report(supervisor)
    if operation == "stop":
        supervisor.stop()
        return {"stopping": True}
    if operation == "end":
        session = supervisor.sessions.get(request.get("session", 0))
        if session is None:
            return {"error": f"no session {request.get('session')!r}: see `orion smi`"}
        session.blame(errors.DEVICE_UNAVAILABLE, "an administrator ended this session")
        session.worker.kill()
        return {"ending": session.id}
    if operation == "limit":
        return operations.limit(supervisor, request)
    if operation == "drain":
        return operations.drain(supervisor, request)
    if operation == "token_key":
        return supervisor.leasing.token_key(request)
    if operation == "revoke":
        return supervisor.leasing.revoke(request)
    if operation in ALLOCATION_OPERATIONS:
        try:
            return supervisor.allocations.answer(request)
        except errors.OrionServerError as e:
            return {"error": str(e)}
    known = ("status", "report", "end", "stop", "watch", "limit", "drain", *ALLOCATION_OPERATIONS)
    return {"error": f"unknown operation {operation!r}; known: {', '.join(known)}"}


def status(supervisor: Supervisor) -> dict[str, Any]:
    """What `orion smi` shows, schema version 1."""
    device = supervisor.device
    live = [s for s in supervisor.sessions if s.state is not State.ENDED]
    rows = [row_of(supervisor, s) for s in live]
    return {
        "schema": SCHEMA,
        "server": {
            "address": f"unix:{supervisor.config.socket}",
            "pid": os.getpid(),
            "version": version(),
            "started": supervisor.started,
            "uptime": time.monotonic() - supervisor.since,
            "state": state_of(supervisor),
            "waiting": len(supervisor.waiting),
            "bind": supervisor.endpoint,
            "metrics": f"{supervisor.config.metrics[0]}:{supervisor.exporter.port}"
            if supervisor.config.metrics and supervisor.exporter and supervisor.exporter.port
            else None,
            **supervisor.leasing.status(),
        },
        "devices": [
            {
                "index": device.index,
                "name": device.name,
                "uuid": device.uuid,
                "kind": device.kind,
                "memory_total": device.memory,
                "memory_used": sum(r["memory_used"] for r in rows),
                "memory_granted": device.granted,
                "memory_promised": sum(lease.limits.memory for lease in device.leases.values()),
                "memory_reserved": supervisor.allocations.memory_kept(),
                "threads": device.threads,
                "busy": min(1.0, sum(r["busy"] for r in rows)),
                "share_mode": supervisor.config.sharing.mode.value,
                "compute_capability": device.compute_capability,
                "clients": len(rows),
                "vgpus": device.slots,
                # of containers that do not use theirs now: nobody else gets them
                "vgpus_reserved": len(device.reserved - device.leases.keys()),
            }
        ],
        "clients": rows,
        "ended": supervisor.leasing.tokens.ended(),
        "recent": [s.row() for s in list(supervisor.sessions.recent)[-16:]],
        "totals": totals(supervisor, rows),
    }


def state_of(supervisor: Supervisor) -> str:
    if not supervisor.workers.warm:
        return supervisor.workers.problem or "starting"
    return "draining" if supervisor.draining else "ready"


def row_of(supervisor: Supervisor, session: Session) -> dict[str, Any]:
    """A live session with what it uses of the device, and what it could claim if all competed."""
    limits, shares = session.lease.limits, supervisor.shares
    share = limits.ratio / sum(s.lease.limits.ratio for s in supervisor.sessions)
    usage = session.worker.stats.usage() if session.state is not State.ENDED else Usage()
    return {
        **session.row(),
        "memory_promised": limits.memory,
        "memory_granted": session.lease.granted,
        "memory_held": session.lease.holds,
        "share": min(share, limits.ratio / 100) if limits.mode is Mode.CAPPED else share,
        "busy": shares.busy_of(session.worker),
        "busy_seconds": shares.seconds_of(session.worker),
        "launch_latency": {
            "buckets": list(usage.latency),
            "seconds": usage.latency_seconds,
        },
    }


def report(supervisor: Supervisor) -> dict[str, Any]:
    """All sessions, ended ones too (the last 256)."""
    live = [row_of(supervisor, s) for s in supervisor.sessions]
    return {
        "schema": SCHEMA,
        "device": supervisor.device.name,
        "sessions": sorted(
            [*(s.row() for s in supervisor.sessions.recent), *live], key=lambda r: int(r["session"])
        ),
        "totals": totals(supervisor, live),
    }


def totals(supervisor: Supervisor, rows: list[dict[str, Any]]) -> dict[str, Any]:
    ended = supervisor.sessions.totals
    return {
        "sessions": ended["sessions"],
        "calls": ended["calls"] + sum(r["calls"] for r in rows),
        "bytes": ended["bytes"] + sum(r["bytes"] for r in rows),
        "kernels": ended["kernels"] + sum(r["kernels"] for r in rows),
        "busy_seconds": round(ended["busy_seconds"] + sum(r["busy_seconds"] for r in rows), 6),
        "memory_peak": max([ended["memory_peak"], *(r["memory_peak"] for r in rows)]),
    }
