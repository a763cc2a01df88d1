# SPDX-License-Identifier: Apache-2.0
"""Functions, function pointers, and what ends a kernel."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable

import numpy as np
import pytest
from ptxhost import LaunchError, Loaded


@pytest.fixture(scope="module")
def calls(load: Callable[[str], Loaded]) -> Loaded:
    return load("calls")


def test_table_of_functions(calls: Loaded) -> None:
    which, out = np.arange(64, dtype=np.int32) % 3, np.zeros(64, np.int32)
    calls.launch("indirect", 1, 64, which, out)
    t = np.arange(64)
    assert np.array_equal(out, np.choose(which, [t + 5, t * 5, t - 5]))


def test_pointer_made_by_code(calls: Loaded) -> None:
    value, out = np.zeros(2, np.uint64), np.zeros(32, np.int32)
    calls.launch("take", 1, 1, value)
    calls.launch("indirect_raw", 1, 32, int(value[0]), out)
    assert np.array_equal(out, np.arange(32) + 2)


@pytest.mark.parametrize("value", [0, 1, 0xDEADBEEF, 0x6F70 << 48 | 10**6, 2**64 - 1])
def test_bad_pointer_ends_the_kernel(calls: Loaded, value: int) -> None:
    with pytest.raises(LaunchError, match="no function of this type") as caught:
        calls.launch("indirect_raw", 1, 32, value, np.zeros(32, np.int32))
    assert caught.value.code == 5


def test_pointer_to_a_function_of_another_type_ends_the_kernel(calls: Loaded) -> None:
    value = np.zeros(2, np.uint64)
    calls.launch("take", 1, 1, value)
    with pytest.raises(LaunchError, match="no function of this type"):
        calls.launch("indirect_raw", 1, 32, int(value[1]), np.zeros(32, np.int32))


def test_recursion(calls: Loaded) -> None:
    out = np.zeros(15, np.int32)
    calls.launch("recursion", 1, 15, out)
    assert out.tolist() == [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377]


def test_structs_in_and_out(calls: Loaded) -> None:
    out = np.zeros(8 * 24, np.uint8)
    calls.launch("structs", 1, 8, struct.pack("@diii4x", 2.5, 1, 2, 3), out)
    for t in range(8):
        assert struct.unpack_from("@diii", out.tobytes(), 24 * t) == (-2.5, 3, 2 + 97, 1 + t)


def test_printf(calls: Loaded) -> None:
    text = calls.launch("print", 1, 64, 33)
    assert text == "thread 33 of 64: text  2.50 1099511627776 z ff %\n"


def test_assert_names_the_place(calls: Loaded) -> None:
    calls.launch("fails", 1, 32, 32)
    with pytest.raises(
        LaunchError, match=r"assertion `\(int\)threadIdx.x < n` failed in block .* thread \(7,0,0\)"
    ) as e:
        calls.launch("fails", 1, 32, 7)
    assert e.value.code == 2


def test_trap(calls: Loaded) -> None:
    with pytest.raises(LaunchError, match=r"trap in block \(0,0,0\), thread \(5,0,0\)") as caught:
        calls.launch("traps", 1, 32, 5)
    assert caught.value.code == 1
    calls.launch("traps", 1, 32, 32)


def test_device_heap(calls: Loaded) -> None:
    out = np.zeros(32, np.int32)
    calls.launch("heap", 1, 32, out)
    assert np.array_equal(out, np.arange(32) * 16 + 120)


def test_waits_inside_called_functions(calls: Loaded) -> None:
    data, out = np.arange(128, dtype=np.int32), np.zeros(128, np.int32)
    calls.launch("sync_in_call", 3, 128, data, out)
    assert np.array_equal(out, data.sum() + data[np.arange(128) ^ 1] + 128 + 1)


def test_spaces_of_generic_pointers(calls: Loaded) -> None:
    out = np.zeros(5, np.int32)
    calls.launch("spaces", 1, 1, out)
    assert out.tolist() == [1, 2, 4, 8, 1]


def test_launch_that_does_not_fit_is_refused(calls: Loaded) -> None:
    with pytest.raises(LaunchError, match="threads"):
        calls.launch("recursion", 1, 2048, np.zeros(1, np.int32))


def test_cancelled_before_it_begins(calls: Loaded) -> None:
    flag = ctypes.c_uint32(1)
    with pytest.raises(LaunchError) as caught:
        calls.launch("recursion", 1, 4, np.zeros(4, np.int32), cancel=flag)
    assert caught.value.code == 6
