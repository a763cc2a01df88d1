# SPDX-License-Identifier: Apache-2.0
"""The files of an image: a tree of programs and what they load, as a tar."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PASSWD = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
FOLDERS = (
    "dev",
    "etc",
    "proc",
    "sys",
    "run",
    "usr/bin",
    "usr/sbin",
    "usr/local/bin",
    "usr/lib",
    "usr/lib64",
)
LIBRARY = re.compile(r"^\s*(?:\S+ => )?(/\S+) \(0x", re.MULTILINE)


def libraries_in(text: str) -> list[Path]:
    """The files that ldd's output names."""
    return [Path(found) for found in LIBRARY.findall(text)]


@dataclass(frozen=True)
class Layer:
    """A tree, as an image has it."""

    folder: Path

    def make(self) -> None:
        """The empty tree."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.folder / name).symlink_to(f"usr/{name}")
        (self.folder / "tmp").mkdir()
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "etc/passwd").write_text(PASSWD)

    def inside(self, path: str | Path) -> Path:
        """Where a file of the machine lies in the tree; its folders are made."""
        path = Path(path)
        target = self.folder / str(path.parent.resolve()).lstrip("/") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def add(self, source: Path, path: str | None = None) -> None:
        """A file, at `path` or where the machine has it."""
        target = self.folder / path.lstrip("/") if path else self.inside(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
        if path and path.startswith("/usr/local/bin/"):
            target.chmod(0o755)

    def add_libraries(self) -> None:
        """What the programs and libraries of the tree load and it does not have."""
        for library in sorted(set(self._needed())):
            if not self.inside(library).exists():
                shutil.copy2(library, self.inside(library))

    def _needed(self) -> Iterator[Path]:
        loaded = [p for p in self.folder.rglob("*") if p.is_file() and is_elf(p)]
        for start in range(0, len(loaded), 100):
            done = subprocess.run(
                ["ldd", *loaded[start : start + 100]], capture_output=True, text=True
            )
            for library in libraries_in(done.stdout):
                if not library.is_relative_to(self.folder):
                    yield library

    def pack(self, file: Path) -> str:
        """The tree as a tar; its digest."""
        with tarfile.open(file, "w") as tar:
            tar.add(self.folder, arcname=".", filter=_as_root)
        with open(file, "rb") as read:
            hashed = hashlib.sha256()
            while block := read.read(1 << 20):
                hashed.update(block)
        return hashed.hexdigest()


def is_elf(path: Path) -> bool:
    """Something that the dynamic loader may load."""
    if path.is_symlink():
        return False
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = 0
    return info
