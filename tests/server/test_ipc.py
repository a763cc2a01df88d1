# SPDX-License-Identifier: Apache-2.0
"""Memory and events of one client, opened by another: who may, what it sees, who pays, and what is left of it."""

from __future__ import annotations

import os
import random
import secrets
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from orion_raw_client import RawClient
from orion_server_fixtures import wait_for

MIB = 1 << 20
INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONTEXT, INVALID_HANDLE, NOT_READY = 1, 2, 201, 400, 600
INTERPROCESS = 4 | 2


@pytest.fixture(params=["null_server", "cpu_server"])
def server(request):
    server = request.getfixturevalue(request.param)
    server.wait_idle()
    yield server
    server.wait_idle()
    assert server.status()["devices"][0]["memory_granted"] == 0


class Client(RawClient):
    def share(self, address: int) -> bytes:
        result, data, _ = self.call("orionIpcShareMemory", struct.pack("<Q", address))
        assert result == 0, result
        return data[8:72]

    def open(self, handle: bytes) -> tuple[int, int, int]:
        """Result, address, size."""
        result, data, _ = self.call(
            "orionIpcOpenMemory", struct.pack("<II", len(handle), 0) + handle
        )
        return (result, *(struct.unpack_from("<QQ", data) if not result else (0, 0)))

    def end(self, address: int) -> tuple[int, int]:
        """Result of closing, and how many openings are left."""
        result, data, _ = self.call("orionIpcCloseMemory", struct.pack("<Q", address))
        return result, struct.unpack_from("<I", data)[0] if not result else 0

    def event(self, number: int, flags: int = INTERPROCESS) -> int:
        event = 1 << 32 | number
        self.post("cuEventCreate", struct.pack("<QII", event, flags, 0))
        return event

    def share_event(self, event: int) -> tuple[int, bytes]:
        result, data, _ = self.call("orionIpcShareEvent", struct.pack("<Q", event))
        return result, data[8:72]

    def open_event(self, number: int, handle: bytes) -> tuple[int, int]:
        event = 1 << 32 | number
        payload = struct.pack("<QII", event, len(handle), 0) + handle
        return self.call("orionIpcOpenEvent", payload)[0], event

    def record(self, event: int, stream: int = 0) -> None:
        """As libcuda does it for such events: the record is there when this returns."""
        self.post("cuEventRecord", struct.pack("<QQ", event, stream))
        self.query(event)

    def query(self, event: int) -> int:
        return self.call("cuEventQuery", struct.pack("<Q", event))[0]

    def hold(self, cookie: int, stream: int = 0) -> None:
        """The stream waits there until go()."""
        self.post("orionHostFunc", struct.pack("<QQ", stream, cookie))

    def go(self, cookie: int) -> None:
        self.post("orionHostFuncDone", struct.pack("<Q", cookie))


@pytest.fixture
def pair(server):
    with Client(server.socket) as one, Client(server.socket) as two:
        yield one, two


def granted(server) -> int:
    return int(server.status()["devices"][0]["memory_granted"])


@pytest.mark.parametrize("size", [1, 4096, 5000, 3 * MIB + 1, 64 * MIB, 65 * MIB + 1])
def test_memory_is_the_same_in_both(pair, size):
    one, two = pair
    address = one.alloc(size)
    one.copy_in(address, b"a" * min(size, 4000))
    handle = one.share(address)
    assert one.copy_out(address, min(size, 100)) == (0, b"a" * min(size, 100))
    result, there, bytes_there = two.open(handle)
    assert (result, bytes_there) == (0, size)
    assert two.copy_out(there, min(size, 4000)) == (0, b"a" * min(size, 4000))
    two.copy_in(there + size - 1, b"b")
    assert two.copy_out(there + size - 1, 1) == (0, b"b")
    assert one.copy_out(address + size - 1, 1) == (0, b"b")
    assert two.copy_out(there + size, 1)[0] != 0
    assert two.end(there) == (0, 0)
    assert two.copy_out(there, 1)[0] != 0
    assert two.end(there)[0] == INVALID_VALUE
    assert one.copy_out(address + size - 1, 1) == (0, b"b")


