# SPDX-License-Identifier: Apache-2.0
"""kill -9 of controller, agent, exporter, worker and programs, in every order, while programs compute, come and go:
nothing is leaked. `make soak` does it a hundred times."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from controller_processes import ControllerProcess, HoldingProgram, live_servers, wait_for
from orion_server_fixtures import Server, processes_of

ROUNDS = int(os.environ.get("ORION_KILL_ROUNDS", "10"))
MOUNTED = "/run/orion/orion.sock"
VGPUS = 4
PROGRAMS = 6  # two of them wait
VICTIMS = ("controller", "agent", "exporter", "worker", "program", "waiting")


def kill(pid: int | None) -> None:
    """None: it is not there yet. Never 0, which would be all of us."""
    if not pid:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def processes_that_run(module: str, server: Server) -> list[int]:
    """Beside that server: `python -m module ... --socket` or `--server` with its socket."""
    found = []
    for pid in processes_of(str(server.socket)):
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if module.encode() in file.read():
                found.append(pid)
    return found


def orders() -> Iterator[tuple[str, ...]]:
    """All of them, the most different ones first; the same each time."""
    every = list(itertools.permutations(VICTIMS))
    random.Random(20).shuffle(every)
    return itertools.cycle(every)


def killers(
    controller: ControllerProcess, server: Server, programs: list[HoldingProgram]
) -> dict[str, Callable[[], None]]:
    def restart_controller() -> None:
        controller.kill()
        controller.start()

    def end_worker() -> None:
        for client in server.status()["clients"][:1]:
            if client["worker_pid"] is not None:
                kill(client["worker_pid"])

    return {
        "controller": restart_controller,
        "agent": lambda: [kill(p) for p in processes_that_run("orion_server.agent", server)],
        "exporter": lambda: [kill(p) for p in processes_that_run("orion_server.metrics", server)],
        "worker": end_worker,
        "program": lambda: kill(programs[0].process.pid),
        "waiting": lambda: kill(programs[-1].process.pid),
    }


def all_is_free(controller: ControllerProcess) -> bool:
    now = controller.overview()
    leased = [d["vgpus_leased"] for d in now["devices"]]
    return leased == [0] and not now["leases"] and not now["queue"]


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")
@pytest.mark.timeout(60 + 30 * ROUNDS)
def test_nothing_is_leaked_whoever_is_killed_in_whatever_order(tmp_path: Path, libcuda) -> None:
    pytest.importorskip("llvmlite", reason="the CPU device needs llvmlite")
    controller = ControllerProcess(tmp_path / "controller", "--token-seconds", "3")
    server = Server(
        tmp_path / "server", "--device", "cpu", "--threads", "1", "--memory", "256M",
        "--vgpu", str(VGPUS), "--metrics-port", "0", ORION_CONTROLLER=controller.address,
    )  # fmt: skip
    programs: list[HoldingProgram] = []
    try:
        for turn, order in enumerate(itertools.islice(orders(), ROUNDS)):
            where = f"round {turn}, {', '.join(order)}"
            wait_for(lambda: live_servers(controller), f"{where}: the server is known")
            programs = [
                HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
                for _ in range(PROGRAMS)
            ]
            if turn % 2:  # else they are killed while they begin
                served = wait_for(
                    lambda: (lambda c: c if len(c) == VGPUS else None)(
                        controller.overview()["clients"]
                    ),
                    f"{where}: {VGPUS} programs are served",
                )
                pids = {client["pid"] for client in served}
                programs.sort(key=lambda p: p.process.pid not in pids)
                for program in programs[:VGPUS]:
                    assert program.ready()["result"] == 0
                    assert program.do("burn 1000000")["result"] == 0  # work for many minutes
            act = killers(controller, server, programs)
            for victim in order:
                act[victim]()
                assert server.process.poll() is None, server.text()
            assert all(0 <= d["vgpus_leased"] <= VGPUS for d in controller.overview()["devices"]), (
                where
            )
            for program in programs:
                program.kill()
            server.wait_idle(10.0)
            wait_for(lambda: all_is_free(controller), f"{where}: all is free", 15.0)
            device = server.status()["devices"][0]
            assert (device["memory_used"], device["memory_granted"]) == (0, 0), where
        wait_for(lambda: processes_that_run("orion_server.agent", server), "there is an agent")
        wait_for(lambda: server.status()["server"]["metrics"], "there is an exporter")
        assert "Traceback" not in controller.text() + server.text()
    finally:
        for program in programs:
            program.kill()
        server.stop()
        controller.stop()
    assert not server.processes()
