# SPDX-License-Identifier: Apache-2.0
"""Points a Service without a selector at the leader, so that those who wait can be ready all the same."""

from __future__ import annotations

from typing import Any

from .api import Api


def point(api: Api, namespace: str, service: str, address: str, port: int) -> None:
    """Makes `address` the Service's only one. ApiError says why it cannot be."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    body: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "orion-elect",
            },
        },
        "addressType": "IPv6" if ":" in address else "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    }
    old = api.get(path, service)
    if old is None:
        api.create(path, body)
        return
    body["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    api.update(path, body)
