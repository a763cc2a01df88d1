# SPDX-License-Identifier: Apache-2.0
"""The memory limit is exact, hard, and free again when it should be."""

from __future__ import annotations

import struct

import pytest
from orion_raw_client import RawClient

MIB = 1 << 20


@pytest.fixture(params=["null_server", "cpu_server"])
def server(request):
    return request.getfixturevalue(request.param)


def test_limit_is_exact_to_the_byte(server):
    with RawClient(server.socket, gmem_mib=64) as client:
        assert client.info() == (64 * MIB, 64 * MIB)
        a = client.alloc(63 * MIB)
        with pytest.raises(MemoryError):
            client.alloc(MIB + 1)
        b = client.alloc(MIB)
        assert client.info()[0] == 0
        with pytest.raises(MemoryError):
            client.alloc(1)
        client.free(b)
        client.free(a)
        assert client.info() == (64 * MIB, 64 * MIB)
        client.free(client.alloc(64 * MIB))


def test_wish_beyond_the_device_gives_the_device(server):
    with RawClient(server.socket, gmem_mib=1 << 40) as client:
        assert client.info()[1] == 256 * MIB


def test_arena_counts_against_the_same_limit(server):
    with RawClient(server.socket, gmem_mib=16) as client:
        result, data, _ = client.call("orionArenaExtend", struct.pack("<QII", 4 * MIB, 0, 0))
        assert result == 0
        offset = struct.unpack("<Q", data)[0]
        client.take_notices()
        assert [e[:2] for e in client.extents] == [(offset, 4 * MIB)]
        assert client.info()[0] == 12 * MIB
        with pytest.raises(MemoryError):
            client.alloc(12 * MIB + 1)
        assert client.call("orionArenaExtend", struct.pack("<QII", 14 * MIB, 0, 0))[0] == 2
        client.post("orionArenaRelease", struct.pack("<Q", offset))
        assert client.info()[0] == 16 * MIB


def test_odd_arena_sizes_are_refused(server):
    with RawClient(server.socket) as client:
        for size in (0, 1, 4096, (1 << 64) - 1, 1 << 63):
            assert client.call("orionArenaExtend", struct.pack("<QII", size, 0, 0))[0] != 0
        assert client.info()[0] == client.info()[1]


def test_huge_and_zero_allocations_fail_cleanly(server):
    with RawClient(server.socket) as client:
        for size in (0, (1 << 64) - 1, 1 << 63, 1 << 48):
            with pytest.raises(MemoryError):
                client.alloc(size)
        assert client.info()[0] == 256 * MIB


def test_wrong_frees_do_not_disturb_the_ledger(server):
    with RawClient(server.socket) as client:
        address = client.alloc(MIB)
        for wrong in (0, 1, address + 512, (1 << 64) - 1, client.welcome.range_base):
            client.free(wrong)
        result, _, sticky = client.call("cuMemGetInfo_v2")
        assert result == 0
        assert sticky != 0  # an asynchronous failure stays until a reset
        assert client.info()[0] == 255 * MIB


def test_ranges_outside_of_allocations_are_refused(server):
    with RawClient(server.socket) as client:
        address = client.alloc(4096)
        assert client.copy_out(address, 4000)[0] == 0
        assert client.copy_out(address + 4000, 97)[0] != 0
        assert client.copy_out(address - 1, 2)[0] != 0
        assert client.copy_out(0x400000, 16)[0] != 0
        assert client.copy_out((1 << 64) - 8, 16)[0] != 0


def test_reset_frees_everything_and_clears_the_error(server):
    with RawClient(server.socket) as client:
        client.alloc(8 * MIB)
        client.call("orionArenaExtend", struct.pack("<QII", 2 * MIB, 0, 0))
        client.copy_in(1234, b"x")  # illegal address
        assert client.call("cuMemGetInfo_v2")[2] == 700
        assert client.call("orionContextReset")[0] == 0
        result, data, sticky = client.call("cuMemGetInfo_v2")
        assert (result, sticky) == (0, 0)
        assert struct.unpack_from("<Q", data)[0] == 256 * MIB
        client.copy_in(client.alloc(64), b"again")
        assert client.call("cuCtxSynchronize")[0] == 0


def test_fresh_memory_of_a_new_session_is_zero(server):
    with RawClient(server.socket) as client:
        address = client.alloc(MIB)
        client.copy_in(address, b"secret" * 100)
        assert client.copy_out(address, 600)[1] == b"secret" * 100
    server.wait_idle()
    with RawClient(server.socket) as client:
        assert client.copy_out(client.alloc(MIB), 4000) == (0, bytes(4000))


def test_lease_is_free_at_once_when_the_client_goes(server):
    server.wait_idle()
    client = RawClient(server.socket)
    client.alloc(200 * MIB)
    assert server.status()["devices"][0]["memory_granted"] >= 200 * MIB
    client.close()
    server.wait_idle(2.0)
    assert server.status()["devices"][0]["memory_granted"] == 0


def test_device_is_shared_by_leases(server):
    """Each lease may want everything; what is really there is given once."""
    with RawClient(server.socket) as one, RawClient(server.socket) as two:
        one.alloc(200 * MIB)
        with pytest.raises(MemoryError):
            two.alloc(200 * MIB)
