# SPDX-License-Identifier: Apache-2.0
"""The metric families of servers, devices and vGPUs. A server's exporter and the controller expose the same ones, under
the same names: the controller's have one label more, which says whose they are. docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

VGPU = ("device", "session", "lease", "pod", "command", "transport", "mode")
DEVICE = ("device", "index", "kind")
FIRST_BUCKET = 1.024e-6  # seconds; each further one is twice as wide (devices/share.h)

Labels = Sequence[str]
Row = tuple[Labels, Mapping[str, Any]]  # labels, in the order of their names, and what is counted


@dataclass(frozen=True)
class Family:
    name: str
    help: str
    key: str  # of a row
    kind: type[GaugeMetricFamily] | type[CounterMetricFamily] = GaugeMetricFamily


OF_VGPUS = (
    Family("orion_vgpu_memory_bytes", "Device memory in use", "memory_used"),
    Family("orion_vgpu_memory_limit_bytes", "The most it may use", "memory_limit"),
    Family("orion_vgpu_memory_promised_bytes", "Kept free for it", "memory_promised"),
    Family("orion_vgpu_share_ratio", "Part of the device it gets when all compete", "share"),
    Family(
        "orion_vgpu_busy_seconds", "Device time used, of threads", "busy_seconds",
        CounterMetricFamily,
    ),
    Family("orion_vgpu_calls", "Records served", "calls", CounterMetricFamily),
    Family("orion_vgpu_copied_bytes", "Bytes copied, either way", "bytes", CounterMetricFamily),
    Family("orion_vgpu_kernels", "Kernels launched", "kernels", CounterMetricFamily),
)  # fmt: skip
OF_DEVICES = (
    Family("orion_device_memory_bytes", "Memory of the device", "memory_total"),
    Family("orion_device_memory_used_bytes", "Memory in use by clients", "memory_used"),
    Family("orion_device_memory_granted_bytes", "Memory given to workers", "memory_granted"),
    Family(
        "orion_device_memory_promised_bytes", "Memory that programs may rely on", "memory_promised"
    ),
    Family("orion_device_threads", "Device seconds in a second", "threads"),
    Family("orion_device_vgpus", "Clients that it may serve at a time", "vgpus"),
    Family("orion_device_clients", "Clients that it serves", "clients"),
)
OF_SERVERS = (
    Family(
        "orion_server_sessions", "Sessions since the server began", "sessions", CounterMetricFamily
    ),
    Family("orion_server_calls", "Records served since then", "calls", CounterMetricFamily),
    Family("orion_server_copied_bytes", "Bytes copied since then", "bytes", CounterMetricFamily),
    Family("orion_server_kernels", "Kernels launched since then", "kernels", CounterMetricFamily),
    Family(
        "orion_server_busy_seconds", "Device time used since then", "busy_seconds",
        CounterMetricFamily,
    ),
)  # fmt: skip


def fill(kinds: Iterable[Family], names: Labels, rows: Sequence[Row]) -> Iterable[Metric]:
    """Each family with a sample of each row."""
    for family in kinds:
        metric = family.kind(family.name, family.help, labels=names)
        for labels, row in rows:
            metric.add_metric(labels, row[family.key])
        yield metric


def is_up(names: Labels, rows: Iterable[tuple[Labels, bool]]) -> Metric:
    gauge = GaugeMetricFamily("orion_server_up", "The server answers", labels=names)
    for labels, up in rows:
        gauge.add_metric(labels, up)
    return gauge


def latencies(names: Labels, rows: Iterable[Row]) -> Metric:
    """A row's launch_latency: counts of buckets, and the sum of all times."""
    histogram = HistogramMetricFamily(
        "orion_vgpu_launch_latency_seconds",
        "Time from a launch's acceptance to its first block (CPU device)",
        labels=names,
    )
    for labels, row in rows:
        counts, total, buckets = row["launch_latency"]["buckets"], 0, []
        for i, count in enumerate(counts):
            total += count
            edge = "+Inf" if i == len(counts) - 1 else repr(FIRST_BUCKET * 2**i)
            buckets.append((edge, total))
        if buckets:
            histogram.add_metric(labels, buckets, row["launch_latency"]["seconds"])
    return histogram
