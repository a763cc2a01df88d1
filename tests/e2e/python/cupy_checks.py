# SPDX-License-Identifier: Apache-2.0
"""CuPy against NumPy: the same expression on both, and CuPy's own ways to write kernels."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import checks
import cupy as cp
import numpy as np

random = np.random.default_rng(1)
FLOATS = random.standard_normal(5000)
INTEGERS = random.integers(-50, 50, 5000)
MATRIX = random.standard_normal((37, 53))


def same(expression: Callable[..., Any], *arrays: np.ndarray, exact: bool = False) -> None:
    """The expression gives the same dtype, shape and values with either library."""
    wanted = np.asarray(expression(np, *arrays))
    got = cp.asnumpy(expression(cp, *map(cp.asarray, arrays)))
    assert got.dtype == wanted.dtype, (got.dtype, wanted.dtype)
    assert got.shape == wanted.shape, (got.shape, wanted.shape)
    if exact or wanted.dtype.kind in "biu":
        np.testing.assert_array_equal(got, wanted)
    else:
        tolerance = {2: 2e-3, 4: 2e-6, 8: 1e-12}.get(
            wanted.dtype.itemsize // (2 if wanted.dtype.kind == "c" else 1), 1e-6
        )
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def check_creation():
    for shape in ((), (7,), (3, 5, 2), (0, 4)):
        same(lambda xp, shape=shape: xp.zeros(shape), exact=True)
        same(lambda xp, shape=shape: xp.ones(shape, dtype="i4"), exact=True)
        same(lambda xp, shape=shape: xp.full(shape, 2.5, dtype="f4"), exact=True)
    same(lambda xp: xp.arange(3, 1000, 7), exact=True)
    same(lambda xp: xp.linspace(0, 1, 101))
    same(lambda xp: xp.eye(9, 11, 2), exact=True)
    same(lambda xp: xp.tri(6, 5, -1), exact=True)
    same(lambda xp, a: xp.diag(a), FLOATS[:40], exact=True)
    same(lambda xp, a: xp.ascontiguousarray(a.T), MATRIX, exact=True)
    same(lambda xp: xp.stack(xp.meshgrid(xp.arange(4), xp.arange(5))), exact=True)


def check_dtypes():
    for name in [
        "?",
        "i1",
        "i2",
        "i4",
        "i8",
        "u1",
        "u2",
        "u4",
        "u8",
        "f2",
        "f4",
        "f8",
        "c8",
        "c16",
    ]:
        same(lambda xp, a, name=name: a.astype(name) + xp.ones((), dtype=name), INTEGERS)
        same(lambda xp, a, name=name: a.astype(name).astype("f4"), np.abs(INTEGERS))
    same(lambda xp, a: a.astype("i4"), FLOATS * 1000)
    same(lambda xp, a: a.view("u8") >> 52, FLOATS)


def check_elementwise():
    same(lambda xp, a, b: a * b - a / b + a**2, FLOATS, FLOATS[::-1].copy())
    same(lambda xp, a: xp.sin(a) * xp.exp(-a) + xp.sqrt(xp.abs(a)) + xp.log1p(a * a), FLOATS)
    same(lambda xp, a: xp.arctan2(a, 0.5) + xp.tanh(a) + xp.cbrt(a) + xp.expm1(a), FLOATS)
    for calculate in (
        operator.floordiv,
        operator.mod,
        operator.and_,
        operator.or_,
        operator.xor,
    ):
        same(lambda xp, a, b, of=calculate: of(a, b), INTEGERS, np.full(5000, 7))
    same(lambda xp, a: a // 7, INTEGERS)
    same(lambda xp, a: (a << 2) | (a >> 1), INTEGERS)
    same(lambda xp, a: xp.clip(a, -0.5, 0.5), FLOATS, exact=True)
    same(lambda xp, a: xp.floor(a) + xp.ceil(a) + xp.rint(a) + xp.trunc(a), FLOATS * 9, exact=True)
    same(lambda xp, a: xp.isnan(a / (a > 0)), FLOATS)
    same(lambda xp, a, b: xp.maximum(a, b) - xp.fmin(a, b), FLOATS, FLOATS[::-1].copy())
    same(lambda xp, a: xp.logaddexp(a, 1.0) + xp.hypot(a, 2.0) + xp.copysign(1.0, a), FLOATS)
    same(lambda xp, a, b: xp.stack(xp.divmod(a, b)), INTEGERS, np.full(5000, 6))
    same(lambda xp, a, b: xp.gcd(a, b), INTEGERS, np.full(5000, 6))
    same(lambda xp, a: xp.stack(xp.modf(a)), FLOATS * 9)
    same(lambda xp, a: xp.frexp(a)[0], FLOATS, exact=True)
    same(lambda xp, a: xp.frexp(a)[1], FLOATS, exact=True)


def check_float32_math():
    a = FLOATS.astype("f4")
    same(lambda xp, a: xp.sin(a) + xp.cos(a) + xp.tan(a / 4), a)
    same(lambda xp, a: xp.exp(a) * xp.log(xp.abs(a) + 1) + xp.power(xp.abs(a), 1.5), a)


def check_broadcasting():
    same(lambda xp, a, b: a + b, MATRIX, MATRIX[0])
    same(lambda xp, a, b: a[:, None, :] * b[None, :, None], MATRIX[:5], MATRIX[0, :7])
    same(lambda xp, a: a - a.mean(axis=0), MATRIX)
    same(lambda xp, a: xp.broadcast_to(a, (4, 53)) + 1, MATRIX[0])


def check_where():
    same(lambda xp, a: xp.where(a > 0, a, -a), FLOATS, exact=True)
    same(lambda xp, a: xp.where(a > 0)[0], FLOATS)
    same(lambda xp, a: xp.nonzero(a > 1)[0], FLOATS)
    same(lambda xp, a: xp.argwhere(a > 1), MATRIX)
    same(lambda xp, a: xp.flatnonzero(a < 0), FLOATS)


def check_take_and_indexing():
    index = random.integers(0, 5000, 700)
    same(lambda xp, a, i: xp.take(a, i), FLOATS, index, exact=True)
    same(lambda xp, a, i: a[i], FLOATS, index, exact=True)
    same(lambda xp, a: a[a > 0], FLOATS, exact=True)
    same(lambda xp, a: a[3:-3:2, ::-1], MATRIX, exact=True)
    same(lambda xp, a, i: a[i % 37][:, i[:9] % 53], MATRIX, index, exact=True)
    same(lambda xp, a: xp.take_along_axis(a, xp.argsort(a, axis=1), axis=1), MATRIX, exact=True)
    same(lambda xp, a: xp.concatenate([a, a[:5]]) + xp.roll(xp.concatenate([a, a[:5]]), 3), MATRIX)

    def assigned(xp, a, i):
        b = a.copy()
        b[i] = -1
        b[b > 1] = 7
        b[10:20] += 3
        return b

    same(assigned, FLOATS, index, exact=True)


def check_sum():
    for axis in (None, 0, 1):
        same(lambda xp, a, axis=axis: a.sum(axis=axis), MATRIX)
    same(lambda xp, a: a.sum(), FLOATS)
    same(lambda xp, a: a.sum(), INTEGERS)
    same(lambda xp, a: a.sum(), np.arange(300_000))
    same(lambda xp, a: xp.sum(a > 0), FLOATS)
    same(lambda xp, a: a.prod(), FLOATS[:30])
    for summary in ("mean", "std", "var"):
        same(lambda xp, a, of=summary: getattr(a, of)(), FLOATS)
        same(lambda xp, a, of=summary: getattr(a, of)(axis=0), MATRIX)
    same(lambda xp, a: xp.median(a), FLOATS)
    same(lambda xp, a: xp.percentile(a, 30), FLOATS)


def check_max_and_argmax():
    for axis in (None, 0, 1):
        same(lambda xp, a, axis=axis: a.max(axis=axis), MATRIX, exact=True)
        same(lambda xp, a, axis=axis: a.argmax(axis=axis), MATRIX)
        same(lambda xp, a, axis=axis: a.argmin(axis=axis), MATRIX)
    same(lambda xp, a: a.min(), INTEGERS)
    same(lambda xp, a: xp.nanmax(xp.where(a > 2, xp.nan, a)), FLOATS, exact=True)
    same(lambda xp, a: xp.any(a > 3) | xp.all(a > -9), FLOATS)


def check_cumsum():
    same(lambda xp, a: xp.cumsum(a), FLOATS)
    same(lambda xp, a: xp.cumsum(a), np.arange(100_000))
    same(lambda xp, a: xp.cumsum(a, axis=1), MATRIX)
    same(lambda xp, a: xp.cumprod(a), 1 + FLOATS[:100] / 100)
    same(lambda xp, a: xp.diff(a), FLOATS)


def check_sort():
    same(lambda xp, a: xp.sort(a), FLOATS, exact=True)
    same(lambda xp, a: xp.sort(a), INTEGERS)
    same(lambda xp, a: xp.sort(a.astype("f4")), random.standard_normal(100_000), exact=True)
    same(lambda xp, a: xp.sort(a, axis=0), MATRIX, exact=True)
    same(lambda xp, a: xp.argsort(a), FLOATS)
    same(lambda xp, a: xp.lexsort(xp.stack([a, a % 7])), INTEGERS)
    same(lambda xp, a: xp.partition(a, 100)[100], FLOATS, exact=True)
    same(lambda xp, a: xp.searchsorted(xp.sort(a), a[:50]), FLOATS)


def check_unique():
    same(lambda xp, a: xp.unique(a), INTEGERS)
    for part in range(4):
        same(
            lambda xp, a, part=part: xp.unique(
                a, return_index=True, return_inverse=True, return_counts=True
            )[part],
            INTEGERS,
        )


def check_bincount_and_histogram():
    same(lambda xp, a: xp.bincount(a + 50), INTEGERS)
    same(lambda xp, a, w: xp.bincount(a + 50, weights=w), INTEGERS, FLOATS)
    same(lambda xp, a: xp.histogram(a, bins=20)[0], FLOATS)
    same(lambda xp, a: xp.digitize(a, xp.linspace(-2, 2, 9)), FLOATS)


def check_scatter_add():
    index = random.integers(0, 50, 5000)

    def added(xp, i, a):
        out = xp.zeros(50)
        xp.add.at(out, i, a)
        return out

    same(added, index, FLOATS)


def check_complex():
    z = FLOATS + 1j * FLOATS[::-1]
    same(lambda xp, z: z * z.conj() + xp.exp(1j * z.real) / (z + 3), z)
    same(lambda xp, z: xp.abs(z) + xp.angle(z), z)
    same(lambda xp, z: xp.sqrt(z).sum(), z)
    same(lambda xp, z: (z * 2).imag, z.astype("c8"))


def check_float16():
    half = FLOATS.astype("f2")
    same(lambda xp, a: a * 2 + 1, half)
    same(lambda xp, a: a.astype("f4").sum(), half)
    same(lambda xp, a: xp.sort(a), half, exact=True)
    same(lambda xp, a: xp.maximum(a, 0).max(), half, exact=True)
    same(lambda xp, a: xp.sqrt(xp.abs(a)), half)


def check_random():
    numbers = cp.random.default_rng(5).random(20_000)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert abs(float(numbers.mean()) - 0.5) < 0.02
    normal = cp.random.default_rng(5).standard_normal(20_000)
    assert abs(float(normal.mean())) < 0.05
    assert abs(float(normal.std()) - 1) < 0.05
    integers = cp.random.default_rng(5).integers(0, 10, 20_000)
    assert cp.bincount(integers).min() > 1500


def check_raw_kernel():
    kernel = cp.RawKernel(
        r"""
        extern "C" __global__ void scale(const float *in, float *out, float by, int n) {
            int i = blockIdx.x * blockDim.x + threadIdx.x;
            if (i < n) out[i] = in[i] * by;
        }""",
        "scale",
    )
    x = cp.arange(1000, dtype="f4")
    out = cp.empty_like(x)
    kernel((8,), (128,), (x, out, np.float32(2.5), np.int32(1000)))
    np.testing.assert_array_equal(out.get(), np.arange(1000, dtype="f4") * np.float32(2.5))
    assert kernel.max_threads_per_block == 1024
    assert kernel.attributes["shared_size_bytes"] == 0


def check_raw_module():
    module = cp.RawModule(
        code=r"""
        __constant__ double table[4];
        template <typename T> __device__ T twice(T x) { return x + x; }
        template <typename T> __global__ void apply(T *x, int n) {
            extern __shared__ double tile[];
            int i = threadIdx.x;
            tile[i] = i < n ? x[i] : 0;
            __syncthreads();
            if (i < n) x[i] = twice<T>((T)tile[n - 1 - i]) + (T)table[i % 4];
        }""",
        options=("-std=c++17",),
        name_expressions=["apply<float>", "apply<long long>"],
    )
    table = np.array([1.0, 2.0, 3.0, 4.0])
    cp.ndarray(4, "f8", module.get_global("table")).set(table)
    for name, dtype in (("apply<float>", "f4"), ("apply<long long>", "i8")):
        x = cp.arange(100, dtype=dtype)
        module.get_function(name)((1,), (128,), (x, np.int32(100)), shared_mem=1024)
        wanted = 2 * np.arange(100, dtype=dtype)[::-1] + np.tile(table, 25).astype(dtype)
        np.testing.assert_array_equal(x.get(), wanted)


# What blocks of CUB are tried with: the type, its name in NumPy, threads of a block.
CUB_CASES = (
    ("int", "i4", 128),
    ("float", "f4", 64),
    ("double", "f8", 256),
    ("long long", "i8", 96),
    ("unsigned short", "u2", 32),
)


def cub_kernels(code: str, cases=CUB_CASES) -> dict[tuple[str, int], Any]:
    """The kernel `work<type, threads>` of the code for each case."""
    names = [f"work<{name}, {threads}>" for name, _, threads in cases]
    module = cp.RawModule(code=code, options=("-std=c++17",), name_expressions=names)
    return {
        (kind, threads): module.get_function(name)
        for name, (_, kind, threads) in zip(names, cases, strict=True)
    }


def check_block_primitives():
    code = r"""
    #include <cub/block/block_reduce.cuh>
    #include <cub/block/block_scan.cuh>
    #include <cub/block/block_radix_sort.cuh>
    template <typename T, int N> __global__ void work(const T *in, T *sorted, T *scanned, T *found) {
        typedef cub::BlockRadixSort<T, N, 2> Sort;
        typedef cub::BlockScan<T, N> Scan;
        typedef cub::BlockReduce<T, N> Reduce;
        __shared__ typename Sort::TempStorage s;
        __shared__ typename Scan::TempStorage c;
        __shared__ typename Reduce::TempStorage r;
        int t = threadIdx.x;
        T mine[2] = {in[2 * t], in[2 * t + 1]}, both = mine[0] + mine[1], before;
        T sum = Reduce(r).Sum(both);
        __syncthreads();
        T most = Reduce(r).Reduce(both, cuda::maximum<>{});
        Scan(c).ExclusiveSum(both, before);
        scanned[t] = before;
        Sort(s).SortDescending(mine);
        sorted[2 * t] = mine[0]; sorted[2 * t + 1] = mine[1];
        if (t == 0) { found[0] = sum; found[1] = most; }
    }"""
    for (kind, threads), work in cub_kernels(code).items():
        data = random.integers(0 if kind == "u2" else -500, 500, 2 * threads).astype(kind)
        ordered, scanned = cp.empty(2 * threads, kind), cp.empty(threads, kind)
        found = cp.empty(2, kind)
        work((1,), (threads,), (cp.asarray(data), ordered, scanned, found))
        pairs = data.reshape(threads, 2).sum(axis=1, dtype=kind)
        before = np.cumsum(pairs, dtype=kind) - pairs
        np.testing.assert_array_equal(ordered.get(), np.sort(data)[::-1])
        np.testing.assert_array_equal(scanned.get(), before)
        np.testing.assert_array_equal(found.get(), [pairs.sum(dtype=kind), pairs.max()])


def check_block_moves():
    """CUB between memory, threads and each other: load, exchange, merge sort, histogram, store."""
    code = r"""
    #include <cub/block/block_load.cuh>
    #include <cub/block/block_store.cuh>
    #include <cub/block/block_exchange.cuh>
    #include <cub/block/block_merge_sort.cuh>
    #include <cub/block/block_histogram.cuh>
    struct Less { template <typename T> __device__ bool operator()(T a, T b) const { return a < b; } };
    template <typename T, int N>
    __global__ void work(const T *in, int valid, T *striped, T *merged, unsigned *sorted_bins, unsigned *atomic_bins) {
        enum { EACH = 4, BINS = 16 };
        typedef cub::BlockLoad<T, N, EACH, cub::BLOCK_LOAD_TRANSPOSE> Load;
        typedef cub::BlockExchange<T, N, EACH> Exchange;
        typedef cub::BlockMergeSort<T, N, EACH> Merge;
        typedef cub::BlockStore<T, N, EACH, cub::BLOCK_STORE_WARP_TRANSPOSE> Store;
        typedef cub::BlockHistogram<unsigned char, N, EACH, BINS, cub::BLOCK_HISTO_SORT> Sorting;
        typedef cub::BlockHistogram<unsigned char, N, EACH, BINS, cub::BLOCK_HISTO_ATOMIC> Counting;
        __shared__ union {
            typename Load::TempStorage load; typename Exchange::TempStorage exchange;
            typename Merge::TempStorage merge; typename Store::TempStorage store;
            typename Sorting::TempStorage sorting; typename Counting::TempStorage counting;
        } shared;
        __shared__ unsigned bins[BINS];
        T mine[EACH], other[EACH];
        unsigned char sample[EACH];
        Load(shared.load).Load(in, mine, valid, T(99));
        __syncthreads();
        Exchange(shared.exchange).BlockedToStriped(mine, other);
        for (int i = 0; i < EACH; i++) striped[threadIdx.x * EACH + i] = other[i];
        __syncthreads();
        for (int i = 0; i < EACH; i++) sample[i] = (unsigned char)((long long)mine[i] & 15);
        Sorting(shared.sorting).Histogram(sample, bins);
        __syncthreads();
        if (threadIdx.x < BINS) sorted_bins[threadIdx.x] = bins[threadIdx.x];
        __syncthreads();
        for (int i = 0; i < EACH; i++) sample[i] = (unsigned char)((long long)mine[i] & 15);
        Counting(shared.counting).Histogram(sample, bins);
        __syncthreads();
        if (threadIdx.x < BINS) atomic_bins[threadIdx.x] = bins[threadIdx.x];
        Merge(shared.merge).Sort(mine, Less());
        __syncthreads();
        Store(shared.store).Store(merged, mine, valid);
    }"""
    # a merge sort needs a power of two
    cases = [(name, kind, 128 if threads == 96 else threads) for name, kind, threads in CUB_CASES]
    for (kind, threads), work in cub_kernels(code, cases).items():
        size = 4 * threads
        data = random.integers(0, 90, size).astype(kind)
        outs = cp.zeros(size, kind), cp.zeros(size, kind), cp.zeros(16, "u4"), cp.zeros(16, "u4")
        work((1,), (threads,), (cp.asarray(data), np.int32(size - 5), *outs))
        striped, merged, by_sort, by_atomics = (out.get() for out in outs)
        data[-5:] = 99  # what the load puts where there is nothing
        np.testing.assert_array_equal(striped, data.reshape(4, threads).T.ravel())
        np.testing.assert_array_equal(merged[:-5], np.sort(data)[:-5])
        np.testing.assert_array_equal(merged[-5:], 0)
        bins = np.bincount(data.astype("i8") & 15, minlength=16)
        np.testing.assert_array_equal(by_sort, bins)
        np.testing.assert_array_equal(by_atomics, bins)


def check_warp_primitives():
    code = r"""
    #include <cub/warp/warp_reduce.cuh>
    #include <cub/warp/warp_scan.cuh>
    template <typename T, int N> __global__ void work(const T *in, T *sums, T *most, T *scanned, T *quarters) {
        typedef cub::WarpReduce<T> Reduce;
        typedef cub::WarpReduce<T, 8> Small;
        typedef cub::WarpScan<T> Scan;
        __shared__ typename Reduce::TempStorage r[N / 32];
        __shared__ typename Small::TempStorage q[N / 8];
        __shared__ typename Scan::TempStorage s[N / 32];
        int t = threadIdx.x, w = t / 32;
        T mine = in[t], upto;
        T sum = Reduce(r[w]).Sum(mine);
        T largest = Reduce(r[w]).Reduce(mine, cuda::maximum<>{}, 20);
        T quarter = Small(q[t / 8]).Sum(mine);
        Scan(s[w]).InclusiveSum(mine, upto);
        scanned[t] = upto;
        if (t % 32 == 0) { sums[w] = sum; most[w] = largest; }
        if (t % 8 == 0) quarters[t / 8] = quarter;
    }"""
    for (kind, threads), work in cub_kernels(code).items():
        data = random.integers(0, 100, threads).astype(kind)
        sums, most = cp.zeros(threads // 32, kind), cp.zeros(threads // 32, kind)
        scanned, quarters = cp.zeros(threads, kind), cp.zeros(threads // 8, kind)
        work((1,), (threads,), (cp.asarray(data), sums, most, scanned, quarters))
        warps = data.reshape(-1, 32)
        np.testing.assert_array_equal(sums.get(), warps.sum(1))
        np.testing.assert_array_equal(most.get(), warps[:, :20].max(1))
        np.testing.assert_array_equal(scanned.get(), warps.cumsum(1).ravel())
        np.testing.assert_array_equal(quarters.get(), data.reshape(-1, 8).sum(1))


def check_elementwise_kernel():
    kernel = cp.ElementwiseKernel(
        "T x, T y, raw T z, float64 k",
        "T out",
        "out = (x - y) * (x - y) + z[i % 10] * k",
        "distance",
    )
    a, b = FLOATS, FLOATS[::-1].copy()
    got = kernel(cp.asarray(a), cp.asarray(b), cp.asarray(a[:10]), 3.0)
    wanted = (a - b) ** 2 + np.tile(a[:10], 500) * 3
    np.testing.assert_allclose(got.get(), wanted, rtol=1e-13, atol=1e-13)


def check_reduction_kernel():
    norm = cp.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "length_of")
    np.testing.assert_allclose(norm(cp.asarray(FLOATS)).get(), np.linalg.norm(FLOATS), rtol=1e-12)
    np.testing.assert_allclose(
        norm(cp.asarray(MATRIX), axis=1).get(), np.linalg.norm(MATRIX, axis=1), rtol=1e-12
    )


def check_fuse():
    @cp.fuse()
    def smooth(x, y):
        return cp.sqrt(x * x + y * y) * 0.5 + cp.where(x > y, x, y)

    @cp.fuse()
    def total(x):
        return cp.sum(x * 2.0 + 1.0)

    a, b = FLOATS, FLOATS[::-1].copy()
    got = smooth(cp.asarray(a), cp.asarray(b))
    np.testing.assert_allclose(
        got.get(), np.sqrt(a * a + b * b) * 0.5 + np.maximum(a, b), rtol=1e-13
    )
    np.testing.assert_allclose(total(cp.asarray(a)).get(), (a * 2 + 1).sum(), rtol=1e-10)


def check_streams():
    streams = [cp.cuda.Stream(non_blocking=True) for _ in range(3)]
    results = []
    for number, stream in enumerate(streams):
        with stream:
            results.append(cp.arange(10_000, dtype="f8") * number)
    for number, stream in enumerate(streams):
        stream.synchronize()
        assert stream.done
        np.testing.assert_array_equal(
            results[number].get(stream=stream), np.arange(10_000.0) * number
        )
    seen = []
    streams[0].launch_host_func(seen.append, 41)
    streams[0].synchronize()
    assert seen == [41]


def check_events():
    begin, end = cp.cuda.Event(), cp.cuda.Event()
    stream = cp.cuda.Stream()
    begin.record(stream)
    with stream:
        x = cp.ones(100_000)
        for _ in range(5):
            x = x * 2
    end.record(stream)
    cp.cuda.get_current_stream().wait_event(end)
    end.synchronize()
    assert end.done
    assert cp.cuda.get_elapsed_time(begin, end) > 0
    assert float(x[7]) == 32


def check_pinned_memory():
    memory = cp.cuda.alloc_pinned_memory(8 * 1000)
    host = np.frombuffer(memory, "f8", 1000)
    host[:] = np.arange(1000)
    device = cp.empty(1000)
    stream = cp.cuda.Stream(non_blocking=True)
    device.set(host, stream=stream)
    back = cp.empty_like(device)
    with stream:
        back[:] = device * 3
    back.get(stream=stream, out=host)
    stream.synchronize()
    np.testing.assert_array_equal(host, np.arange(1000) * 3.0)


def check_memory_pool():
    pool = cp.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.used_bytes()
    x = cp.zeros(1 << 18, "f4")
    assert pool.used_bytes() - before == 1 << 20
    assert pool.total_bytes() >= 1 << 20
    del x
    assert pool.used_bytes() == before
    pool.free_all_blocks()
    free, total = cp.cuda.runtime.memGetInfo()
    assert 0 < free <= total


def check_stream_ordered_pool():
    pool = cp.cuda.MemoryAsyncPool()
    before = pool.used_bytes()
    with cp.cuda.using_allocator(pool.malloc):
        assert float(cp.ones(1000).sum()) == 1000
        x = cp.zeros(1 << 18, "f4")
        assert pool.used_bytes() - before >= 1 << 20
        assert pool.total_bytes() >= pool.used_bytes()
        del x
    cp.cuda.Device().synchronize()
    pool.free_all_blocks()
    assert pool.used_bytes() == before


def check_managed_memory():
    def use() -> None:
        with cp.cuda.using_allocator(cp.cuda.malloc_managed):
            assert float(cp.ones(1000).sum()) == 1000
        cp.cuda.Device().synchronize()

    checks.use_or_be_refused("managed", cp.cuda.Device().attributes["ManagedMemory"], use)


def check_polynomials_and_interpolation():
    same(lambda xp, a: xp.interp(a, xp.linspace(-3, 3, 10), xp.arange(10.0)), FLOATS)
    same(lambda xp, a: xp.polyval(xp.asarray([1.0, 2.0, 3.0]), a), FLOATS)
    same(lambda xp, a: xp.trapezoid(a, dx=0.5), FLOATS)
    same(lambda xp, a: xp.gradient(a), FLOATS)


def check_device_printf():
    kernel = cp.RawKernel(
        r"""
        extern "C" __global__ void speak(int n) {
            if (threadIdx.x < n) printf("thread %d says %.2f %s\n", threadIdx.x, 0.5 * threadIdx.x, "hello");
        }""",
        "speak",
    )
    kernel((1,), (32,), (np.int32(3),))
    cp.cuda.Device().synchronize()


def check_errors():
    broken = cp.RawKernel('extern "C" __global__ void broken() { nonsense; }', "broken")
    assert "nonsense" in checks.failure(lambda: broken((1,), (1,), ()))
    big = cp.RawKernel('extern "C" __global__ void big() {}', "big")
    assert "CUDADriverError: CUDA_ERROR_INVALID_VALUE" in checks.failure(
        lambda: big((1,), (2000,), ())
    )


if __name__ == "__main__":
    sys.exit(checks.main(dict(globals())))