def test_neighbours_in_the_same_extent_are_not_shown(pair):
    """The worker of the second client has nothing of them mapped, and its descriptor does not reach them."""
    one, two = pair
    addresses = [one.alloc(100) for _ in range(3)]
    assert addresses[2] - addresses[0] < MIB
    for number, address in enumerate(addresses):
        one.copy_in(address, bytes([number + 1]) * 100)
    _, there, size = two.open(one.share(addresses[1]))
    assert size == 100
    maps = Path(f"/proc/{two.welcome.worker_pid}/maps").read_text().splitlines()
    ours = [line for line in maps if line.startswith(f"{there:x}-")]
    assert len(ours) == 1
    end = int(ours[0].split()[0].split("-")[1], 16)
    assert end - there == 4096
    assert two.copy_out(there, 100) == (0, b"\2" * 100)
    for number, address in enumerate(addresses):
        assert one.copy_out(address, 100) == (0, bytes([number + 1]) * 100)


def test_handle_is_the_same_each_time_and_new_for_new_memory(pair):
    one, two = pair
    address = one.alloc(5000)
    handle = one.share(address)
    assert one.share(address) == handle
    assert one.share(address + 4999) == handle  # any address of the allocation
    one.free(address)
    assert one.call("cuCtxSynchronize")[0] == 0
    assert one.alloc(5000) == address
    assert one.copy_out(address, 8)[0] == 0
    assert two.open(handle)[0] == INVALID_HANDLE
    assert one.share(address) != handle


def test_openings_are_counted(pair):
    one, two = pair
    handle = one.share(one.alloc(5000))
    _, there, _ = two.open(handle)
    assert two.open(handle) == (0, there, 5000)
    assert two.end(there) == (0, 1)
    assert two.copy_out(there, 4)[0] == 0
    assert two.end(there) == (0, 0)
    assert two.copy_out(there, 4)[0] != 0


def test_own_handle_is_refused_as_cuda_refuses_it(pair):
    one, _ = pair
    assert one.open(one.share(one.alloc(100)))[0] == INVALID_CONTEXT
    event = one.event(1)
    assert one.open_event(2, one.share_event(event)[1])[0] == INVALID_CONTEXT


def test_forged_handles_open_nothing(pair):
    one, two = pair
    handle = one.share(one.alloc(100))
    flipped = [handle[:i] + bytes([handle[i] ^ 1]) + handle[i + 1 :] for i in range(64)]
    for forged in [bytes(64), b"\xff" * 64, secrets.token_bytes(64), *flipped]:
        assert two.open(forged)[0] == INVALID_HANDLE
        assert two.open_event(1, forged)[0] == INVALID_HANDLE
    for length in (0, 1, 63, 65, 1000):
        assert two.open(handle.ljust(length, b"\0")[:length])[0] == INVALID_VALUE
    assert two.open_event(1, handle)[0] == INVALID_HANDLE  # memory is no event
    assert two.open(handle)[0] == 0


def test_only_device_memory_of_the_client_can_be_shared(pair):
    one, _ = pair
    address = one.alloc(100)
    other = [0, address + 100, address - 1, 1 << 63, one.welcome.range_base]
    assert one.call("orionArenaExtend", struct.pack("<QII", 2 * MIB, 0, 0))[0] == 0
    for wrong in other:
        assert one.call("orionIpcShareMemory", struct.pack("<Q", wrong))[0] == INVALID_VALUE


def test_opened_memory_cannot_be_freed_or_shared_again(pair):
    one, two = pair
    _, there, _ = two.open(one.share(one.alloc(100)))
    assert two.call("orionIpcShareMemory", struct.pack("<Q", there))[0] == INVALID_VALUE
    two.free(there)
    assert (
        two.call("cuMemGetInfo_v2")[2] == INVALID_VALUE
    )  # sticky, as each failure that nobody waits for
    assert two.copy_out(there, 4)[0] == 0


@pytest.mark.parametrize("size", [5000, 65 * MIB])
def test_memory_stays_until_the_last_one_has_closed_it(pair, server, size):
    one, two = pair
    address = one.alloc(size)
    one.copy_in(address, b"kept")
    handle = one.share(address)
    _, there, _ = two.open(handle)
    one.free(address)
    assert one.call("cuCtxSynchronize")[0] == 0
    assert one.info()[0] == one.info()[1]
    again = one.alloc(size)  # perhaps the same address, but not the same memory
    one.copy_in(again, b"else")
    assert one.copy_out(again, 4) == (0, b"else")
    assert two.copy_out(there, 4) == (0, b"kept")
    assert two.open(handle) == (0, there, size)  # opened before, so there is nothing to look up
    with Client(server.socket) as three:
        assert three.open(handle)[0] == INVALID_HANDLE
    before = granted(server)
    two.end(there)
    two.end(there)
    wait_for(lambda: granted(server) < before, what="the memory to be free")


