# SPDX-License-Identifier: Apache-2.0
"""Either side killed: the other knows at once, and nothing is left.

200 random kills in `make test`, 10,000 in `make soak`; ORION_KILLS sets another number.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
from e2e_support import (
    ORION,
    Build,
    Program,
    Server,
    children_of,
    describe_processes,
    is_alive,
    running_server,
    start,
    wait_until,
)
from witness import witnessed

pytestmark = pytest.mark.usefixtures("nothing_left")

KILLS = int(os.environ.get("ORION_KILLS", "10000" if os.environ.get("ORION_SOAK") else "200"))


def waiting_client(build: Build, server: Server) -> tuple[Program, int]:
    """A client that waits for a line, and its worker's process id."""
    program = server.start(build("faults"), "wait")
    program.expect("ready")
    return program, worker_of(server, program)


def worker_of(server: Server, program: Program) -> int:
    """The worker's process id; never one that kill would take for a process group."""
    worker = int(server.client_of(program.pid)["worker_pid"])
    assert worker > 1
    return worker


def answered_in(out: str) -> float:
    """Seconds that the next call took, by the program's own clock."""
    found = re.search(r"^answered in ([\d.]+) s$", out, re.MULTILINE)
    assert found, out
    return float(found[1])


def test_next_call_fails_at_once_when_the_worker_was_killed(build: Build, server: Server) -> None:
    program, worker = waiting_client(build, server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), "the end of the worker")
    with witnessed(program.pid) as stretch:
        program.say("go on")
        code, out, error = program.finish()
    assert code == 1, out + error
    stretch.check("the answer", answered_in(out))
    assert re.search(r"^next call: cudaError(?!Success)", out, re.MULTILINE), out
    assert len([line for line in error.splitlines() if line.startswith("orion: ")]) == 1, error
    wait_until(lambda: server.clients() == [], "the lease to return", 5.0)


def test_running_call_fails_when_the_worker_is_killed(build: Build, server: Server) -> None:
    """The client sleeps in a synchronisation while its worker dies."""
    program = server.start(build("faults"), "long_loop")
    program.expect("ready")
    worker = worker_of(server, program)
    with witnessed(program.pid, supervisor_of(server), os.getpid()) as stretch:
        os.kill(worker, signal.SIGKILL)
        assert "cudaError" in program.expect("synchronize: ")
    stretch.check("the error of the running call")
    code, out, error = program.finish(5.0)
    assert code == 1, out + error


@pytest.mark.parametrize("mode", ["wait", "forever", "long_loop"])
def test_killed_client_leaves_nothing(build: Build, server: Server, mode: str) -> None:
    idle = settled(server)
    program = server.start(build("faults"), mode)
    program.expect("ready")
    worker = worker_of(server, program)
    assert server.smi()["devices"][0]["memory_used"] > 0
    with witnessed(worker, supervisor_of(server), os.getpid()) as stretch:
        program.process.kill()
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker", 5.0)
    stretch.check("the end of the worker")
    program.finish()
    wait_until(lambda: server.clients() == [], "the lease to return", 5.0)
    assert server.smi()["devices"][0]["memory_used"] == 0
    wait_until_idle(server, idle)


def supervisor_of(server: Server) -> int:
    """The process that hears of deaths."""
    return int(server.smi()["servers"][0]["pid"])


def idle_server(server: Server) -> tuple[int, int] | None:
    """How many processes the server has and how many descriptors they hold; None while one is coming or going.

    They are the supervisor, the zygote and a worker that waits for the next client.
    """
    before = children_of(server.program.pid)
    try:
        descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in before)
    except FileNotFoundError:
        return None
    quiet = len(before) == 3 and children_of(server.program.pid) == before
    return (len(before), descriptors) if quiet else None


def wait_until_idle(server: Server, idle: tuple[int, int]) -> None:
    """Waits until the server has as many processes and descriptors as before."""
    wait_until(
        lambda: idle_server(server) == idle,
        f"processes and descriptors {idle}",
        10.0,
        lambda: describe_processes(children_of(server.program.pid)),
    )


def settled(server: Server) -> tuple[int, int]:
    """What idle_server says when it has said the same for a while: the next worker is ready."""
    last: list[tuple[int, int] | None] = []

    def same_for_a_while() -> bool:
        last.append(idle_server(server))
        return last[-1] is not None and len(last) > 30 and len(set(last[-30:])) == 1

    wait_until(same_for_a_while, "the server to be ready")
    assert last[-1] is not None
    return last[-1]


def test_client_that_aborts_leaves_nothing(build: Build, server: Server) -> None:
    done = server.run(build("faults"), "crash")
    assert done.code == -signal.SIGABRT, done.said()
    wait_until(lambda: server.clients() == [], "the lease to return", 5.0)


def test_server_that_dies_gives_a_clear_error(build: Build, environment: dict[str, str]) -> None:
    with running_server(environment) as server:
        program = server.start(build("faults"), "wait")
        program.expect("ready")
        processes = children_of(server.program.pid)
        for pid in [server.program.pid, *processes]:
            os.kill(pid, signal.SIGKILL)
        server.dead = True
        with witnessed(program.pid) as stretch:
            program.say("go on")
            code, out, error = program.finish()
        assert code == 1, out + error
        stretch.check("the answer", answered_in(out))
        assert "orion: " in error, out + error
        wait_until(lambda: not [pid for pid in processes if is_alive(pid)], "no process", 5.0)


def test_orion_run_that_is_killed_leaves_no_server(
    build: Build, environment: dict[str, str]
) -> None:
    program = start([ORION, "run", "--", build("faults"), "wait"], environment)
    program.expect("ready")
    processes = children_of(program.pid)
    program.process.kill()
    program.finish()
    wait_until(lambda: not [pid for pid in processes if is_alive(pid)], "all processes to end", 5.0)


@pytest.mark.slow
@pytest.mark.timeout(60 + KILLS)
def test_random_kills_of_either_side(build: Build, server: Server) -> None:
    """Clients and workers die at any moment of their lives; the server stands and holds nothing."""
    binary = build("faults")
    random_source = random.Random(int(os.environ.get("ORION_SEED", "1")))
    idle = settled(server)
    lasting = lasting_processes(server)
    running: list[Program] = []
    for _ in range(KILLS):
        while len(running) < 3:
            running.append(server.start(binary, "forever"))
        # any moment of their lives, from exec to the middle of a copy
        time.sleep(random_source.uniform(0.0, 0.06))
        victim = running.pop(random_source.randrange(len(running)))
        workers = children_of(server.program.pid) - lasting
        if workers and random_source.random() < 0.5:
            kill(random_source.choice(sorted(workers)))
            running.append(victim)
        else:
            kill(victim.pid)
            victim.finish(10.0)
        for program in [program for program in running if program.process.poll() is not None]:
            running.remove(program)
            code, out, error = program.finish()
            assert code == 1, f"{code}\n{out}\n{error}"
    for program in running:
        kill(program.pid)
        program.finish(10.0)
    wait_until(lambda: server.clients() == [], "all leases to return", 10.0)
    assert server.run(binary, "null_write").code == 1  # it still serves
    wait_until_idle(server, idle)
    assert server.smi()["devices"][0]["memory_used"] == 0


def lasting_processes(server: Server) -> set[int]:
    """The server's processes that are no workers: the supervisor and the zygote, whose child it is."""
    supervisor = supervisor_of(server)
    zygotes = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    return {supervisor, *map(int, zygotes)}


def kill(pid: int) -> None:
    """kill -9; the process may have gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
