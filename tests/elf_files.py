# SPDX-License-Identifier: Apache-2.0
"""What a shared object asks of the system that loads it."""

from __future__ import annotations

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

LIBC = {
    "libc.so.6",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libm.so.6",
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
}


def tags(elf: ELFFile, name: str) -> list[str]:
    section = elf.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    field = {
        "DT_NEEDED": "needed",
        "DT_SONAME": "soname",
        "DT_RPATH": "rpath",
        "DT_RUNPATH": "runpath",
    }[name]
    return [getattr(tag, field) for tag in section.iter_tags(name)]


def newer_than(glibc: tuple[int, ...], elf: ELFFile) -> list[str]:
    """Symbol versions that it needs and that this glibc does not have."""
    section = elf.get_section_by_name(".gnu.version_r")
    assert isinstance(section, GNUVerNeedSection)
    newer = []
    for library, versions in section.iter_versions():
        for version in versions:
            name = version.name
            parts = name.removeprefix("GLIBC_").split(".")
            if not name.startswith("GLIBC_") or tuple(int(p) for p in parts) > glibc:
                newer.append(f"{name} of {library.name}")
    return newer