@pytest.mark.parametrize("size", [5000, 65 * MIB])
def test_memory_outlives_the_client_that_has_shared_it(server, size):
    with Client(server.socket) as two:
        one = Client(server.socket)
        address = one.alloc(size)
        one.copy_in(address, b"left")
        handle = one.share(address)
        _, there, _ = two.open(handle)
        os.kill(one.welcome.worker_pid, signal.SIGKILL)
        one.await_end()
        one.close()
        wait_for(lambda: len(server.status()["clients"]) == 1, what="the end of the first session")
        assert two.copy_out(there, 4) == (0, b"left")
        assert granted(server) >= size  # the second client pays now
        with Client(server.socket) as three:
            assert three.open(handle)[0] == INVALID_HANDLE
        assert two.end(there) == (0, 0)
        wait_for(lambda: granted(server) == 0, what="the memory to be free")


def test_client_that_inherits_more_than_its_limit_gets_nothing_more(server):
    with Client(server.socket, gmem_mib=1) as two:
        one = Client(server.socket)
        addresses = [one.alloc(66 * MIB) for _ in range(2)]
        handles = [one.share(a) for a in addresses]
        opened = [two.open(h)[1] for h in handles]
        assert two.info()[0] == MIB  # as long as the other one pays
        one.close()
        wait_for(lambda: len(server.status()["clients"]) == 1, what="the end of the first session")
        assert granted(server) == 2 * 66 * MIB
        with pytest.raises(MemoryError):
            two.alloc(1)
        with Client(server.socket) as three:
            assert two.open(three.share(three.alloc(1)))[0] == OUT_OF_MEMORY
        assert all(two.copy_out(a, 4)[0] == 0 for a in opened)
        two.end(opened[0])
        two.end(opened[1])
        two.free(two.alloc(1))


def test_client_that_opens_is_not_charged_and_the_other_is_once(pair, server):
    one, two = pair
    before = two.info()
    address = one.alloc(100 * MIB)
    mine = one.info()
    all_of_it = granted(server)
    two.open(one.share(address))
    assert two.info() == before
    assert one.info() == mine
    assert granted(server) == all_of_it


def test_full_lease_can_share_all_that_it_has(server):
    """An allocation that leaves its extent for memory of its own is there only once."""
    with Client(server.socket, gmem_mib=128) as one, Client(server.socket) as two:
        addresses = [one.alloc(size * MIB) for size in (40, 40, 40, 4, 2, 2)]
        before = granted(server)
        for address in addresses:
            one.copy_in(address, struct.pack("<Q", address))
        opened = [two.open(one.share(address))[1] for address in addresses]
        wait_for(lambda: granted(server) == before, what="the places that were left to be free")
        for address, there in zip(addresses, opened, strict=True):
            assert two.copy_out(there, 8) == (0, struct.pack("<Q", address))
        one.free(addresses[0])
        assert one.call("cuCtxSynchronize")[0] == 0
        held = granted(server)
        assert held >= before  # the other one still has it
        two.end(opened[0])
        wait_for(lambda: granted(server) == held - 40 * MIB, what="the memory to be free")


def test_reset_ends_what_was_shared_and_what_was_opened(pair):
    one, two = pair
    handle = one.share(one.alloc(5000))
    _, there, _ = two.open(handle)
    assert two.call("orionContextReset")[0] == 0
    assert two.copy_out(there, 4)[0] != 0
    assert two.end(there)[0] == INVALID_VALUE
    result, there, _ = two.open(handle)
    assert result == 0
    assert one.call("orionContextReset")[0] == 0
    assert two.copy_out(there, 4)[0] == 0
    two.end(there)
    assert two.open(handle)[0] == INVALID_HANDLE


