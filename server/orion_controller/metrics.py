# SPDX-License-Identifier: Apache-2.0
"""/metrics: what servers reported and what was decided, in Prometheus' text format.

There are as many series of vGPUs as programs run at a time, which is bounded by the vGPUs there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from orion_server import families
from orion_server.control import version
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from . import views
from .model import Server, Use
from .service import Service

SERVER = ("server",)
VGPU = (*SERVER, *families.VGPU)
DEVICE = (*SERVER, *families.DEVICE)
# What leases promise, which servers know nothing of.
OF_LEASES = (
    families.Family(
        "orion_device_memory_leased_bytes", "Device memory that leases may use", "memory_leased"
    ),
    families.Family(
        "orion_device_vgpus_leased",
        "vGPUs that are leased, in use, or kept for containers",
        "vgpus_leased",
    ),
    families.Family(
        "orion_device_ratio_leased_percent",
        "Part of the device's time that is leased",
        "ratio_leased",
    ),
)


def render(service: Service) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot(service))
    return generate_latest(registry)


class Snapshot(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        yield from self._servers()
        yield from self._devices()
        yield from self._vgpus()
        yield from self._controller()

    def _servers(self) -> Iterator[Metric]:
        servers = self._service.ledger.servers.values()
        yield families.is_up(SERVER, [([s.id], s.live) for s in servers])
        totals = [([s.id], asdict(s.totals)) for s in servers]
        yield from families.fill(families.OF_SERVERS, SERVER, totals)

    def _vgpus(self) -> Iterator[Metric]:
        rows = [
            (self._labels(server, use), counted(use))
            for server in self._service.ledger.servers.values()
            for use in server.uses
        ]
        yield from families.fill(families.OF_VGPUS, VGPU, rows)
        yield families.latencies(VGPU, rows)

    def _labels(self, server: Server, use: Use) -> list[str]:
        device = server.devices.get(use.device)
        return [
            server.id,
            device.uuid if device else str(use.device),
            str(use.session),
            views.lease_id(use.lease) if use.lease else "",
            views.pod_of(self._service, use),
            use.client.command,
            use.transport,
            use.mode,
        ]

    def _devices(self) -> Iterator[Metric]:
        servers, rows = self._service.ledger.servers, []
        for view in views.devices(self._service):
            server = servers[view.server]
            device = server.devices[view.index]
            known = {
                "memory_total": device.memory,
                "memory_used": view.memory_used,
                "memory_granted": device.memory_granted,
                "memory_promised": device.memory_promised,
                "threads": device.threads,
                "vgpus": device.slots,
                "clients": sum(use.device == device.index for use in server.uses),
                "memory_leased": view.memory_leased,
                "vgpus_leased": view.vgpus_leased,
                "ratio_leased": view.ratio_leased,
            }
            rows.append(([server.id, device.uuid, str(device.index), device.kind], known))
        yield from families.fill((*families.OF_DEVICES, *OF_LEASES), DEVICE, rows)

    def _controller(self) -> Iterator[Metric]:
        service, ledger = self._service, self._service.ledger
        info = GaugeMetricFamily("orion_controller_info", "Version", labels=("version",))
        info.add_metric([version()], 1)
        yield info
        uptime = service.clock() - service.started
        yield GaugeMetricFamily("orion_controller_uptime_seconds", "Since its start", uptime)
        yield GaugeMetricFamily(
            "orion_controller_queue_length", "Programs that wait for a vGPU", len(ledger.queue)
        )
        leases = GaugeMetricFamily("orion_controller_leases", "Leases by state", labels=("state",))
        states = [lease.state for lease in views.leases(service)]
        for state in ("granted", "active", "releasing"):
            leases.add_metric([state], states.count(state))
        yield leases
        age = GaugeMetricFamily(
            "orion_server_heartbeat_age_seconds",
            "Since its last heartbeat",
            labels=("server", "state"),
        )
        for server in views.servers(service):
            age.add_metric([server.id, server.state], server.heartbeat_age)
        yield age
        decisions = CounterMetricFamily(
            "orion_controller_decisions",
            "What was decided; refused: the kind of refusal",
            labels=("decision", "refused"),
        )
        for (kind, refused), count in sorted(service.decisions.items()):
            decisions.add_metric([kind, refused], count)
        yield decisions


def counted(use: Use) -> dict[str, Any]:
    """A session as families.OF_VGPUS wants it."""
    latency = {"buckets": use.latency, "seconds": use.latency_seconds}
    return {**vars(use), "bytes": use.copied, "launch_latency": latency}
