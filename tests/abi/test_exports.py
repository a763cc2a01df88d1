# SPDX-License-Identifier: Apache-2.0
"""What the installed libcuda.so.1 shows to the world: CUDA's names and our marker, for any glibc since 2.17."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from codegen.__main__ import read_spec
from elf_files import LIBC, newer_than, tags
from elftools.elf.elffile import ELFFile

SPEC = Path(__file__).resolve().parents[2] / "csrc" / "spec"
NEWEST_GLIBC = (2, 17)


@pytest.fixture(scope="module")
def elf(libcuda: Path) -> Iterator[ELFFile]:
    with libcuda.open("rb") as file:
        yield ELFFile(file)


def exported(elf: ELFFile) -> set[str]:
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    return {
        s.name
        for s in symbols
        if s["st_shndx"] != "SHN_UNDEF" and s["st_info"]["bind"] != "STB_LOCAL" and s.name
    }


def test_every_cuda_name_is_exported_and_nothing_else(elf: ELFFile) -> None:
    spec = read_spec(SPEC)
    wanted = {
        name for s in spec.signatures.values() for name in (s.name, s.per_thread_name) if name
    }
    assert exported(elf) == wanted | {"orion_shim_marker"}


def test_soname(elf: ELFFile) -> None:
    assert tags(elf, "DT_SONAME") == ["libcuda.so.1"]


def test_needs_only_libc(elf: ELFFile) -> None:
    assert set(tags(elf, "DT_NEEDED")) <= LIBC
    assert not tags(elf, "DT_RPATH")
    assert not tags(elf, "DT_RUNPATH")


@pytest.fixture(scope="module")
def preload(libcuda: Path) -> Iterator[ELFFile]:
    """The library that `orion run` preloads."""
    with (libcuda.parent.parent / "preload" / "liborion_compilers.so").open("rb") as file:
        yield ELFFile(file)


def test_preloaded_library_shows_only_what_it_answers_and_loads_anywhere(preload: ELFFile) -> None:
    names = {"dlsym", "dlerror"}
    assert exported(preload) == names | {f"orion_{name}" for name in names}
    assert set(tags(preload, "DT_NEEDED")) <= LIBC
    assert not newer_than(NEWEST_GLIBC, preload)


def test_needs_no_glibc_newer_than_2_17(elf: ELFFile) -> None:
    newer = newer_than(NEWEST_GLIBC, elf)
    assert not newer, newer


def test_it_is_alone_in_its_folder(libcuda: Path) -> None:
    assert [p.name for p in libcuda.parent.iterdir()] == ["libcuda.so.1"]


def test_stack_is_not_executable(elf: ELFFile) -> None:
    stack = [s for s in elf.iter_segments() if s["p_type"] == "PT_GNU_STACK"]
    assert stack
    assert not stack[0]["p_flags"] & 1
