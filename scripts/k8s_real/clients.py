# SPDX-License-Identifier: Apache-2.0
"""Programs in the cluster: the Job of deploy-client.yaml, changed to reach its server in each possible way."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from .images import TAG
from .node import BRIDGE
from .shell import ROOT, CannotRun

GPU = "virtaitech.com/gpu"
FILE = ROOT / "k8s/deploy/deploy-client.yaml"
CONTAINER = "vectoradd"  # as the file calls it
# way -> what it is, and what `orion smi` may call its transport
WAYS = {
    "socket": ("With a vGPU of the plugin's: through the socket that comes with it.", ("shm",)),
    "hostipc": (
        "Without one, by the controller's address, and with `hostIPC`: through `/dev/shm`.",
        ("/dev/shm",),
    ),
    "network": ("The same without `hostIPC`: over the network.", ("tcp", "tls")),
}
CONTROLLER = {"ORION_CONTROLLER": f"{BRIDGE}:9123", "ORION_INSECURE_TCP": "1"}


def client_job(file: Path = FILE) -> dict[str, Any]:
    """The Job as users create it."""
    try:
        import yaml
    except ImportError:
        raise CannotRun("PyYAML is missing: pip install PyYAML") from None
    job: dict[str, Any] = yaml.safe_load(file.read_text())
    return job


def job(name: str, way: str, *command: str) -> dict[str, Any]:
    """A Job whose program reaches its server in that way, and can be talked to on its stdin.

    Without a vGPU of the plugin's there is no library either: an init container brings it.
    """
    made = client_job()
    made["metadata"]["name"] = name
    made["spec"]["backoffLimit"] = 0
    pod = made["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 1  # they are their container's init, and hear no SIGTERM
    (container,) = pod["containers"]
    container["command"] = list(command)
    container["stdin"] = True
    if way != "hostipc":
        del pod["hostIPC"]
    if way == "socket":
        return made
    del container["resources"]["limits"][GPU]
    container["env"] += [{"name": name, "value": value} for name, value in CONTROLLER.items()]
    container["env"].append({"name": "LD_LIBRARY_PATH", "value": "/target"})
    mount = {"name": "library", "mountPath": "/target"}
    pod["volumes"] = [{"name": "library", "emptyDir": {}}]
    pod["initContainers"] = [
        {
            "name": "library",
            "image": f"orion-client-shim:{TAG}",
            "imagePullPolicy": "IfNotPresent",
            "securityContext": copy.deepcopy(container["securityContext"]),
            "volumeMounts": [mount],
        }
    ]
    container["volumeMounts"] = [{**mount, "readOnly": True}]
    return made


def refused() -> dict[str, str]:
    """What no vGPU can be asked for like: what is wrong -> the Job as JSON."""
    found = {}
    for what, limits, requests in (
        ("half a vGPU", {GPU: "0.5"}, {}),
        ("requests unlike limits", {GPU: "2"}, {GPU: "1"}),
        ("a colon in place of the slash", {GPU.replace("/", ":"): "1"}, {}),
    ):
        made = client_job()
        made["spec"]["template"]["spec"]["containers"][0]["resources"] = {
            "limits": limits,
            "requests": requests,
        }
        found[what] = json.dumps(made)
    return found