def test_many_allocations_are_shared_and_freed_without_a_trace(pair, server):
    one, two = pair
    first = one.alloc(100)
    idle = granted(server)
    for turn in range(3):
        addresses = [one.alloc(100 + 3000 * i) for i in range(50)]
        for address in addresses:
            one.copy_in(address, struct.pack("<Q", address + turn))
        opened = [two.open(one.share(a))[1] for a in addresses]
        for address, there in zip(addresses, opened, strict=True):
            assert two.copy_out(there, 8) == (0, struct.pack("<Q", address + turn))
            one.free(address)
            two.end(there)
        assert one.call("cuCtxSynchronize")[0] == 0
        wait_for(lambda: granted(server) == idle, what="the extra memory to be free")
    assert one.copy_out(first, 8)[0] == 0


# --- events


def test_event_is_seen_by_the_other_when_it_has_happened(pair):
    one, two = pair
    event = one.event(1)
    _, handle = one.share_event(event)
    result, there = two.open_event(7, handle)
    assert result == 0
    assert two.query(there) == 0  # never recorded
    one.hold(11)
    one.record(event)
    assert one.query(event) == NOT_READY
    assert two.query(there) == NOT_READY
    two.post("cuStreamWaitEvent", struct.pack("<QQII", 0, there, 0, 0))
    address = two.alloc(4096)
    two.copy_in(address, b"after")
    assert two.call("cuStreamQuery", struct.pack("<Q", 0))[0] == NOT_READY
    one.go(11)
    assert two.call("cuEventSynchronize", struct.pack("<Q", there))[0] == 0
    assert two.query(there) == 0
    assert two.copy_out(address, 5) == (0, b"after")


def test_event_recorded_before_it_was_shared_counts(pair):
    one, two = pair
    event = one.event(1)
    one.hold(11)
    one.record(event)
    _, there = two.open_event(7, one.share_event(event)[1])
    assert two.query(there) == NOT_READY
    one.go(11)
    assert two.call("cuEventSynchronize", struct.pack("<Q", there))[0] == 0


def test_either_side_may_record(pair):
    one, two = pair
    event = one.event(1)
    _, there = two.open_event(7, one.share_event(event)[1])
    two.hold(12)
    two.record(there)
    assert one.query(event) == NOT_READY
    one.record(event)  # the latest record counts, and this one has happened
    assert one.query(event) == 0
    assert two.query(there) == 0
    two.record(there)
    assert one.query(event) == NOT_READY
    two.go(12)
    assert one.call("cuEventSynchronize", struct.pack("<Q", event))[0] == 0


def test_many_records_keep_their_order(pair):
    one, two = pair
    event = one.event(1)
    _, there = two.open_event(7, one.share_event(event)[1])
    address = one.alloc(4096)
    _, shared, _ = two.open(one.share(address))
    for turn in range(1, 301):
        one.copy_in(address, struct.pack("<I", turn))
        one.record(event)
        assert one.call("orionStreamBarrier", struct.pack("<Q", 0))[0] == 0
        two.post("cuStreamWaitEvent", struct.pack("<QQII", 0, there, 0, 0))
        assert two.copy_out(shared, 4) == (0, struct.pack("<I", turn))


def test_wait_ends_when_the_recorder_is_killed(server):
    with Client(server.socket) as two:
        one = Client(server.socket)
        event = one.event(1)
        _, there = two.open_event(7, one.share_event(event)[1])
        one.hold(11)
        one.record(event)
        assert two.query(there) == NOT_READY
        sequence = next(two.sequence)
        two.post("cuEventSynchronize", struct.pack("<Q", there), 0, sequence)
        os.kill(one.welcome.worker_pid, signal.SIGKILL)
        began = time.monotonic()
        assert two.await_reply(0, sequence)[0] == 0
        assert time.monotonic() - began < 2.0
        assert two.query(there) == 0
        one.close()


