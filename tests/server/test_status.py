# SPDX-License-Identifier: Apache-2.0
"""What `orion smi` and `orion run` read: schema, truth and staying power."""

from __future__ import annotations

import contextlib
import json
import os
import socket

import pytest
from orion_raw_client import RawClient
from orion_server import embedded
from orion_server.errors import OrionServerError
from orion_server.paths import answers, control_path, running_addresses
from orion_server.status import query

CLIENT_KEYS = {
    "session",
    "pid",
    "worker_pid",
    "uid",
    "command",
    "device",
    "device_name",
    "memory_used",
    "memory_peak",
    "memory_limit",
    "calls",
    "bytes",
    "kernels",
    "transport",
    "connected",
    "seconds",
    "state",
    "error",
}


def test_status_has_the_documented_shape(null_server):
    with RawClient(null_server.socket, gmem_mib=32, command="the program") as client:
        address = client.alloc(1 << 20)
        client.copy_in(address, bytes(1000))
        client.copy_out(address, 500)
        status = null_server.status()
        assert status["schema"] == 1
        assert {"address", "pid", "version", "started", "uptime"} <= set(status["server"])
        device = status["devices"][0]
        assert {
            "index",
            "name",
            "uuid",
            "kind",
            "memory_total",
            "memory_used",
            "compute_capability",
            "clients",
        } <= set(device)
        assert (device["kind"], device["compute_capability"], device["memory_total"]) == (
            "null",
            "8.0",
            256 << 20,
        )
        (row,) = status["clients"]
        assert set(row) >= CLIENT_KEYS
        assert row["command"] == "the program"
        assert row["pid"] == os.getpid()
        assert row["worker_pid"] == client.welcome.worker_pid
        assert row["memory_limit"] == 32 << 20
        assert row["memory_used"] == 1 << 20
        assert row["bytes"] == 1500
        assert row["calls"] == 3
        assert row["state"] == "running"


def test_counters_survive_a_killed_worker(null_server):
    client = RawClient(null_server.socket)
    for _ in range(25):
        client.call("cuMemGetInfo_v2")
    os.kill(client.welcome.worker_pid, 9)
    client.await_end()
    null_server.wait_idle()
    row = null_server.report()["sessions"][-1]
    assert (row["calls"], row["state"]) == (25, "ended")
    assert "SIGKILL" in row["error"]


def test_orderly_end_has_no_error(null_server):
    client = RawClient(null_server.socket)
    assert client.call("orionGoodbye")[0] == 0
    null_server.wait_idle()
    assert null_server.report()["sessions"][-1]["error"] is None


def test_lying_counters_are_bounded(null_server):
    from orion_server.stats import LAYOUT, MAGIC, StatsPage

    page = StatsPage()
    os.pwrite(page.fd, LAYOUT.pack(MAGIC, 1, *[(1 << 64) - 1] * 7), 0)
    counters = page.read(1000)
    assert counters.memory_used == 1000
    assert counters.calls <= 1 << 62
    page.close()


def test_administrator_may_end_a_session(null_server):
    client = RawClient(null_server.socket)
    number = null_server.status()["clients"][-1]["session"]
    query(null_server.address, request={"op": "end", "session": number})
    assert "administrator" in str(client.await_end())
    with pytest.raises(OrionServerError, match="no session"):
        query(null_server.address, request={"op": "end", "session": 10**9})


@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b"{}\n", b'{"op": 7}\n', b"\xff\xfe\n", b"[" * 3000 + b"\n"]
)
def test_nonsense_on_the_control_socket_is_answered_with_an_error(null_server, line):
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(5)
        control.connect(str(control_path(null_server.socket)))
        control.sendall(line)
        assert "error" in json.loads(control.recv(1 << 16))
    assert null_server.status()["schema"] == 1


def test_endless_control_request_is_dropped(null_server):
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(5)
        control.connect(str(control_path(null_server.socket)))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                control.sendall(b"x" * 4096)
            assert control.recv(1) == b""
    assert null_server.status()["schema"] == 1


def test_embedded_server_counts_and_stops(tmp_path):
    with embedded.start("null", gmem_mib=64, address=f"unix:{tmp_path}/e.sock") as server:
        assert server.devices[0]["memory_total"] == 64 << 20
        with RawClient(tmp_path / "e.sock") as client:
            client.alloc(4096)
            assert server.status()["clients"][0]["memory_used"] == 4096
        report = server.stop()
        assert report["totals"]["sessions"] == 1
        assert report["sessions"][0]["memory_peak"] == 4096
        assert server.stop() is report
    assert not list(tmp_path.glob("e.sock*"))


def test_embedded_server_says_why_it_cannot_start(tmp_path):
    with pytest.raises(OrionServerError, match="choose cpu, cuda or null"):
        embedded.start("tpu")
    with pytest.raises(OrionServerError, match="too long"):
        embedded.start("null", address="unix:/tmp/" + "x" * 200)
    (tmp_path / "file").write_text("")
    with pytest.raises(OrionServerError, match="is no socket"):
        embedded.start("null", address=f"unix:{tmp_path}/file")


def test_addresses_of_dead_servers_are_cleaned_up(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    from orion_server.paths import private_directory

    stale = private_directory() / "private-1.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    assert not answers(stale)
    with embedded.start("null", gmem_mib=64) as server:
        assert server.address in running_addresses()
    assert not stale.exists()
    assert server.address not in running_addresses()


def test_query_without_a_server_names_the_address(tmp_path):
    with pytest.raises(OrionServerError, match="no server answers on unix:"):
        query(f"unix:{tmp_path}/none.sock")


def test_kernels_are_counted_by_the_device(null_server):
    ptx = b".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\nret;\n}\n\0"
    with RawClient(null_server.socket) as client:
        assert client.load(ptx) == 0
        assert client.function("k")[0] == 0
        for _ in range(10):
            client.launch(bytes(8))
        assert client.call("cuCtxSynchronize")[0] == 0
        assert null_server.status()["clients"][0]["kernels"] == 10
