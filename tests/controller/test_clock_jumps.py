# SPDX-License-Identifier: Apache-2.0
"""The host's calendar is set, by years, either way, while programs run, wait and come: nobody notices."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_processes import (
    ControllerProcess,
    HoldingProgram,
    live_servers,
    nothing_leased,
    wait_for,
)
from orion_server.status import query
from orion_server_fixtures import Server

MOUNTED = "/run/orion/orion.sock"
YEAR = 365 * 86400
SLACK = 60.0  # seconds; each step is longer

pytestmark = pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")


class Calendar:
    """The clock of the processes that are started with its environment."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        assert compiler, "building Orion needs a compiler as well"
        library = folder / "stepped_clock.so"
        source = Path(__file__).with_name("stepped_clock.c")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True
        )
        self._page = folder / "step"
        self._page.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "STEPPED_CLOCK": str(self._page)}

    def set(self, seconds: int) -> None:
        """That far from the true time."""
        with open(self._page, "r+b") as file:
            file.write(struct.pack("<q", seconds))


@pytest.fixture
def calendar(tmp_path: Path) -> Calendar:
    return Calendar(tmp_path)


@pytest.fixture
def controller(tmp_path: Path, calendar: Calendar) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path / "controller", **calendar.environment)
    yield running
    running.stop()


@pytest.fixture
def server(tmp_path: Path, calendar: Calendar, controller: ControllerProcess) -> Iterator[Server]:
    running = Server(
        tmp_path / "server", "--device", "null", "--memory", "256M", "--vgpu", "4",
        ORION_CONTROLLER=controller.address, **calendar.environment,
    )  # fmt: skip
    wait_for(lambda: live_servers(controller), "the server registers")
    yield running
    running.stop()


def ages(server: Server, controller: ControllerProcess) -> dict[str, float]:
    """All that grows by a second in a second."""
    status, now = server.status(), controller.overview()
    (allocation,) = query(server.address, request={"op": "allocations"})["allocations"]
    return {
        "uptime of the server": status["server"]["uptime"],
        **{f"session {row['session']}": row["seconds"] for row in status["clients"]},
        "allocation": allocation["age"],
        "uptime of the controller": now["uptime"],
        "heartbeat": now["servers"][0]["heartbeat_age"],
        **{f"wait of {row['command']}": row["waited"] for row in now["queue"]},
    }


def await_heartbeat(controller: ControllerProcess) -> None:
    """One that is sent from now on."""
    before = 0.0
    for _ in range(2):
        while True:
            age = float(controller.overview()["servers"][0]["heartbeat_age"])
            fell, before = age < before, age
            if fell:
                break
            assert age < SLACK, "there are no heartbeats"
            time.sleep(0.01)


def epoch_of(server: Server, session: int) -> float:
    rows: list[dict[str, Any]] = server.status()["clients"]
    return float(next(row["connected"] for row in rows if row["session"] == session))


def test_nobody_notices_that_the_calendar_is_set(calendar, controller, server, libcuda) -> None:
    begun = time.monotonic()
    uuid = server.status()["devices"][0]["uuid"]
    query(server.address, request={"op": "allocate", "vgpus": {uuid: [3]}})
    settings = {**calendar.environment, "ORION_CONTROLLER": controller.address}
    programs = [HoldingProgram(libcuda, **settings) for _ in range(3)]
    assert [program.ready()["result"] for program in programs] == [0, 0, 0]
    wait_for(lambda: len(controller.overview()["clients"]) == 3, "the programs are known")
    waiting = HoldingProgram(libcuda, **settings, ORION_WAIT="600")
    wait_for(lambda: controller.overview()["queue"], "one more waits")
    leases = {lease["id"] for lease in controller.overview()["leases"]}

    for step in (YEAR, -2 * YEAR, 90, 0):
        calendar.set(step)
        await_heartbeat(controller)
        elapsed = time.monotonic() - begun
        for name, age in ages(server, controller).items():
            assert 0 <= age < elapsed + SLACK, f"{name} after a step to {step} s"
        now = controller.overview()
        assert [s["state"] for s in now["servers"]] == ["live"]
        assert {lease["id"] for lease in now["leases"]} == leases
        assert len(now["queue"]) == 1
        for program in programs:
            assert program.do("info")["result"] == 0
        # who comes now shows that the server's calendar has been set
        programs.pop(0).finish()
        assert waiting.ready()["result"] == 0, "the place of who has gone"
        wait_for(lambda: len(controller.overview()["clients"]) == 3, "it is known")
        newest = max(row["session"] for row in server.status()["clients"])
        assert abs(epoch_of(server, newest) - time.time() - step) < SLACK
        programs.append(waiting)
        waiting = HoldingProgram(libcuda, **settings, ORION_WAIT="600")
        wait_for(lambda: controller.overview()["queue"], "one more waits")
        leases = {lease["id"] for lease in controller.overview()["leases"]}

    waiting.kill()
    for program in programs:
        said = program.finish()
        assert all("a vGPU" in line for line in said.splitlines()), said  # it waited, and got one
    wait_for(lambda: nothing_leased(controller), "all is free")
    assert "Traceback" not in controller.text() + server.text()
    assert {e["event"] for e in controller.events()}.isdisjoint({"lost", "forgotten"})


def test_container_of_a_server_that_starts_anew_is_as_old_as_it_is(
    tmp_path, calendar, controller, server
) -> None:
    """Its age lets the device plugin release it: the calendar must not make it older."""
    uuid = server.status()["devices"][0]["uuid"]
    begun = time.monotonic()
    query(server.address, request={"op": "allocate", "vgpus": {uuid: [0]}})
    server.stop()
    calendar.set(YEAR)
    again = Server(
        tmp_path / "server", "--device", "null", "--memory", "256M", "--vgpu", "4",
        **calendar.environment,
    )  # fmt: skip
    try:
        (row,) = query(again.address, request={"op": "allocations"})["allocations"]
        assert 0 < row["age"] <= time.monotonic() - begun + 1.0
    finally:
        again.stop()
