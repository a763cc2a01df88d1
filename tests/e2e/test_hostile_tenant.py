# SPDX-License-Identifier: Apache-2.0
"""Eight programs on one device, of which two run kernels that overwrite what their own workers count."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e_support import Program, start, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from counters import counters_in, first_address
from orion_server_fixtures import Server

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
DEVICE = 256 * MIB
PROMISED = 32  # MiB, of each that is promised some
ODD = 6 * MIB + 4096 * 37  # looked for in the memory of a worker

Launch = Callable[..., Program]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    options = ("--device", "cpu", "--threads", "1", "--memory", "256M", "--vgpu", "8")
    running = Server(tmp_path / "server", *options)
    yield running
    running.stop()
    assert not running.processes()


@pytest.fixture
def launch(environment: dict[str, str], server: Server, libcuda: Path) -> Iterator[Launch]:
    """Starts tenants, and ends them."""
    of_client = {
        **environment,
        "ORION_SERVER": server.address,
        "LD_LIBRARY_PATH": str(libcuda.parent),
    }
    started: list[Program] = []

    def one(**wishes: str) -> Program:
        started.append(start([sys.executable, HERE / "tenant.py"], {**of_client, **wishes}))
        started[-1].expect("ready")
        return started[-1]

    yield one
    for program in started:
        program.process.kill()
        program.process.communicate()
    server.wait_idle(30.0)
    assert server.status()["devices"][0]["memory_granted"] == 0


def tell(program: Program, *words: object) -> list[int]:
    program.say(" ".join(map(str, words)))
    return answer(program)


def answer(program: Program) -> list[int]:
    return [int(number) for number in program.expect("").split()]


def row_of(server: Server, program: Program) -> dict[str, Any]:
    return next(row for row in server.status()["clients"] if row["host_pid"] == program.pid)


def rooms_are_kept(server: Server) -> None:
    """Nobody was given more than his limit, nor all together more than there is."""
    status = server.status()
    assert status["devices"][0]["memory_granted"] <= DEVICE
    for row in status["clients"]:
        assert row["memory_granted"] <= row["memory_limit"], row


def shares_of(server: Server, programs: list[Program], seconds: float) -> list[float]:
    """Of the device time that is accounted to all of them, until it is so much."""

    def used() -> list[float]:
        rows = {row["host_pid"]: row["busy_seconds"] for row in server.status()["clients"]}
        return [rows[program.pid] for program in programs]

    before = used()
    while True:
        got = [now - then for now, then in zip(used(), before, strict=True)]
        if sum(got) >= seconds:
            return [value / sum(got) for value in got]
        time.sleep(0.02)


def begin_to_wreck(server: Server, program: Program) -> None:
    """Its kernel sets the worker's counts of memory to 0 and fills the page of statistics, again and again."""
    free, total = tell(program, "info")
    worker = row_of(server, program)["worker_pid"]
    assert tell(program, "take", ODD - (total - free)) == [0]
    places = counters_in(worker, ODD)
    assert places, "the worker's count of used bytes was not found"
    page = first_address(worker, "orion-stats")
    tell(program, "wreck", page + 8, 500, *places[:512])
    wait_until(lambda: tell(program, "info")[0] > total - ODD // 2, "the count to be overwritten")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look for a worker's counters")
def test_limits_and_shares_of_the_others_hold_while_kernels_overwrite_their_workers(
    server: Server, launch: Launch
) -> None:
    gmem = {"ORION_GMEM": str(PROMISED)}
    hostile = [launch(**gmem) for _ in range(2)]
    promised = [launch(**gmem) for _ in range(3)]
    greedy = [launch() for _ in range(3)]
    everybody = [*hostile, *promised, *greedy]
    for program in hostile:
        begin_to_wreck(server, program)

    for program in everybody:  # all at the same time
        program.say("fill 4194304 1048576 65536 4096")
    got = {}
    for program in everybody:
        while program.pid not in got:
            rooms_are_kept(server)
            got[program.pid] = answer(program)[0]
    rooms_are_kept(server)
    for program in promised:  # all of it, to the page
        assert tell(program, "info") == [0, PROMISED * MIB]
        assert got[program.pid] == PROMISED * MIB - 2 * 4096  # but for what it took first
    left = DEVICE - (len(hostile) + len(promised)) * PROMISED * MIB
    assert sum(got[program.pid] for program in greedy) <= left

    for program in [*promised, *greedy]:
        tell(program, "burn")
    shares_of(server, everybody, 0.5)
    for share in shares_of(server, everybody, 3.0):
        assert share == pytest.approx(1 / len(everybody), abs=0.04)
    rooms_are_kept(server)
