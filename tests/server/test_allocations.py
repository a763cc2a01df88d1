# SPDX-License-Identifier: Apache-2.0
"""Doors of containers: what the device plugin asks for, who comes in by them, and what survives whom."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from orion_raw_client import RawClient, Refused
from orion_server import errors
from orion_server.agent import report_of
from orion_server.allocations import identity
from orion_server.clocks import boot_id
from orion_server.errors import OrionServerError
from orion_server.paths import allocations_path
from orion_server.status import query
from orion_server_fixtures import Server, wait_for
from orion_tcp_client import TcpClient

MIB = 1 << 20


class Plugin:
    """Asks a server as the device plugin does."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.uuid = server.status()["devices"][0]["uuid"]

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        return query(self.server.address, 20.0, {"op": op, **request})

    def allocate(self, *slots: int, fresh: bool = True) -> dict[str, Any]:
        row: dict[str, Any] = self.ask("allocate", vgpus={self.uuid: list(slots)}, fresh=fresh)[
            "allocation"
        ]
        return row

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in self.ask("allocations")["allocations"]}


def door(row: dict[str, Any]) -> Path:
    return Path(row["directory"], "orion.sock")


@pytest.fixture
def plugin(null_server: Server) -> Iterator[Plugin]:
    plugin = Plugin(null_server)
    yield plugin
    for name in plugin.rows():
        plugin.ask("release", allocation=name)
    null_server.wait_idle()


def test_the_door_makes_the_client_the_container(plugin: Plugin) -> None:
    row = plugin.allocate(2, 5)
    plugin.ask(
        "describe",
        allocation=row["id"],
        labels={"namespace": "ml", "pod": "train-0", "container": "main"},
    )
    with RawClient(door(row)) as client:
        assert client.call("cuMemGetInfo_v2")[0] == 0
        (seen,) = plugin.server.status()["clients"]
        assert seen["allocation"] == row["id"]
        assert seen["labels"]["pod"] == "train-0"
        assert seen["vgpu"] in (2, 5)
        assert plugin.rows()[row["id"]]["sessions"] == 1


def test_any_user_of_the_container_may_connect_and_nobody_else_reaches_the_door(
    plugin: Plugin,
) -> None:
    row = plugin.allocate(1)
    folder = Path(row["directory"])
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert stat.S_IMODE(door(row).stat().st_mode) == 0o666
    assert stat.S_IMODE((folder / "allocation.json").stat().st_mode) == 0o644


def test_the_file_says_what_the_container_has(plugin: Plugin) -> None:
    row = plugin.allocate(0, 3)
    document = json.loads(Path(row["directory"], "allocation.json").read_text())
    assert document["schema"] == 1
    assert document["vgpus"] == {plugin.uuid: [0, 3]}
    assert document["endpoint"] is None
    name, secret = document["token"].split(".")
    assert name == row["id"] == identity({plugin.uuid: [3, 0]})
    assert len(secret) == 32


def test_memory_is_the_share_of_the_vgpus_whatever_is_wished(plugin: Plugin) -> None:
    share = 256 * MIB // 8
    row = plugin.allocate(0, 1)
    assert row["memory"] == 2 * share
    with RawClient(door(row)) as plain:
        assert plain.welcome.memory_limit == share
        with RawClient(door(row), gmem_mib=200) as greedy:
            assert greedy.welcome.memory_limit == share


def test_wish_within_the_allocation_is_granted(plugin: Plugin) -> None:
    row = plugin.allocate(0, 1)
    with RawClient(door(row), gmem_mib=60) as big, RawClient(door(row)) as rest:
        assert big.welcome.memory_limit == 60 * MIB
        assert rest.welcome.memory_limit == 4 * MIB


def test_memory_that_the_plugin_grants_takes_the_place_of_the_share(plugin: Plugin) -> None:
    row = plugin.allocate(4)
    plugin.ask("describe", allocation=row["id"], memory=128 * MIB)
    with RawClient(door(row)) as client:
        assert client.welcome.memory_limit == 128 * MIB


def test_each_vgpu_serves_one_process_at_a_time(plugin: Plugin) -> None:
    row = plugin.allocate(6, 7)
    with RawClient(door(row)), RawClient(door(row)):
        with pytest.raises(Refused, match=r"ask for more virtaitech\.com/gpu") as refused:
            RawClient(door(row))
        assert refused.value.welcome.cuda_result == errors.DEVICE_UNAVAILABLE


