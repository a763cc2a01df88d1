# SPDX-License-Identifier: Apache-2.0
"""What `orion check` says inside a pod: whether it has a vGPU, and whether its door opens.

Where the plugin has given it none, a program is started that does nothing but cuInit: the client library itself then
says which way it goes, and why. It has a vGPU for that moment.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orion_shm
from orion_shm.cli.probes import MISSING, OK, WARN, Finding

NAME = "pod's vGPU"
MOUNT = Path("/run/orion")
FILE_MOST = 1 << 16
TRIAL = "import ctypes, sys; sys.exit(min(ctypes.CDLL(sys.argv[1]).cuInit(0), 255))"
TRIAL_SECONDS = 15.0
ASK = (
    "for a vGPU of its own node: resources.limits virtaitech.com/gpu, in this container of the pod"
)
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
    """No vGPU of the plugin's; there may be another way."""
    name = next((n for n in ("ORION_SERVER", "ORION_CONTROLLER") if environment.get(n)), None)
    socket_of_node = mount / "orion.sock"
    if name is not None:
        way = f"{name}={environment[name]}"
    elif socket_of_node.exists():
        way = "the node's socket, which is mounted"
        environment = {**environment, "ORION_SERVER": f"unix:{socket_of_node}"}
    else:
        remedy = (
            "this container of the pod asked for none: set resources.limits virtaitech.com/gpu: 1"
        )
        return Finding(NAME, MISSING, f"none: {mount} is not mounted", remedy)
    trial = try_out(environment)
    if not trial.works:
        return Finding(NAME, MISSING, f"none, and {way} leads to none", trial.said)
    if trial.transport is None:
        return Finding(NAME, OK, f"none of its own; shared memory by {way}")
    return Finding(
        NAME, WARN, f"none of its own; {trial.transport} by {way}", f"{trial.said}; {ASK}"
    )


@dataclass(frozen=True)
class Trial:
    """How a program fared that did nothing but cuInit."""

    works: bool
    transport: str | None  # "tcp", "ucx"; None: shared memory, of which the library says nothing
    said: str  # its sentence about the transport, or about what is wrong


def try_out(environment: Mapping[str, str], seconds: float = TRIAL_SECONDS) -> Trial:
    """Runs it with the library of this package."""
    library = orion_shm.library_directory() / "libcuda.so.1"
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL, library],
            env={**environment, "ORION_LOG": "info"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Trial(False, None, f"no answer within {seconds:g} s: perhaps no vGPU is free")
    lines = [line for line in done.stderr.splitlines() if line.startswith("orion: ")]
    said = lines[-1].removeprefix("orion: ") if lines else done.stderr.strip()[-200:]
    if done.returncode != 0:
        return Trial(False, None, said or f"cuInit says {done.returncode}")
    for line in lines:
        words = line.split()
        if words[1:2] == ["transport"] and len(words) > 2:
            return Trial(True, words[2].rstrip(","), line.removeprefix("orion: "))
    return Trial(True, None, "")


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
