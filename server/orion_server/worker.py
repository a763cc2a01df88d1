# SPDX-License-Identifier: Apache-2.0
"""What runs in a worker's process before the C loop takes over, and what its compiler needs from Python."""

from __future__ import annotations

import os
from typing import Any

from . import drivers
from .errors import OrionServerError
from .worker_line import WorkerLine

NOBODY = 65534
DATA_BYTES = (
    4 << 30
)  # private memory of a worker beyond what it was born with: LLVM, uploads, stacks
FILES, FILES_DRIVER = 256, 4096

try:
    from . import _worker
except ImportError as e:  # pragma: no cover - an unbuilt tree
    raise OrionServerError(
        f"the compiled part of orion_server is missing ({e}): build it with `pip install .` in the checkout"
    ) from e


def warm_up(device: str, memory: int, threads: int) -> dict[str, Any]:
    """Imports and initialises whatever a caged worker could not fetch any more, and asks the device who it is."""
    if device == "cuda":
        return describe_cuda(memory, threads)
    from .compiler import warm_up as warm_compiler

    warm_compiler(device)
    info: dict[str, Any] = _worker.describe(device, memory, threads)
    return info


def describe_cuda(memory: int, threads: int = 0) -> dict[str, Any]:
    """Asks the driver in a process of its own: this one, a zygote perhaps, must stay without."""

    def ask() -> dict[str, Any]:
        info: dict[str, Any] = _worker.describe("cuda", memory, threads)
        return info

    return drivers.in_child(ask)


def run(
    device: str, threads: int, epoch: int, control: int, stats: int, lease: int, parent: int
) -> int:
    """Serves one session; the exit code of the process."""
    from .compiler import Compiler

    compiler = Compiler(device, WorkerLine())
    kept = drivers.worker_environment(device, os.environ)
    os.environ.clear()  # nothing in there is the client's business
    os.environ.update(kept)
    driver = device == "cuda"  # it maps and opens more than we can tell
    return int(
        _worker.run(
            compiler,
            device=device,
            threads=threads,
            epoch=epoch,
            control_fd=control,
            stats_fd=stats,
            lease_fd=lease,
            parent=parent,
            uid=NOBODY,
            gid=NOBODY,
            data_bytes=0 if driver else DATA_BYTES,
            files=FILES_DRIVER if driver else FILES,
        )
    )
