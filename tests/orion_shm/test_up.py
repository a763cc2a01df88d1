# SPDX-License-Identifier: Apache-2.0
"""`orion up`: addresses, the lines it prints, its end; the server is a stand-in."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from cli_fakes import FakeServer

from orion_shm.cli import main, up
from orion_shm.cli.up import bind_of


@pytest.mark.parametrize(
    ("environment", "bind"),
    [
        ({}, None),
        ({"BIND_ADDR": "10.0.0.1"}, "10.0.0.1"),
        ({"PORT": "9961"}, "127.0.0.1:9961"),
        ({"BIND_ADDR": "0.0.0.0", "PORT": "9961"}, "0.0.0.0:9961"),
    ],
)
def test_bind_comes_from_the_environment(environment: dict[str, str], bind: str | None) -> None:
    assert bind_of(environment) == bind


def test_up_shows_programs_and_ends_on_a_signal(
    fake_server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(up, "REFRESH_SECONDS", 0.01)
    for name in ("ORION_SERVER", "BIND_ADDR", "PORT"):
        monkeypatch.delenv(name, raising=False)
    looks = 0
    status = fake_server.embedded.status

    def counted_status() -> dict[str, object]:
        nonlocal looks
        looks += 1
        answer = status()
        if looks > 2:
            answer["clients"] = []
        if looks == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return answer

    monkeypatch.setattr(fake_server.embedded, "status", counted_status)
    before = signal.getsignal(signal.SIGINT)
    assert threading.current_thread() is threading.main_thread()
    assert main(["up", "--plain", "--listen", "unix:/nowhere/x.sock"]) == 0
    assert signal.getsignal(signal.SIGINT) is before
    assert fake_server.started[0]["address"] == "unix:/nowhere/x.sock"
    assert fake_server.embedded.stops >= 1
    shown = capsys.readouterr()
    assert "program 4242 (vectorAdd) connected by shm, worker 4243" in shown.out
    assert "program 4242 (vectorAdd) has gone" in shown.out
    assert "Orion CPU device serves at" in shown.err
    assert "ended after 1 programs, 17 calls" in shown.err
