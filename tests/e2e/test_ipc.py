# SPDX-License-Identifier: Apache-2.0
"""CUDA IPC between processes at one server: memory and events of one, opened by others."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from e2e_support import Build, OrionRun, Program, Server, running_server, start, wait_until
from ipc_pairs import ask, exchange, handles, started
from python_programs import PYTHON, Checks, check_names, need, run_checks

INTEGERS = 100_000


@pytest.mark.parametrize("cudart", ["static", "12-static"])
@pytest.mark.parametrize("count", [10, INTEGERS, 20_000_000])
def test_two_processes_work_on_the_same_memory(
    build: Build, server: Server, cudart: str, count: int
) -> None:
    exchange(server.start, build("ipc", cudart), count)


def test_a_client_over_tcp_opens_what_one_with_shared_memory_shares(
    build: Build, environment: dict[str, str]
) -> None:
    """Device memory lies with the workers, however their clients come."""
    with running_server(environment, "--bind", "127.0.0.1:0") as server:
        over_tcp = {
            "ORION_SERVER": server.smi()["servers"][0]["bind"],
            "ORION_TRANSPORT": "tcp",
        }

        def begin(*command: str | os.PathLike[str]) -> Program:
            return server.start(*command, **(over_tcp if "take" in command else {}))

        exchange(begin, build("ipc"), INTEGERS)


def test_three_processes_see_one_allocation(build: Build, server: Server) -> None:
    binary = build("ipc")
    with started(server.start, binary, "give", str(INTEGERS)) as giver:
        both = handles(giver)
        with (
            started(server.start, binary, "take", *both, str(INTEGERS)) as one,
            started(server.start, binary, "take", *both, str(INTEGERS)) as two,
        ):
            one.expect("opened")
            two.expect("opened")
            ask(giver, "hold")
            ask(giver, "add")
            one.say("wait")
            two.say("wait")
            ask(giver, "go")
            one.expect("done")
            two.expect("done")
            ask(one, "add")
            assert ask(two, "query").split()[0] == "cudaSuccess"
            ask(giver, "expect")


def test_kernels_lose_nothing_while_their_memory_is_shared(build: Build, server: Server) -> None:
    """The memory moves to a file of its own under them."""
    done = server.run(build("ipc"), "running", "60")
    assert done.code == 0, done.said()
    assert done.out.split().count("running") >= 10, done.said()


def test_bad_address_is_an_error_as_ever(build: Build, server: Server) -> None:
    done = server.run(build("ipc"), "fault")
    assert done.code == 1, done.said()
    assert done.out == "synchronize: cudaErrorIllegalAddress\n", done.said()


def test_misuse_gets_the_errors_of_cuda(build: Build, server: Server) -> None:
    done = server.run(build("ipc"), "misuse")
    assert done.code == 0, done.said()
    assert dict(line.split(": ") for line in done.out.splitlines()) == {
        "own memory": "cudaErrorDeviceUninitialized",
        "forged": "cudaErrorInvalidResourceHandle",
        "flags": "cudaErrorInvalidValue",
        "not device memory": "cudaErrorInvalidValue",
        "stream-ordered memory": "cudaErrorInvalidValue",
        "close": "cudaErrorInvalidValue",
        "timed event": "cudaErrorInvalidValue",
        "plain event": "cudaErrorInvalidResourceHandle",
        "own event": "cudaErrorDeviceUninitialized",
        "forged event": "cudaErrorInvalidResourceHandle",
        "afterwards": "cudaSuccess",
    }


def test_handle_of_a_program_that_has_ended_opens_nothing(build: Build, server: Server) -> None:
    binary = build("ipc")
    with started(server.start, binary, "give", "10") as giver:
        both = handles(giver)
    wait_until(lambda: server.clients() == [], "the end of its session")
    done = server.run(binary, "take", *both, "10")
    assert done.code == 1, done.said()
    assert "cudaErrorInvalidResourceHandle" in done.err


@pytest.mark.parametrize("who", ["program", "worker"])
def test_wait_ends_and_memory_stays_when_the_other_is_killed(
    build: Build, server: Server, who: str
) -> None:
    binary = build("ipc")
    with started(server.start, binary, "give", str(INTEGERS)) as giver:
        worker = int(server.client_of(giver.pid)["worker_pid"])
        both = handles(giver)
        with started(server.start, binary, "take", *both, str(INTEGERS)) as taker:
            taker.expect("opened")
            ask(giver, "hold")
            ask(giver, "add")
            taker.say("wait")
            os.kill(giver.pid if who == "program" else worker, signal.SIGKILL)
            taker.expect("done", 10.0)
            ask(taker, "read")
            taker.say("end")
            code, out, error = taker.finish()
            assert code == 0, out + error
    wait_until(lambda: server.clients() == [], "all leases to return")
    assert server.smi()["devices"][0]["memory_used"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start programs as other users")
def test_handle_of_another_user_opens_nothing(
    build: Build, environment: dict[str, str], tmp_path: Path
) -> None:
    binary = build("ipc")
    reachable = [binary, *binary.parents, *Path(environment["XDG_RUNTIME_DIR"]).parents]
    with running_server(environment) as server:
        library = Path(server.environment["LD_LIBRARY_PATH"])
        if not all(path.stat().st_mode & 0o001 for path in (library, *library.parents)):
            pytest.skip(f"other users cannot go to {library}")
        reachable += [server.socket, *server.socket.parents]
        opened = [(path, path.stat().st_mode) for path in dict.fromkeys(reachable)]
        for path, mode in opened:
            if not mode & 0o001:
                path.chmod(mode | (0o666 if path == server.socket else 0o011))

        def as_user(user: int) -> Callable[..., Program]:
            return lambda *command: start(command, server.environment, user=user, group=user)

        try:
            with started(as_user(12345), binary, "give", "10") as giver:
                both = handles(giver)
                with started(as_user(23456), binary, "take", *both, "10") as stranger:
                    code, _, error = stranger.finish()
                    assert code == 1
                    assert "cudaErrorInvalidResourceHandle" in error
                with started(as_user(12345), binary, "take", *both, "10") as friend:
                    friend.expect("opened")
        finally:
            for path, mode in opened:
                if path.exists():
                    path.chmod(mode)


# --- Python


class TestPython:
    known: ClassVar[dict[str, Checks]] = {}

    @pytest.mark.timeout(1000)
    @pytest.mark.parametrize("name", check_names("ipc_checks"))
    def test_python(self, orion_run: OrionRun, name: str) -> None:
        need("cupy")
        need("numba.cuda")
        if "all" not in self.known:
            self.known["all"] = run_checks(orion_run, "ipc_checks")
        self.known["all"].assert_ok(name)

    @pytest.mark.timeout(600)
    def test_tests_of_numba_pass(self, orion_run: OrionRun) -> None:
        """Those that numba-cuda itself brings."""
        need("numba.cuda")
        need("filecheck")  # which numba.cuda.testing imports
        from cuda.bindings import driver

        module = "numba.cuda.tests.cudapy.test_ipc"
        tests = [module]
        if not hasattr(driver.CUipcMemHandle, "reserved"):  # what the other tests look at
            tests = [f"{module}.TestIpc{kind}.test_ipc_array" for kind in ("Memory", "Staged")]
        done = orion_run(sys.executable, PYTHON / "numba_ipc.py", *tests, seconds=500.0)
        assert done.code == 0, done.said()
        ran = re.search(r"^Ran (\d+) tests", done.err, re.MULTILINE)
        assert ran, done.said()
        assert int(ran[1]) >= 2
