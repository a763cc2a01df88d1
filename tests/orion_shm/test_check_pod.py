# SPDX-License-Identifier: Apache-2.0
"""`orion check` in a pod names the cause, whatever is wrong."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orion_shm.cli.pod_probe import check_pod, try_out
from orion_shm.cli.probes import MISSING, OK, WARN

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
RECORD = {
    "schema": 1,
    "id": "0123456789abcdef",
    "vgpus": {"aa": [1, 2]},
    "endpoint": "172.17.0.1:9960",
}

sys.path.append(str(Path(__file__).resolve().parents[1] / "server"))
from orion_server_fixtures import Server  # noqa: E402


@pytest.fixture
def pod() -> dict[str, str]:
    """The environment of a container that the plugin has given nothing."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith("ORION_")}
    return {**ours, **POD}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Over a unix socket and over TCP; its one vGPU is free."""
    started = Server(
        tmp_path / "s",
        "--device",
        "null",
        "--vgpu",
        "1",
        "--memory",
        "64M",
        "--bind",
        "127.0.0.1:0",
    )
    (tmp_path / "s" / "orion.sock").symlink_to("s.sock")  # as the folder is mounted
    yield started
    started.stop()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Path]:
    """What the plugin mounts, with a server behind it."""
    (tmp_path / "allocation.json").write_text(json.dumps(RECORD))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "orion.sock"))
        listener.listen()
        yield tmp_path


def test_nothing_is_expected_outside_a_pod(tmp_path: Path) -> None:
    assert check_pod(tmp_path / "none", {}).state == OK


def test_vgpu_that_works_is_shown(door: Path) -> None:
    finding = check_pod(door, POD)
    assert (finding.state, finding.found) == (OK, "2 of allocation 0123456789abcdef, shared memory")


def test_container_that_asked_for_none_is_told_so(tmp_path: Path) -> None:
    finding = check_pod(tmp_path / "none", POD)
    assert finding.state == MISSING
    assert "resources.limits virtaitech.com/gpu" in finding.remedy


@pytest.mark.parametrize("name", ["ORION_SERVER", "ORION_CONTROLLER"])
def test_variable_that_leads_nowhere_is_named_with_the_librarys_reason(
    tmp_path: Path, pod: dict[str, str], name: str
) -> None:
    finding = check_pod(tmp_path / "none", {**pod, name: "127.0.0.1:1"})
    assert finding.state == MISSING
    assert f"none, and {name}=127.0.0.1:1 leads to none" in finding.found
    assert "127.0.0.1:1" in finding.remedy


def test_way_over_tcp_is_named_with_the_librarys_reason(
    tmp_path: Path, pod: dict[str, str], server: Server
) -> None:
    address = server.status()["server"]["bind"]
    tcp = {**pod, "ORION_SERVER": address, "ORION_TRANSPORT": "tcp"}
    finding = check_pod(tmp_path / "none", tcp)
    assert finding.state == WARN
    assert finding.found == f"none of its own; tcp by ORION_SERVER={address}"
    assert f"transport tcp to {address}: ORION_TRANSPORT=tcp asks for it; " in finding.remedy
    assert "resources.limits virtaitech.com/gpu" in finding.remedy


def test_way_through_shared_memory_is_well(
    tmp_path: Path, pod: dict[str, str], server: Server
) -> None:
    finding = check_pod(tmp_path / "none", {**pod, "ORION_SERVER": server.address})
    found = f"none of its own; shared memory by ORION_SERVER={server.address}"
    assert (finding.state, finding.found) == (OK, found)


def test_socket_of_the_node_is_tried(pod: dict[str, str], server: Server) -> None:
    finding = check_pod(server.folder, pod)
    assert finding.state == OK
    assert "shared memory by the node's socket, which is mounted" in finding.found


def test_server_that_does_not_answer_is_not_waited_for_long(
    tmp_path: Path, pod: dict[str, str]
) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        tried = try_out({**pod, "ORION_SERVER": f"unix:{tmp_path}/silent"}, 0.5)
    assert not tried.works
    assert tried.said == "no answer within 0.5 s: perhaps no vGPU is free"


def test_variable_that_hides_the_vgpu_is_named(door: Path) -> None:
    finding = check_pod(door, {**POD, "ORION_SERVER": "there:1"})
    assert finding.state == WARN
    assert "ORION_SERVER=there:1 is used instead" in finding.found


def test_server_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "allocation.json").write_text(json.dumps(RECORD))
    finding = check_pod(tmp_path, POD)
    assert finding.state == MISSING
    assert "nobody listens" in finding.found
    assert "component=server" in finding.remedy
    assert "ORION_SERVER=172.17.0.1:9960" in finding.remedy


@pytest.mark.parametrize("text", ["", "[]", '{"vgpus": 3}', '{"vgpus": {"a": 1}, "id": "x"}'])
def test_unreadable_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "allocation.json").write_text(text)
    finding = check_pod(tmp_path, POD)
    assert finding.state == MISSING
    assert "cannot be read" in finding.found
