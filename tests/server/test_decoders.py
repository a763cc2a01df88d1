# SPDX-License-Identifier: Apache-2.0
"""What the server's Python reads from clients and workers: any bytes are understood or refused, never anything else."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_settings import examples
from orion_server import messages, wire
from orion_server.errors import ImageError, ProtocolError, Refusal
from orion_server.images import ptx_of
from orion_server.ptx import unpack_outline

HELLO = wire.encode_hello(
    wire.Hello(
        1, 3, 42, 1000, wire.TRANSPORT_ANY, 512, 1, 50, (1 << 44, 2 << 44), 1 << 39, "id", "p"
    )
)
WELCOME = wire.encode_welcome(wire.Welcome(device="a device", message="a message"))
REDIRECT = wire.encode_redirect(wire.Redirect(1, 1 << 30, 50, "id.secret", "host:9960", "/run/s"))
SHARE = messages.ShareText(1, handle=b"handle").pack()
CONTROL = messages.encode(messages.Message(messages.Kind.SHARE, 7, 0, 1, 2, 3, SHARE))
PTX = b".version 7.0\n.target sm_80\n.address_size 64\n.entry k() { ret; }\n\0"
FATBIN_ENTRY = (
    struct.pack("<HHIQIIHHIIIQQQ", 1, 0x101, 64, len(PTX), 0, 0, 0, 7, 80, 64, 0, 0, 0, 0) + PTX
)
FATBIN = struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(FATBIN_ENTRY)) + FATBIN_ENTRY
# numbers that decoders get wrong, as the bytes of a field
NUMBERS = [struct.pack("<Q", n) for n in (0, 1, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1)]


@st.composite
def mutated(draw: st.DrawFn, *good: bytes) -> bytes:
    """Bytes that somebody meant well, with a few places changed, cut off or longer; or any bytes at all."""
    data = bytearray(draw(st.one_of(st.sampled_from(good), st.binary(max_size=200))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(st.binary(max_size=8), st.sampled_from(NUMBERS)))
        data[at : at + draw(st.sampled_from([0, len(piece)]))] = piece
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


@given(mutated(HELLO))
@examples(300)
def test_any_hello_is_read_or_refused(data: bytes) -> None:
    try:
        hello = wire.decode_hello(data)
    except (ProtocolError, Refusal):
        return
    assert len(data) == wire.HELLO.size
    assert wire.VERSION_MIN <= hello.version <= wire.VERSION
    assert (hello.token + hello.command).isprintable() or not hello.token + hello.command
    assert 0 not in hello.candidates


@given(mutated(WELCOME, REDIRECT))
@examples(300)
def test_any_answer_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert wire.decode_welcome(data).message.isprintable()
    with contextlib.suppress(ProtocolError):
        assert wire.decode_redirect(data).address.isprintable()


@given(mutated(CONTROL, SHARE))
@examples(300)
def test_any_message_of_a_worker_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(struct.error):
        assert len(messages.ShareText.unpack(data).handle) == 64
    try:
        message = messages.decode(data)
    except ProtocolError:
        return
    assert messages.encode(message) == data
    assert message.kind in set(messages.Kind)


@given(mutated(FATBIN, FATBIN + FATBIN, PTX))
@examples(400)
def test_any_image_gives_ptx_or_an_image_error(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert ptx_of(data, 80)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda b: b"{" + b)))
@examples(200)
def test_a_damaged_outline_is_none(data: bytes) -> None:
    assert unpack_outline("key", data) is None


def test_what_is_mutated_is_good_before_it() -> None:
    assert wire.decode_hello(HELLO).command == "p"
    assert wire.decode_welcome(WELCOME).device == "a device"
    assert wire.decode_redirect(REDIRECT).local == "/run/s"
    assert messages.ShareText.unpack(messages.decode(CONTROL).text).kind == 1
    assert ptx_of(FATBIN, 80) == ptx_of(PTX, 80)
    with pytest.raises(ProtocolError):
        messages.decode(SHARE)
