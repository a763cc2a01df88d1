# SPDX-License-Identifier: Apache-2.0
"""The first bytes of a session: what is served, what is refused, and that a refusal says why."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from orion_raw_client import RawClient, Refused, hello
from orion_server import wire
from orion_server_fixtures import wait_for


def exchange(path: Path, data: bytes, timeout: float = 10.0) -> bytes:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout)
        line.connect(str(path))
        line.sendall(data)
        received = b""
        while len(received) < wire.WELCOME.size and (part := line.recv(4096)):
            received += part
        return received


def test_welcome_names_device_limit_and_range(null_server):
    with RawClient(null_server.socket) as client:
        welcome = client.welcome
        assert "null" in welcome.device
        assert welcome.memory_limit == 256 << 20
        assert welcome.slots == 128
        assert welcome.range_base in (0x100000000000, 0x200000000000)
        assert client.call("orionDescribe")[0] == 0


def test_hello_as_it_was_first_said_is_served(null_server):
    """Bytes of a libcuda.so.1 of version 1: never to be changed, only to be joined by those of the next version."""
    said = bytes.fromhex((Path(__file__).parent / "protocol" / "hello-1.hex").read_text())
    understood = wire.decode_hello(said)
    assert (understood.version, understood.command) == (1, "python3")
    assert understood.candidates[0] == 0x100000000000
    answer = wire.decode_welcome(exchange(null_server.socket, said))
    assert (answer.status, answer.version) == (wire.STATUS_OK, 1)


def test_garbage_is_refused_with_a_sentence(null_server):
    answer = wire.decode_welcome(
        exchange(null_server.socket, b"GET / HTTP/1.1\r\n\r\n" + bytes(300))
    )
    assert answer.status == wire.STATUS_PROTOCOL
    assert "no Orion hello" in answer.message


@pytest.mark.parametrize("version", [0, 2, 99])
def test_other_version_is_refused_naming_both(null_server, version):
    data = bytearray(wire.encode_hello(hello()))
    struct.pack_into("<I", data, 8, version)
    answer = wire.decode_welcome(exchange(null_server.socket, bytes(data)))
    assert answer.status == wire.STATUS_VERSION
    assert str(version) in answer.message
    assert "upgrade" in answer.message


def test_wrong_size_is_refused(null_server):
    data = bytearray(wire.encode_hello(hello()))
    struct.pack_into("<I", data, 12, 1 << 31)
    assert (
        wire.decode_welcome(exchange(null_server.socket, bytes(data))).status
        == wire.STATUS_PROTOCOL
    )


def test_unknown_transport_is_refused(null_server):
    answer = wire.decode_welcome(
        exchange(null_server.socket, wire.encode_hello(hello(transport=77)))
    )
    assert answer.status == wire.STATUS_PROTOCOL


def test_slow_hello_is_refused_after_five_seconds(null_server):
    started = time.monotonic()
    answer = wire.decode_welcome(exchange(null_server.socket, wire.encode_hello(hello())[:100]))
    assert time.monotonic() - started > 4.0
    assert "hello" in answer.message


def test_hello_in_single_bytes_is_served(null_server):
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect(str(null_server.socket))
        for byte in wire.encode_hello(hello()):
            line.send(bytes([byte]))
        assert wire.decode_welcome(line.recv(wire.WELCOME.size)).status == wire.STATUS_OK


def test_several_vgpus_are_refused(null_server):
    with pytest.raises(
        Refused, match="ORION_VGPU=2: a program has one device here, and so uses one vGPU"
    ):
        RawClient(null_server.socket, vgpu=2)


def test_vgpu_slots_are_limited_and_come_back(null_server):
    null_server.wait_idle()
    clients = [RawClient(null_server.socket) for _ in range(8)]
    with pytest.raises(Refused, match="in use"):
        RawClient(null_server.socket)
    for client in clients:
        client.close()
    null_server.wait_idle()
    RawClient(null_server.socket, vgpu=1).close()


def test_prepared_worker_needs_nobody_to_begin(make_server):
    """What forks workers is stopped: the one that is ready serves all the same, and is replaced later."""
    server = make_server("--device", "null", "--memory", "64M")
    with RawClient(server.socket) as client:
        worker = server.status()["clients"][0]["worker_pid"]
        zygote = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        assert client.call("orionDescribe")[0] == 0
    server.wait_idle()
    wait_for(lambda: len(server.processes()) == 3, 20.0, "another worker is ready")
    os.kill(zygote, signal.SIGSTOP)
    try:
        client = RawClient(server.socket)
        assert client.call("orionDescribe")[0] == 0
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(RawClient, server.socket)
            wait_for(lambda: len(server.status()["clients"]) == 2, 20.0, "a second one comes")
            assert server.status()["clients"][1]["worker_pid"] is None, "never 0: who signals that?"
            os.kill(zygote, signal.SIGCONT)
            late.result(20).close()
    finally:
        os.kill(zygote, signal.SIGCONT)
    wait_for(lambda: len(server.processes()) == 4, 20.0, "another worker is ready")
    client.close()


def test_no_candidates_means_no_arena_and_still_memory(null_server):
    with RawClient(null_server.socket, candidates=(), range_bytes=0) as client:
        assert client.welcome.range_base == 0
        assert client.welcome.arena_bytes == 0
        address = client.alloc(4096)
        client.copy_in(address, b"x" * 64)
        assert client.copy_out(address, 64) == (0, b"x" * 64)
        assert client.call("orionArenaExtend", struct.pack("<QII", 2 << 20, 0, 0))[0] != 0


@pytest.mark.parametrize(
    "candidates", [(1,), (0xFFFFFFFFFFFFF000,), (0x400000,), (0x7FFFFFFFF000,)]
)
def test_hostile_candidates_are_not_reserved(null_server, candidates):
    with RawClient(
        null_server.socket, candidates=candidates, range_bytes=(1 << 64) - 4096
    ) as client:
        assert client.welcome.range_base == 0
        assert client.call("orionDescribe")[0] == 0


def test_memfds_over_tcp_are_refused_with_the_way_out(make_server):
    server = make_server("--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0")
    address, port = server.status()["server"]["bind"].split(":")
    with socket.create_connection((address, int(port)), 10) as line:
        line.sendall(wire.encode_hello(hello()))
        answer = wire.decode_welcome(line.recv(wire.WELCOME.size))
    assert answer.status == wire.STATUS_REFUSED
    assert "ORION_TRANSPORT=tcp" in answer.message
    assert str(server.socket) in answer.message


def test_connections_without_hello_do_not_keep_others_out(null_server):
    silent = []
    try:
        for _ in range(300):
            line = socket.socket(socket.AF_UNIX)
            silent.append(line)
            line.connect(str(null_server.socket))
        with RawClient(null_server.socket) as client:
            assert client.call("orionDescribe")[0] == 0
    finally:
        for line in silent:
            line.close()
