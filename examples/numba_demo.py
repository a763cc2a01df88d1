# SPDX-License-Identifier: Apache-2.0
"""Numba's CUDA target: a tiled matrix product in shared memory and a histogram with atomics, checked against NumPy."""

from __future__ import annotations

import sys
import warnings

import numpy as np
from numba import cuda, float32, int32

TILE = 16


@cuda.jit
def multiply(a, b, c):
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, TILE), float32)
    row, column = cuda.grid(2)
    i, j = cuda.threadIdx.x, cuda.threadIdx.y
    total = float32(0)
    for step in range(a.shape[1] // TILE):
        tile_a[i, j] = a[row, step * TILE + j]
        tile_b[i, j] = b[step * TILE + i, column]
        cuda.syncthreads()
        for k in range(TILE):
            total += tile_a[i, k] * tile_b[k, j]
        cuda.syncthreads()
    c[row, column] = total


@cuda.jit
def count(values, bins):
    mine = cuda.shared.array(64, int32)
    t = cuda.threadIdx.x
    if t < 64:
        mine[t] = 0
    cuda.syncthreads()
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        cuda.atomic.add(mine, values[i], 1)
    cuda.syncthreads()
    if t < 64:
        cuda.atomic.add(bins, t, mine[t])


def main() -> int:
    warnings.simplefilter("ignore")  # grids of this size are too small for a GPU
    random = np.random.default_rng(0)
    a, b = random.random((128, 128), np.float32), random.random((128, 128), np.float32)
    c = cuda.device_array((128, 128), np.float32)
    multiply[(8, 8), (TILE, TILE)](cuda.to_device(a), cuda.to_device(b), c)

    values = random.integers(0, 64, 100_000)
    bins = cuda.to_device(np.zeros(64, np.int32))
    count[16, 128](cuda.to_device(values), bins)

    results = {
        "tiled matrix product": np.allclose(c.copy_to_host(), a @ b, rtol=1e-4),
        "histogram": np.array_equal(bins.copy_to_host(), np.bincount(values, minlength=64)),
    }
    print(f"Numba on {cuda.get_current_device().name}")
    for what, passed in results.items():
        print(f"  {what}: {'right' if passed else 'WRONG'}")
    print("Test PASSED" if all(results.values()) else "Test FAILED")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
