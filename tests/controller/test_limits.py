# SPDX-License-Identifier: Apache-2.0
"""What a controller's lease says is what its server enforces: memory, share of time, changes while a program runs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from controller_processes import HoldingProgram, clean_environment, nothing_leased, wait_for
from orion_server.status import query

MIB = 1 << 20
OUT_OF_MEMORY = 2
ORION = Path(sys.executable).parent / "orion"
MOUNTED = "/run/orion/orion.sock"

pytestmark = pytest.mark.skipif(
    os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here, and libcuda.so.1 would take that"
)


def orion(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ORION), *arguments],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


def row_of(server: Any, program: HoldingProgram) -> dict[str, Any]:
    """The server's own line about it."""
    return next(c for c in server.status()["clients"] if c["pid"] == program.process.pid)


def client_of(controller: Any, program: HoldingProgram) -> dict[str, Any]:
    """The controller's."""
    found: dict[str, Any] = wait_for(
        lambda: [c for c in controller.overview()["clients"] if c["pid"] == program.process.pid],
        "the server reports the program",
    )[0]
    return found


def await_heartbeats(controller: Any, count: int) -> None:
    """So many more of the one server."""
    ages: list[float] = []

    def heard() -> bool:
        ages.append(controller.overview()["servers"][0]["heartbeat_age"])
        return sum(later < age for age, later in itertools.pairwise(ages)) >= count

    wait_for(heard, f"{count} heartbeats")


def resize(controller: Any, lease: str, **bounds: int) -> tuple[int, dict[str, Any]]:
    status, answer = controller.ask(
        "PATCH", f"/v1/leases/{lease}", bounds, key=controller.administrator_key()
    )
    return status, answer


@pytest.fixture
def cpu_server(controller, make_server):
    pytest.importorskip("llvmlite", reason="the CPU device needs llvmlite")
    return make_server(controller, "--device", "cpu", "--threads", "1", "--vgpu", "4")


@pytest.fixture
def program(controller, cpu_server, libcuda):
    started = HoldingProgram(
        libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="96", ORION_RATIO="40"
    )
    assert started.ready() == {"result": 0, "total": 96 * MIB}
    yield started
    started.kill()


def test_memory_and_share_of_a_lease_are_in_force_at_the_server(controller, cpu_server, program):
    assert program.do("info")["free"] <= 96 * MIB
    assert program.do(f"alloc {97 * MIB}")["result"] == OUT_OF_MEMORY
    assert program.do(f"alloc {60 * MIB}")["result"] == 0
    row = row_of(cpu_server, program)
    assert (row["memory_limit"], row["memory_promised"], row["ratio"]) == (96 * MIB, 96 * MIB, 40)
    done = orion("smi", "--json", "--server", cpu_server.address)
    (shown,) = json.loads(done.stdout)["clients"]
    assert (shown["memory_limit"], shown["ratio"], shown["share"]) == (96 * MIB, 40, 1)
    client = client_of(controller, program)
    assert (client["memory_limit"], client["ratio"]) == (96 * MIB, 40)
    device = controller.overview()["devices"][0]
    assert (device["memory_leased"], device["ratio_leased"]) == (96 * MIB, 40)


def test_resize_at_the_controller_changes_a_running_program(controller, cpu_server, program):
    lease = client_of(controller, program)["lease"]
    assert resize(controller, lease, gmem_mib=160, ratio=70)[0] == 200
    wait_for(lambda: program.do("info")["total"] == 160 * MIB, "the program sees its new limit")
    assert row_of(cpu_server, program)["ratio"] == 70
    assert program.do(f"alloc {120 * MIB}")["result"] == 0
    assert resize(controller, lease, gmem_mib=128)[0] == 200
    wait_for(lambda: program.do("info")["total"] == 128 * MIB, "the program sees the lower limit")
    assert program.do(f"alloc {16 * MIB}")["result"] == OUT_OF_MEMORY
    client = wait_for(
        lambda: (lambda c: c if c["memory_limit"] == 128 * MIB else None)(
            client_of(controller, program)
        ),
        "the controller hears that it is done",
    )
    assert client["ratio"] == 70
    status, answer = resize(controller, lease, gmem_mib=300)
    assert (status, answer["kind"]) == (409, "full")
    assert program.finish() == ""
    wait_for(lambda: nothing_leased(controller), "the lease is free")


def test_what_a_program_still_holds_beyond_a_lower_limit_is_not_leased_again(
    controller, cpu_server, program, libcuda
):
    assert program.do(f"alloc {80 * MIB}")["result"] == 0
    lease = client_of(controller, program)["lease"]
    assert resize(controller, lease, gmem_mib=16)[0] == 200
    wait_for(lambda: client_of(controller, program)["memory_limit"] == 16 * MIB, "it is in force")
    granted = row_of(cpu_server, program)["memory_granted"]
    assert granted >= 80 * MIB
    assert controller.overview()["devices"][0]["memory_leased"] == granted
    ask = {"gmem_mib": 200}
    assert controller.ask("POST", "/v1/leases", ask)[1]["kind"] == "full"
    other = HoldingProgram(
        libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="128", ORION_WAIT="0"
    )
    assert other.ready() == {"result": 0, "total": 128 * MIB}
    other.finish()


