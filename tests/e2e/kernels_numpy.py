# SPDX-License-Identifier: Apache-2.0
"""Checks the kernels of programs/kernels.cu against NumPy: python kernels_numpy.py LIBRARY NAME.

Runs as a program of its own under `orion run`, so that a fault ends it and not the test run.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

random = np.random.default_rng(20)


class Kernels:
    """The library; each call raises when CUDA reports an error."""

    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)

    def call(self, name: str, *arguments: NDArray[np.generic] | int | np.float32) -> None:
        """Calls kernels_NAME; arrays go by address."""
        converted: list[object] = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                assert argument.flags.c_contiguous
                converted.append(ctypes.c_void_p(argument.ctypes.data))
            elif isinstance(argument, np.float32):
                converted.append(ctypes.c_float(argument))
            else:
                converted.append(ctypes.c_int(argument))
        error = getattr(self.library, f"kernels_{name}")(*converted)
        if error:
            raise SystemExit(f"kernels_{name}: CUDA error {error}")


def saxpy(kernels: Kernels) -> None:
    """y = a x + y."""
    x, y = random.random((2, 100_003), dtype=np.float32)
    expected = np.float32(2.5) * x + y
    kernels.call("saxpy", x.size, np.float32(2.5), x, y)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def matmul(kernels: Kernels) -> None:
    """Tiles of 16 and 32 threads a side, sizes that are no multiples."""
    for rows, inner, columns, tile in ((64, 64, 64, 16), (70, 129, 45, 16), (100, 65, 97, 32)):
        a = random.random((rows, inner), dtype=np.float32)
        b = random.random((inner, columns), dtype=np.float32)
        c = np.full((rows, columns), np.nan, dtype=np.float32)
        kernels.call("matmul", a, b, c, rows, inner, columns, tile)
        np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-4)


def block_sum(kernels: Kernels) -> None:
    """Partial sums of blocks of several sizes."""
    values = random.random(50_001, dtype=np.float32)
    for threads in (32, 64, 256, 1024):
        blocks = math.ceil(values.size / threads)
        out = np.empty(blocks, dtype=np.float32)
        kernels.call("block_sum", values, out, values.size, threads)
        padded = np.zeros(blocks * threads)
        padded[: values.size] = values
        np.testing.assert_allclose(out, padded.reshape(blocks, threads).sum(1), rtol=1e-5)


def warp(kernels: Kernels) -> None:
    """Shuffles of all four kinds and a vote."""
    values = random.integers(-1000, 1000, 128 * 37, dtype=np.int32)
    lanes = values.reshape(-1, 32)
    sums = np.empty(lanes.shape[0], np.int32)
    reversed_, scanned = np.empty_like(values), np.empty_like(values)
    odd = np.empty(lanes.shape[0], np.uint32)
    kernels.call("warp", values, values.size, sums, reversed_, scanned, odd)
    np.testing.assert_array_equal(sums, lanes.sum(1))
    np.testing.assert_array_equal(reversed_.reshape(-1, 32), lanes[:, ::-1])
    np.testing.assert_array_equal(scanned.reshape(-1, 32), lanes.cumsum(1))
    weights = np.uint64(1) << np.arange(32, dtype=np.uint64)
    np.testing.assert_array_equal(odd, ((lanes & 1).astype(np.uint64) * weights).sum(1))


def atomics(kernels: Kernels) -> None:
    """Shared and global atomics on integers, compare-and-swap among them."""
    values = random.integers(-10_000, 10_000, 40_007, dtype=np.int32)
    results = np.array([0, -(2**31) + 1, 2**31 - 1, 0, 0, 0], np.int32)
    kernels.call("atomics", values, values.size, results)
    total = values.sum(dtype=np.int32)
    xor, or_ = np.bitwise_xor.reduce(values), np.bitwise_or.reduce(values)
    np.testing.assert_array_equal(results, [total, values.max(), values.min(), xor, or_, total])


def float_atomics(kernels: Kernels) -> None:
    """Addition of floats and doubles."""
    values = random.random(20_011, dtype=np.float32)
    single, double = np.zeros(1, np.float32), np.zeros(1, np.float64)
    kernels.call("float_atomics", values, values.size, single, double)
    np.testing.assert_allclose(single, values.sum(dtype=np.float64), rtol=1e-4)
    np.testing.assert_allclose(double, values.sum(dtype=np.float64), rtol=1e-12)


def transpose(kernels: Kernels) -> None:
    """Through shared memory."""
    for rows, columns in ((64, 64), (33, 100), (257, 31)):
        matrix = random.random((rows, columns), dtype=np.float32)
        out = np.zeros((columns, rows), np.float32)
        kernels.call("transpose", matrix, out, rows, columns)
        np.testing.assert_array_equal(out, matrix.T)


def histogram(kernels: Kernels) -> None:
    """Of bytes, with a histogram in shared memory for each block."""
    values = random.normal(128, 40, 300_017).clip(0, 255).astype(np.uint8)
    bins = np.zeros(256, np.uint32)
    kernels.call("histogram", values, values.size, bins)
    np.testing.assert_array_equal(bins, np.bincount(values, minlength=256))


def math_double(kernels: Kernels) -> None:
    """Functions of libdevice in double precision."""
    x = np.concatenate([random.uniform(-20, 20, 5000), [0.0, -0.0, 1.0, 1e-300, 12345.678]])
    out = np.empty((x.size, 12))
    kernels.call("math", x, out, x.size)
    m = np.abs(x) + 0.25
    erf = np.array([math.erf(value) for value in x * 0.2])
    expected = [
        np.sin(x),
        np.cos(x),
        np.tan(x),
        np.exp(x * 0.1),
        np.log(m),
        np.sqrt(m),
        m**1.7,
        np.arctan2(x, 2.0),
        erf,
        np.cbrt(x),
        np.tanh(x * 0.3),
        x * x - m,
    ]
    for column, values in enumerate(expected):
        np.testing.assert_allclose(
            out[:, column], values, rtol=2e-13, atol=1e-13, err_msg=f"{column}"
        )


def pointers(kernels: Kernels) -> None:
    """Calls of device functions through a table of pointers."""
    values = random.uniform(-5, 5, 10_001).astype(np.float32)
    which = random.integers(0, 3, values.size, dtype=np.int32)
    out = np.empty_like(values)
    kernels.call("pointers", values, out, which, values.size)
    expected = np.choose(which, [values + values, values * values, -values])
    np.testing.assert_array_equal(out, expected)


CHECKS: dict[str, Callable[[Kernels], None]] = {
    function.__name__: function
    for function in (
        saxpy,
        matmul,
        block_sum,
        warp,
        atomics,
        float_atomics,
        transpose,
        histogram,
        math_double,
        pointers,
    )
}

if __name__ == "__main__":
    CHECKS[sys.argv[2]](Kernels(sys.argv[1]))
    print(f"{sys.argv[2]} agrees with NumPy")
