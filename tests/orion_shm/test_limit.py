# SPDX-License-Identifier: Apache-2.0
"""`orion limit` and `orion drain`: what they ask of the server, and what they say."""

from __future__ import annotations

import pytest
from cli_fakes import FakeServer, status_of

from orion_shm.cli import main

GIB = 1 << 30


@pytest.fixture
def server(fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    monkeypatch.delenv("ORION_SERVER", raising=False)
    fake_server.statuses["unix:/a"] = status_of("unix:/a", 0)
    return fake_server


def test_limits_are_asked_for(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = {"session": 3, "memory_limit": 2 * GIB, "ratio": 30, "mode": "capped"}
    assert main(["limit", "3", "--gmem", "2G", "--ratio", "30%", "--mode", "capped"]) == 0
    asked = {"op": "limit", "session": 3, "memory": 2 * GIB, "ratio": 30, "mode": "capped"}
    assert server.requests == [("unix:/a", asked)]
    assert "session 3: 2.00 GiB, 30 % (capped)" in capsys.readouterr().out


def test_only_what_is_named_changes(server: FakeServer) -> None:
    server.answer = {"session": 3, "memory_limit": GIB, "ratio": 7, "mode": "fair"}
    assert main(["limit", "3", "--ratio", "7"]) == 0
    assert server.requests[0][1] == {"op": "limit", "session": 3, "ratio": 7}


def test_nothing_named_is_an_error(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["limit", "3"]) == 2
    assert "--gmem, --ratio or --mode" in capsys.readouterr().err
    assert not server.requests


@pytest.mark.parametrize("ratio", ["0", "101", "half", "-5", ""])
def test_ratio_is_a_percentage(server: FakeServer, ratio: str) -> None:
    assert main(["limit", "3", f"--ratio={ratio}"]) == 2
    assert not server.requests


def test_servers_refusal_is_shown(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.refuse = "the server on unix:/a says: no session 3"
    assert main(["limit", "3", "--ratio", "7"]) == 2
    assert "no session 3" in capsys.readouterr().err


def test_several_servers_have_to_be_told_apart(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.statuses["unix:/b"] = status_of("unix:/b")
    assert main(["drain"]) == 2
    assert "name one by --server" in capsys.readouterr().err
    server.answer = {"draining": True, "clients": 0}
    assert main(["drain", "--server", "unix:/b"]) == 0
    assert server.requests == [("unix:/b", {"op": "drain", "stop": False, "undo": False})]


def test_drain_waits_for_the_last_program(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = {"draining": True, "clients": 1}
    assert main(["drain", "--stop"]) == 0
    assert server.requests[0][1] == {"op": "drain", "stop": True, "undo": False}
    assert "1 still there" in capsys.readouterr().out


def test_drain_gives_up_in_time(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.statuses["unix:/a"] = status_of("unix:/a", 1)
    server.answer = {"draining": True, "clients": 1}
    assert main(["drain", "--timeout", "0.1"]) == 1
    assert "1 still there after 0.1 seconds" in capsys.readouterr().out


def test_drain_can_be_taken_back(server: FakeServer) -> None:
    server.answer = {"draining": False, "clients": 1}
    assert main(["drain", "--undo"]) == 0
    assert server.requests[0][1]["undo"] is True
