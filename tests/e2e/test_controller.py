# SPDX-License-Identifier: Apache-2.0
"""Unmodified vectorAdd that knows a controller and nothing else: no ORION_SERVER, no `orion run`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_support import Build, Program, Result, run, start

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
sys.path.insert(0, str(Path(__file__).parents[1] / "controller"))

from controller_processes import (
    ControllerProcess,
    clean_environment,
    live_servers,
    nothing_leased,
    wait_for,
)
from orion_server_fixtures import Server

pytest.importorskip("orion_controller", reason="orion_controller is not installed")
MIB = 1 << 20
MOUNTED = "/run/orion/orion.sock"
TRANSPORTS = ("shm", "tcp")

pytestmark = pytest.mark.skipif(
    os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here, and libcuda.so.1 would take that"
)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path / "controller")
    yield running
    running.stop()


@pytest.fixture
def leased(tmp_path: Path, controller: ControllerProcess) -> Iterator[Server]:
    """A server with one vGPU of 256 MiB, by socket and by TCP."""
    options = ("--device", "cpu", "--memory", "256M", "--vgpu", "1", "--bind", "127.0.0.1:0")
    running = Server(tmp_path / "server", *options, ORION_CONTROLLER=controller.address)
    wait_for(lambda: live_servers(controller), "the server registers")
    yield running
    running.stop()
    assert not running.processes()


@pytest.fixture
def environment(tmp_path: Path, libcuda: Path) -> dict[str, str]:
    """Of a program, with a home of its own; no setting of Orion is in it."""
    home = tmp_path / "home"
    home.mkdir()
    return clean_environment(HOME=str(home), LD_LIBRARY_PATH=str(libcuda.parent))


@pytest.fixture
def vector_add(
    build: Build, environment: dict[str, str], leased: Server, controller: ControllerProcess
) -> Callable[..., Result]:
    def add(**settings: str) -> Result:
        return run([build("vectorAdd")], {**environment, **settings})

    return add


def last_session(server: Server) -> dict[str, Any]:
    """Of a program that has ended."""
    wait_for(lambda: not server.status()["clients"], "its session ends")
    found: dict[str, Any] = server.report()["sessions"][-1]
    return found


def said_by_orion(error: str) -> list[str]:
    return [line for line in error.splitlines() if line.startswith("orion: ")]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_vector_add_needs_the_controllers_address_alone(
    vector_add, controller, leased, transport
) -> None:
    extra = {} if transport == "shm" else {"ORION_TRANSPORT": "tcp"}
    done = vector_add(ORION_CONTROLLER=controller.address, **extra)
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out
    session = last_session(leased)
    assert (session["transport"], session["kernels"]) == (transport, 1)
    assert session["memory_limit"] == 256 * MIB
    wait_for(lambda: nothing_leased(controller), "the lease is free")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_quota_and_share_come_from_environment_or_file(
    vector_add, controller, leased, environment, place, transport
) -> None:
    wishes = {
        "ORION_CONTROLLER": controller.address,
        "ORION_TRANSPORT": transport,
        "ORION_GMEM": "80",
        "ORION_RATIO": "35",
    }
    if place == "file":
        conf = Path(environment["HOME"], ".orion", "client.conf")
        conf.parent.mkdir()
        conf.write_text("".join(f"{name} = {value}\n" for name, value in wishes.items()))
        wishes = {}
    done = vector_add(**wishes)
    assert done.code == 0, done.said()
    session = last_session(leased)
    assert session["transport"] == transport
    assert (session["memory_limit"], session["ratio"]) == (80 * MIB, 35)


def test_environment_goes_before_the_file(vector_add, controller, leased, environment) -> None:
    conf = Path(environment["HOME"], ".orion", "client.conf")
    conf.parent.mkdir()
    conf.write_text(f"controller = {controller.address}\ngmem = 80\nratio = 35\n")
    done = vector_add(ORION_GMEM="48")
    assert done.code == 0, done.said()
    session = last_session(leased)
    assert (session["memory_limit"], session["ratio"]) == (48 * MIB, 35)


def take(controller: ControllerProcess) -> Callable[[], None]:
    """Takes the one vGPU, and returns how to give it back."""
    status, got = controller.ask("POST", "/v1/leases", {"seconds": 600.0})
    assert status == 201, got
    path, key = f"/v1/leases/{got['lease']['id']}", got["lease_key"]

    def give_back() -> None:
        assert controller.ask("DELETE", path, key=key)[0] == 202

    return give_back


def test_vector_add_that_does_not_wait_says_why_in_one_line(vector_add, controller) -> None:
    take(controller)
    done = vector_add(ORION_CONTROLLER=controller.address, ORION_WAIT="0")
    assert done.code != 0
    (line,) = said_by_orion(done.err)
    assert (
        "no vGPU was free within ORION_WAIT=0 seconds: all 1 vGPUs of 1 device are in use" in line
    )


def test_vector_add_waits_no_longer_than_it_is_told(vector_add, controller) -> None:
    take(controller)
    done = vector_add(ORION_CONTROLLER=controller.address, ORION_WAIT="2")
    assert done.code != 0
    begins, ends = said_by_orion(done.err)
    assert "waiting for a vGPU" in begins
    assert "no vGPU was free within ORION_WAIT=2 seconds" in ends
    assert 2 <= done.seconds < 20
    assert not controller.overview()["queue"]


def test_vector_add_waits_for_its_turn(
    build, environment, leased, controller: ControllerProcess
) -> None:
    give_back = take(controller)
    program: Program = start(
        [build("vectorAdd")], {**environment, "ORION_CONTROLLER": controller.address}
    )
    wait_for(lambda: controller.overview()["queue"], "it waits")
    give_back()
    code, out, error = program.finish()
    assert code == 0, out + error
    begins, ends = said_by_orion(error)
    assert "waiting for a vGPU" in begins
    assert "got a vGPU after" in ends
