# SPDX-License-Identifier: Apache-2.0
"""Virtual environments in which some library of the packages is missing or another one: the packages are those that
are installed, linked one by one, so that making one takes no time and no network."""

from __future__ import annotations

import fnmatch
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

# Namespaces that several wheels share: what they hold is linked, not they themselves. How deep that goes.
SHARED = {"nvidia": 4, "cuda": 1}


def make_environment(
    folder: Path, without: Sequence[str] = (), layers: Sequence[Path] = ()
) -> Path:
    """A virtual environment in `folder` that has what this one has; its Python.

    without: patterns of the names of files and folders that it lacks. layers: folders made by `pip install --target`
    whose packages come first.
    """
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(base)
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    site = folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
    link(site, [*layers, Path(sysconfig.get_path("purelib"))], without, None)
    return python


def link(target: Path, sources: Sequence[Path], without: Sequence[str], depth: int | None) -> None:
    """Links what is in the sources, the first that has a name; as deep as namespaces go."""
    target.mkdir(parents=True)
    names: dict[str, list[Path]] = {}
    for source in sources:
        for entry in source.iterdir():
            names.setdefault(entry.name, []).append(entry)
    for name, found in names.items():
        if any(fnmatch.fnmatch(name, pattern) for pattern in without):
            continue
        left = SHARED.get(name, 0) if depth is None else depth - 1
        if left > 0 and found[0].is_dir():
            link(target / name, [path for path in found if path.is_dir()], without, left)
        else:
            (target / name).symlink_to(found[0])
