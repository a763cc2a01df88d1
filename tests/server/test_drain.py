# SPDX-License-Identifier: Apache-2.0
"""A server is drained: nobody new, and those that are there finish in peace."""

from __future__ import annotations

import pytest
from orion_raw_client import RawClient, Refused
from orion_server.status import query


def drain(server, **how: bool) -> dict[str, object]:
    return query(server.address, request={"op": "drain", **how})


def test_drained_server_takes_nobody_new(make_server):
    server = make_server("--device", "null", "--memory", "64M")
    with RawClient(server.socket) as client:
        assert drain(server) == {"draining": True, "clients": 1}
        assert server.status()["server"]["state"] == "draining"
        with pytest.raises(Refused, match="being drained"):
            RawClient(server.socket)
        client.free(client.alloc(1 << 20))
        assert client.call("cuCtxSynchronize")[0] == 0
        assert drain(server, undo=True) == {"draining": False, "clients": 1}
        with RawClient(server.socket) as other:
            assert other.call("orionDescribe")[0] == 0


def test_drained_server_ends_with_its_last_client(make_server):
    server = make_server("--device", "null", "--memory", "64M")
    with RawClient(server.socket) as one, RawClient(server.socket) as two:
        drain(server, stop=True)
        one.close()
        assert two.call("orionDescribe")[0] == 0
        assert server.process.poll() is None
    assert server.process.wait(10) == 0
    assert not server.processes()


def test_empty_server_ends_at_once_when_it_is_drained(make_server):
    server = make_server("--device", "null", "--memory", "64M")
    drain(server, stop=True)
    assert server.process.wait(10) == 0


def test_two_hundred_clients_on_one_server(make_server):
    """Each has a lease, memory and answers; all of it is free again afterwards."""
    server = make_server("--device", "null", "--memory", "1200M", "--vgpu", "200", "--threads", "1")
    clients = [RawClient(server.socket, gmem_mib=5, ratio=i % 100 + 1) for i in range(200)]
    try:
        for client in clients:
            client.alloc(4 << 20)
        device = server.status()["devices"][0]
        assert device["clients"] == 200
        assert device["memory_used"] == 200 * (4 << 20) <= device["memory_granted"] <= 1200 << 20
        assert sum(row["share"] for row in server.status()["clients"]) == pytest.approx(1)
        with pytest.raises(Refused, match="in use"):
            RawClient(server.socket)
        for client in clients:
            assert client.info()[0] == 1 << 20
    finally:
        for client in clients:
            client.close()
    server.wait_idle(20.0)
    assert server.status()["devices"][0]["memory_granted"] == 0
