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
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .errors import OrionServerError
from .status import query

VGPU = ["device", "session", "pod"]
DEVICE = ["device"]
FIRST_BUCKET = 1.024e-6  # seconds; each further one is twice as wide (devices/share.h)

# name, help, type, key in the status
OF_VGPU = (
    ("orion_vgpu_memory_bytes", "Device memory in use", GaugeMetricFamily, "memory_used"),
    ("orion_vgpu_memory_limit_bytes", "The most it may use", GaugeMetricFamily, "memory_limit"),
    ("orion_vgpu_memory_promised_bytes", "Kept free for it", GaugeMetricFamily, "memory_promised"),
    ("orion_vgpu_share_ratio", "Part of the device it may claim", GaugeMetricFamily, "share"),
    (
        "orion_vgpu_busy_seconds",
        "Device time used, of threads",
        CounterMetricFamily,
        "busy_seconds",
    ),
    ("orion_vgpu_calls", "Records served", CounterMetricFamily, "calls"),
    ("orion_vgpu_copied_bytes", "Bytes copied, either way", CounterMetricFamily, "bytes"),
    ("orion_vgpu_kernels", "Kernels launched", CounterMetricFamily, "kernels"),
)
OF_DEVICE = (
    ("orion_device_memory_bytes", "Memory of the device", "memory_total"),
    ("orion_device_used_bytes", "Memory in use by clients", "memory_used"),
    ("orion_device_granted_bytes", "Memory given to workers", "memory_granted"),
    ("orion_device_promised_bytes", "Memory that leases may rely on", "memory_promised"),
    ("orion_device_threads", "Device seconds in a second", "threads"),
    ("orion_device_vgpus", "Clients that it may serve at a time", "vgpus"),
    ("orion_device_clients", "Clients that it serves", "clients"),
)
OF_SERVER = (
    ("orion_server_sessions", "Sessions since the server began", "sessions"),
    ("orion_server_calls", "Records served since then", "calls"),
    ("orion_server_copied_bytes", "Bytes copied since then", "bytes"),
    ("orion_server_kernels", "Kernels launched since then", "kernels"),
    ("orion_server_busy_seconds", "Device time used since then", "busy_seconds"),
)


def families(status: dict[str, Any]) -> Iterable[Metric]:
    """The metrics of one status."""
    devices = {device["index"]: device for device in status["devices"]}
    for name, text, key in OF_DEVICE:
        gauge = GaugeMetricFamily(name, text, labels=DEVICE)
        for device in devices.values():
            gauge.add_metric([device["uuid"]], device[key])
        yield gauge
    for name, text, key in OF_SERVER:
        yield CounterMetricFamily(name, text, value=status["totals"][key])
    clients = [(labels_of(row, devices), row) for row in status["clients"]]
    for name, text, family, key in OF_VGPU:
        metric = family(name, text, labels=VGPU)
        for labels, row in clients:
            metric.add_metric(labels, row[key])
        yield metric
    info = InfoMetricFamily("orion_vgpu", "Who uses it, and how it is connected", labels=VGPU)
    for labels, row in clients:
        texts = {key: str(row[key]) for key in ("transport", "command", "mode")}
        info.add_metric(labels, texts)
    yield info
    yield latencies(clients)


def labels_of(row: dict[str, Any], devices: dict[int, dict[str, Any]]) -> list[str]:
    return [devices[row["device"]]["uuid"], str(row["session"]), str(row["labels"].get("pod", ""))]


def latencies(clients: list[tuple[list[str], dict[str, Any]]]) -> Metric:
    histogram = HistogramMetricFamily(
        "orion_vgpu_launch_latency_seconds",
        "Time from a launch's acceptance to its first block (CPU device)",
        labels=VGPU,
    )
    for labels, row in clients:
        counts, total, buckets = row["launch_latency"]["buckets"], 0, []
        for i, count in enumerate(counts):
            total += count
            edge = "+Inf" if i == len(counts) - 1 else repr(FIRST_BUCKET * 2**i)
            buckets.append((edge, total))
        histogram.add_metric(labels, buckets, row["launch_latency"]["seconds"])
    return histogram


class ServerCollector(Collector):
    """Asks the server each time it is asked."""

    def __init__(self, address: str) -> None:
        self._address = address

    def collect(self) -> Iterable[Metric]:
        try:
            status = query(self._address)
        except OrionServerError:
            yield GaugeMetricFamily("orion_server_up", "The server answers", value=0)
            return
        yield GaugeMetricFamily("orion_server_up", "The server answers", value=1)
        yield from families(status)


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