def test_waiting_for_another_client_uses_no_processor(pair):
    one, two = pair
    event = one.event(1)
    _, there = two.open_event(7, one.share_event(event)[1])
    one.hold(11)
    one.record(event)
    sequence = next(two.sequence)
    two.post("cuEventSynchronize", struct.pack("<Q", there), 0, sequence)
    assert one.query(event) == NOT_READY

    def ticks() -> int:
        stat = Path(f"/proc/{two.welcome.worker_pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(1.0)  # the time over which the use is measured
    used = ticks() - before
    one.go(11)
    assert two.await_reply(0, sequence)[0] == 0
    assert used <= os.sysconf("SC_CLK_TCK") // 10


def test_event_without_the_flag_cannot_be_shared(pair):
    one, _ = pair
    assert one.share_event(one.event(1, 2))[0] == INVALID_HANDLE
    one.event(2, 4)  # with timing
    assert one.call("orionDescribe")[2] == INVALID_VALUE


def test_events_go_in_any_order(pair):
    one, two = pair
    event = one.event(1)
    _, handle = one.share_event(event)
    assert one.share_event(event) == (0, handle)
    _, there = two.open_event(7, handle)
    _, twice = two.open_event(8, handle)
    one.hold(11)
    one.record(event)
    assert two.query(there) == two.query(twice) == NOT_READY
    two.post("cuEventDestroy_v2", struct.pack("<Q", twice))
    one.post("cuEventDestroy_v2", struct.pack("<Q", event))
    assert two.query(there) == NOT_READY
    one.go(11)
    assert two.call("cuEventSynchronize", struct.pack("<Q", there))[0] == 0
    assert two.call("orionDescribe")[2] == 0
    with_new_party = [two.open_event(20 + i, handle)[0] for i in range(3)]
    assert with_new_party == [INVALID_HANDLE] * 3


def test_places_of_an_event_are_used_again(pair):
    """More clients than it has places, one after the other; each of them records."""
    one, two = pair
    event = one.event(1)
    _, handle = one.share_event(event)
    for turn in range(150):
        result, there = two.open_event(7, handle)
        assert result == 0, turn
        two.hold(turn + 1)
        two.record(there)
        assert one.query(event) == NOT_READY
        two.go(turn + 1)
        assert one.call("cuEventSynchronize", struct.pack("<Q", event))[0] == 0
        two.post("cuEventDestroy_v2", struct.pack("<Q", there))
        assert two.call("orionDescribe")[2] == 0
    places = [two.open_event(100 + i, handle)[0] for i in range(70)]
    assert places.count(0) == 62
    assert set(places[62:]) == {OUT_OF_MEMORY}


# --- kills


@pytest.mark.parametrize("victim", ["client", "worker"])
def test_kills_at_any_instant_leave_nothing(null_server, tmp_path, victim):
    """A partner shares, opens, records and waits without end; either half of it dies at some moment."""
    script = tmp_path / "partner.py"
    script.write_text(
        "import sys\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import test_ipc, struct\n"
        f"c = test_ipc.Client({str(null_server.socket)!r})\n"
        "print(c.welcome.worker_pid, flush=True)\n"
        "theirs = bytes.fromhex(sys.stdin.readline())\n"
        "event = c.event(1)\n"
        "handle = c.share_event(event)[1]\n"
        "while True:\n"
        "    address = c.alloc(5000)\n"
        "    print((c.share(address) + handle).hex(), flush=True)\n"
        "    there = c.open(theirs)[1]\n"
        "    c.record(event)\n"
        "    c.copy_out(there, 8)\n"
        "    c.end(there)\n"
        "    c.free(address)\n"
    )
    dice = random.Random(5)
    null_server.wait_idle()
    with Client(null_server.socket) as client:
        mine = client.share(client.alloc(5000))
        idle = granted(null_server)
        for turn in range(12):
            partner = subprocess.Popen(
                [sys.executable, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            worker = int(partner.stdout.readline())
            partner.stdin.write(mine.hex() + "\n")
            partner.stdin.flush()
            until = time.monotonic() + dice.uniform(0.0, 0.1)
            opened = []
            while time.monotonic() < until or not opened:
                line = bytes.fromhex(partner.stdout.readline())
                result, there, _ = client.open(line[:64])
                assert result in (0, INVALID_HANDLE)
                if not result:
                    opened.append(there)
                result, event = client.open_event(turn * 1000 + len(opened), line[64:])
                if not result:
                    client.post("cuStreamWaitEvent", struct.pack("<QQII", 0, event, 0, 0))
                    client.post("cuEventDestroy_v2", struct.pack("<Q", event))
            os.kill(partner.pid if victim == "client" else worker, signal.SIGKILL)
            assert client.call("cuCtxSynchronize")[0] == 0
            partner.wait(10)
            partner.stdout.close()
            partner.stdin.close()
            for there in opened:
                assert client.copy_out(there, 8)[0] == 0
                assert client.end(there)[0] == 0
            wait_for(lambda: granted(null_server) == idle, what="all memory to be free")
        assert client.call("orionDescribe")[2] == 0
    null_server.wait_idle()
    assert "Traceback" not in null_server.text()
