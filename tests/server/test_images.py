# SPDX-License-Identifier: Apache-2.0
"""Module images: what is chosen, and what truncated, lying and exploding ones lead to."""

from __future__ import annotations

import contextlib
import random
import struct

import pytest
from orion_server import errors
from orion_server.errors import ImageError
from orion_server.images import ptx_of

zstandard = pytest.importorskip("zstandard")
lz4 = pytest.importorskip("lz4")
pytest.importorskip("lz4.block")

PTX = ".version 7.0\n.target sm_{}\n.address_size 64\n" + "// padding\n" * 50


def entry(
    kind: int, sm: int, payload: bytes, size: int = 0, flags: int = 0, compressed: int | None = None
) -> bytes:
    if compressed is None:
        compressed = len(payload) if size else 0
    padded = payload + bytes(-len(payload) % 8)
    return (
        struct.pack(
            "<HHIQIIHHIIIQQQ",
            kind,
            0x101,
            64,
            len(padded),
            compressed,
            0,
            5,
            9,
            sm,
            64,
            0,
            flags,
            0,
            size,
        )
        + padded
    )


def fatbin(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def plain(sm: int) -> bytes:
    return entry(1, sm, PTX.format(sm).encode() + b"\0")


def zstd(sm: int) -> bytes:
    text = PTX.format(sm).encode()
    return entry(1, sm, zstandard.compress(text), len(text), 0x8011)


def lz(sm: int) -> bytes:
    text = PTX.format(sm).encode()
    return entry(1, sm, lz4.block.compress(text, store_size=False), len(text), 0x2011)


def result_of(image: bytes) -> int:
    with pytest.raises(ImageError) as e:
        ptx_of(image, 80)
    assert str(e.value)
    return e.value.result


def test_plain_ptx_ends_at_its_nul():
    assert ptx_of(PTX.format(80).encode() + b"\0garbage", 80) == [PTX.format(80)]


@pytest.mark.parametrize("make", [plain, zstd, lz])
def test_highest_fitting_ptx_is_chosen(make):
    image = fatbin(make(52), make(80), make(75), make(90), entry(2, 80, b"\x7fELF" + bytes(60)))
    assert ptx_of(image, 80) == [PTX.format(80)]
    assert ptx_of(image, 79) == [PTX.format(75)]


def test_architecture_specific_ptx_is_no_choice():
    own = entry(1, 80, PTX.format("80a").encode(), flags=0x100000)
    assert ptx_of(fatbin(plain(75), own), 80) == [PTX.format(75)]
    assert result_of(fatbin(own)) == errors.NO_BINARY_FOR_GPU


def test_several_fatbins_are_several_texts():
    assert len(ptx_of(fatbin(plain(80)) + fatbin(zstd(75)), 80)) == 2


def test_machine_code_only_names_the_compiler_flag():
    with pytest.raises(ImageError, match=r"nvcc -gencode arch=compute_80,code=compute_80") as e:
        ptx_of(fatbin(entry(2, 90, b"\x7fELF" + bytes(60))), 80)
    assert e.value.result == errors.NO_BINARY_FOR_GPU
    assert "sm_90" in str(e.value)
    assert result_of(b"\x7fELF" + bytes(100)) == errors.NO_BINARY_FOR_GPU


def test_without_older_ptx_the_oldest_of_the_newer_is_chosen():
    assert "sm_90" in ptx_of(fatbin(plain(120), plain(90)), 80)[0]
    assert "sm_75" in ptx_of(fatbin(plain(120), plain(75)), 80)[0]


@pytest.mark.parametrize(
    "image", [b"", b"\0", b"hello", bytes(1000), b"\xff" * 1000, b"PK\x03\x04" * 10]
)
def test_other_bytes_are_no_image(image):
    assert result_of(image) == errors.INVALID_IMAGE


@pytest.mark.parametrize("make", [plain, zstd, lz])
def test_truncation_at_every_byte_is_an_error(make):
    image = fatbin(make(80))
    for size in range(len(image)):
        try:
            texts = ptx_of(image[:size], 80)
        except ImageError:
            continue
        pytest.fail(f"{size} bytes gave {texts!r}")


@pytest.mark.parametrize("make", [plain, zstd, lz])
def test_random_damage_never_raises_anything_else(make):
    dice = random.Random(3)
    whole = fatbin(make(80), make(75))
    for _ in range(3000):
        image = bytearray(whole)
        for _ in range(dice.randrange(1, 5)):
            image[dice.randrange(len(image))] = dice.randrange(256)
        with contextlib.suppress(ImageError):
            ptx_of(bytes(image), 80)


@pytest.mark.parametrize("claim", [1 << 40, 300 << 20, (1 << 64) - 1])
def test_claimed_bomb_is_refused_before_memory_is_spent(claim):
    packed = zstandard.compress(b"x" * 1000)
    assert result_of(fatbin(entry(1, 80, packed, claim))) == errors.INVALID_IMAGE


def test_zstd_bomb_that_lies_about_its_size_is_refused():
    packed = zstandard.compress(bytes(200 << 20))
    assert result_of(fatbin(entry(1, 80, packed, 5000, 0x8011))) == errors.INVALID_IMAGE


def test_lz4_that_gives_more_or_less_than_claimed_is_refused():
    text = PTX.format(80).encode()
    packed = lz4.block.compress(text, store_size=False)
    for size in (len(text) - 1, len(text) + 1):
        assert result_of(fatbin(entry(1, 80, packed, size, 0x2011))) == errors.INVALID_IMAGE


def test_too_many_entries_are_refused():
    assert result_of(fatbin(*[entry(3, 80, b"") for _ in range(5000)])) == errors.INVALID_IMAGE
