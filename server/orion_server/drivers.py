# SPDX-License-Identifier: Apache-2.0
"""Which device a machine has, and what a worker with a vendor's driver needs that other workers must not have.

The driver itself is loaded by C code in workers (server/devices/cuda/driver.c), never in the zygote: a process that has
called cuInit cannot fork others that use it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from .errors import OrionServerError

DEVICES = ("cpu", "cuda", "null")
DEVICE_NODES = ("/dev/nvidiactl", "/dev/dxg")  # Linux, WSL
# What a driver reads: its own settings, the place of its cache, and which of our libraries to take for it.
KEPT = ("CUDA_", "NVIDIA_", "__NV")
KEPT_NAMES = ("HOME", "TMPDIR", "ORION_DRIVER")


def choose(device: str) -> str:
    """`auto` as cuda or cpu: cuda where a driver is named or a GPU's device node is there and its driver opens."""
    if device != "auto":
        return device
    if os.environ.get("ORION_DRIVER"):
        return "cuda"
    if not any(os.path.exists(node) for node in DEVICE_NODES):
        return "cpu"
    try:
        from . import worker

        worker.describe_cuda(0)
    except (OSError, OrionServerError):
        return "cpu"
    return "cuda"


def worker_environment(device: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: nothing, but for UCX and for a driver. ORION_DRIVER_SERVER is where a driver that is
    ours finds its server, the second of a cascade."""
    kept = {k: v for k, v in environment.items() if k == "ORION_LIBUCP" or k.startswith("UCX_")}
    if device != "cuda":
        return kept
    kept |= {k: v for k, v in environment.items() if k in KEPT_NAMES or k.startswith(KEPT)}
    if "ORION_DRIVER_SERVER" in environment:
        kept["ORION_SERVER"] = environment["ORION_DRIVER_SERVER"]
    return kept


def in_child(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Runs `action` in a process of its own, which then goes; OSError with its words when it fails."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer: dict[str, Any] = {}
        try:
            os.close(read)
            kept = worker_environment("cuda", os.environ)
            os.environ.clear()
            os.environ.update(kept)
            answer = {"ok": action()}
        except BaseException as e:
            answer = {"error": str(e) or type(e).__name__}
        finally:
            os.write(write, json.dumps(answer).encode())
            os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        received = pipe.read()
    os.waitpid(pid, 0)
    if not received:
        raise OSError("the driver ended the process that asked it for its device")
    result = json.loads(received)
    if "error" in result:
        raise OSError(result["error"])
    described: dict[str, Any] = result["ok"]
    return described
