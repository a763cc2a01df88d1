# SPDX-License-Identifier: Apache-2.0
"""The outline of a large module: with it the text is not read again, and whatever is wrong with it does no harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_settings import examples
from orion_server import images, ptx
from orion_server.compiler import Compiler
from orion_server.ptx.cache import pack, unpack

KERNEL = """
.visible .entry {name}(.param .u64 p, .param .u32 n)
{{
    .reg .b64 %rd<2>;
    .reg .b32 %r<2>;
    .shared .align 4 .b8 tile[128];
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [n];
    st.global.u32 [%rd1], %r1;
    ret;
}}
"""
HEAD = (
    ".version 7.0\n.target sm_75\n.address_size 64\n"
    ".visible .const .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};\n"
    ".visible .global .align 8 .u64 where = table;\n"
)
IMAGE = (HEAD + "".join(KERNEL.format(name=f"kernel{i}") for i in range(300))).encode()
SMALL = (HEAD + KERNEL.format(name="kernel0")).encode()


class Line:
    """A tenant's cache, and how often it was asked."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def cached(self, key: bytes) -> bytes | None:
        return self.kept.get(key)

    def store(self, key: bytes, data: bytes) -> None:
        self.kept[key] = data


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    """LLVM, as the zygote prepares it."""
    from orion_server.compiler import warm_up

    warm_up("cpu")


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the images whose text was read since."""
    read: list[int] = []
    original = images.ptx_of

    def counted(image: bytes, capability: int) -> list[str]:
        read.append(len(image))
        return original(image, capability)

    monkeypatch.setattr(images, "ptx_of", counted)
    return read


def described(compiler: Compiler, image: bytes, *names: str) -> list[Any]:
    """Everything that a device gets told of an image and some of its kernels."""
    loaded = compiler.load(image)
    told: list[Any] = [loaded.data_bytes, loaded.data_align, loaded.initial, loaded.globals]
    told += [loaded.kernels, loaded.relocations]
    for name in names:
        address, info = compiler.function(loaded.id, name, True)
        assert address != 0
        told.append(info)
    return told


def test_second_process_of_a_tenant_does_not_read_the_text(unread: list[int]) -> None:
    line = Line()
    first = described(Compiler("cpu", line), IMAGE, "kernel7")
    assert unread == [len(IMAGE)]
    assert described(Compiler("cpu", line), IMAGE, "kernel7") == first
    assert unread == [len(IMAGE)]


def test_kernel_that_was_not_compiled_before_is_read_then(unread: list[int]) -> None:
    line = Line()
    described(Compiler("cpu", line), IMAGE, "kernel7")
    described(Compiler("cpu", line), IMAGE, "kernel8")
    assert len(unread) == 2
    described(Compiler("cpu", line), IMAGE, "kernel7", "kernel8")
    assert len(unread) == 2


def test_lost_object_is_compiled_again(unread: list[int]) -> None:
    line = Line()
    first = described(Compiler("cpu", line), IMAGE, "kernel7")
    key = bytes.fromhex(ptx.outline_key(IMAGE))
    line.kept = {key: line.kept[key]}
    assert described(Compiler("cpu", line), IMAGE, "kernel7") == first
    assert len(unread) == 2


def test_small_image_has_no_outline(unread: list[int]) -> None:
    line = Line()
    described(Compiler("cpu", line), SMALL)
    assert line.kept == {}


def test_other_tenants_and_other_images_have_none(unread: list[int]) -> None:
    line = Line()
    described(Compiler("cpu", line), IMAGE)
    described(Compiler("cpu", Line()), IMAGE)
    described(Compiler("cpu", line), IMAGE + b"\n")
    assert len(unread) == 3


def entry() -> tuple[str, bytes]:
    """A good outline and its key."""
    line = Line()
    compiler = Compiler("cpu", line)
    compiler.load(IMAGE)
    key = ptx.outline_key(IMAGE)
    return key, line.kept[bytes.fromhex(key)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", -1),
        ("size", "16"),
        ("size", True),
        ("align", 3),
        ("align", 0),
        ("image", "!"),
        ("image", "AAAA" * 100),
        ("relocations", [[1 << 30, 0, 0, False]]),
        ("relocations", [[0, 0]]),
        ("relocations", 7),
        ("variables", [["x", 0, 1 << 30, "global"]]),
        ("variables", [["x", 0, 4, "shared"]]),
        ("const", [8, 0]),
        ("kernels", [["x"]]),
        ("kernels", [["x", [[0, 8, 8]], 8, 1024, 0, 0, 0]]),
        ("kernels", [["x", [], 8, 1 << 20, 0, 0, 0]]),
        ("kernels", [[7, [], 8, 1024, 0, 0, 0]]),
        ("keys", [["x", "no hex"]]),
        ("keys", [["x", "00"]]),
        ("keys", {"x": "00" * 32}),
        ("target", None),
    ],
)
def test_entry_that_says_what_cannot_be_is_not_there(field: str, value: Any) -> None:
    key, blob = entry()
    said = json.loads(unpack(key, blob) or b"")
    assert ptx.unpack_outline(key, blob) is not None
    said[field] = value
    assert ptx.unpack_outline(key, pack(key, json.dumps(said).encode())) is None
    del said[field]
    assert ptx.unpack_outline(key, pack(key, json.dumps(said).encode())) is None


@examples(200)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_no_outline(data: bytes) -> None:
    key = "00" * 32
    assert ptx.unpack_outline(key, data) is None
    assert ptx.unpack_outline(key, pack(key, data)) is None


def test_damaged_entry_is_read_anew(unread: list[int]) -> None:
    line = Line()
    first = described(Compiler("cpu", line), IMAGE)
    key = bytes.fromhex(ptx.outline_key(IMAGE))
    blob = bytearray(line.kept[key])
    blob[len(blob) // 2] ^= 1
    line.kept[key] = bytes(blob)
    assert described(Compiler("cpu", line), IMAGE) == first
    assert len(unread) == 2
