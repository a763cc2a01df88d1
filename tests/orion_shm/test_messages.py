# SPDX-License-Identifier: Apache-2.0
"""Arrays and objects as bytes: what goes in comes out, and nonsense is a MalformedError and nothing else."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_settings import examples

from orion_shm import _messages as messages

DTYPES = [
    "u1",
    "<i2",
    ">f4",
    "f8",
    "c16",
    "?",
    "S5",
    "U3",
    "M8[ms]",
    "m8[D]",
    [("a", "i4"), ("b", "f2")],
]


def as_bytes(array: np.ndarray[Any, Any]) -> bytes:
    _, head, items = messages.array_out(None, array)  # type: ignore[arg-type]
    return head + (b"" if items is None else items.tobytes(order="A"))


@examples(100)
@given(st.sampled_from(range(len(DTYPES))), st.lists(st.integers(0, 4), max_size=4), st.booleans())
def test_arrays_come_out_as_they_went_in(which: int, shape: list[int], fortran: bool) -> None:
    dtype = np.dtype(DTYPES[which])  # type: ignore[call-overload]
    count = int(np.prod(shape))
    items = np.frombuffer(
        np.arange(count * dtype.itemsize, dtype="u2").astype("u1").tobytes(), dtype
    )
    array = items[:count].reshape(shape, order="F" if fortran else "C")
    got = messages.array_in(as_bytes(array), None)
    assert got.dtype == array.dtype
    assert got.shape == array.shape
    assert got.tobytes() == array.tobytes()
    assert not got.flags.writeable


@examples(300)
@given(st.binary(max_size=200))
def test_any_bytes_as_an_array_are_malformed_or_an_array(data: bytes) -> None:
    try:
        got = messages.array_in(data, None)
    except messages.MalformedError:
        return
    assert got.nbytes <= len(data)


@examples(300)
@given(st.data())
def test_a_head_with_one_byte_changed_is_malformed_or_an_array(data: st.DataObject) -> None:
    good = bytearray(as_bytes(np.arange(12, dtype="i4").reshape(3, 4)))
    good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        got = messages.array_in(bytes(good), None)
    except messages.MalformedError:
        return
    assert got.nbytes <= len(good)


@pytest.mark.parametrize(
    "text",
    [
        "'O'",
        "[('a', 'O')]",
        "'i4' + 'x'",
        "__import__('os').getpid()",
        "'<i4",
        "'zz'",
        "5",
        "'V-1'",
    ],
)
def test_a_dtype_that_makes_no_sense_is_malformed(text: str) -> None:
    size = messages.ARRAY_HEAD.size + len(text)
    head = messages.ARRAY_HEAD.pack(size + -size % 8, len(text), 0, 0) + text.encode()
    with pytest.raises(messages.MalformedError, match=r"dtype|came with"):
        messages.array_in(head + bytes(-size % 8), None)


def test_lengths_have_to_agree() -> None:
    data = as_bytes(np.arange(4.0))
    for wrong in (data[:-1], data + b"x"):
        with pytest.raises(messages.MalformedError, match="came with"):
            messages.array_in(wrong, None)
    huge = bytearray(data)
    struct.pack_into("<Q", huge, messages.ARRAY_HEAD.size, 2**63)
    with pytest.raises(messages.MalformedError, match="came with"):
        messages.array_in(bytes(huge), None)


def test_many_heads_do_not_fill_memory() -> None:
    for n in range(2 * messages.HEADS_KEPT):
        messages.array_in(as_bytes(np.zeros(n, "u1")), None)
    assert len(messages._heads_in) <= messages.HEADS_KEPT
    assert len(messages._heads_out) <= messages.HEADS_KEPT


def pickled(value: object) -> tuple[bytes, list[memoryview]]:
    beside: list[pickle.PickleBuffer] = []
    data = pickle.dumps(value, protocol=5, buffer_callback=beside.append)
    return messages.pickled(value, data, beside)


@examples(300)
@given(st.binary(max_size=60))
def test_an_object_with_a_wrong_head_is_never_unpickled(data: bytes) -> None:
    head, parts, places, total = messages.object_out(*pickled([1, 2]))
    if data == head[: len(data)]:
        return
    with pytest.raises(messages.MalformedError):
        messages.object_in(data[:15] + b"\xff" * 3, None)
    assert messages.object_in(head + messages.join(parts, places, total), None) == [1, 2]


def test_more_buffers_than_a_head_holds_go_into_the_pickle() -> None:
    arrays = [np.full(3, i) for i in range(messages.BUFFERS_MAX + 20)]
    head, parts, places, total = messages.object_out(*pickled(arrays))
    assert len(parts) == messages.BUFFERS_MAX + 1
    got: Any = messages.object_in(head, messages.join(parts, places, total))
    assert [a[0] for a in got] == list(range(len(arrays)))
