# SPDX-License-Identifier: Apache-2.0
"""What `orion check` says inside a pod: whether it has a vGPU, and whether its door opens."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from orion_shm.cli.probes import MISSING, OK, WARN, Finding

NAME = "pod's vGPU"
MOUNT = Path("/run/orion")
FILE_MOST = 1 << 16
SERVER_PODS = "kubectl -n orion-system get pods -o wide -l app.kubernetes.io/component=server"


def check_pod(mount: Path = MOUNT, environment: Mapping[str, str] = os.environ) -> Finding:
    """The vGPU that the device plugin gave to this container."""
    in_pod = "KUBERNETES_SERVICE_HOST" in environment
    record = mount / "allocation.json"
    if not record.exists():
        return _without(mount, environment) if in_pod else Finding(NAME, OK, "not in a pod")
    try:
        with open(record, "rb") as file:
            found = json.loads(file.read(FILE_MOST))
        vgpus = sum(len(numbers) for numbers in found["vgpus"].values())
        what = f"{vgpus} of allocation {found['id']}"
        endpoint = found.get("endpoint")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "the node's plugin and server may be of other versions than this: delete the pod"
        return Finding(NAME, MISSING, f"{record} cannot be read ({error})", remedy)
    if environment.get("ORION_SERVER"):
        named = environment["ORION_SERVER"]
        remedy = "unset it: programs then find the node's server, and share memory with it"
        return Finding(NAME, WARN, f"{what}, but ORION_SERVER={named} is used instead", remedy)
    return _door(mount / "orion.sock", what, endpoint)


def _without(mount: Path, environment: Mapping[str, str]) -> Finding:
    for name in ("ORION_SERVER", "ORION_CONTROLLER"):
        if environment.get(name):
            remedy = (
                "a vGPU of the node is faster: resources.limits virtaitech.com/gpu, and unset it"
            )
            return Finding(NAME, WARN, f"none; {name}={environment[name]} is used", remedy)
    if (mount / "orion.sock").exists():
        remedy = "for a vGPU of its own: resources.limits virtaitech.com/gpu"
        return Finding(NAME, WARN, "the node's socket is mounted, nothing was allocated", remedy)
    remedy = "this container asked for none: set resources.limits virtaitech.com/gpu: 1 (in this container of the pod)"
    return Finding(NAME, MISSING, f"none: {mount} is not mounted", remedy)


def _door(path: Path, what: str, endpoint: str | None) -> Finding:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(3.0)
            probe.connect(os.fspath(path))
        return Finding(NAME, OK, f"{what}, shared memory")
    except PermissionError:
        found = f"{what}, but {path} may not be used"
        remedy = "SELinux or AppArmor forbids it: see docs/kubernetes.md"
    except (FileNotFoundError, ConnectionRefusedError):
        found = f"{what}, but nobody listens at {path}"
        remedy = f"the node's server is not there, or was started anew: {SERVER_PODS}; then start the pod again"
    except OSError as error:
        found, remedy = (
            f"{what}, but {path}: {error.strerror}",
            f"look at the server: {SERVER_PODS}",
        )
    if endpoint:
        remedy += f"; over TCP meanwhile: ORION_SERVER={endpoint}"
    return Finding(NAME, MISSING, found, remedy)
