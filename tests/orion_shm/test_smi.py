# SPDX-License-Identifier: Apache-2.0
"""`orion smi`: which servers it asks, what it prints."""

from __future__ import annotations

import json

import pytest
from cli_fakes import FakeServer, status_of

from orion_shm.cli import main, smi
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


@pytest.mark.parametrize("json_too", [False, True])
def test_watch_goes_on_until_it_is_interrupted(
    fake_server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    json_too: bool,
) -> None:
    fake_server.statuses = {"unix:/a": status_of("unix:/a")}
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(smi.time, "sleep", sleep)
    options = ["--json"] if json_too else []
    assert main(["smi", "--server", "unix:/a", "--watch", "0.5", *options]) == 0
    assert pauses == [0.5] * 3
    out = capsys.readouterr().out
    assert out.count("vectorAdd") == 3
    if json_too:
        assert [len(json.loads(line)["clients"]) for line in out.splitlines()] == [1, 1, 1]


def test_watching_without_end_or_pause_is_refused(fake_server: FakeServer) -> None:
    for interval in ("0", "-1", "often", "inf"):
        assert main(["smi", f"--watch={interval}"]) == 2


def test_merged_answer_follows_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from importlib import resources

    text = resources.files("orion_shm.cli").joinpath("smi.schema.json").read_text()
    jsonschema.validate(merge([status_of("unix:/a"), status_of("unix:/b")]), json.loads(text))
