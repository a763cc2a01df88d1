# SPDX-License-Identifier: Apache-2.0
"""Takes back what `orion install` did, with the same --path. Programs that run are not affected."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from orion_shm.cli import install
from orion_shm.cli.errors import CommandError

add_arguments = install.add_arguments


def execute(options: argparse.Namespace) -> int:
    """Removes; says what programs load from now on."""
    if options.path is not None:
        removed = unlink(options.path)
        print(f"{options.path}: {removed} links removed" if removed else "nothing was installed")
        return 0
    if not leave(install.LINKER_FILE, install.LDCONFIG):
        print("nothing was installed")
        return 0
    found = install.loaded(install.LDCONFIG)
    print(f"programs that ask for {install.LIBRARY} get {found or 'none'}")
    return 0


def unlink(folder: Path) -> int:
    """Removes our links, and the folder if nothing else is in it."""
    ours = [folder / name for name in install.LINKS if install.is_ours(folder / name)]
    try:
        for place in ours:
            place.unlink()
        if ours and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise CommandError(f"cannot remove from {folder}: {error.strerror}") from None
    return len(ours)


def leave(file: Path, ldconfig: Sequence[str]) -> bool:
    """Takes our folder out of the linker's configuration; False when it was not there."""
    if not file.exists():
        return False
    if not install.is_written_by_us(file):
        raise CommandError(f"{file} is not Orion's: look at it and remove it yourself")
    try:
        file.unlink()
    except OSError as error:
        raise CommandError(f"cannot remove {file}: {error.strerror}; run this as root") from None
    install.refresh(ldconfig)
    return True
