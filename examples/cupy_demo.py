# SPDX-License-Identifier: Apache-2.0
"""CuPy as it is used: arrays, reductions, a sort, a kernel of one's own, all checked against NumPy."""

from __future__ import annotations

import sys

import cupy as cp
import numpy as np


def main() -> int:
    x = np.random.default_rng(0).standard_normal(100_000)
    d = cp.asarray(x)
    smooth = cp.RawKernel(
        r"""
        extern "C" __global__ void smooth(const double *in, double *out, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) out[i] = (in[i > 0 ? i - 1 : 0] + in[i] + in[i < n - 1 ? i + 1 : n - 1]) / 3;
        }""",
        "smooth",
    )
    out = cp.empty_like(d)
    smooth(((d.size + 255) // 256,), (256,), (d, out, np.int32(d.size)))
    padded = np.pad(x, 1, mode="edge")

    results = {
        "elementwise": np.allclose((cp.sin(d) * 2 + d**2).get(), np.sin(x) * 2 + x**2),
        "sum": np.allclose(d.sum().get(), x.sum()),
        "argmax": int(d.argmax()) == int(x.argmax()),
        "cumsum": np.allclose(cp.cumsum(d).get(), np.cumsum(x)),
        "sort": np.array_equal(cp.sort(d).get(), np.sort(x)),
        "RawKernel": np.allclose(out.get(), (padded[:-2] + padded[1:-1] + padded[2:]) / 3),
    }
    name = cp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    print(f"CuPy {cp.__version__} on {name}")
    for what, passed in results.items():
        print(f"  {what}: {'right' if passed else 'WRONG'}")
    print("Test PASSED" if all(results.values()) else "Test FAILED")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
