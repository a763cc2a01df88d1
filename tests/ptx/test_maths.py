# SPDX-License-Identifier: Apache-2.0
"""CUDA's mathematical functions, which arrive as PTX arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from ptxhost import Loaded


def test_double_functions(load: Callable[[str], Loaded]) -> None:
    x = np.concatenate([np.linspace(0.01, 30, 500), [1e5, 3.0, 1e-8]])
    n = len(x)
    out = np.zeros((11, n))
    load("maths").launch("doubles", (n + 63) // 64, 64, x, out, n)
    with np.errstate(over="ignore"):
        want = [
            np.sin(x), np.cos(x), np.exp(x), np.log(x), x**1.7, [math.erf(v) for v in x],
            [math.gamma(v) if v < 170 else math.inf for v in x], np.arctan2(x, 2),
            np.sqrt(x), np.cbrt(x), np.fmod(x, 0.7),
        ]  # fmt: skip
    for row, expected in zip(out, want, strict=True):
        np.testing.assert_allclose(row, expected, rtol=4e-15, atol=1e-16)


def test_float_functions(load: Callable[[str], Loaded]) -> None:
    x = np.concatenate([np.linspace(0.01, 30, 500), [3.0, 2.5]]).astype(np.float32)
    n = len(x)
    out = np.zeros((10, n), np.float32)
    load("maths").launch("floats", (n + 63) // 64, 64, x, out, n)
    d = x.astype(np.float64)
    want = [
        np.sin(d), np.exp(d), np.log(d), d**1.7, 1 / np.sqrt(d), np.tanh(d), 1 / d, np.rint(d),
        np.maximum(d, 1.5), np.exp(d),
    ]  # fmt: skip
    for i, (row, expected) in enumerate(zip(out, want, strict=True)):
        np.testing.assert_allclose(row, expected, rtol=5e-6 if i == 9 else 1e-6, atol=1e-6)
