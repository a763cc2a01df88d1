# SPDX-License-Identifier: Apache-2.0
"""kill -9 of controller, agent, exporter, worker and programs, in every order, while programs compute, come and go:
who is not killed goes on, who has lost something hears of it at once, and nothing is leaked. `make soak` does it a
hundred times."""

from __future__ import annotations

import itertools
import os
import random
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from controller_processes import ControllerProcess, HoldingProgram, live_servers, wait_for
from orion_server_fixtures import Server, processes_of
from witness import witnessed
from witnesses import Bystander, session_of

ROUNDS = int(os.environ.get("ORION_KILL_ROUNDS", "10"))
MOUNTED = "/run/orion/orion.sock"
VGPUS = 5  # two for the bystanders
PROGRAMS = 5  # two of them wait
VICTIMS = ("controller", "agent", "exporter", "worker", "program", "waiting")
LAUNCH_FAILED = 719


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


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def orders() -> Iterator[tuple[str, ...]]:
    """All of them, the most different ones first; the same each time."""
    every = list(itertools.permutations(VICTIMS))
    random.Random(20).shuffle(every)
    return itertools.cycle(every)


class Round:
    """One order of victims, among programs that work (served) or that are just beginning."""

    def __init__(
        self,
        where: str,
        controller: ControllerProcess,
        server: Server,
        programs: list[HoldingProgram],
        served: bool,
    ) -> None:
        self.where = where
        self.controller = controller
        self.server = server
        self.programs = programs
        self.served = served

    def act(self, victim: str) -> None:
        acts: dict[str, Callable[[], None]] = {
            "controller": self._restart_controller,
            "agent": lambda: self._kill_all("orion_server.agent"),
            "exporter": lambda: self._kill_all("orion_server.metrics"),
            "worker": self._kill_worker,
            "program": self._kill_program,
            "waiting": lambda: kill(self.programs[-1].process.pid),
        }
        acts[victim]()

    def _restart_controller(self) -> None:
        self.controller.kill()
        self.controller.start()

    def _kill_all(self, module: str) -> None:
        for pid in processes_that_run(module, self.server):
            kill(pid)

    def _kill_worker(self) -> None:
        """Its program, which waits for it, gets an error that stays. One that has just begun gets some answer."""
        program = self.programs[1]
        row = session_of(self.server, program)
        if not self.served:
            if row is not None and row["worker_pid"]:
                kill(row["worker_pid"])
                program.ready()
            return
        assert row is not None, self.where
        program.tell("wait")
        with witnessed(program.process.pid, *self._between()) as stretch:
            kill(row["worker_pid"])
            assert program.hear() == {"result": LAUNCH_FAILED}, self.where
        stretch.check(f"{self.where}: the worker's program")
        assert program.do("info")["result"] == LAUNCH_FAILED, f"{self.where}: it stays"

    def _kill_program(self) -> None:
        """What worked for it ends."""
        program = self.programs[0]
        row = session_of(self.server, program) if self.served else None
        if row is None:
            kill(program.process.pid)
            return
        worker = os.pidfd_open(row["worker_pid"])
        try:
            with witnessed(row["worker_pid"], *self._between()) as stretch:
                kill(program.process.pid)
                assert select.select([worker], [], [], 20.0)[0], (
                    f"{self.where}: its worker lives on"
                )
            stretch.check(f"{self.where}: the program's worker")
        finally:
            os.close(worker)

    def _between(self) -> tuple[int, int]:
        """Who else has to run until somebody hears of it."""
        return self.server.process.pid, os.getpid()


def wait_until_served(controller: ControllerProcess, programs: list[HoldingProgram]) -> None:
    """As many as have room; they come first in the list then, and have work for many minutes."""
    free = VGPUS - 2

    def those() -> set[int]:
        found = {client["pid"] for client in controller.overview()["clients"]}
        return found & {program.process.pid for program in programs}

    wait_for(lambda: len(those()) == free, f"{free} programs are served")
    pids = those()
    programs.sort(key=lambda program: program.process.pid not in pids)
    for program in programs[:free]:
        assert program.ready()["result"] == 0
        assert program.do("burn 1000000")["result"] == 0


