# SPDX-License-Identifier: Apache-2.0
"""The kubelet's interfaces: our tables of them beside the official .proto files.

    python -m scripts.k8s_real.protocol deviceplugin/v1beta1/api.proto podresources/v1/api.proto

Ends with 1 and a line for each difference. What the files have beyond our tables is counted, and no difference.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto
from orion_device_plugin import kubelet_api as api

# in Kubernetes' source
SOURCE = "staging/src/k8s.io/kubelet/pkg/apis"
NAMES = ("deviceplugin/v1beta1/api.proto", "podresources/v1/api.proto")

Fields = dict[str, str]  # name -> "repeated string = 1"
Call = tuple[str, str, bool]  # request, response, whether that is a stream


@dataclass(frozen=True)
class Interface:
    """Messages by name, and methods by their path, such as /v1.PodResourcesLister/List."""

    messages: Mapping[str, Fields]
    methods: Mapping[str, Call]


def parse(text: str) -> Interface:
    """A .proto file with neither nested messages nor enumerations, as these are."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    text = re.sub(r"\[[^\]]*\]", "", text)  # options of fields
    package = _one(r"\bpackage\s+([\w.]+)\s*;", text)
    messages = {
        name: {
            field: f"{' '.join(kind.replace(',', ', ').split())} = {number}"
            for kind, field, number in re.findall(
                r"((?:repeated\s+)?(?:map\s*<[^>]*>|[\w.]+))\s+(\w+)\s*=\s*(\d+)\s*;", body
            )
        }
        for name, body in re.findall(r"\bmessage\s+(\w+)\s*\{([^{}]*)\}", text)
    }
    methods = {}
    for service, body in re.findall(r"\bservice\s+(\w+)\s*\{((?:[^{}]|\{\s*\})*)\}", text):
        call = r"\brpc\s+(\w+)\s*\(\s*(\w+)\s*\)\s*returns\s*\(\s*(stream\s+)?(\w+)\s*\)"
        for name, request, stream, response in re.findall(call, body):
            methods[f"/{package}.{service}/{name}"] = (request, response, bool(stream))
    return Interface(messages, methods)


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"no {pattern} in it: this is no .proto file")
    return found[1]


def ours(messages: Mapping[str, Any], services: Mapping[str, api.Methods]) -> Interface:
    """The same of what orion_device_plugin encodes and calls: of the classes, not of the table that they come from."""
    methods = {
        f"/{service}/{name}": call
        for service, table in services.items()
        for name, call in table.items()
    }
    return Interface({name: _fields(made) for name, made in messages.items()}, methods)


def _fields(made: Any) -> Fields:
    described = DescriptorProto()
    made.DESCRIPTOR.CopyToProto(described)
    maps = {
        entry.name: f"map<{', '.join(_kind(field) for field in entry.field)}>"
        for entry in described.nested_type
    }
    found = {}
    for field in described.field:
        kind = _kind(field)
        if kind in maps:
            kind = maps[kind]
        elif field.label == FieldDescriptorProto.LABEL_REPEATED:
            kind = f"repeated {kind}"
        found[field.name] = f"{kind} = {field.number}"
    return found


def _kind(field: Any) -> str:
    scalar: str = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    message: str = field.type_name.rpartition(".")[2]
    return message or scalar


def differences(mine: Interface, official: Interface) -> list[str]:
    """A line for each message, field and method of ours that is not the official one."""
    found = []
    for name, fields in mine.messages.items():
        theirs = official.messages.get(name)
        if theirs is None:
            found.append(f"message {name}: not in the official file")
            continue
        spelled = {_plain(field): kind for field, kind in theirs.items()}
        for field, kind in fields.items():
            official_kind = spelled.get(_plain(field), "absent")
            if official_kind != kind:
                found.append(f"{name}.{field}: {kind}, and officially {official_kind}")
    for path, call in mine.methods.items():
        if official.methods.get(path) != call:
            found.append(f"{path}: {call}, and officially {official.methods.get(path, 'absent')}")
    return found


def _plain(name: str) -> str:
    """devices_ids was devicesIDs before Kubernetes changed its spelling; names are not in what is sent."""
    return name.replace("_", "").lower()


def all_ours() -> dict[str, Interface]:
    """By the names of the official files."""
    plugin = {
        api.REGISTRATION: api.REGISTRATION_METHODS,
        api.DEVICE_PLUGIN: api.DEVICE_PLUGIN_METHODS,
    }
    pods = {api.POD_RESOURCES: api.POD_RESOURCES_METHODS}
    return dict(
        zip(NAMES, (ours(api.plugin_messages, plugin), ours(api.pod_messages, pods)), strict=True)
    )


def summary(name: str, mine: Interface, official: Interface) -> str:
    """One line for a file that agrees."""
    counts = [len(mine.messages), sum(map(len, mine.messages.values())), len(mine.methods)]
    more = [
        len(official.messages),
        sum(map(len, official.messages.values())),
        len(official.methods),
    ]
    pairs = zip(("messages", "fields", "methods"), counts, more, strict=True)
    return f"{name}: as here are {', '.join(f'{a} of its {b} {what}' for what, a, b in pairs)}"


def main(paths: Iterable[str]) -> int:
    """Compares files whose paths end in the names above."""
    wrong = False
    for path in paths:
        (name,) = (n for n in NAMES if path.endswith(n))
        mine, official = all_ours()[name], parse(Path(path).read_text())
        found = differences(mine, official)
        wrong = wrong or bool(found)
        print("\n".join(f"{name}: {line}" for line in found) or summary(name, mine, official))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