def test_controller_is_told_of_vgpus_that_containers_have_and_do_not_use(plugin: Plugin) -> None:
    def reported() -> tuple[int, int, int]:
        (found,) = report_of(plugin.server.status(), "boot", 1, "")["devices"]
        return found["vgpus"], found["reserved"], found["memory_reserved"]

    assert reported() == (8, 0, 0)
    row = plugin.allocate(0, 3)
    assert reported() == (8, 2, row["memory"])
    with RawClient(door(row)):
        assert reported() == (8, 1, row["memory"] // 2)
    plugin.ask("release", allocation=row["id"])
    assert reported() == (8, 0, 0)


def test_vgpus_of_containers_are_kept_free_for_them(plugin: Plugin) -> None:
    plugin.allocate(0, 1, 2, 3, 4, 5, 6)
    with RawClient(plugin.server.socket):
        assert plugin.server.status()["clients"][0]["vgpu"] == 7
        with pytest.raises(Refused, match="in use"):
            RawClient(plugin.server.socket)


def test_container_gets_its_vgpu_although_a_program_from_elsewhere_had_the_number(
    plugin: Plugin,
) -> None:
    with RawClient(plugin.server.socket) as first:
        (before,) = plugin.server.status()["clients"]
        row = plugin.allocate(before["vgpu"])
        with RawClient(door(row)):
            vgpus = {c["session"]: c["vgpu"] for c in plugin.server.status()["clients"]}
            assert vgpus.pop(before["session"]) != before["vgpu"]
            assert list(vgpus.values()) == [before["vgpu"]]
        assert first.call("cuMemGetInfo_v2")[0] == 0


def test_vgpu_given_out_anew_ends_who_had_it(plugin: Plugin) -> None:
    old = plugin.allocate(1, 2)
    with closing(RawClient(door(old))) as client:
        new = plugin.allocate(2)
        assert "given to another container" in str(client.await_end())
    assert not Path(old["directory"]).exists()
    assert set(plugin.rows()) == {new["id"]}
    with RawClient(door(new)):
        pass


def test_same_vgpus_anew_change_the_key_and_keep_the_directory(plugin: Plugin) -> None:
    old = plugin.allocate(4)
    token = Path(old["directory"], "allocation.json").read_text()
    mounted = os.open(old["directory"], os.O_RDONLY)  # a mount holds the directory, not its name
    try:
        with closing(RawClient(door(old))) as client:
            new = plugin.allocate(4)
            assert new["directory"] == old["directory"]
            assert "given to another container" in str(client.await_end())
        plugin.server.wait_idle()
        assert Path(new["directory"], "allocation.json").read_text() != token
        with RawClient(f"/proc/self/fd/{mounted}/orion.sock") as again:
            assert again.call("cuMemGetInfo_v2")[0] == 0
    finally:
        os.close(mounted)


def test_container_that_starts_again_finds_its_door_and_its_session_stays(plugin: Plugin) -> None:
    row = plugin.allocate(4)
    with RawClient(door(row)) as client:
        assert plugin.allocate(4, fresh=False)["id"] == row["id"]
        assert client.call("cuMemGetInfo_v2")[0] == 0


def test_release_ends_its_sessions_and_frees_its_vgpus(plugin: Plugin) -> None:
    row = plugin.allocate(*range(8))
    with closing(RawClient(door(row))) as client:
        plugin.ask("release", allocation=row["id"])
        assert "container is gone" in str(client.await_end())
    assert not Path(row["directory"]).exists()
    plugin.server.wait_idle()
    with RawClient(plugin.server.socket):
        pass


def test_allocations_outlive_their_server(make_server: Callable[..., Server]) -> None:
    first = make_server("--device", "null", "--memory", "256M", "--vgpu", "8")
    plugin = Plugin(first)
    row = plugin.allocate(3)
    plugin.ask("describe", allocation=row["id"], labels={"namespace": "ml"}, memory=64 * MIB)
    token = json.loads(Path(row["directory"], "allocation.json").read_text())["token"]
    with closing(RawClient(door(row))) as client:
        first.process.kill()
        client.await_end()
    wait_for(lambda: not first.processes(), 10.0, "the first server's end")
    second = Server(first.folder, "--device", "null", "--memory", "256M", "--vgpu", "8")
    try:
        assert json.loads(Path(row["directory"], "allocation.json").read_text())["token"] == token
        again = Plugin(second).rows()[row["id"]]
        assert (again["labels"], again["memory"]) == ({"namespace": "ml"}, 64 * MIB)
        with RawClient(door(row)) as here:
            assert here.welcome.memory_limit == 64 * MIB
    finally:
        second.stop()


@pytest.mark.parametrize(
    "begun", [None, {"boot": "an earlier one", "seconds": 1.0}, {"seconds": -1}]
)
def test_age_that_nobody_knows_begins_anew(
    make_server: Callable[..., Server], begun: object
) -> None:
    """After a reboot, or a server of an earlier release: nobody is taken for older than he is."""
    first = make_server("--device", "null", "--memory", "256M", "--vgpu", "8")
    row = Plugin(first).allocate(3)
    file = Path(row["directory"], "allocation.json")
    first.stop()
    document = json.loads(file.read_text())
    assert document["begun"]["boot"] == boot_id()
    document |= {"created": 0.0, "begun": begun}
    file.write_text(json.dumps(document))
    second = Server(first.folder, "--device", "null", "--memory", "256M", "--vgpu", "8")
    try:
        assert 0 <= Plugin(second).rows()[row["id"]]["age"] < 60
    finally:
        second.stop()


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        '{"schema": 2, "vgpus": {}}',
        '{"schema": 1, "vgpus": {"x": [1]}, "labels": {}, "created": 0}',
    ],
)
def test_unreadable_record_is_left_alone_and_said(
    make_server: Callable[..., Server], tmp_path: Path, damage: str
) -> None:
    folder = allocations_path(tmp_path / "server0" / "s.sock") / ("ab" * 8)
    folder.mkdir(parents=True)
    (folder / "allocation.json").write_text(damage)
    server = make_server("--device", "null", "--memory", "64M")
    assert "abababababababab cannot be taken up again" in server.text()
    assert folder.exists()
    assert Plugin(server).rows() == {}


