# SPDX-License-Identifier: Apache-2.0
"""Makes programs find Orion's libcuda.so.1 without `orion run`; `orion uninstall` takes it back.

Without --path (as root): for every program of this host, through the dynamic linker's cache. With
--path DIR: a folder with links to it, for LD_LIBRARY_PATH, an image or a mount.
Programs then find their server through ORION_SERVER, /run/orion/orion.sock or ORION_CONTROLLER.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import orion_shm
from orion_shm.cli.errors import EXIT_FAILED, CommandError

LIBRARY = "libcuda.so.1"
LINKS = (LIBRARY, "libcuda.so")
LINKER_FILE = Path("/etc/ld.so.conf.d/000-orion.conf")  # read before any other
MARK = "# Written by `orion install`; `orion uninstall` removes it."
LDCONFIG = ("ldconfig",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion install` and `orion uninstall`."""
    parser.add_argument(
        "--path",
        type=Path,
        metavar="DIR",
        help="links in this folder instead of the linker's cache",
    )


def execute(options: argparse.Namespace) -> int:
    """Installs; says what programs load from now on."""
    library = orion_shm.library_directory() / LIBRARY
    if not library.exists():
        raise CommandError(f"{library} does not exist; install the package (pip install .)")
    if options.path is not None:
        link(library.resolve(), options.path)
        print(f"{options.path}: use it with LD_LIBRARY_PATH={options.path.absolute()}")
        return 0
    found = enter(library.resolve(), LINKER_FILE, LDCONFIG)
    if found != library.resolve():
        print(f"{LINKER_FILE} names {library.parent}, but programs load {found}: see its folder")
        return EXIT_FAILED
    print(f"every program of this host that asks for {LIBRARY} gets {found}")
    return 0


def link(library: Path, folder: Path) -> None:
    """Links in the folder; what is there and not a link to a library of ours stays, and is an error."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in LINKS:
            place = folder / name
            if is_ours(place):
                place.unlink()
            elif place.exists() or place.is_symlink():
                raise CommandError(f"{place} exists and is not Orion's: choose another folder")
            place.symlink_to(library)
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror}") from None


def is_ours(place: Path) -> bool:
    """A link that `orion install` made: it leads into an Orion package, be that still there or not."""
    if not place.is_symlink():
        return False
    target = Path(os.readlink(place))
    return target.name == LIBRARY and target.parts[-4:-1] == ("orion_shm", "lib", "cuda")


def enter(library: Path, file: Path, ldconfig: Sequence[str]) -> Path | None:
    """Names the library's folder in the linker's configuration; what the linker gives to programs then."""
    if file.exists() and not is_written_by_us(file):
        raise CommandError(f"{file} exists and is not Orion's: remove it first")
    for folder in (library.parent, *library.parent.parents):
        if not folder.stat().st_mode & 0o001:
            raise CommandError(
                f"other users cannot reach {library}: {folder} is closed to them; install Orion in a "
                "folder that is open to all, such as /opt/orion, or use --path"
            )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{MARK}\n{library.parent}\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(
            f"cannot write {file}: {error.strerror}; run this as root, or use --path DIR"
        ) from None
    refresh(ldconfig)
    return loaded(ldconfig)


def is_written_by_us(file: Path) -> bool:
    """Whether it begins with our mark."""
    try:
        return file.read_text(encoding="utf-8").startswith(MARK)
    except (OSError, UnicodeDecodeError):
        return False


def refresh(ldconfig: Sequence[str]) -> None:
    """Has the linker's cache written anew."""
    try:
        done = subprocess.run([*ldconfig], capture_output=True, text=True)
    except OSError as error:
        raise CommandError(f"cannot run {ldconfig[0]}: {error.strerror}; use --path DIR") from None
    if done.returncode != 0:
        raise CommandError(f"{ldconfig[0]} failed: {done.stderr.strip()}", EXIT_FAILED)


def loaded(ldconfig: Sequence[str]) -> Path | None:
    """The file that the linker's cache names first for libcuda.so.1."""
    listed = subprocess.run([*ldconfig, "-p"], capture_output=True, text=True).stdout
    for line in listed.splitlines():
        name, _, path = line.partition("=>")
        if name.split()[:1] == [LIBRARY]:
            return Path(path.strip()).resolve()
    return None
