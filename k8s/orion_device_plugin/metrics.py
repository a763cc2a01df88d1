# SPDX-License-Identifier: Apache-2.0
"""/metrics for Prometheus, /livez and /readyz for the kubelet. Read when asked: nothing here is counted twice.

Series: a handful for each resource, and one for each container that has vGPUs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from .daemon import Daemon

log = logging.getLogger("orion.device_plugin")

STALE_SECONDS = 30.0  # without a turn of the loop the plugin is dead


class Metrics:
    """A collector of prometheus_client."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.turned = time.monotonic()

    def collect(self) -> Iterator[Metric]:
        offered = GaugeMetricFamily(
            "orion_plugin_devices",
            "Devices that the kubelet is told of",
            labels=["resource", "health"],
        )
        registered = GaugeMetricFamily(
            "orion_plugin_registered", "1 while the kubelet knows the resource", labels=["resource"]
        )
        registrations = CounterMetricFamily(
            "orion_plugin_registrations", "Registrations with the kubelet", labels=["resource"]
        )
        for registration in self._daemon.registrations:
            resource = registration.resource
            count = len(resource.offered.ids)
            healthy = count if resource.offered.healthy else 0
            offered.add_metric([resource.name, "healthy"], healthy)
            offered.add_metric([resource.name, "unhealthy"], count - healthy)
            registered.add_metric([resource.name], float(registration.registered))
            registrations.add_metric([resource.name], registration.count)
        owners = GaugeMetricFamily(
            "orion_plugin_container_vgpus",
            "vGPUs of a container",
            labels=["allocation", "namespace", "pod", "container"],
        )
        vgpu = self._daemon.vgpus.name
        for allocation, owner in dict(self._daemon.owners.known).items():
            labels = [allocation, owner.namespace, owner.pod, owner.name]
            owners.add_metric(labels, len(owner.devices.get(vgpu, ())))
        yield from (offered, registered, registrations, owners)

    def alive(self) -> bool:
        return time.monotonic() - self.turned < STALE_SECONDS

    def ready(self) -> bool:
        """Registered for every resource. A server that is ill makes devices unhealthy, not the plugin unready."""
        return all(r.registered for r in self._daemon.registrations)


class _Quiet(WSGIRequestHandler):
    timeout = 5  # seconds for a request that does not come

    def log_message(self, *_: object) -> None:
        """Probes are no news."""


def serve_http(address: tuple[str, int], metrics: Metrics) -> WSGIServer:
    """Serves from a thread of its own. OSError when nobody can listen there."""
    registry = CollectorRegistry()
    registry.register(metrics)
    metrics_app = make_wsgi_app(registry)
    probes: dict[str, Callable[[], bool]] = {"/livez": metrics.alive, "/readyz": metrics.ready}

    def app(environment: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        path = environment.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics_app(environment, respond)  # type: ignore[no-any-return]
        probe = probes.get(path)
        good = probe is not None and probe()
        status = (
            "404 Not Found" if probe is None else "200 OK" if good else "503 Service Unavailable"
        )
        respond(status, [("Content-Type", "text/plain")])
        return [f"{status[4:]}\n".encode()]

    server = make_server(*address, app, handler_class=_Quiet)
    log.info("/livez, /readyz and /metrics on %s:%d", *server.server_address[:2])
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
