# SPDX-License-Identifier: Apache-2.0
"""What CUDA's Python packages need where the device runs PTX and no machine code.

They compile on the client, for the chip that they see, to machine code. A small library that is preloaded answers
their compilers' calls with PTX (client/compilers/), and CuPy's cache on disk is kept apart from that of a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

PRELOAD = "liborion_compilers.so"
CACHE = "orion-ptx"
CPU_DEVICE = (
    "Orion CPU device"  # how it is called, behind however many servers (hook.c asks for the same)
)


def wants_ptx(devices: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether a server's devices run PTX alone; None when they are not known before the program has connected.

    A device of kind cuda is a GPU, unless its driver is Orion's own library in front of a CPU device.
    """
    if not devices:
        return None
    return all(
        device.get("kind") != "cuda" or str(device.get("name")).startswith(CPU_DEVICE)
        for device in devices
    )


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
