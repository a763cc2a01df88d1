# SPDX-License-Identifier: Apache-2.0
"""kill -9 of controller, agent, worker and program, in every order, while programs come and go: nothing is leaked."""

from __future__ import annotations

import os
import random
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from controller_processes import ControllerProcess, HoldingProgram, wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from orion_server_fixtures import Server, processes_of

ROUNDS = int(os.environ.get("ORION_KILLS", "200")) // 20
MOUNTED = "/run/orion/orion.sock"


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_agent(pid: int) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"orion_server.agent" in file.read()
    return False


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")
@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_nothing_is_leaked_whoever_is_killed_in_whatever_order(tmp_path, libcuda) -> None:
    controller = ControllerProcess(tmp_path / "controller", "--token-seconds", "3")
    server = Server(
        tmp_path / "server", "--device", "null", "--memory", "256M", "--vgpu", "4",
        ORION_CONTROLLER=controller.address,
    )  # fmt: skip
    order = random.Random(20)
    try:
        for turn in range(ROUNDS):
            wait_for(
                lambda: [s for s in controller.overview()["servers"] if s["state"] == "live"],
                f"round {turn}: the server is known",
            )
            programs = [
                HoldingProgram(libcuda, ORION_CONTROLLER=controller.address) for _ in range(6)
            ]
            if turn % 2:  # else they are killed while they begin
                wait_for(
                    lambda: len(controller.overview()["clients"]) == 4, "four programs are served"
                )
            victims = ["controller", "agent", "worker", "program", "waiting"]
            order.shuffle(victims)
            for victim in victims:
                if victim == "controller":
                    controller.kill()
                    controller.start()
                elif victim == "agent":
                    for pid in filter(is_agent, processes_of(str(server.socket))):
                        kill(pid)
                elif victim == "worker":
                    for client in server.status()["clients"][:1]:
                        if client["worker_pid"] is not None:
                            kill(client["worker_pid"])
                else:
                    kill(programs[0 if victim == "program" else 5].process.pid)
            assert all(0 <= d["vgpus_leased"] <= 4 for d in controller.overview()["devices"])
            for program in programs:
                program.kill()
            server.wait_idle(10.0)
            wait_for(
                lambda: (
                    [d["vgpus_leased"] for d in controller.overview()["devices"]] == [0]
                    and not controller.overview()["leases"]
                    and not controller.overview()["queue"]
                ),
                f"round {turn}, {victims}: all is free",
                15.0,
            )
        assert "Traceback" not in controller.text() + server.text()
    finally:
        server.stop()
        controller.stop()
    assert not server.processes()
