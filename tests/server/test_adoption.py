# SPDX-License-Identifier: Apache-2.0
"""Memory that a client brings along: mapped by its worker at the same address, or refused with a reason."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

import pytest
from orion_raw_client import RawClient
from orion_server import wire
from orion_server.messages import send_packet

ADDRESS = 0x500000000000
SIZE = 2 << 20
INVALID_VALUE, MAP_FAILED = 1, 205


def memory(size: int = SIZE, seals: int = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW) -> int:
    fd = os.memfd_create("a client's", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def offer(client: RawClient, address: int, size: int, fds: list[int]) -> None:
    notice = wire.NOTICE.pack(
        wire.NOTICE_MAGIC, wire.NOTICE.size, wire.NOTICE_OFFER, address, size, 0, 0, b""
    )
    send_packet(client.socket, notice, fds)


def adopt(client: RawClient, address: int = ADDRESS, size: int = SIZE) -> int:
    return client.call("orionArenaAdopt", struct.pack("<QQ", address, size))[0]


def disown(client: RawClient, address: int = ADDRESS) -> int:
    return client.call("orionArenaDisown", struct.pack("<Q", address))[0]


def test_worker_sees_the_clients_bytes_at_the_clients_address(null_server):
    fd = memory()
    with RawClient(null_server.socket) as client, mmap.mmap(fd, SIZE) as mine:
        before = client.info()
        offer(client, ADDRESS, SIZE, [fd])
        assert adopt(client) == 0
        mine[100:105] = b"hello"
        assert client.copy_out(ADDRESS + 100, 5) == (0, b"hello")
        client.copy_in(ADDRESS + SIZE - 4, b"back")
        assert client.copy_out(ADDRESS + SIZE - 4, 4) == (0, b"back")
        assert mine[SIZE - 4 :] == b"back"
        assert client.info() == before  # it is not charged: the client has paid elsewhere
        assert client.copy_out(ADDRESS + SIZE, 4)[0] != 0
        assert disown(client) == 0
        assert client.copy_out(ADDRESS, 4)[0] != 0
        assert disown(client) == INVALID_VALUE
    os.close(fd)


def test_reset_ends_adoptions(null_server):
    fd = memory()
    with RawClient(null_server.socket) as client:
        offer(client, ADDRESS, SIZE, [fd])
        assert adopt(client) == 0
        assert client.call("orionContextReset")[0] == 0
        assert client.copy_out(ADDRESS, 4)[0] != 0
        offer(client, ADDRESS, SIZE, [fd])
        assert adopt(client) == 0
    os.close(fd)


def test_nothing_offered_is_refused(null_server):
    with RawClient(null_server.socket) as client:
        assert adopt(client) == INVALID_VALUE
        assert adopt(client, ADDRESS + 1) == INVALID_VALUE
        assert adopt(client, 1 << 63) == INVALID_VALUE
        assert adopt(client, ADDRESS, 0) == INVALID_VALUE
        fd = memory()
        offer(client, ADDRESS, SIZE, [fd])
        assert adopt(client, ADDRESS, 2 * SIZE) == INVALID_VALUE
        os.close(fd)


def test_address_in_use_is_refused_and_the_worker_keeps_its_own(null_server):
    """A client cannot put its memory over the worker's."""
    fd = memory(1 << 12)
    with RawClient(null_server.socket) as client:
        taken = client.alloc(4096) & ~0xFFF
        client.copy_in(taken, b"mine")
        offer(client, taken, 1 << 12, [fd])
        assert adopt(client, taken, 1 << 12) == MAP_FAILED
        assert client.copy_out(taken, 4) == (0, b"mine")
    os.close(fd)


@pytest.mark.parametrize(
    "make",
    [
        lambda: memory(seals=0),  # could shrink under the worker
        lambda: memory(SIZE // 2),
        lambda: os.open("/dev/zero", os.O_RDWR),
        lambda: os.pipe()[0],
    ],
)
def test_descriptor_that_will_not_do_ends_the_session(null_server, make):
    fd = make()
    client = RawClient(null_server.socket)
    offer(client, ADDRESS, SIZE, [fd])
    assert "after the hello" in str(client.await_end())
    os.close(fd)


@pytest.mark.parametrize("count", [0, 2])
def test_offer_has_one_descriptor(null_server, count):
    fds = [memory() for _ in range(count)]
    client = RawClient(null_server.socket)
    offer(client, ADDRESS, SIZE, fds)
    assert "after the hello" in str(client.await_end())
    for fd in fds:
        os.close(fd)


def test_offers_that_nobody_asks_for_are_bounded(null_server):
    fd = memory()
    client = RawClient(null_server.socket)
    for i in range(100):
        try:
            offer(client, ADDRESS + i * SIZE, SIZE, [fd])
        except OSError:
            break
    assert "after the hello" in str(client.await_end())
    os.close(fd)