def test_a_wish_below_a_held_lease_stays_until_the_lease_is_changed(
    controller, make_server, libcuda
):
    server = make_server(controller)
    wish = {"gmem_mib": 96, "ratio": 60, "seconds": 60.0}
    grant = controller.ask("POST", "/v1/leases", wish)[1]["grants"][0]
    program = HoldingProgram(
        libcuda,
        ORION_SERVER=f"unix:{grant['local']}",
        ORION_TOKEN=grant["token"],
        ORION_GMEM="32",
        ORION_RATIO="20",
    )
    assert program.ready() == {"result": 0, "total": 32 * MIB}
    lease = client_of(controller, program)["lease"]
    await_heartbeats(controller, 2)  # the orders of one are carried out before the next one comes
    assert program.do("info")["total"] == 32 * MIB
    assert row_of(server, program)["ratio"] == 20
    assert resize(controller, lease, gmem_mib=64)[0] == 200
    wait_for(lambda: program.do("info")["total"] == 64 * MIB, "the lease has been changed")
    program.finish()


@pytest.mark.parametrize(("memory", "vgpus"), [("256M", 3), ("255M", 2), ("100M", 7)])
def test_all_equal_shares_of_a_device_can_be_used_at_once(
    controller, make_server, libcuda, memory, vgpus
):
    """Servers keep memory free in whole granules: what is granted must add up there as well."""
    make_server(controller, "--memory", memory, "--vgpu", str(vgpus))
    programs = [
        HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_WAIT="0")
        for _ in range(vgpus)
    ]
    found = [p.ready() for p in programs]
    assert [f["result"] for f in found] == [0] * vgpus, [p.finish() for p in programs]
    assert len({f["total"] for f in found}) == 1
    for program in programs:
        program.finish()


def test_odd_wishes_are_granted_as_long_as_the_server_can_promise_them(
    controller, make_server, libcuda
):
    make_server(controller, "--memory", "128M", "--vgpu", "8")
    programs = [
        HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="31")
        for _ in range(4)
    ]
    assert [p.ready()["result"] for p in programs] == [0] * 4
    late = HoldingProgram(
        libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="5", ORION_WAIT="0"
    )
    assert late.ready()["result"] == 100
    assert "no device has 5 MiB left" in late.finish(), "the controller says it, not the server"
    for program in programs:
        program.finish()


def test_administrator_of_the_server_drains_it_and_the_controller_knows(
    controller, cpu_server, program, libcuda
):
    def state() -> str:
        return str(controller.overview()["servers"][0]["state"])

    assert orion("drain", "--server", cpu_server.address, "--timeout", "0").returncode == 1
    wait_for(lambda: state() == "draining", "the controller knows")
    late = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_WAIT="1")
    assert late.ready()["result"] == 100
    assert "ORION_WAIT=1" in late.finish()
    assert program.do("info")["result"] == 0
    assert orion("drain", "--server", cpu_server.address, "--undo").returncode == 0
    wait_for(lambda: state() == "live", "the controller knows")
    again = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="16")
    assert again.ready()["result"] == 0
    again.finish()


def test_controller_drains_a_server_and_its_programs_go_on(
    controller, cpu_server, program, libcuda
):
    name = controller.overview()["servers"][0]["id"]
    key = controller.administrator_key()
    path = f"/v1/servers/{name}/drain"
    assert controller.ask("POST", path, {"drain": True}, key=key)[0] == 200
    assert controller.overview()["servers"][0]["state"] == "draining"
    waiting = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address, ORION_GMEM="16")
    wait_for(lambda: controller.overview()["queue"], "a new program waits")
    assert program.do("info")["result"] == 0
    assert controller.ask("POST", path, {"drain": False}, key=key)[0] == 200
    assert waiting.ready()["result"] == 0
    waiting.finish()


def test_a_drained_server_gives_a_token_back(controller, make_server, libcuda):
    """The lease was granted before the server was drained: it is not used up by the refusal."""
    server = make_server(controller)
    status, got = controller.ask("POST", "/v1/leases", {"gmem_mib": 32, "seconds": 60.0})
    assert status == 201
    grant = got["grants"][0]

    def start() -> HoldingProgram:
        return HoldingProgram(
            libcuda, ORION_SERVER=f"unix:{grant['local']}", ORION_TOKEN=grant["token"]
        )

    query(server.address, request={"op": "drain"})
    refused = start()
    assert refused.ready()["result"] != 0
    assert "being drained" in refused.finish()
    query(server.address, request={"op": "drain", "undo": True})
    program = start()
    assert program.ready() == {"result": 0, "total": 32 * MIB}
    program.finish()


def test_heartbeats_carry_what_the_dashboard_shows(controller, cpu_server, program):
    page = urllib.request.urlopen(f"http://{controller.address}/metrics", timeout=10)
    assert page.status == 200
    assert program.do(f"alloc {MIB}")["result"] == 0
    assert program.do("burn 100000")["result"] == 0
    wait_for(lambda: client_of(controller, program)["busy"] > 0.1, "it is seen to be busy")
    client = client_of(controller, program)
    assert client["busy_seconds"] > 0
    assert 0 < client["memory_used"] <= client["memory_limit"] == 96 * MIB

    def charted() -> list[float]:
        return [b for series in controller.overview()["history"] for b in series["busy"]]

    wait_for(lambda: max(charted(), default=0) > 0.1, "the device's chart shows it")
    assert max(charted()) <= 1
