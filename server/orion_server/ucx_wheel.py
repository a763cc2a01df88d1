# SPDX-License-Identifier: Apache-2.0
"""Where UCX from PyPI (libucx-cu12, libucx-cu13) has put its library; the system's is found by its name alone."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib import util
from pathlib import Path

VARIABLE = "ORION_LIBUCP"


def library() -> str | None:
    """The path of libucp.so.0 in an installed wheel."""
    try:
        spec = util.find_spec("libucx")
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder, "lib", "libucp.so.0")
        if path.exists():
            return os.fspath(path)
    return None


def name_it(environment: MutableMapping[str, str]) -> None:
    """Tells csrc/stream/libucp.c, unless somebody has."""
    found = library() if VARIABLE not in environment else None
    if found is not None:
        environment[VARIABLE] = found
