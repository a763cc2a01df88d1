# SPDX-License-Identifier: Apache-2.0
"""The real spec: everything is decided, nothing twice, and each decision can be carried out."""

from __future__ import annotations

from pathlib import Path

import pytest
from codegen.__main__ import generate, read_spec
from codegen.load import CHAPTERS
from codegen.model import Spec
from codegen.text import reply_fields, wire_fields

FOLDER = Path(__file__).resolve().parents[2] / "csrc" / "spec"
RECORD_PAYLOAD = 32 * 1024 - 16


@pytest.fixture(scope="module")
def spec() -> Spec:
    return read_spec(FOLDER)


def test_every_name_of_the_headers_is_there(spec: Spec) -> None:
    names = [n for s in spec.signatures.values() for n in (s.name, s.per_thread_name) if n]
    assert len(names) == len(set(names)) == 672


def test_every_chapter_file_is_read() -> None:
    apart = {"kinds", "opcodes", "blobs"}
    assert {p.stem for p in FOLDER.glob("*.toml")} - apart == set(CHAPTERS)


def test_every_kind_is_used_or_documented(spec: Spec) -> None:
    assert all(kind.doc for kind in spec.kinds.values())


def test_fixed_parts_fit_their_record_and_reply(spec: Spec) -> None:
    for entry in spec.operations:
        assert wire_fields(entry)[1] <= RECORD_PAYLOAD
        assert reply_fields(entry)[1] + sum(p.number for p in entry.blobs) <= 4080


def test_each_name_appears_once_in_what_is_exported(spec: Spec) -> None:
    files = generate(spec)
    stubs, unserved = files["stubs.c"], files["unserved.c"]
    for signature in spec.signatures.values():
        for name in filter(None, (signature.name, signature.per_thread_name)):
            # one declaration and one definition, or one line UNSERVED(name)
            defined = f"\nORION_EXPORT CUresult {name}(" in stubs, f"UNSERVED({name})\n" in unserved
            assert sum(defined) == 1, name


def test_support_table_names_everything(spec: Spec) -> None:
    table = generate(spec)["api-support.md"]
    for signature in spec.signatures.values():
        assert f"| `{signature.name}` |" in table


def test_allocations_are_charged(spec: Spec) -> None:
    charged = {e.name for e in spec.operations if e.allocates and e.allocates != "nothing"}
    assert charged >= {"cuMemAlloc_v2", "cuMemAllocAsync", "orionArenaExtend"}
