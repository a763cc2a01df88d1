# SPDX-License-Identifier: Apache-2.0
"""Clients that share /dev/shm but no descriptors: over TCP, proven by the nonce, files gone afterwards."""

from __future__ import annotations

import mmap
import os
import socket
import struct
from pathlib import Path

import pytest
from orion_raw_client import COMMAND_BYTES, RawClient, hello
from orion_server import wire
from orion_server_fixtures import wait_for

SHM = Path("/dev/shm")


@pytest.fixture
def server(make_server):
    return make_server("--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0")


def greet(server) -> tuple[socket.socket, wire.Welcome]:
    address, port = server.status()["server"]["bind"].split(":")
    line = socket.create_connection((address, int(port)), 10)
    line.sendall(wire.encode_hello(hello(transport=wire.TRANSPORT_DEVSHM)))
    received = b""
    while len(received) < wire.WELCOME.size:
        part = line.recv(wire.WELCOME.size - len(received))
        assert part
        received += part
    return line, wire.decode_welcome(received)


def test_session_over_files_is_proven_and_leaves_none(server):
    line, welcome = greet(server)
    assert welcome.status == wire.STATUS_OK
    assert welcome.arena_bytes == 0
    files = [SHM / welcome.command_name, SHM / welcome.reply_name]
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)
    assert all(f.stat().st_uid == os.getuid() for f in files)
    client = RawClient.__new__(RawClient)
    client.socket, client.welcome, client.timeout = line, welcome, 10.0
    line.setblocking(False)
    with open(files[0], "r+b") as command, open(files[1], "rb") as reply:
        client.attach(
            mmap.mmap(command.fileno(), COMMAND_BYTES),
            mmap.mmap(reply.fileno(), wire.REPLY_SEGMENT_BYTES, prot=mmap.PROT_READ),
        )
    nonce = struct.unpack_from("<Q", client.reply, 24)[0]
    assert nonce == welcome.nonce
    struct.pack_into("<Q", client.command, 32, nonce)
    assert client.call("orionDescribe")[0] == 0
    wait_for(lambda: not any(f.exists() for f in files), 3.0, "files unlinked once both have them")
    assert server.status()["clients"][0]["transport"] == "/dev/shm"
    client.close()
    server.wait_idle()


def test_unproven_session_ends_and_leaves_no_files(server):
    line, welcome = greet(server)
    files = [SHM / welcome.command_name, SHM / welcome.reply_name]
    assert all(f.exists() for f in files)
    line.close()
    server.wait_idle()
    assert not any(f.exists() for f in files)
