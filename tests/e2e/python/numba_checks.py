# SPDX-License-Identifier: Apache-2.0
"""Numba's CUDA target against NumPy. Nothing here knows of Orion."""

from __future__ import annotations

import math
import sys
import warnings

import checks
import numpy as np
from numba import cuda, float32, float64, int32, vectorize

warnings.simplefilter("ignore")
random = np.random.default_rng(1)


def check_jit():
    @cuda.jit
    def saxpy(a, x, y, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = a * x[i] + y[i]

    x, y = random.random((2, 10_001)).astype("f4")
    out = np.zeros_like(x)
    saxpy[80, 128](np.float32(2), x, y, out)
    np.testing.assert_allclose(out, 2 * x + y, rtol=1e-6)


def check_signature():
    @cuda.jit("void(float64[:], int32)")
    def add(x, n):
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            x[i] += n

    x = cuda.to_device(np.arange(1000.0))
    add[2, 64](x, 5)
    np.testing.assert_array_equal(x.copy_to_host(), np.arange(1000.0) + 5)


def check_two_dimensions():
    @cuda.jit
    def transpose(a, b):
        i, j = cuda.grid(2)
        if i < a.shape[0] and j < a.shape[1]:
            b[j, i] = a[i, j]

    a = random.random((45, 70))
    b = np.zeros((70, 45))
    transpose[(3, 5), (16, 16)](a, b)
    np.testing.assert_array_equal(b, a.T)


def check_shared_memory():
    tile = 16

    @cuda.jit
    def multiply(a, b, c):
        sa = cuda.shared.array((tile, tile), float32)
        sb = cuda.shared.array((tile, tile), float32)
        x, y = cuda.grid(2)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        total = float32(0)
        for step in range((a.shape[1] + tile - 1) // tile):
            sa[tx, ty] = 0
            sb[tx, ty] = 0
            if x < a.shape[0] and ty + step * tile < a.shape[1]:
                sa[tx, ty] = a[x, ty + step * tile]
            if y < b.shape[1] and tx + step * tile < b.shape[0]:
                sb[tx, ty] = b[tx + step * tile, y]
            cuda.syncthreads()
            for k in range(tile):
                total += sa[tx, k] * sb[k, ty]
            cuda.syncthreads()
        if x < c.shape[0] and y < c.shape[1]:
            c[x, y] = total

    a, b = random.random((50, 40)).astype("f4"), random.random((40, 60)).astype("f4")
    c = np.zeros((50, 60), "f4")
    multiply[(4, 4), (tile, tile)](a, b, c)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)


def check_dynamic_shared_memory():
    @cuda.jit
    def reverse(x):
        tile = cuda.shared.array(0, int32)
        i = cuda.threadIdx.x
        tile[i] = x[i]
        cuda.syncthreads()
        x[i] = tile[cuda.blockDim.x - 1 - i]

    x = cuda.to_device(np.arange(200, dtype="i4"))
    reverse[1, 200, 0, 800](x)
    np.testing.assert_array_equal(x.copy_to_host(), np.arange(200)[::-1])


def check_atomics():
    @cuda.jit
    def count(x, bins, total, most, exchanged):
        local = cuda.shared.array(16, int32)
        t = cuda.threadIdx.x
        if t < 16:
            local[t] = 0
        cuda.syncthreads()
        i = cuda.grid(1)
        if i < x.size:
            cuda.atomic.add(local, x[i] % 16, 1)
            cuda.atomic.add(total, 0, float64(x[i]))
            cuda.atomic.max(most, 0, x[i])
            cuda.atomic.cas(exchanged, 0, 0, x[i] + 1)
        cuda.syncthreads()
        if t < 16:
            cuda.atomic.add(bins, t, local[t])

    x = random.integers(0, 1000, 5000).astype("i4")
    bins, total = np.zeros(16, "i4"), np.zeros(1)
    most, exchanged = np.zeros(1, "i4"), np.zeros(1, "i4")
    count[40, 128](x, bins, total, most, exchanged)
    np.testing.assert_array_equal(bins, np.bincount(x % 16, minlength=16))
    assert (total[0], most[0]) == (x.sum(), x.max())
    assert exchanged[0] - 1 in x


def check_shuffles():
    @cuda.jit
    def sums(x, out):
        i = cuda.grid(1)
        value = x[i]
        offset = 16
        while offset > 0:
            value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
            offset //= 2
        if cuda.laneid == 0:
            cuda.atomic.add(out, 0, value)
        ballot = cuda.ballot_sync(0xFFFFFFFF, x[i] > 0.5)
        if cuda.laneid == 0:
            cuda.atomic.add(out, 1, float64(cuda.popc(ballot)))

    x = random.random(1024)
    out = np.zeros(2)
    sums[8, 128](x, out)
    np.testing.assert_allclose(out, [x.sum(), (x > 0.5).sum()], rtol=1e-12)


def check_shuffles_of_every_kind():
    """Up, down, xor and from one lane, of each type; and votes."""

    @cuda.jit
    def exchange(x, up, down, crossed, given, votes):
        i = cuda.grid(1)
        up[i] = cuda.shfl_up_sync(0xFFFFFFFF, x[i], 3)
        down[i] = cuda.shfl_down_sync(0xFFFFFFFF, x[i], 5)
        crossed[i] = cuda.shfl_xor_sync(0xFFFFFFFF, x[i], 9)
        given[i] = cuda.shfl_sync(0xFFFFFFFF, x[i], (cuda.laneid * 7) % 32)
        votes[0, i] = cuda.all_sync(0xFFFFFFFF, x[i] >= 0)
        votes[1, i] = cuda.any_sync(0xFFFFFFFF, x[i] > 990)
        votes[2, i] = cuda.popc(cuda.match_any_sync(0xFFFFFFFF, int32(x[i]) % 4))

    lane = np.arange(32)
    for dtype in ("i4", "i8", "f4", "f8"):
        x = random.integers(0, 1000, 128).astype(dtype)
        x[70] = 995
        x[32:64] %= 900
        outs = [np.zeros_like(x) for _ in range(4)]
        votes = np.zeros((3, 128), "i4")
        exchange[2, 64](x, *outs, votes)
        warps = x.reshape(4, 32)
        sources = (
            np.where(lane < 3, lane, lane - 3),
            np.where(lane + 5 > 31, lane, lane + 5),
            lane ^ 9,
            lane * 7 % 32,
        )
        for got, source in zip(outs, sources, strict=True):
            np.testing.assert_array_equal(got.reshape(4, 32), warps[:, source])
        np.testing.assert_array_equal(votes[0], 1)
        np.testing.assert_array_equal(votes[1], np.repeat((warps > 990).any(1), 32))
        alike = [[(warp % 4 == value % 4).sum() for value in warp] for warp in warps]
        np.testing.assert_array_equal(votes[2], np.ravel(alike))


def check_atomics_of_every_kind():
    """Each on global and on shared memory; what they give back is a value that was there."""

    @cuda.jit
    def apply(x, out, old):
        local = cuda.shared.array(8, int32)
        i, t = cuda.grid(1), cuda.threadIdx.x
        if t < 8:
            local[t] = out[0, t]
        cuda.syncthreads()
        if i < x.size:
            for k in range(2):
                a = out[1] if k else local
                cuda.atomic.sub(a, 0, x[i])
                cuda.atomic.min(a, 1, x[i])
                cuda.atomic.max(a, 2, x[i])
                cuda.atomic.and_(a, 3, x[i] | 0x700)
                cuda.atomic.or_(a, 4, x[i])
                cuda.atomic.xor(a, 5, x[i])
                last = cuda.atomic.exch(a, 6, i + 1)
                if k:
                    old[i] = last
        cuda.syncthreads()
        if t < 8:
            out[0, t] = local[t]

    @cuda.jit
    def count(up, down):
        cuda.atomic.inc(up, 0, 9)
        cuda.atomic.dec(down, 0, 9)

    @cuda.jit
    def extremes(x, out):
        i = cuda.grid(1)
        if i < x.size:
            cuda.atomic.nanmin(out, 0, x[i])
            cuda.atomic.nanmax(out, 1, x[i])
            cuda.atomic.add(out, 2, x[i] if x[i] == x[i] else float64(0))

    x = random.integers(0, 1 << 8, 256).astype("i4")
    start = np.array([10, 1 << 20, -1, -1, 0, 0, 0, 0], "i4")
    out, old = np.stack([start, start]), np.zeros(256, "i4")
    apply[1, 256](x, out, old)
    ored, xored = np.bitwise_or.reduce(x), np.bitwise_xor.reduce(x)
    wanted = [10 - x.sum(), x.min(), x.max(), np.bitwise_and.reduce(x | 0x700), ored, xored]
    for row in out:
        np.testing.assert_array_equal(row[:6], wanted)
        assert 1 <= row[6] <= 256
    # each value that was exchanged in came out once, but for the one that is still there
    np.testing.assert_array_equal(np.sort([*old, out[1, 6]]), np.arange(257))
    up, down = np.zeros(1, "u4"), np.zeros(1, "u4")
    count[1, 64](up, down)
    assert (up[0], down[0]) == (64 % 10, -64 % 10)
    values = random.standard_normal(300)
    values[17] = np.nan
    found = np.array([np.inf, -np.inf, 0.0])
    extremes[3, 128](values, found)
    np.testing.assert_array_equal(found[:2], [np.nanmin(values), np.nanmax(values)])
    np.testing.assert_allclose(found[2], np.nansum(values), rtol=1e-12)


def check_device_functions():
    @cuda.jit(device=True)
    def squared(x):
        return x * x

    @cuda.jit(device=True, inline="never")
    def length(x, y):
        return math.sqrt(squared(x) + squared(y))

    @cuda.jit
    def lengths(x, y, out):
        i = cuda.grid(1)
        if i < out.size:
            out[i] = length(x[i], y[i])

    x, y = random.random((2, 1000))
    out = np.zeros(1000)
    lengths[8, 128](x, y, out)
    np.testing.assert_allclose(out, np.hypot(x, y), rtol=1e-12)


def check_math():
    @cuda.jit
    def apply(x, out):
        i = cuda.grid(1)
        if i < x.size:
            v = x[i]
            out[i] = (
                math.sin(v)
                + math.exp(-v)
                + math.log(1 + v)
                + math.erf(v)
                + math.pow(v, 1.3)
                + math.atan2(v, 2.0)
            )

    x = random.random(1000)
    out = np.zeros(1000)
    apply[8, 128](x, out)
    erf = np.array([math.erf(v) for v in x])
    wanted = np.sin(x) + np.exp(-x) + np.log(1 + x) + erf + x**1.3 + np.arctan2(x, 2.0)
    np.testing.assert_allclose(out, wanted, rtol=1e-13)


def check_local_memory_and_records():
    record = np.dtype([("a", "i8"), ("b", "f8")])

    @cuda.jit
    def fill(x, out):
        scratch = cuda.local.array(8, float64)
        i = cuda.grid(1)
        if i < x.size:
            for k in range(8):
                scratch[k] = x[i].b * k
            out[i] = scratch[x[i].a % 8] + x[i].a

    x = np.zeros(300, record)
    x["a"], x["b"] = np.arange(300), random.random(300)
    out = np.zeros(300)
    fill[3, 128](x, out)
    np.testing.assert_allclose(out, x["b"] * (x["a"] % 8) + x["a"])


def check_constant_memory():
    table = np.arange(10.0) ** 2

    @cuda.jit
    def look_up(out):
        values = cuda.const.array_like(table)
        i = cuda.grid(1)
        if i < out.size:
            out[i] = values[i % 10]

    out = np.zeros(100)
    look_up[1, 128](out)
    np.testing.assert_array_equal(out, np.tile(table, 10))


def check_vectorize():
    @vectorize(["float64(float64, float64)", "float32(float32, float32)"], target="cuda")
    def blend(a, b):
        return math.sqrt(a * a + b * b) + 1

    for dtype in ("f8", "f4"):
        a, b = random.random((2, 1000)).astype(dtype)
        np.testing.assert_allclose(blend(a, b), np.hypot(a, b) + 1, rtol=1e-6)
    device = blend(cuda.to_device(a), cuda.to_device(b))
    np.testing.assert_allclose(device.copy_to_host(), np.hypot(a, b) + 1, rtol=1e-6)


def check_reduce():
    @cuda.reduce
    def add(a, b):
        return a + b

    largest = cuda.reduce(lambda a, b: max(a, b))
    x = random.random(12_345)
    np.testing.assert_allclose(add(x), x.sum(), rtol=1e-12)
    assert add(np.arange(1000)) == 499_500
    assert largest(x) == x.max()


def check_streams_and_events():
    @cuda.jit
    def double(x):
        i = cuda.grid(1)
        if i < x.size:
            x[i] *= 2

    stream = cuda.stream()
    begin, end = cuda.event(), cuda.event()
    host = cuda.pinned_array(1000)
    host[:] = np.arange(1000)
    begin.record(stream)
    x = cuda.to_device(host, stream=stream)
    double[8, 128, stream](x)
    x.copy_to_host(host, stream=stream)
    end.record(stream)
    end.synchronize()
    assert begin.elapsed_time(end) > 0
    np.testing.assert_array_equal(host, np.arange(1000) * 2)


def incremented(allocate) -> None:
    @cuda.jit
    def increment(x):
        i = cuda.grid(1)
        if i < x.size:
            x[i] += 1

    array = allocate(100)
    array[:] = np.arange(100)
    increment[1, 128](array)
    cuda.synchronize()
    np.testing.assert_array_equal(array, np.arange(100) + 1)


def check_mapped_memory():
    maps = cuda.get_current_device().CAN_MAP_HOST_MEMORY
    checks.use_or_be_refused("mapped", maps, lambda: incremented(cuda.mapped_array))


def check_managed_memory():
    manages = cuda.get_current_device().MANAGED_MEMORY
    checks.use_or_be_refused("managed", manages, lambda: incremented(cuda.managed_array))


def check_cooperative_groups():
    @cuda.jit
    def steps(x):
        grid = cuda.cg.this_grid()
        i = cuda.grid(1)
        for step in range(3):
            left = x[step, (i - 1) % x.shape[1]]
            x[step + 1, i] = left + 1
            grid.sync()

    x = np.zeros((4, 256))
    x[0] = np.arange(256)
    steps[4, 64](x)
    np.testing.assert_array_equal(x[3], np.roll(np.arange(256), 3) + 3)


def check_device_information():
    device = cuda.get_current_device()
    assert device.compute_capability >= (5, 0)
    assert device.WARP_SIZE == 32
    free, total = cuda.current_context().get_memory_info()
    assert 0 < free <= total


def check_device_print():
    @cuda.jit
    def speak():
        if cuda.threadIdx.x < 2:
            print("thread", cuda.threadIdx.x, "has", 0.5)

    speak[1, 32]()
    cuda.synchronize()


def check_errors():
    @cuda.jit(debug=True, opt=False)
    def divide(x):
        x[0] = 1 // x[1]

    assert "ZeroDivisionError" in checks.failure(lambda: divide[1, 1](np.zeros(2, "i8")))


if __name__ == "__main__":
    sys.exit(checks.main(dict(globals())))
