# SPDX-License-Identifier: Apache-2.0
"""What CUDA's Python packages need where the device runs PTX and no machine code.

They compile on the client, for the chip that they see, to machine code. A small library that is preloaded answers
their compilers' calls with PTX (client/compilers/), and CuPy's cache on disk is kept apart from that of a GPU.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from orion_shm.cli.servers import Status

PRELOAD = "liborion_compilers.so"
CACHE = "orion-ptx"


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
    # CuPy's cache would give machine code that was compiled for a GPU. Numba's is keyed by the chip and is left alone.
    home = Path(environment.get("HOME") or os.path.expanduser("~"))
    cache = Path(environment.get("CUPY_CACHE_DIR") or home / ".cupy" / "kernel_cache")
    if cache.name != CACHE:
        environment["CUPY_CACHE_DIR"] = str(cache / CACHE)
