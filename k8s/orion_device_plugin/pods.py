# SPDX-License-Identifier: Apache-2.0
"""Which container has which devices, by the kubelet's own word (PodResources): Allocate does not say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc

from . import kubelet_api as api

SECONDS = 5.0
ANSWER_MOST = 64 << 20  # bytes: every pod of the node is in it


@dataclass(frozen=True)
class Container:
    namespace: str
    pod: str
    name: str
    devices: dict[str, frozenset[str]]  # resource -> ids

    @property
    def labels(self) -> dict[str, str]:
        return {"namespace": self.namespace, "pod": self.pod, "container": self.name}


async def containers(socket: Path) -> list[Container]:
    """Every container of the node with devices of any resource. grpc.RpcError when the kubelet does not answer."""
    options = (*api.CHANNEL_OPTIONS, ("grpc.max_receive_message_length", ANSWER_MOST))
    async with grpc.aio.insecure_channel(f"unix://{socket}", options=options) as channel:
        ask = api.caller(
            channel, api.POD_RESOURCES, api.POD_RESOURCES_METHODS, api.pod_messages, "List"
        )
        answer = await ask(api.pod_messages["ListPodResourcesRequest"](), timeout=SECONDS)
    found = []
    for pod in answer.pod_resources:
        for container in pod.containers:
            devices: dict[str, set[str]] = {}
            for part in container.devices:  # one entry for each NUMA node
                devices.setdefault(part.resource_name, set()).update(part.device_ids)
            named = {resource: frozenset(ids) for resource, ids in devices.items()}
            found.append(Container(pod.namespace, pod.name, container.name, named))
    return found


def owner(found: Iterable[Container], resource: str, ids: frozenset[str]) -> Container | None:
    """Who has exactly these devices."""
    return next((c for c in found if c.devices.get(resource) == ids), None)
