# SPDX-License-Identifier: Apache-2.0
"""Orion for Python: where the installed pieces are, and the `orion` command line.

Importing this package loads nothing but the standard library. The commands live in
`orion_shm.cli`; the CUDA driver library for applications is found by `library_directory()`.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["__version__", "library_directory"]


def library_directory() -> Path:
    """The folder that holds our `libcuda.so.1` and nothing else; it goes into LD_LIBRARY_PATH.

    ORION_LIBRARY_DIR names another one, for example that of a build folder.
    """
    named = os.environ.get("ORION_LIBRARY_DIR")
    return Path(named) if named else Path(__file__).resolve().parent / "lib" / "cuda"


def __getattr__(name: str) -> str:
    """Reads the version when it is first asked for: importlib.metadata is slow to import."""
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("orion-vgpu")
        except metadata.PackageNotFoundError:
            return "0+not.installed"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
