# SPDX-License-Identifier: Apache-2.0
"""/metrics: what servers reported and what was decided, in Prometheus' text format.

Labels of a vGPU are server, device (its uuid), lease, pod and command: as many series as programs run at a time, which
is bounded by the vGPUs there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from orion_server.control import version
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from . import views
from .service import Service

VGPU = ("server", "device", "lease", "session", "pod", "command", "transport")
DEVICE = ("server", "device", "index", "kind")


def render(service: Service) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot(service))
    return generate_latest(registry)


class Snapshot(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        yield from self._vgpus()
        yield from self._devices()
        yield from self._controller()

    def _vgpus(self) -> Iterator[Metric]:
        gauges = {
            "memory_used": GaugeMetricFamily(
                "orion_vgpu_memory_bytes", "Device memory that a program holds", labels=VGPU
            ),
            "memory_limit": GaugeMetricFamily(
                "orion_vgpu_memory_limit_bytes", "The most that it may hold", labels=VGPU
            ),
            "ratio": GaugeMetricFamily(
                "orion_vgpu_ratio_percent", "Its part of the device's time, 0: equal", labels=VGPU
            ),
        }
        counters = {
            "busy_seconds": CounterMetricFamily(
                "orion_vgpu_busy_seconds", "Time that the device worked for it", labels=VGPU
            ),
            "calls": CounterMetricFamily(
                "orion_vgpu_calls", "CUDA calls that its worker has served", labels=VGPU
            ),
            "copied": CounterMetricFamily(
                "orion_vgpu_copied_bytes", "Bytes that its copies have moved", labels=VGPU
            ),
            "kernels": CounterMetricFamily(
                "orion_vgpu_kernels", "Kernels that have run for it", labels=VGPU
            ),
        }
        for server in self._service.ledger.servers.values():
            for use in server.uses:
                device = server.devices.get(use.device)
                labels = [
                    server.id,
                    device.uuid if device else str(use.device),
                    views.lease_id(use.lease) if use.lease else "",
                    str(use.session),
                    views.pod_of(self._service, use),
                    use.client.command,
                    use.transport,
                ]
                for name, gauge in gauges.items():
                    gauge.add_metric(labels, getattr(use, name))
                for name, counter in counters.items():
                    counter.add_metric(labels, getattr(use, name))
        yield from gauges.values()
        yield from counters.values()

    def _devices(self) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(f"orion_device_{name}", text, labels=DEVICE)
            for name, text in (
                ("memory_bytes", "Device memory"),
                ("memory_leased_bytes", "Device memory that leases may use"),
                ("memory_used_bytes", "Device memory that programs hold"),
                ("vgpus", "vGPUs of the device"),
                ("vgpus_leased", "vGPUs that are leased, in use, or kept for containers"),
                ("ratio_leased_percent", "Part of the device's time that is leased"),
            )
        }
        for d in views.devices(self._service):
            labels = [d.server, d.uuid, str(d.index), d.kind]
            for name, value in (
                ("memory_bytes", d.memory),
                ("memory_leased_bytes", d.memory_leased),
                ("memory_used_bytes", d.memory_used),
                ("vgpus", d.vgpus),
                ("vgpus_leased", d.vgpus_leased),
                ("ratio_leased_percent", d.ratio_leased),
            ):
                families[name].add_metric(labels, value)
        yield from families.values()

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