def only_left(controller: ControllerProcess, bystanders: list[Bystander], leases: set[str]) -> bool:
    now = controller.overview()
    return (
        [d["vgpus_leased"] for d in now["devices"]] == [len(bystanders)]
        and {c["pid"] for c in now["clients"]} == {b.pid for b in bystanders}
        and {lease["id"] for lease in now["leases"]} == leases
        and not now["queue"]
    )


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")
@pytest.mark.timeout(120 + 30 * ROUNDS)
def test_others_go_on_and_nothing_is_leaked_whoever_is_killed_in_whatever_order(
    tmp_path: Path, libcuda
) -> None:
    pytest.importorskip("llvmlite", reason="the CPU device needs llvmlite")
    controller = ControllerProcess(tmp_path / "controller", "--token-seconds", "3")
    server = Server(
        tmp_path / "server", "--device", "cpu", "--threads", "1", "--memory", "256M",
        "--vgpu", str(VGPUS), "--metrics-port", "0", ORION_CONTROLLER=controller.address,
    )  # fmt: skip
    programs: list[HoldingProgram] = []
    bystanders: list[Bystander] = []

    def complete() -> bool:
        """All that belongs to the server is there, and no program but the bystanders."""
        rows = server.status()["clients"]
        return (
            {row["pid"] for row in rows} == {b.pid for b in bystanders}
            and bool(processes_that_run("orion_server.agent", server))
            and bool(server.status()["server"]["metrics"])
        )

    try:
        wait_for(lambda: live_servers(controller), "the server is known")
        for through in ({"ORION_CONTROLLER": controller.address}, {"ORION_SERVER": server.address}):
            bystanders.append(Bystander(server, libcuda, **through))
        wait_for(lambda: len(controller.overview()["clients"]) == 2, "both are known")
        leases = {lease["id"] for lease in controller.overview()["leases"]}
        assert len(leases) == 1, "the other one has come without the controller"
        wait_for(complete, "the server is complete")
        device = server.status()["devices"][0]
        held = device["memory_used"], device["memory_granted"]
        descriptors_before = descriptors(server.process.pid)

        for turn, order in enumerate(itertools.islice(orders(), ROUNDS)):
            where = f"round {turn}, {', '.join(order)}"
            wait_for(lambda: live_servers(controller), f"{where}: the server is known")
            programs = [
                HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
                for _ in range(PROGRAMS)
            ]
            served = bool(turn % 2)  # else they are killed while they begin
            if served:
                wait_until_served(controller, programs)
            this = Round(where, controller, server, programs, served)
            for victim in order:
                this.act(victim)
                assert server.process.poll() is None, server.text()
                for bystander in bystanders:
                    bystander.check(f"{where}: after {victim}")
            assert all(0 <= d["vgpus_leased"] <= VGPUS for d in controller.overview()["devices"]), (
                where
            )
            for program in programs:
                program.kill()
            wait_for(complete, f"{where}: the bystanders are left")
            wait_for(
                lambda: only_left(controller, bystanders, leases),
                f"{where}: all else is free",
                20.0,
            )
            device = server.status()["devices"][0]
            assert (device["memory_used"], device["memory_granted"]) == held, where

        wait_for(
            lambda: descriptors(server.process.pid) <= descriptors_before + 2,
            "the server has no more descriptors than before",
        )
        for bystander in bystanders:
            assert bystander.finish() == "", "they have noticed nothing"
            assert bystander.program.process.returncode == 0
        server.wait_idle(10.0)
        wait_for(lambda: only_left(controller, [], set()), "all is free", 20.0)
        device = server.status()["devices"][0]
        assert (device["memory_used"], device["memory_granted"]) == (0, 0)
        assert "Traceback" not in controller.text() + server.text()
    finally:
        for program in [*programs, *(b.program for b in bystanders)]:
            program.kill()
        server.stop()
        controller.stop()
    assert not server.processes()