@pytest.mark.parametrize(
    ("op", "request_", "says"),
    [
        ("allocate", {}, "vgpus is an object"),
        ("allocate", {"vgpus": {"nowhere": [0]}}, "no device nowhere"),
        ("allocate", {"vgpus": {"UUID": []}}, "different numbers from 0 to 7"),
        ("allocate", {"vgpus": {"UUID": [8]}}, "different numbers from 0 to 7"),
        ("allocate", {"vgpus": {"UUID": [-1]}}, "different numbers from 0 to 7"),
        ("allocate", {"vgpus": {"UUID": [1, 1]}}, "different numbers from 0 to 7"),
        ("allocate", {"vgpus": {"UUID": [True]}}, "different numbers from 0 to 7"),
        ("allocate", {"vgpus": {"UUID": ["1"]}}, "different numbers from 0 to 7"),
        ("release", {"allocation": "../../etc"}, "no allocation"),
        ("release", {"allocation": ["a"]}, "no allocation"),
        ("describe", {}, "no allocation"),
        ("describe", {"allocation": "HELD", "labels": {"namespace": "../x"}}, "name of Kubernetes"),
        ("describe", {"allocation": "HELD", "labels": {"zone": "x"}}, "labels are"),
        ("describe", {"allocation": "HELD", "labels": 7}, "labels are"),
        ("describe", {"allocation": "HELD", "memory": "1G"}, "number of bytes"),
        ("describe", {"allocation": "HELD", "memory": -5}, "number of bytes"),
    ],
)
def test_wrong_request_is_named(
    plugin: Plugin, op: str, request_: dict[str, Any], says: str
) -> None:
    held = plugin.allocate(0)
    text = json.dumps(request_).replace("UUID", plugin.uuid).replace("HELD", held["id"])
    with pytest.raises(OrionServerError, match=says):
        plugin.ask(op, **json.loads(text))
    assert plugin.rows()[held["id"]]["labels"] == {}


def test_thousand_vgpus_in_allocations_of_their_own(make_server: Callable[..., Server]) -> None:
    server = make_server("--device", "null", "--memory", "4G", "--vgpu", "1000")
    plugin = Plugin(server)
    rows = [plugin.allocate(slot) for slot in range(1000)]
    assert len(plugin.rows()) == 1000
    assert {row["memory"] for row in rows} == {(4 << 30) // 1000}
    with RawClient(door(rows[999])):
        assert server.status()["clients"][0]["vgpu"] == 999
    whole = plugin.allocate(*range(1000))
    assert set(plugin.rows()) == {whole["id"]}


# --- over TCP: the container's token says who it is


@pytest.fixture
def tcp_plugin(make_server: Callable[..., Server]) -> Plugin:
    bind = ("--bind", "127.0.0.1:0")
    return Plugin(make_server("--device", "null", "--memory", "256M", "--vgpu", "8", *bind))


def token_of(row: dict[str, Any]) -> str:
    document = json.loads(Path(row["directory"], "allocation.json").read_text())
    assert document["endpoint"].startswith("127.0.0.1:")
    return str(document["token"])


def test_token_of_the_file_makes_a_tcp_client_the_container(tcp_plugin: Plugin) -> None:
    row = tcp_plugin.allocate(5)
    endpoint = tcp_plugin.server.status()["server"]["bind"]
    with TcpClient(endpoint, token=token_of(row)) as client:
        assert client.welcome.memory_limit == 32 * MIB
        (seen,) = tcp_plugin.server.status()["clients"]
        assert (seen["allocation"], seen["vgpu"], seen["transport"]) == (row["id"], 5, "tcp")


def test_token_of_a_container_that_is_gone_opens_nothing(tcp_plugin: Plugin) -> None:
    row = tcp_plugin.allocate(5)
    token = token_of(row)
    endpoint = tcp_plugin.server.status()["server"]["bind"]
    tcp_plugin.allocate(5)
    with pytest.raises(Refused, match="its secret is another"):
        TcpClient(endpoint, token=token)
