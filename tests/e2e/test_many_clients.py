# SPDX-License-Identifier: Apache-2.0
"""Two hundred programs at one server at the same time, and many threads of one program at its driver."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from e2e_support import cpu_seconds, describe_processes, run, wait_until

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from orion_server_fixtures import Server

HERE = Path(__file__).resolve().parent
CLIENTS = int(os.environ.get("ORION_CLIENTS", "200"))
MIB = 1 << 20


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """programs/NAME.c, compiled."""
    folder = tmp_path_factory.mktemp("compiled")

    def build(name: str) -> Path:
        source = HERE / "programs" / f"{name}.c"
        compiler = os.environ.get("CC", "cc")
        flags = ("-O1", "-pthread", "-o", str(folder / name), str(source), "-ldl")
        subprocess.run([compiler, *flags], check=True)
        return folder / name

    return build


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    options = ("--device", "cpu", "--threads", "1", "--memory", "1024M", "--vgpu", "256")
    running = Server(tmp_path / "server", *options, "--lease-memory", "share")
    yield running
    running.stop()
    assert not running.processes()


@pytest.mark.timeout(60 + CLIENTS)
def test_two_hundred_programs_are_served_at_the_same_time_and_leave_nothing(
    environment: dict[str, str],
    compiled: Callable[[str], Path],
    server: Server,
    libcuda: Path,
    tmp_path: Path,
    nothing_left: None,
) -> None:
    """Each has memory, copies, a compiled kernel and its result while all others have theirs."""
    of_client = {
        **environment,
        "ORION_SERVER": server.address,
        "LD_LIBRARY_PATH": str(libcuda.parent),
    }
    small = compiled("small")
    idle = len(server.processes())
    before = cpu_seconds(server.process.pid)
    held, hold = os.pipe()
    out, error = tmp_path / "out", tmp_path / "err"
    with open(out, "ab") as to_out, open(error, "ab") as to_error:
        processes = [
            subprocess.Popen([small], env=of_client, stdin=held, stdout=to_out, stderr=to_error)
            for _ in range(CLIENTS)
        ]
    os.close(held)
    try:
        wait_until(
            lambda: (
                out.stat().st_size == 3 * CLIENTS or any(p.poll() is not None for p in processes)
            ),
            f"{CLIENTS} results",
            30 + CLIENTS,
            lambda: error.read_text()[-2000:],
        )
        # what grows with the square of the clients would show: it is about 10 ms of each client
        assert cpu_seconds(server.process.pid) - before < 0.1 * CLIENTS
        assert error.read_text() == ""
        assert out.read_text() == "ok\n" * CLIENTS
        status = server.status()
        assert status["devices"][0]["clients"] == CLIENTS
        assert status["devices"][0]["memory_used"] >= CLIENTS * 4096
        assert status["devices"][0]["memory_granted"] <= 1024 * MIB
        assert {c["memory_limit"] for c in status["clients"]} == {4 * MIB}
    finally:
        os.close(hold)
    assert [p.wait(60) for p in processes] == [0] * CLIENTS
    server.wait_idle(30.0)
    device = server.status()["devices"][0]
    assert (device["memory_used"], device["memory_granted"]) == (0, 0)
    wait_until(
        lambda: len(server.processes()) <= idle + 1,  # one worker more is kept ready
        "the workers to be gone",
        30.0,
        lambda: describe_processes(set(server.processes())),
    )


def test_many_threads_find_the_functions_of_the_driver_at_the_same_moment(
    environment: dict[str, str],
    compiled: Callable[[str], Path],
    server: Server,
    libcuda: Path,
) -> None:
    of_client = {"ORION_SERVER": server.address, "LD_LIBRARY_PATH": str(libcuda.parent)}
    done = run([compiled("threads")], {**environment, **of_client}, 250.0)
    assert (done.code, done.out) == (0, "ok\n"), done.said()
