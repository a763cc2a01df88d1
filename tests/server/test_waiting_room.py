# SPDX-License-Identifier: Apache-2.0
"""Guests that wait for what a client leaves, with a lease of a controller: who goes leaves nothing, in whatever way."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from orion_raw_client import RawClient, Refused, introduce
from orion_server.lease_tokens import Terms, make_token
from orion_server.status import query
from orion_server_fixtures import Server, wait_for

KEY = b"k" * 32
MIB = 1 << 20


def token(lease: int) -> str:
    """Of a lease that is for one session."""
    return make_token(KEY, Terms(lease, 0, 0, 32 * MIB, 50, int(time.monotonic()) + 600, False))


@pytest.fixture
def server(make_server: Callable[..., Server]) -> Server:
    """One vGPU; its controller is away, but has sent its key."""
    options = ("--device", "null", "--memory", "64M", "--vgpu", "1", "--require-token")
    started = make_server(*options, ORION_CONTROLLER="127.0.0.1:9")
    query(started.address, request={"op": "token_key", "key": KEY.hex()})
    return started


@pytest.fixture
def leaving(server: Server) -> Iterator[Callable[[], None]]:
    """A client has gone, and its worker is not reaped before this is called: its zygote is stopped."""
    client = RawClient(server.socket, token=token(1))
    worker = server.status()["clients"][0]["worker_pid"]
    zygote = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(zygote, signal.SIGSTOP)
    client.close()
    wait_for(lambda: server.status()["clients"][0]["state"] == "ending", 20.0, "its end begins")
    yield lambda: os.kill(zygote, signal.SIGCONT)
    os.kill(zygote, signal.SIGCONT)


def waiting(server: Server) -> int:
    return int(server.status()["server"]["waiting"])


def test_guest_gets_the_vgpu_of_who_has_left(server, leaving) -> None:
    with ThreadPoolExecutor(1) as pool:
        guest = pool.submit(RawClient, server.socket, token=token(2))
        wait_for(lambda: waiting(server) == 1, 20.0, "it waits")
        leaving()
        with guest.result(20):
            assert waiting(server) == 0
            assert len(server.status()["clients"]) == 1


def test_guest_that_hangs_up_leaves_nothing(server, leaving) -> None:
    guest = socket.socket(socket.AF_UNIX)
    guest.connect(os.fspath(server.socket))
    introduce(guest, token=token(2))
    wait_for(lambda: waiting(server) == 1, 20.0, "it waits")
    guest.close()
    wait_for(lambda: waiting(server) == 0, 20.0, "it is forgotten")
    assert "has left while it waited" in server.text(), "before its time was over"
    leaving()
    server.wait_idle()
    assert server.status()["totals"]["sessions"] == 1, "nobody was served in vain"
    with RawClient(server.socket, token=token(2)) as client:  # its token is still good
        assert client.call("orionDescribe")[0] == 0


def test_guest_keeps_its_token_and_gives_it_back_when_it_is_sent_away(server, leaving) -> None:
    with pytest.raises(Refused, match="each of the 1 vGPUs is in use"):
        RawClient(server.socket, token=token(2))
    leaving()
    server.wait_idle()
    RawClient(server.socket, token=token(2)).close()


def test_lease_that_is_taken_back_ends_the_wait(server, leaving) -> None:
    with ThreadPoolExecutor(1) as pool:
        guest = pool.submit(RawClient, server.socket, token=token(2))
        wait_for(lambda: waiting(server) == 1, 20.0, "it waits")
        assert server.status()["ended"] == [], "what it waits with may still be used"
        query(server.address, request={"op": "revoke", "lease": f"{2:016x}", "part": 0})
        with pytest.raises(Refused, match="taken back by the controller"):
            guest.result(20)
    assert [2, 0] in server.status()["ended"]


def test_client_that_comes_again_takes_the_place_of_its_first_try(server, leaving) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(RawClient, server.socket, token=token(2))
        wait_for(lambda: waiting(server) == 1, 20.0, "it waits")
        second = pool.submit(RawClient, server.socket, token=token(2))
        with pytest.raises(Refused, match="come again"):
            first.result(20)
        leaving()
        second.result(20).close()


def test_another_program_does_not_take_the_place_of_who_waits(server, leaving) -> None:
    with ThreadPoolExecutor(1) as pool:
        guest = pool.submit(RawClient, server.socket, token=token(2))
        wait_for(lambda: waiting(server) == 1, 20.0, "it waits")
        with pytest.raises(Refused, match="another program uses its lease now"):
            RawClient(server.socket, token=token(2), pid=os.getpid() + 1)
        leaving()
        guest.result(20).close()


def test_refused_client_may_use_its_token_later(server) -> None:
    query(server.address, request={"op": "drain"})
    with pytest.raises(Refused, match="being drained"):
        RawClient(server.socket, token=token(2))
    query(server.address, request={"op": "drain", "undo": True})
    RawClient(server.socket, token=token(2)).close()
    server.wait_idle()
    with pytest.raises(Refused, match="check ORION_TOKEN"):
        RawClient(server.socket, token=token(2))
    assert "it was used before" in server.text()
