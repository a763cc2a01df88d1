# SPDX-License-Identifier: Apache-2.0
"""A quota holds for every way to memory, may change while the client runs, and is what others can rely on."""

from __future__ import annotations

import os
import re
import struct
import threading
from pathlib import Path

import pytest
from counters import counters_in, first_address
from orion_raw_client import RawClient, Refused, SessionLost
from orion_server.errors import OrionServerError
from orion_server.status import query

try:
    import tomllib
except ImportError:
    import tomli as tomllib  # type: ignore[no-redef]

MIB = 1 << 20
OUT_OF_MEMORY = 2
SPEC = Path(__file__).parents[2] / "csrc" / "spec"

# Every operation that charges memory, with its arguments for a size.
PATHS = {
    "cuMemAlloc_v2": lambda size: struct.pack("<Q", size),
    "cuMemAllocAsync": lambda size: struct.pack("<QQ", size, 0),
    "orionArenaExtend": lambda size: struct.pack("<QII", size, 0, 0),
}
# Declares a variable of 24 MiB; every module with it is charged for its own.
VARIABLE = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .global .align 4 .b8 wide[25165824];
.visible .entry nothing() { ret; }
\0"""
# Writes `words` times the 64-bit `value` from `p` on.
POKE = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry poke(.param .u64 p, .param .u64 value, .param .u64 words)
{
    .reg .pred %p<2>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [p];
    ld.param.u64 %rd2, [value];
    ld.param.u64 %rd3, [words];
LOOP:
    st.global.u64 [%rd1], %rd2;
    add.u64 %rd1, %rd1, 8;
    sub.u64 %rd3, %rd3, 1;
    setp.ne.u64 %p1, %rd3, 0;
    @%p1 bra LOOP;
    ret;
}
\0"""


@pytest.fixture
def server(cpu_server):
    cpu_server.wait_idle()
    return cpu_server


def change(server, client: RawClient, **limits: object) -> dict[str, object]:
    request = {"op": "limit", "session": client.welcome.session_id, **limits}
    return query(server.address, request=request)


def device(server) -> dict[str, int]:
    return server.status()["devices"][0]


def fill(client: RawClient, piece: int = 4 * MIB) -> int:
    """Allocates until there is no more; the bytes."""
    got = 0
    while True:
        try:
            client.alloc(piece)
        except MemoryError:
            return got
        got += piece


def test_every_operation_that_allocates_is_tried_here():
    charged = set()
    for path in SPEC.glob("*.toml"):
        for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if isinstance(entry, dict) and entry.get("allocates", "nothing") != "nothing":
                charged.add(name)
    assert charged == {*PATHS, "orionModuleLoad"}  # the last: test_variables_of_modules_count


def test_tests_that_answer_complaints_about_other_limiters_exist():
    page = (SPEC.parents[1] / "docs" / "sharing.md").read_text(encoding="utf-8")
    table = page[page.index("## What limiters inside the program get wrong") :]
    named = set(re.findall(r"`(test_\w+|what_\w+)`", table))
    tests = [*SPEC.parents[1].glob("tests/**/*.py"), *SPEC.parents[1].glob("tests/**/*.c")]
    there = "".join(path.read_text(encoding="utf-8") for path in tests)
    assert len(named) >= 10
    assert not {
        name for name in named if not re.search(rf"^(def|static void) {name}\(", there, re.M)
    }


@pytest.mark.parametrize("name", PATHS)
def test_no_operation_passes_the_quota(server, name):
    with RawClient(server.socket, gmem_mib=32) as client:
        assert client.call(name, PATHS[name](20 * MIB))[0] == 0
        assert client.call(name, PATHS[name](14 * MIB))[0] == OUT_OF_MEMORY
        assert client.info()[0] == 12 * MIB
        assert client.call(name, PATHS[name](12 * MIB))[0] == 0
        assert client.info()[0] == 0


def test_variables_of_modules_count(server):
    with RawClient(server.socket, gmem_mib=32) as client:
        assert client.load(VARIABLE) == 0
        client.function("nothing")
        assert client.info()[0] < 8 * MIB + 1
        assert client.load(VARIABLE, module=1 << 32 | 1) == OUT_OF_MEMORY
        assert client.info()[0] < 8 * MIB + 1


def test_quota_can_grow_while_the_client_runs(server):
    with RawClient(server.socket, gmem_mib=32) as client:
        assert fill(client) == 32 * MIB
        assert change(server, client, memory=64 * MIB)["memory_limit"] == 64 * MIB
        assert client.info() == (32 * MIB, 64 * MIB)
        assert fill(client) == 32 * MIB
        assert server.status()["clients"][0]["memory_limit"] == 64 * MIB


def test_quota_can_shrink_below_what_is_used(server):
    with RawClient(server.socket, gmem_mib=64) as client:
        held = [client.alloc(16 * MIB) for _ in range(3)]
        change(server, client, memory=24 * MIB)
        assert client.info() == (0, 24 * MIB)
        with pytest.raises(MemoryError):
            client.alloc(1)
        client.copy_in(held[2], b"still there")
        assert client.copy_out(held[2], 11)[1] == b"still there"
        client.free(held[0])
        with pytest.raises(MemoryError):
            client.alloc(1)
        client.free(held[1])
        assert client.info()[0] == 8 * MIB
        client.alloc(8 * MIB)
        with pytest.raises(MemoryError):
            client.alloc(1)


