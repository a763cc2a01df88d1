# SPDX-License-Identifier: Apache-2.0
"""Kernels without waits give what NumPy gives."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from ptxhost import Loaded

Load = Callable[[str], Loaded]


@pytest.fixture(scope="module")
def basics(load: Load) -> Loaded:
    return load("basics")


def test_vector_add_with_a_ragged_end(basics: Loaded) -> None:
    n = 10_000
    rng = np.random.default_rng(1)
    a, b = rng.random(n, np.float32), rng.random(n, np.float32)
    c = np.zeros(n + 64, np.float32)
    basics.launch("vector_add", (n + 255) // 256, 256, a, b, c, n)
    assert np.array_equal(c[:n], a + b)
    assert not c[n:].any()


def test_saxpy_strides_over_the_grid(basics: Loaded) -> None:
    n = 5_000
    x, y = np.arange(n, dtype=np.float32), np.ones(n, np.float32)
    basics.launch("saxpy", 4, 96, np.float32(0.5), x, y, n)
    assert np.array_equal(y, 0.5 * x + 1)


def test_blocks_may_run_in_several_ranges(basics: Loaded) -> None:
    n = 4096
    a, c = np.arange(n, dtype=np.float32), np.zeros(n, np.float32)
    basics.launch("vector_add", 16, 256, a, a, c, n, ranges=5)
    assert np.array_equal(c, 2 * a)


def test_vector_loads(basics: Loaded) -> None:
    a = np.arange(4 * 100, dtype=np.float32)
    c = np.zeros_like(a)
    basics.launch("add4", 4, 32, a, a, c, 100)
    assert np.array_equal(c, a + a)


def test_struct_by_value(basics: Loaded) -> None:
    mixed = struct.pack("@cxxxxxxxdiiih2x", b"A", 1.5, 10, 20, 30, -4)
    data, out = np.arange(32, dtype=np.int32), np.zeros(32)
    basics.launch("by_value", 1, 32, mixed, data, out)
    assert np.array_equal(out, data * 1.5 + np.array([10, 20, 30])[data % 3] + 65 - 4)


def test_module_variables(basics: Loaded) -> None:
    basics.variable("weights", np.float32)[:] = [0.5, 1, 2, 4]
    out = np.zeros(16, np.float32)
    basics.launch("variables", 1, 16, out)
    i = np.arange(16)
    table = np.array([3, 1, 4, 1, 5, 9, 2, 6])
    assert np.array_equal(out, table[i & 7] + np.array([0.5, 1, 2, 4])[i & 3] + 1)
    assert basics.variable("counter", np.uint64)[0] == 41


def test_local_array_with_dynamic_index(basics: Loaded) -> None:
    data, out = np.arange(100, 132, dtype=np.int32), np.zeros(64, np.int32)
    basics.launch("local_array", 1, 64, data, out, 11)
    assert np.array_equal(out, (data[11] + data[77 & 31]) * np.arange(64))


def test_division_never_traps_the_host(basics: Loaded) -> None:
    a = np.array([7, -7, 5, -(2**31), 0, 9], np.int32)
    b = np.array([2, 2, 0, -1, 3, -4], np.int32)
    q, r, u = np.zeros(6, np.int32), np.zeros(6, np.int32), np.zeros(6, np.uint32)
    basics.launch("divide", 1, 32, a, b, q, r, u, 6)
    assert q.tolist() == [3, -3, -1, -(2**31), 0, -2]
    assert r.tolist() == [1, -1, 5, 0, 0, 1]
    assert u[2] == 0xFFFFFFFF


def test_half_arithmetic(basics: Loaded) -> None:
    x = np.linspace(-3, 3, 64).astype(np.float16)
    y = np.linspace(5, -5, 64).astype(np.float16)
    want = (x * np.float16(1.25)).astype(np.float16) + y
    got = y.copy()
    basics.launch("half_axpy", 1, 64, np.float16(1.25), x, got, 64)
    assert np.array_equal(got, want)
    got = y.copy()
    basics.launch("half2_add", 1, 32, x, got, 32)
    assert np.array_equal(got, x + y)


def test_three_dimensions(basics: Loaded) -> None:
    out = np.zeros((4, 6, 10), np.int32)
    basics.launch("coordinates", (2, 3, 2), (5, 2, 2), out)
    z, y, x = np.indices(out.shape)
    assert np.array_equal(out, x + 100 * y + 10000 * z)


def test_switch(basics: Loaded) -> None:
    values = np.arange(-2, 30, dtype=np.int32)
    out = np.zeros(32, np.int32)
    basics.launch("switch_case", 1, 32, values, out)
    known = {0: 11, 1: 8, 2: -3, 5: 25, 9: 99}
    assert out.tolist() == [known.get(int(v), -1) for v in values]


def test_loops_run_in_step(basics: Loaded) -> None:
    n = 48
    rng = np.random.default_rng(2)
    a, b = rng.random((n, n), np.float32), rng.random((n, n), np.float32)
    c = np.zeros((n, n), np.float32)
    basics.launch("naive_matmul", (n // 16, n // 8), (16, 8), a, b, c, n)
    assert np.allclose(c, a @ b, rtol=1e-5)


def test_loops_of_different_lengths(basics: Loaded) -> None:
    values, steps = np.arange(1, 301, dtype=np.uint32), np.zeros(300, np.int32)
    basics.launch("collatz", 3, 128, values, steps, 300)

    def collatz(v: int) -> int:
        count = 0
        while v != 1:
            v = 3 * v + 1 if v & 1 else v >> 1
            count += 1
        return count

    assert steps.tolist() == [collatz(int(v)) for v in values]
