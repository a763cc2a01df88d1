# SPDX-License-Identifier: Apache-2.0
"""Prometheus metrics of one server: a process of its own that asks the supervisor at each scrape.

exporter.py starts it and ends it. Nothing here can disturb a client: the supervisor answers a status, as for
`orion smi`. docs/metrics.md lists the names.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from . import families
from .errors import OrionServerError
from .lease_tokens import decode_id
from .status import query


def metrics_of(status: dict[str, Any]) -> Iterable[Metric]:
    """The metrics of one status."""
    devices = {device["index"]: device for device in status["devices"]}
    rows = [([d["uuid"], str(d["index"]), d["kind"]], d) for d in devices.values()]
    yield from families.fill(families.OF_DEVICES, families.DEVICE, rows)
    yield from families.fill(families.OF_SERVERS, (), [((), status["totals"])])
    clients = [(labels_of(row, devices), row) for row in status["clients"]]
    yield from families.fill(families.OF_VGPUS, families.VGPU, clients)
    yield families.latencies(families.VGPU, clients)


def labels_of(row: dict[str, Any], devices: dict[int, dict[str, Any]]) -> list[str]:
    """In the order of families.VGPU."""
    token = decode_id(row["token"] or "")
    return [
        devices[row["device"]]["uuid"],
        str(row["session"]),
        "" if token is None else f"{token.lease:016x}",
        str(row["labels"].get("pod", "")),
        row["command"],
        row["transport"],
        row["mode"],
    ]


class ServerCollector(Collector):
    """Asks the server each time it is asked."""

    def __init__(self, address: str) -> None:
        self._address = address

    def collect(self) -> Iterable[Metric]:
        try:
            status = query(self._address)
        except OrionServerError:
            yield families.is_up((), [((), False)])
            return
        yield families.is_up((), [((), True)])
        yield from metrics_of(status)


def main(argv: list[str] | None = None) -> int:
    """Serves until the other end of --witness is closed; says there what became of the port."""
    parser = argparse.ArgumentParser(prog="python -m orion_server.metrics")
    parser.add_argument("--server", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--witness", type=int, required=True)
    options = parser.parse_args(argv)
    witness = socket.socket(fileno=options.witness)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServerCollector(options.server))
    try:
        server, thread = start_http_server(options.port, options.address, registry)
    except OSError as e:
        why = f"cannot listen on {options.address}:{options.port}: {e.strerror}"
        witness.sendall(json.dumps({"error": why}).encode() + b"\n")
        return 1
    witness.sendall(json.dumps({"port": server.server_port}).encode() + b"\n")
    while witness.recv(1):
        pass
    server.shutdown()
    assert isinstance(thread, threading.Thread)
    thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