def test_limits_that_make_no_sense_are_refused(server):
    with RawClient(server.socket, gmem_mib=64) as client, RawClient(server.socket, gmem_mib=100):
        for limits, why in (
            ({"memory": 512 * MIB}, "more than device 0 has"),
            ({"memory": 200 * MIB}, "cannot be promised"),
            ({"memory": -1}, "more than device"),
            ({"memory": "much"}, "must be of type int"),
            ({"ratio": 101}, "ratio of 101 %"),
            ({"ratio": 0}, "ratio of 0 %"),
            ({"ratio": True}, "must be of type int"),
            ({"mode": "rude"}, "no way to share"),
        ):
            with pytest.raises(OrionServerError, match=why):
                change(server, client, **limits)
        assert client.info() == (64 * MIB, 64 * MIB)
    with pytest.raises(OrionServerError, match="no session"):
        query(server.address, request={"op": "limit", "session": 1 << 40})


def test_promised_memory_is_kept_free_for_its_lease(server):
    """One client may take what is left, and asks for all; what was promised to the other is there later."""
    with RawClient(server.socket, gmem_mib=128) as promised, RawClient(server.socket) as greedy:
        assert fill(greedy) <= 128 * MIB
        assert fill(promised) == 128 * MIB
        assert device(server)["memory_granted"] <= 256 * MIB


def test_more_than_there_is_cannot_be_promised(server):
    with RawClient(server.socket, gmem_mib=200):
        with pytest.raises(Refused, match="100 MiB cannot be promised: other clients leave 56 MiB"):
            RawClient(server.socket, gmem_mib=100)
        RawClient(server.socket, gmem_mib=56).close()


def test_next_client_waits_for_the_one_that_is_just_leaving(server):
    for _ in range(10):
        client = RawClient(server.socket, gmem_mib=256)
        client.alloc(100 * MIB)
        client.close()


def test_overcommit_has_to_be_asked_for(make_server):
    server = make_server(
        "--device", "null", "--memory", "256M", "--memory-overcommit", "2", "--vgpu", "8"
    )
    with (
        RawClient(server.socket, gmem_mib=256) as one,
        RawClient(server.socket, gmem_mib=256) as two,
    ):
        with pytest.raises(Refused, match="cannot be promised"):
            RawClient(server.socket, gmem_mib=64)
        assert fill(one) + fill(two) <= 256 * MIB
        assert device(server)["memory_granted"] <= 256 * MIB


def test_lease_memory_is_what_a_client_without_a_wish_gets(make_server):
    server = make_server(
        "--device", "null", "--memory", "256M", "--vgpu", "4", "--lease-memory", "share"
    )
    with RawClient(server.socket) as client:
        assert client.info() == (64 * MIB, 64 * MIB)


def test_burst_of_allocations_never_exceeds_the_device(server):
    """Eight clients take what they can, as fast as they can, in many sizes."""
    clients = [RawClient(server.socket, gmem_mib=16 if i % 2 else 0) for i in range(8)]
    held = [0] * len(clients)
    most = 0

    def take(i: int) -> None:
        size = 1 * MIB + i * 123_456
        for _ in range(200):
            try:
                clients[i].alloc(size)
            except MemoryError:
                return
            held[i] += size

    threads = [threading.Thread(target=take, args=(i,)) for i in range(len(clients))]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, device(server)["memory_granted"])
    for thread in threads:
        thread.join()
    most = max(most, device(server)["memory_granted"])
    try:
        assert 0 < sum(held) <= most <= 256 * MIB
        assert all(held[i] > 12 * MIB for i in range(1, len(clients), 2))  # the promised ones
    finally:
        for client in clients:
            client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look for a worker's counters")
def test_kernel_that_overwrites_its_workers_counters_gains_nothing(server):
    """Its worker then believes that nothing is used; the supervisor has counted what it gave."""
    odd = 30 * MIB + 37 * 4096
    with (
        RawClient(server.socket, gmem_mib=100) as other,
        RawClient(server.socket, gmem_mib=32) as bad,
    ):
        assert bad.load(POKE) == 0
        assert bad.function("poke")[0] == 0
        bad.alloc(odd)
        used = 32 * MIB - bad.info()[0]
        places = counters_in(bad.welcome.worker_pid, used)
        assert places, "the worker's count of used bytes was not found"
        for place in places:
            bad.launch(struct.pack("<QQQ", place, 0, 1))
        assert bad.call("cuCtxSynchronize")[0] == 0
        assert bad.info()[0] > 20 * MIB, "the counter was not overwritten"
        fill(bad, 2 * MIB)
        row = next(r for r in server.status()["clients"] if r["session"] == bad.welcome.session_id)
        assert row["memory_granted"] <= 32 * MIB
        assert fill(other) == 100 * MIB
        assert device(server)["memory_granted"] <= 256 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at a worker's mappings")
def test_kernel_cannot_write_its_own_lease(server):
    with RawClient(server.socket, gmem_mib=32) as client:
        assert client.load(POKE) == 0
        assert client.function("poke")[0] == 0
        maps = Path(f"/proc/{client.welcome.worker_pid}/maps").read_text()
        lease = next(line for line in maps.splitlines() if "orion-lease" in line)
        assert lease.split()[1].startswith("r--")
        client.launch(struct.pack("<QQQ", int(lease.split("-")[0], 16) + 8, 1 << 40, 1))
        with pytest.raises(SessionLost):
            client.call("cuCtxSynchronize")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at a worker's mappings")
def test_overwritten_statistics_are_not_believed(server):
    with RawClient(server.socket, gmem_mib=32) as client:
        assert client.load(POKE) == 0
        assert client.function("poke")[0] == 0
        first = first_address(client.welcome.worker_pid, "orion-stats")
        client.launch(struct.pack("<QQQ", first + 8, (1 << 64) - 1, 500))
        client.call("cuCtxSynchronize")
        row = server.status()["clients"][0]
        assert row["memory_used"] <= 32 * MIB + 64 * MIB * 2
        assert row["busy_seconds"] < 20
        assert 0 <= row["busy"] <= 1
