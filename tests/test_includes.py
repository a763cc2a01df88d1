# SPDX-License-Identifier: Apache-2.0
"""Include arrows run downwards only: base <- shm <- channel <- transport, base <- stream <- channel,
wire <- generated, and both ends -> csrc."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# What a room of csrc may include besides itself.
CSRC = {
    "include": {"include", "orion"},
    "base": {"orion"},
    "shm": {"base", "wire", "orion"},
    "wire": {"base", "orion"},
    "stream": {"base", "orion"},
    "channel": {"base", "shm", "stream", "wire", "orion"},
    "transport": {"base", "shm", "stream", "channel", "wire", "orion"},
}


def sources(folder: str) -> list[Path]:
    return sorted(
        p for p in (ROOT / folder).rglob("*") if p.suffix in (".c", ".h", ".inl", ".pyx", ".pxd")
    )


def included(path: Path) -> list[str]:
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def room_of(name: str, path: Path, top: str) -> str:
    """The first folder of an include; a sibling counts as the includer's own room."""
    if (path.parent / name).exists() and "/" not in name:
        return path.relative_to(ROOT / top).parts[0]
    return name.split("/")[0]


@pytest.mark.parametrize("room", CSRC)
def test_csrc_includes_only_downwards(room: str) -> None:
    wrong = []
    for path in sources(f"csrc/{room}"):
        for name in included(path):
            target = room_of(name, path, "csrc")
            if target != room and target not in CSRC[room]:
                wrong.append(f'{path.relative_to(ROOT)} includes "{name}"')
    assert not wrong, "\n".join(wrong)


def test_csrc_knows_no_generated_code_of_either_end() -> None:
    """The core is linked by both ends, so it may use numbers and layouts but neither stubs nor dispatch."""
    wrong = [
        f'{path.relative_to(ROOT)} includes "{name}"'
        for path in sources("csrc")
        for name in included(path)
        if name in ("orion_generated/calls.h", "orion_generated/hand.h", "orion_generated/serve.h")
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("end", "other"), [("client", "server"), ("server", "client")])
def test_ends_do_not_include_each_other(end: str, other: str) -> None:
    theirs = {p.relative_to(ROOT / other).as_posix() for p in sources(other)}
    ours = {p.relative_to(ROOT / end).as_posix() for p in sources(end)}
    foreign = {"client": {"serve.h"}, "server": {"calls.h", "hand.h", "proc.h"}}[end]
    wrong = []
    for path in sources(end):
        for name in included(path):
            own = name in ours or (path.parent / name).exists()
            across = (
                name.startswith(f"{other}/")
                or f"../{other}/" in name
                or (name in theirs and not own)
            )
            if across or (name.startswith("orion_generated/") and name.split("/")[1] in foreign):
                wrong.append(f'{path.relative_to(ROOT)} includes "{name}"')
    assert not wrong, "\n".join(wrong)


def test_no_source_includes_vendor_headers() -> None:
    """Our declarations are generated; NVIDIA's headers are read by csrc/spec/import_header.py and by tests alone."""
    vendor = re.compile(r"#\s*include\s*[<\"](cuda\.h|cuda_runtime|cudaTypedefs|driver_types)")
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("csrc", "client", "server", "orion_shm")
        for path in sources(folder)
        if vendor.search(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)
