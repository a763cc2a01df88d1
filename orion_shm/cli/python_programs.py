# SPDX-License-Identifier: Apache-2.0
"""What CUDA's Python packages need where the device runs PTX and no machine code.

They compile on the client, for the chip that they see, to machine code. A small library that is preloaded answers
their compilers' calls with PTX (client/compilers/), and their caches on disk are kept apart from those of a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from orion_shm.cli.servers import Status

PRELOAD = "liborion_compilers.so"


def wants_ptx(status: Status | None) -> bool | None:
    """Whether the devices of a server run PTX alone; None when that is not known before the program has connected."""
    kinds = {str(device.get("kind")) for device in (status or {}).get("devices", [])}
    return None if not kinds else "cuda" not in kinds


def prepare(environment: MutableMapping[str, str], library: Path, ptx: bool | None) -> None:
    """Adds to the program's environment what its compilers and their caches need."""
    if ptx is False or environment.get("ORION_PTX") == "0":
        return
    preload = library.parent / "preload" / PRELOAD
    if not preload.exists():
        return  # a library folder without it: kernels that were compiled to machine code will say what they lack
    if ptx:
        environment["ORION_PTX"] = "1"
    others = [part for part in environment.get("LD_PRELOAD", "").replace(":", " ").split() if part]
    if str(preload) not in others:
        environment["LD_PRELOAD"] = ":".join([str(preload), *others])
    for variable, usual in cache_folders(environment).items():
        folder = environment.get(variable) or usual
        if Path(folder).name != "orion-ptx":
            environment[variable] = str(Path(folder) / "orion-ptx")


def cache_folders(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable that moves each package's cache, and where the cache is without it."""
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    general = Path(environment.get("XDG_CACHE_HOME") or home / ".cache")
    return {
        "CUPY_CACHE_DIR": str(home / ".cupy" / "kernel_cache"),
        "NUMBA_CACHE_DIR": str(general / "numba"),
    }
