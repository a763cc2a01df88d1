# SPDX-License-Identifier: Apache-2.0
"""The kubelet's messages, byte for byte: the fake kubelet has the plugin's own tables, and would not notice a mistake.

Written by the rules of protobuf: field number << 3 | kind (0: a number, 2: length and content). `make k8s-real`
compares the tables with the official files.
"""

from __future__ import annotations

from typing import Any

import pytest
from orion_device_plugin import kubelet_api

PLUGIN, PODS = kubelet_api.plugin_messages, kubelet_api.pod_messages
MOUNT = {"container_path": "/c", "host_path": "/h", "read_only": True}
MOUNT_BYTES = b"\x0a\x02/c\x12\x02/h\x18\x01"
DEVICE = {"container_path": "/c", "host_path": "/h", "permissions": "rw"}
DEVICE_BYTES = b"\x0a\x02/c\x12\x02/h\x1a\x02rw"
LISTED = {"ID": "x", "health": "Healthy", "topology": {"nodes": [{"ID": 1}]}}
LISTED_BYTES = b"\x0a\x01x\x12\x07Healthy\x1a\x04\x0a\x02\x08\x01"
PREFER = {"available_deviceIDs": ["a"], "must_include_deviceIDs": ["b"], "allocation_size": 2}
PREFER_BYTES = b"\x0a\x01a\x12\x01b\x18\x02"
POD_DEVICES = {"resource_name": "r", "device_ids": ["d", "e"]}
POD_DEVICES_BYTES = b"\x0a\x01r\x12\x01d\x12\x01e"
POD = {"name": "p", "namespace": "n", "containers": [{"name": "c", "devices": [POD_DEVICES]}]}
POD_BYTES = b"\x0a\x01p\x12\x01n\x1a\x0e\x0a\x01c\x12\x09" + POD_DEVICES_BYTES


def part(number: int, content: bytes) -> bytes:
    """A message within another."""
    return bytes([number << 3 | 2, len(content)]) + content


GOLDEN: list[tuple[dict[str, Any], str, dict[str, Any], bytes]] = [
    (PLUGIN, "Empty", {}, b""),
    (
        PLUGIN,
        "DevicePluginOptions",
        {"pre_start_required": True, "get_preferred_allocation_available": True},
        b"\x08\x01\x10\x01",
    ),
    (
        PLUGIN,
        "RegisterRequest",
        {
            "version": "v1beta1",
            "endpoint": "e",
            "resource_name": "r/g",
            "options": {"get_preferred_allocation_available": True},
        },
        b"\x0a\x07v1beta1\x12\x01e\x1a\x03r/g\x22\x02\x10\x01",
    ),
    (PLUGIN, "NUMANode", {"ID": 300}, b"\x08\xac\x02"),
    (PLUGIN, "TopologyInfo", {"nodes": [{"ID": 1}]}, b"\x0a\x02\x08\x01"),
    (PLUGIN, "Device", LISTED, LISTED_BYTES),
    (PLUGIN, "ListAndWatchResponse", {"devices": [LISTED]}, part(1, LISTED_BYTES)),
    (PLUGIN, "PreStartContainerRequest", {"devices_ids": ["a", "b"]}, b"\x0a\x01a\x0a\x01b"),
    (PLUGIN, "PreStartContainerResponse", {}, b""),
    (PLUGIN, "ContainerPreferredAllocationRequest", PREFER, PREFER_BYTES),
    (
        PLUGIN,
        "PreferredAllocationRequest",
        {"container_requests": [PREFER]},
        part(1, PREFER_BYTES),
    ),
    (PLUGIN, "ContainerPreferredAllocationResponse", {"deviceIDs": ["a"]}, b"\x0a\x01a"),
    (
        PLUGIN,
        "PreferredAllocationResponse",
        {"container_responses": [{"deviceIDs": ["a"]}]},
        part(1, b"\x0a\x01a"),
    ),
    (PLUGIN, "ContainerAllocateRequest", {"devices_ids": ["a", "b"]}, b"\x0a\x01a\x0a\x01b"),
    (
        PLUGIN,
        "AllocateRequest",
        {"container_requests": [{"devices_ids": ["a"]}]},
        part(1, b"\x0a\x01a"),
    ),
    (PLUGIN, "Mount", MOUNT, MOUNT_BYTES),
    (PLUGIN, "DeviceSpec", DEVICE, DEVICE_BYTES),
    (
        PLUGIN,
        "ContainerAllocateResponse",
        {"envs": {"A": "b"}, "mounts": [MOUNT], "devices": [DEVICE], "annotations": {"k": "v"}},
        part(1, b"\x0a\x01A\x12\x01b")
        + part(2, MOUNT_BYTES)
        + part(3, DEVICE_BYTES)
        + part(4, b"\x0a\x01k\x12\x01v"),
    ),
    (
        PLUGIN,
        "AllocateResponse",
        {"container_responses": [{"mounts": [MOUNT]}]},
        part(1, part(2, MOUNT_BYTES)),
    ),
    (PODS, "ListPodResourcesRequest", {}, b""),
    (PODS, "ContainerDevices", POD_DEVICES, POD_DEVICES_BYTES),
    (
        PODS,
        "ContainerResources",
        {"name": "c", "devices": [POD_DEVICES]},
        b"\x0a\x01c" + part(2, POD_DEVICES_BYTES),
    ),
    (PODS, "PodResources", POD, POD_BYTES),
    (PODS, "ListPodResourcesResponse", {"pod_resources": [POD]}, part(1, POD_BYTES)),
]


def test_every_message_is_below() -> None:
    assert [name for _, name, _, _ in GOLDEN] == [*PLUGIN, *PODS]


@pytest.mark.parametrize(
    ("messages", "name", "fields", "encoded"), GOLDEN, ids=[name for _, name, _, _ in GOLDEN]
)
def test_message_has_the_kubelets_encoding(
    messages: dict[str, Any], name: str, fields: dict[str, Any], encoded: bytes
) -> None:
    made = messages[name](**fields)
    assert made.SerializeToString(deterministic=True) == encoded
    assert messages[name].FromString(encoded) == made


@pytest.mark.parametrize(
    ("messages", "name", "fields", "encoded"), GOLDEN, ids=[name for _, name, _, _ in GOLDEN]
)
def test_fields_of_a_later_kubelet_are_skipped(
    messages: dict[str, Any], name: str, fields: dict[str, Any], encoded: bytes
) -> None:
    later = part(15, b"new") + encoded + b"\x78\x07"  # 15 as a number
    read = messages[name].FromString(later)
    assert {f.name for f, _ in read.ListFields()} == set(fields)
    read.DiscardUnknownFields()
    assert read == messages[name](**fields)


def test_methods_have_the_kubelets_paths() -> None:
    assert (kubelet_api.REGISTRATION, list(kubelet_api.REGISTRATION_METHODS)) == (
        "v1beta1.Registration",
        ["Register"],
    )
    assert (kubelet_api.DEVICE_PLUGIN, set(kubelet_api.DEVICE_PLUGIN_METHODS)) == (
        "v1beta1.DevicePlugin",
        {
            "GetDevicePluginOptions",
            "ListAndWatch",
            "GetPreferredAllocation",
            "Allocate",
            "PreStartContainer",
        },
    )
    assert (kubelet_api.POD_RESOURCES, list(kubelet_api.POD_RESOURCES_METHODS)) == (
        "v1.PodResourcesLister",
        ["List"],
    )
