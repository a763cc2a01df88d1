# SPDX-License-Identifier: Apache-2.0
"""Barriers, warp operations and atomics; every claim holds for regions and for fibers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ptxhost import LaunchError, Loaded

Load = Callable[..., Loaded]


@pytest.fixture(scope="module", params=[False, True], ids=["regions", "fibers"])
def fibers(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def barriers(load: Load, fibers: bool) -> Loaded:
    return load("barriers", fibers)


@pytest.fixture(scope="module")
def warps(load: Load, fibers: bool) -> Loaded:
    return load("warps", fibers)


@pytest.fixture(scope="module")
def atomics(load: Load, fibers: bool) -> Loaded:
    return load("atomics", fibers)


@pytest.mark.parametrize("tile", [16, 32])
def test_tiled_matmul(barriers: Loaded, tile: int) -> None:
    n = 64
    rng = np.random.default_rng(3)
    a, b = rng.random((n, n), np.float32), rng.random((n, n), np.float32)
    c = np.zeros((n, n), np.float32)
    barriers.launch(f"matmul{tile}", (n // tile, n // tile), (tile, tile), a, b, c, n)
    assert np.allclose(c, a @ b, rtol=1e-5)


def test_block_reduction(barriers: Loaded) -> None:
    data = np.arange(10_000, dtype=np.float32) % 17
    out = np.zeros(4, np.float32)
    barriers.launch("reduce", 4, 256, data, out, len(data), shared=1024)
    assert out.sum() == data.sum()


def test_transpose(barriers: Loaded) -> None:
    data = np.arange(50 * 35, dtype=np.int32).reshape(35, 50)
    out = np.zeros((50, 35), np.int32)
    barriers.launch("transpose", (4, 3), (16, 16), data, out, 50, 35)
    assert np.array_equal(out, data.T)


def test_scan(barriers: Loaded) -> None:
    data, out = np.arange(256, dtype=np.int32), np.zeros(256, np.int32)
    barriers.launch("scan", 1, 256, data, out)
    assert np.array_equal(out, np.cumsum(data))


def test_barriers_with_ids_in_divergent_code(barriers: Loaded) -> None:
    out = np.zeros(128, np.int32)
    barriers.launch("named", 1, 128, out)
    i = np.arange(64)
    assert np.array_equal(out, np.concatenate([(i + 5) & 63, 64 + ((i + 1) & 63)]))


def test_barrier_reductions(barriers: Loaded) -> None:
    data = np.arange(96, dtype=np.int32)
    some, every, count = (np.zeros(96, np.int32) for _ in range(3))
    barriers.launch("counts", 1, 96, data, some, every, count)
    assert (some == 1).all()
    assert (every == 1).all()
    assert (count == 48).all()


def test_exited_threads_are_not_waited_for(barriers: Loaded) -> None:
    out = np.full(64, -1, np.int32)
    barriers.launch("early_exit", 1, 64, out, 40)
    assert np.array_equal(out[:40], np.arange(40)[::-1])
    assert (out[40:] == -1).all()


def test_arrive_does_not_wait(barriers: Loaded) -> None:
    out = np.zeros(32, np.int32)
    barriers.launch("producer", 1, 64, out)
    assert np.array_equal(out, np.arange(32) * 3)


def test_barrier_that_cannot_complete_is_an_error(barriers: Loaded) -> None:
    with pytest.raises(LaunchError, match="can never go on") as caught:
        barriers.launch("stuck", 1, 128, np.zeros(128, np.int32))
    assert caught.value.code == 3


def test_local_memory_survives_a_barrier(barriers: Loaded) -> None:
    data, out = np.arange(8, dtype=np.int32) * 10, np.zeros(64, np.int32)
    barriers.launch("local_across", 1, 64, data, out, 3)
    t = np.arange(64)
    assert np.array_equal(out, (30 + 63 - t) + (40 + t))


def test_shuffles(warps: Loaded) -> None:
    n = 64
    data, out = (
        np.random.default_rng(4).integers(0, 99, n).astype(np.int32),
        np.zeros((8, n), np.int32),
    )
    warps.launch("shuffles", 1, n, data, out, n)
    t = np.arange(n)
    lane, warp = t & 31, t & ~31
    assert np.array_equal(out[0], data[np.where(lane >= 3, t - 3, t)])
    assert np.array_equal(out[1], data[np.where(lane + 5 < 32, np.minimum(t + 5, n - 1), t)])
    assert np.array_equal(out[2], data[t ^ 9])
    assert np.array_equal(out[3], data[warp + 7])
    assert np.array_equal(out[4], data[warp + (t * 5 & 31)])
    assert np.array_equal(out[5], data[np.where(lane % 8 >= 2, t - 2, t)])
    assert np.array_equal(out[6], data[np.where(lane % 16 + 3 < 16, np.minimum(t + 3, n - 1), t)])
    assert np.array_equal(out[7], data[(t & ~3) + 2])


def test_warp_sum(warps: Loaded) -> None:
    data, out = np.arange(3000, dtype=np.float32) % 7, np.zeros(1, np.float32)
    warps.launch("warp_sum", 3, 128, data, out, len(data))
    assert out[0] == data.sum()


def test_votes_matches_and_reductions(warps: Loaded) -> None:
    n = 64
    data, out = (
        np.random.default_rng(5).integers(0, 100, n).astype(np.int32),
        np.zeros((9, n), np.uint32),
    )
    warps.launch("votes", 1, n, data, out, n)
    for start in (0, 32):
        part, got = data[start : start + 32], out[:, start : start + 32]

        def mask(bits: np.ndarray) -> int:
            return int(sum(1 << i for i, b in enumerate(bits) if b))

        assert (got[0] == mask(part & 1)).all()
        assert (got[1] == (part > 95).any()).all()
        assert (got[2] == 1).all()
        assert got[3].tolist() == [mask((part & 3) == (v & 3)) for v in part]
        assert (got[4] == (0xFFFFFFFF + 1) & 0xFFFFFFFF).all()
        assert (got[5] == part.sum()).all()
        assert (got[6].view(np.int32) == (part - 50).max()).all()
        assert (got[7] == np.bitwise_xor.reduce(part)).all()
        assert got[8].tolist() == [mask((part & 1) == (v & 1)) for v in part]


def test_divergent_halves_shuffle_apart(warps: Loaded) -> None:
    data, out = np.arange(32, dtype=np.int32) ** 2, np.zeros(32, np.int32)
    warps.launch("divergent", 1, 32, data, out)
    t = np.arange(32)
    odd = data + data[t ^ 2] + 16000
    even = data - data[t ^ 4]
    assert np.array_equal(out, np.where(t & 1, odd, even))


def test_groups_with_masks_of_their_own(warps: Loaded) -> None:
    data, out = np.arange(32, dtype=np.int32), np.zeros(32, np.int32)
    warps.launch("half_warps", 1, 32, data, out)
    assert (out[:16] == data[:16].sum() + 800000).all()
    assert (out[16:] == data[16:].sum() + 800000).all()


def test_lane_registers(warps: Loaded) -> None:
    out = np.zeros((4, 96), np.uint32)
    warps.launch("lanes", 1, (8, 12), out, 8)
    warps.launch("lanes", 1, 96, out, 96)
    lane = np.arange(96, dtype=np.uint64) & np.uint64(31)
    assert np.array_equal(out[0], lane)
    assert np.array_equal(out[1], np.arange(96) // 32)
    assert np.array_equal(out[2], (np.uint64(1) << lane) - np.uint64(1))
    assert np.array_equal(out[3], 0xFFFFFFFF & ~((np.uint64(1) << lane) - np.uint64(1)))


def test_global_atomics(atomics: Loaded) -> None:
    i, u = np.array([0, 0, 0, 0, -1, 0, 0], np.int32), np.array([5000, 0, 3, 4], np.uint32)
    big, f, d = np.zeros(2, np.uint64), np.zeros(1, np.float32), np.zeros(1)
    n = 200
    atomics.launch("global_ops", 4, 50, i, u, big, f, d)
    t = np.arange(n)
    assert i.tolist() == [t.sum(), -t.sum(), -199, 199, ~0xFF, 0xFFFF, np.bitwise_xor.reduce(t)]
    inc, dec = 3, 4
    for _ in range(n):
        inc = 0 if inc >= 9 else inc + 1
        dec = 6 if dec == 0 or dec > 6 else dec - 1
    assert u.tolist() == [801, 995, inc, dec]
    assert big.tolist() == [int(t.sum()) << 30, 199 << 33]
    assert f[0] == 100
    assert d[0] == 50


def test_histogram(atomics: Loaded) -> None:
    data = np.random.default_rng(6).integers(0, 256, 20_000).astype(np.uint8)
    out = np.zeros(256, np.uint32)
    atomics.launch("histogram", 5, 128, data, out, len(data))
    assert np.array_equal(out, np.bincount(data, minlength=256))


def test_shared_atomics(atomics: Loaded) -> None:
    out = np.zeros(7, np.int32)
    n = 64
    atomics.launch("shared_ops", 1, n, out)
    inc, dec = 0, 0
    for _ in range(n):
        inc = 0 if inc >= 6 else inc + 1
        dec = 4 if dec == 0 or dec > 4 else dec - 1
    assert out.tolist() == [n * (n - 1) // 2, 189, -63, 0, inc, dec, 32]


def test_lanes_may_spin_on_a_lock(atomics: Loaded) -> None:
    lock, value, best = np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.float32)
    atomics.launch("spin", 2, 64, lock, value, best)
    assert value[0] == 128
    assert best[0] == 63


def test_blocks_may_wait_for_later_blocks(atomics: Loaded) -> None:
    turn, order = np.zeros(1, np.int32), np.zeros(20, np.int32)
    atomics.launch("chain", 20, 64, turn, order)
    assert order.tolist() == list(range(20))[::-1]


def test_cas_of_16_bits(atomics: Loaded) -> None:
    word, wins = np.array([7, 7], np.uint16), np.zeros(1, np.int32)
    atomics.launch("cas16", 1, 32, word, wins)
    assert wins[0] == 1
    assert 100 <= word[0] < 132
    assert word[1] == 7
