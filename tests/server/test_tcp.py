# SPDX-License-Identifier: Apache-2.0
"""Sessions over TCP: served like others, watched for their ends, and a hostile one is nobody else's trouble."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import time
from pathlib import Path

import pytest
from orion_raw_client import OPCODES, RawClient, Refused, SessionLost
from orion_server import errors, greeter, peer, wire
from orion_server.config import Config
from orion_server.errors import Refusal
from orion_server.loop import Loop
from orion_server_fixtures import Server, wait_for
from orion_tcp_client import CREDIT, RECORD, STAGE, TcpClient


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(
        tmp_path_factory.mktemp("tcp"),
        "--device",
        "null",
        "--memory",
        "256M",
        "--bind",
        "127.0.0.1:0",
    )
    yield server
    server.stop()
    assert not server.processes()


@pytest.fixture
def bind(server) -> str:
    return str(server.status()["server"]["bind"])


@pytest.fixture
def bystander(bind):
    with TcpClient(bind) as client:
        yield client
        assert client.call("orionDescribe")[0] == 0


def of_process(server, client) -> dict:
    rows = server.status()["clients"]
    return next(r for r in rows if r["session"] == client.welcome.session_id)


def test_session_is_served_and_shown(server, bind):
    with TcpClient(bind) as client:
        assert client.call("orionDescribe")[0] == 0
        result, data, _ = client.call("cuMemAlloc_v2", struct.pack("<Q", 1 << 20))
        address = struct.unpack_from("<Q", data)[0]
        assert result == 0
        client.post("orionCopyIn", struct.pack("<QQII", address, 0, 8, 0) + b"orion tcp"[:8])
        _, data, _ = client.call("orionCopyOut", struct.pack("<QQII", address, 0, 8, 0))
        assert data[8:16] == b"orion tc"
        row = of_process(server, client)
        assert row["transport"] == "tcp"
        assert row["pid"] == os.getpid()
        assert row["uid"] == os.getuid()
        assert client.welcome.arena_bytes == 0
        assert client.welcome.range_base in (0x100000000000, 0x200000000000)
    server.wait_idle()


def test_chunks_travel_both_ways(bind):
    with TcpClient(bind) as client:
        _, data, _ = client.call("cuMemAlloc_v2", struct.pack("<Q", 1 << 20))
        address = struct.unpack_from("<Q", data)[0]
        chunk = random.Random(3).randbytes(256 << 10)
        client.socket.sendall(client.frame(STAGE, chunk, slot=5, sequence=1))
        client.post("orionCopyInStage", struct.pack("<QQIII", address, 0, len(chunk), 5, 1))
        client.post("orionCopyOutStage", struct.pack("<QQIII", address, 0, 1000, 6, 2))
        assert client.call("cuCtxSynchronize")[0] == 0
        assert client.chunks[6, 2] == chunk[:1000]


def test_mapped_memory_is_not_to_be_had(bind):
    with TcpClient(bind) as client:
        assert (
            client.call("orionArenaExtend", struct.pack("<QII", 2 << 20, 0, 0))[0]
            == errors.NOT_SUPPORTED
        )


def test_killed_worker_leaves_an_epitaph(server, bind):
    client = TcpClient(bind)
    assert client.call("orionDescribe")[0] == 0
    os.kill(of_process(server, client)["worker_pid"], signal.SIGKILL)
    lost = client.await_end()
    assert "SIGKILL" in str(lost)
    assert lost.result > 0
    server.wait_idle()


def test_vanished_client_is_noticed_and_its_worker_ends(server, bind):
    client = TcpClient(bind)
    assert client.call("orionDescribe")[0] == 0
    worker = of_process(server, client)["worker_pid"]
    client.close()
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), 3.0, "the end of the worker")
    server.wait_idle()


def test_client_that_leaves_much_unread_is_noticed_as_well(server, bind):
    client = TcpClient(bind)
    for sequence in range(2000):
        client.post("orionDescribe", slot=1, sequence=sequence)
    client.close()
    server.wait_idle()


def test_administrator_can_end_it(server, bind):
    from orion_server.status import query

    client = TcpClient(bind)
    query(server.address, request={"op": "end", "session": client.welcome.session_id})
    assert "administrator" in str(client.await_end())


@pytest.mark.parametrize(
    "frame",
    [
        RECORD.pack(0, 1, 0, 1, 0),
        RECORD.pack(17, 1, 0, 1, 0),
        RECORD.pack(0xFFFFFFF8, 1, 0, 1, 0),
        RECORD.pack(32 * 1024 + 8, 1, 0, 1, 0),
        RECORD.pack((256 << 10) + 24, STAGE, 0, 1, 0),
        RECORD.pack(64, STAGE, 16, 1, 0) + bytes(48),
        RECORD.pack(16, CREDIT, 0, 99999, 0),
        RECORD.pack(16, 0, 0, 0, 0),
        RECORD.pack(16, 0xFFFF, 0, 0, 0),
        RECORD.pack(16, 60000, 0, 1, 0),
        RECORD.pack(16, OPCODES["orionLaunch"], 0xFFFF, 0, 0),
    ],
)
def test_broken_frame_ends_its_session_with_a_reason(bind, bystander, frame):
    client = TcpClient(bind)
    client.socket.sendall(frame[:12] + struct.pack("<I", client.welcome.epoch) + frame[16:])
    assert "protocol" in str(client.await_end())


def test_frame_of_another_session_ends_it(bind, bystander):
    client = TcpClient(bind)
    client.socket.sendall(RECORD.pack(16, OPCODES["orionDescribe"], 0, 1, bystander.welcome.epoch))
    assert "another session" in str(client.await_end())


def test_truncated_frame_and_a_hang_up_are_an_end(server, bind, bystander):
    for cut in (1, 15, 17, 39):
        client = TcpClient(bind)
        client.socket.sendall(client.frame(OPCODES["cuMemAlloc_v2"], bytes(24), 0, 1)[:cut])
        client.close()
    wait_for(lambda: len(server.status()["clients"]) == 1, 5.0, "only the bystander is left")


def test_random_garbage_never_disturbs_others(server, bind, bystander):
    dice = random.Random(21)
    with RawClient(server.socket) as neighbour:
        for _ in range(40):
            client = TcpClient(bind)
            with contextlib.suppress(OSError):
                for _ in range(10):
                    words = dice.choices([0, 1, 7, 16, 24, client.welcome.epoch, 0xFF01], k=3)
                    garbage = dice.randbytes(dice.choice([8, 64, 4096]))
                    head = RECORD.pack(words[0] * 8, words[1], 0, words[2], client.welcome.epoch)
                    client.socket.sendall(dice.choice([garbage, head + garbage]))
            client.close()
            assert bystander.call("cuMemGetInfo_v2")[0] == 0
            assert neighbour.call("cuMemGetInfo_v2")[0] == 0
    assert "Traceback" not in server.text()


def test_random_operations_never_disturb_others(server, bind, bystander):
    dice = random.Random(22)
    numbers = list(OPCODES.values())
    for _ in range(40):
        client = TcpClient(bind)
        with contextlib.suppress(OSError):
            for turn in range(30):
                words = [
                    dice.choice([0, 1, 2, 1 << 32, 1 << 48, (1 << 64) - 1, 0x100800000000])
                    for _ in range(dice.randrange(16))
                ]
                payload = struct.pack(f"<{len(words)}Q", *words)
                client.post(dice.choice(numbers), payload, dice.choice([0xFFFF, 0, 127, 128]), turn)
        client.close()
    assert bystander.call("cuMemGetInfo_v2")[0] == 0
    assert "Traceback" not in server.text()


def test_memory_of_a_client_that_reads_nothing_is_bounded(server, bind, bystander):
    client = TcpClient(bind)
    assert client.call("orionDescribe")[0] == 0
    worker = of_process(server, client)["worker_pid"]
    before = resident(worker)
    client.socket.settimeout(0.5)
    frame = client.frame(OPCODES["orionDescribe"], b"", 0, 7)
    with contextlib.suppress(TimeoutError):
        for _ in range(2000):
            client.socket.sendall(frame * 1000)
    assert resident(worker) - before < 64 << 20
    assert bystander.call("cuMemGetInfo_v2")[0] == 0
    client.close()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_connection_that_says_nothing_is_dropped(bind):
    address, port = bind.split(":")
    with socket.create_connection((address, int(port)), 10) as line:
        began = time.monotonic()
        welcome = wire.decode_welcome(line.recv(wire.WELCOME.size, socket.MSG_WAITALL))
        assert welcome.status != wire.STATUS_OK
        assert time.monotonic() - began < 8


def test_shared_memory_over_tcp_is_refused_with_what_to_do(bind):
    with pytest.raises(Refused, match="ORION_TRANSPORT=tcp"):
        TcpClient(bind, transport=wire.TRANSPORT_MEMFD)


def test_tcp_over_the_unix_socket_is_refused(server):
    with pytest.raises(Refused, match="HOST:PORT"):
        RawClient(server.socket, transport=wire.TRANSPORT_TCP)


def test_other_host_is_refused_unless_it_may_be_insecure(monkeypatch):
    monkeypatch.setattr(peer, "is_here", lambda client: False)
    line = socket.socketpair()
    hello = wire.Hello(1, 0, 1, 0, wire.TRANSPORT_TCP, 0, 0, 0, (), 0, "", "x")
    greeting = greeter.Greeting(line[0], 0.0, True)
    strict = greeter.Greeter(Loop(), Config(Path("/x")), None, lambda guest: None)
    with pytest.raises(Refusal, match="--insecure-tcp"):
        strict._guest(greeting, hello)
    lax = greeter.Greeter(Loop(), Config(Path("/x"), insecure_tcp=True), None, lambda guest: None)
    guest = lax._guest(greeting, hello)
    assert guest.uid == -1  # nobody vouches for it
    for end in line:
        end.close()


def test_user_at_the_other_end_is_known_on_one_host():
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.create_server((address, 0), family=family)
        except OSError:
            continue  # a machine without IPv6
        with listener, socket.create_connection(listener.getsockname()[:2]) as client:
            ours, _ = listener.accept()
            with ours:
                assert peer.is_here(ours)
                assert peer.user_of(ours) == os.getuid()
                assert client.getsockname() == ours.getpeername()


def test_lost_session_raises(bind):
    with TcpClient(bind) as client:
        client.post(60000)
        with pytest.raises(SessionLost):
            client.call("orionDescribe")
