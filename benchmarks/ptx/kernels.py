# SPDX-License-Identifier: Apache-2.0
"""Kernels on the CPU device against the same work in C, one thread each: prints time and ratio.

Each number is the best of several runs; the ratio is what counts, since both run in the same minute.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "ptx"))

import ptxhost  # noqa: E402
from orion_server import ptx  # noqa: E402


def best(work: Callable[[], object], runs: int = 7) -> float:
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    twin_path = folder / "twins.so"
    source = Path(__file__).with_name("twins.c")
    subprocess.run(
        ["cc", "-O3", "-march=native", "-shared", "-fPIC", "-o", str(twin_path), str(source)],
        check=True,
    )
    twins = ctypes.CDLL(str(twin_path))
    twins.reduce.restype = ctypes.c_float
    library = ptxhost.build(folder)
    ptx.prepare(library)
    device = ptxhost.Device(library)
    kernels = ROOT / "tests" / "ptx" / "kernels"
    basics, barriers, warps, atomics = (
        device.load((kernels / f"{n}.ptx").read_text())
        for n in ("basics", "barriers", "warps", "atomics")
    )
    n = 16 << 20
    size = ctypes.c_size_t

    def pointer(array: np.ndarray) -> ctypes.c_void_p:
        return ctypes.c_void_p(array.ctypes.data)

    a, b, c = np.ones(n, np.float32), np.ones(n, np.float32), np.zeros(n, np.float32)
    m = 512
    x, y, z = (np.random.default_rng(0).random((m, m), np.float32) for _ in range(3))
    data, bins = (
        np.random.default_rng(0).integers(0, 256, n).astype(np.uint8),
        np.zeros(256, np.uint32),
    )
    out = np.zeros(1024, np.float32)
    matmul = lambda: twins.matmul(pointer(x), pointer(y), pointer(z), size(m))  # noqa: E731
    reduce = lambda: twins.reduce(pointer(a), size(n))  # noqa: E731
    rows: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        (
            "vectorAdd",
            lambda: basics.launch("vector_add", n // 256, 256, a, b, c, n),
            lambda: twins.vector_add(pointer(a), pointer(b), pointer(c), size(n)),
        ),
        ("matmul 32", lambda: barriers.launch("matmul32", (16, 16), (32, 32), x, y, z, m), matmul),
        ("matmul 16", lambda: barriers.launch("matmul16", (32, 32), (16, 16), x, y, z, m), matmul),
        (
            "matmul naive",
            lambda: basics.launch("naive_matmul", (16, 64), (32, 8), x, y, z, m),
            matmul,
        ),
        (
            "block reduce",
            lambda: barriers.launch("reduce", 64, 256, a, out, n, shared=1024),
            reduce,
        ),
        ("warp reduce", lambda: warps.launch("warp_sum", 64, 256, a, out, n), reduce),
        (
            "histogram",
            lambda: atomics.launch("histogram", 64, 256, data, bins, n),
            lambda: twins.histogram(pointer(data), pointer(bins), size(n)),
        ),
    ]
    only = sys.argv[1:]
    for name, kernel, twin in rows:
        if only and not any(o in name for o in only):
            continue
        ours, theirs = best(kernel), best(twin)
        print(f"{name:14} {ours * 1e3:8.2f} ms   C {theirs * 1e3:8.2f} ms   x{ours / theirs:.2f}")
    launch_overhead(device, basics, a)


def launch_overhead(device: ptxhost.Device, basics: ptxhost.Loaded, a: np.ndarray) -> None:
    """One small block, launched from C in a loop that the block range gives us."""
    n = 200_000
    start = time.perf_counter()
    basics.launch("vector_add", n, 32, a, a, a, 32)
    print(f"a block of 32 threads takes {(time.perf_counter() - start) / n * 1e9:.0f} ns")
    del device


if __name__ == "__main__":
    main()
