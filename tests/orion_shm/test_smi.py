# SPDX-License-Identifier: Apache-2.0
"""`orion smi`: which servers it asks, what it prints."""

from __future__ import annotations

import json

import pytest
from cli_fakes import FakeServer, status_of

from orion_shm.cli import main
from orion_shm.cli.smi import merge


def test_all_running_servers_are_merged(
    fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ORION_SERVER", raising=False)
    fake_server.statuses = {"unix:/a": status_of("unix:/a"), "unix:/b": status_of("unix:/b", 0)}
    assert main(["smi", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [device["server"] for device in answer["devices"]] == ["unix:/a", "unix:/b"]
    assert [client["server"] for client in answer["clients"]] == ["unix:/a"]


def test_named_server_alone_is_asked(
    fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.statuses = {"unix:/a": status_of("unix:/a"), "unix:/b": status_of("unix:/b")}
    assert main(["smi", "--json", "--server", "unix:/b"]) == 0
    assert [s["address"] for s in json.loads(capsys.readouterr().out)["servers"]] == ["unix:/b"]
    assert main(["smi", "--server", "unix:/c"]) == 2
    assert "orion up --listen unix:/c" in capsys.readouterr().err


def test_no_server_is_exit_code_one(
    fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ORION_SERVER", raising=False)
    assert main(["smi"]) == 1
    assert "orion up" in capsys.readouterr().err


def test_table_shows_devices_and_programs(
    fake_server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_server.statuses = {"unix:/a": status_of("unix:/a")}
    assert main(["smi", "--server", "unix:/a"]) == 0
    out = capsys.readouterr().out
    for text in ("Orion CPU device", "4.00 KiB / 1.00 GiB", "4242", "4243", "vectorAdd", "shm"):
        assert text in out


def test_merged_answer_follows_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from importlib import resources

    text = resources.files("orion_shm.cli").joinpath("smi.schema.json").read_text()
    jsonschema.validate(merge([status_of("unix:/a"), status_of("unix:/b")]), json.loads(text))
