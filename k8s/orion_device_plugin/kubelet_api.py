# SPDX-License-Identifier: Apache-2.0
"""The kubelet's gRPC interfaces, as far as a device plugin uses them.

Field names and numbers are those of Kubernetes' deviceplugin/v1beta1 and podresources/v1, written down once as tables
and turned into protobuf's own message classes at import: no compiler of protocols at build time and no generated code,
and protobuf does all encoding. Fields that these tables leave out are skipped by it, as the format promises.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION = "v1beta1"
HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"
ID_MOST = 63  # characters of a device's id
MESSAGE_MOST = (
    4 << 20
)  # bytes; the kubelet's own limit, ListAndWatch beyond it fails without a trace
# The default authority of a unix socket is its path, %-encoded, which strict servers refuse.
CHANNEL_OPTIONS = (("grpc.default_authority", "localhost"),)

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _F.TYPE_STRING,
    "bool": _F.TYPE_BOOL,
    "int32": _F.TYPE_INT32,
    "int64": _F.TYPE_INT64,
}
# message -> "[repeated] type name = number", or "map name = number" (of strings)
_DEVICE_PLUGIN = {
    "Empty": [],
    "DevicePluginOptions": [
        "bool pre_start_required = 1",
        "bool get_preferred_allocation_available = 2",
    ],
    "RegisterRequest": [
        "string version = 1",
        "string endpoint = 2",
        "string resource_name = 3",
        "DevicePluginOptions options = 4",
    ],
    "NUMANode": ["int64 ID = 1"],
    "TopologyInfo": ["repeated NUMANode nodes = 1"],
    "Device": ["string ID = 1", "string health = 2", "TopologyInfo topology = 3"],
    "ListAndWatchResponse": ["repeated Device devices = 1"],
    "PreStartContainerRequest": ["repeated string devices_ids = 1"],
    "PreStartContainerResponse": [],
    "ContainerPreferredAllocationRequest": [
        "repeated string available_deviceIDs = 1",
        "repeated string must_include_deviceIDs = 2",
        "int32 allocation_size = 3",
    ],
    "PreferredAllocationRequest": [
        "repeated ContainerPreferredAllocationRequest container_requests = 1"
    ],
    "ContainerPreferredAllocationResponse": ["repeated string deviceIDs = 1"],
    "PreferredAllocationResponse": [
        "repeated ContainerPreferredAllocationResponse container_responses = 1"
    ],
    "ContainerAllocateRequest": ["repeated string devices_ids = 1"],
    "AllocateRequest": ["repeated ContainerAllocateRequest container_requests = 1"],
    "Mount": ["string container_path = 1", "string host_path = 2", "bool read_only = 3"],
    "DeviceSpec": ["string container_path = 1", "string host_path = 2", "string permissions = 3"],
    "ContainerAllocateResponse": [
        "map envs = 1",
        "repeated Mount mounts = 2",
        "repeated DeviceSpec devices = 3",
        "map annotations = 4",
    ],
    "AllocateResponse": ["repeated ContainerAllocateResponse container_responses = 1"],
}
_POD_RESOURCES = {
    "ListPodResourcesRequest": [],
    "ContainerDevices": ["string resource_name = 1", "repeated string device_ids = 2"],
    "ContainerResources": ["string name = 1", "repeated ContainerDevices devices = 2"],
    "PodResources": [
        "string name = 1",
        "string namespace = 2",
        "repeated ContainerResources containers = 3",
    ],
    "ListPodResourcesResponse": ["repeated PodResources pod_resources = 1"],
}


def _add_field(message: descriptor_pb2.DescriptorProto, package: str, text: str) -> None:
    words = text.split()
    field = message.field.add(label=_F.LABEL_OPTIONAL)
    if words[0] == "repeated":
        field.label = _F.LABEL_REPEATED
        words = words[1:]
    kind, field.name, _, number = words
    field.number = int(number)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return
    field.type = _F.TYPE_MESSAGE
    if kind == "map":  # a repeated message of key and value, marked as what it is
        field.label = _F.LABEL_REPEATED
        entry = message.nested_type.add(name=f"{field.name.capitalize()}Entry")
        entry.options.map_entry = True
        for part in ("string key = 1", "string value = 2"):
            _add_field(entry, package, part)
        kind = f"{message.name}.{entry.name}"
    field.type_name = f".{package}.{kind}"


def _messages(package: str, tables: dict[str, list[str]]) -> dict[str, Any]:
    """Message classes by name, in a pool of their own: another package of this process may know the same names."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}/orion.proto", package=package, syntax="proto3"
    )
    for name, fields in tables.items():
        message = file.message_type.add(name=name)
        for text in fields:
            _add_field(message, package, text)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in tables
    }


plugin_messages = _messages("v1beta1", _DEVICE_PLUGIN)
pod_messages = _messages("v1", _POD_RESOURCES)

# method -> (request, response, the response is a stream)
Methods = dict[str, tuple[str, str, bool]]
REGISTRATION = "v1beta1.Registration"
REGISTRATION_METHODS: Methods = {"Register": ("RegisterRequest", "Empty", False)}
DEVICE_PLUGIN = "v1beta1.DevicePlugin"
DEVICE_PLUGIN_METHODS: Methods = {
    "GetDevicePluginOptions": ("Empty", "DevicePluginOptions", False),
    "ListAndWatch": ("Empty", "ListAndWatchResponse", True),
    "GetPreferredAllocation": (
        "PreferredAllocationRequest",
        "PreferredAllocationResponse",
        False,
    ),
    "Allocate": ("AllocateRequest", "AllocateResponse", False),
    "PreStartContainer": ("PreStartContainerRequest", "PreStartContainerResponse", False),
}
POD_RESOURCES = "v1.PodResourcesLister"
POD_RESOURCES_METHODS: Methods = {
    "List": ("ListPodResourcesRequest", "ListPodResourcesResponse", False)
}


def handler(service: str, methods: Methods, messages: dict[str, Any], servicer: object) -> Any:
    """What a gRPC server needs to serve `servicer`, whose methods have the names of the table."""
    table = {}
    for name, (request, response, stream) in methods.items():
        make = (
            grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
        )
        table[name] = make(
            getattr(servicer, name),
            request_deserializer=messages[request].FromString,
            response_serializer=messages[response].SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service, table)


def caller(
    channel: Any, service: str, methods: Methods, messages: dict[str, Any], name: str
) -> Any:
    """One method of a service at the other end of the channel."""
    request, response, stream = methods[name]
    make = channel.unary_stream if stream else channel.unary_unary
    return make(
        f"/{service}/{name}",
        request_serializer=messages[request].SerializeToString,
        response_deserializer=messages[response].FromString,
    )
