# SPDX-License-Identifier: Apache-2.0
"""`orion check` in a pod names the cause, whatever is wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from orion_shm.cli.pod_probe import check_pod
from orion_shm.cli.probes import MISSING, OK, WARN

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
RECORD = {
    "schema": 1,
    "id": "0123456789abcdef",
    "vgpus": {"aa": [1, 2]},
    "endpoint": "172.17.0.1:9960",
}


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
def test_variable_that_is_used_instead_is_named(tmp_path: Path, name: str) -> None:
    finding = check_pod(tmp_path / "none", {**POD, name: "there:1"})
    assert finding.state == WARN
    assert f"{name}=there:1" in finding.found


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


def test_socket_without_an_allocation_is_told_so(door: Path) -> None:
    (door / "allocation.json").unlink()
    finding = check_pod(door, POD)
    assert finding.state == WARN
    assert "nothing was allocated" in finding.found
