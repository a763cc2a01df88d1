# SPDX-License-Identifier: Apache-2.0
"""The same programs over TCP: what runs, what is said, and how it ends when the other side does."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from e2e_support import (
    Build,
    OrionRun,
    Program,
    Server,
    is_alive,
    running_server,
    said_once,
    wait_until,
)
from kernels_numpy import CHECKS
from test_tour import STOPS

RUNTIMES = ("static", "shared", "12-static", "12-shared")
NEEDS_ONE_ADDRESS = {
    "mapped_memory",
    "managed_memory",
}  # memory that both sides have at one address
OVER_TCP = ("--transport", "tcp")
KILLS = int(os.environ.get("ORION_KILLS", "200")) // 5


@pytest.fixture
def tcp_server(environment: dict[str, str]) -> Iterator[Server]:
    """A server on the CPU device whose clients come over TCP."""
    with running_server(environment, "--bind", "127.0.0.1:0") as server:
        server.environment["ORION_SERVER"] = server.smi()["servers"][0]["bind"]
        server.environment["ORION_TRANSPORT"] = "tcp"
        yield server


@pytest.mark.parametrize("cudart", RUNTIMES)
def test_vector_add_passes_with_every_runtime(
    build: Build, orion_run: OrionRun, cudart: str
) -> None:
    done = orion_run(build("vectorAdd", cudart), options=OVER_TCP)
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out
    line = said_once(done.err)
    assert re.match(r"orion: transport tcp to 127\.0\.0\.1:\d+: ORION_TRANSPORT=tcp", line), line


@pytest.mark.parametrize("example", ["matmul", "reduction"])
def test_example_passes(build: Build, orion_run: OrionRun, example: str) -> None:
    done = orion_run(build(example), options=OVER_TCP)
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out


@pytest.mark.parametrize("stop", [stop for stop in STOPS if stop not in NEEDS_ONE_ADDRESS])
def test_feature(build: Build, tcp_server: Server, stop: str) -> None:
    done = tcp_server.run(build("tour"), stop)
    assert done.code == 0, done.said()
    assert f"{stop} ok" in done.out


@pytest.mark.parametrize("name", CHECKS)
def test_kernel_agrees_with_numpy(build: Build, tcp_server: Server, name: str) -> None:
    library = build("kernels", arguments=("-shared", "-Xcompiler", "-fPIC"))
    script = Path(__file__).parent / "kernels_numpy.py"
    done = tcp_server.run(sys.executable, script, library, name)
    assert done.code == 0, done.said()
    assert "agrees with NumPy" in done.out


@pytest.mark.parametrize("stop", sorted(NEEDS_ONE_ADDRESS))
def test_feature_that_needs_shared_memory_is_refused_as_cuda_does(
    build: Build, tcp_server: Server, stop: str
) -> None:
    done = tcp_server.run(build("tour"), stop)
    assert done.code == 1, done.said()
    assert "cudaErrorNotSupported" in done.out + done.err


def test_report_and_smi_name_the_transport(
    build: Build, orion_run: OrionRun, tcp_server: Server, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = orion_run(build("vectorAdd"), options=(*OVER_TCP, "--report", str(report)))
    assert done.code == 0, done.said()
    sessions = json.loads(report.read_text())["sessions"]
    assert [s["transport"] for s in sessions] == ["tcp"]
    assert sessions[0]["bytes"] == 3 * 50000 * 4
    program, _ = waiting_client(build, tcp_server)
    assert tcp_server.client_of(program.pid)["transport"] == "tcp"
    program.say("go on")
    assert program.finish()[0] == 0


def test_program_of_the_same_host_finds_shared_memory_by_itself(
    build: Build, tcp_server: Server
) -> None:
    program = tcp_server.start(build("faults"), "wait", ORION_TRANSPORT="auto")
    program.expect("ready")
    assert tcp_server.client_of(program.pid)["transport"] == "/dev/shm"
    program.say("go on")
    code, out, error = program.finish()
    assert code == 0, out + error
    assert "orion: transport" not in error


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs a /dev/shm of its own: root"
)
def test_program_without_the_servers_dev_shm_falls_back_and_says_why(
    build: Build, tcp_server: Server
) -> None:
    script = f"mount -t tmpfs none /dev/shm && exec {build('vectorAdd')}"
    done = tcp_server.run("unshare", "-m", "sh", "-c", script, ORION_TRANSPORT="auto")
    if "unshare" in done.err or "mount" in done.err:
        pytest.skip(f"no mount namespaces here: {done.err}")
    assert done.code == 0, done.said()
    line = said_once(done.err)
    assert "is not reached through a unix socket" in line
    assert "ORION_SERVER=unix:PATH" in line
    assert "/dev/shm" in line


def waiting_client(build: Build, server: Server) -> tuple[Program, int]:
    program = server.start(build("faults"), "wait")
    program.expect("ready")
    return program, int(server.client_of(program.pid)["worker_pid"])


# --- tokens

TOKEN = "me.correct-horse-battery-staple"


@pytest.fixture
def token_server(environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server whose clients over TCP need a token."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN + "\n")
    tokens.chmod(0o600)
    with running_server(
        environment, "--bind", "127.0.0.1:0", "--device", "null", "--token-file", str(tokens)
    ) as server:
        server.environment["ORION_SERVER"] = server.smi()["servers"][0]["bind"]
        server.environment["ORION_TRANSPORT"] = "tcp"
        yield server


@pytest.mark.parametrize("transport", ["tcp", "auto"])
def test_program_with_the_token_is_served(
    build: Build, token_server: Server, transport: str
) -> None:
    program = token_server.start(
        build("faults"), "wait", ORION_TOKEN=TOKEN, ORION_TRANSPORT=transport
    )
    program.expect("ready")
    program.say("go on")
    assert program.finish()[0] == 0


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "set ORION_TOKEN"),
        ("me.another-secret-than-ours", "check ORION_TOKEN"),
        ("you.correct-horse-battery-staple", "check ORION_TOKEN"),
        ("nonsense", "ORION_TOKEN is not of the form"),
    ],
)
def test_program_with_no_or_a_wrong_token_is_refused_in_one_sentence(
    build: Build, token_server: Server, token: str, says: str
) -> None:
    done = token_server.run(build("vectorAdd"), ORION_TOKEN=token)
    assert done.code == 1, done.said()
    assert says in done.err
    assert "battery" not in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("orion: ")]) == 1


def test_program_with_a_token_takes_no_server_that_does_not_know_it(
    build: Build, tcp_server: Server
) -> None:
    done = tcp_server.run(build("vectorAdd"), ORION_TOKEN=TOKEN)
    assert done.code == 1, done.said()
    assert "cannot be told from an impostor" in done.err


# --- ends


def test_next_call_fails_at_once_when_the_worker_was_killed(
    build: Build, tcp_server: Server
) -> None:
    program, worker = waiting_client(build, tcp_server)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker), "the end of the worker")
    program.say("go on")
    code, out, error = program.finish(5.0)
    assert code == 1, out + error
    answered = re.search(r"^answered in ([\d.]+) s$", out, re.MULTILINE)
    assert answered, out
    assert float(answered[1]) < 1.0, out
    assert "SIGKILL" in error, error
    wait_until(lambda: tcp_server.clients() == [], "the lease to return", 5.0)


def test_running_call_fails_when_the_worker_is_killed(build: Build, tcp_server: Server) -> None:
    program = tcp_server.start(build("faults"), "long_loop")
    program.expect("ready")
    os.kill(int(tcp_server.client_of(program.pid)["worker_pid"]), signal.SIGKILL)
    code, out, error = program.finish(5.0)
    assert code == 1, out + error
    assert re.search(r"^synchronize: cudaError", out, re.MULTILINE), out


def test_wild_pointer_is_an_illegal_address(build: Build, tcp_server: Server) -> None:
    done = tcp_server.run(build("faults"), "null_write")
    assert done.code == 1, done.said()
    assert "cudaErrorIllegalAddress" in done.out + done.err


@pytest.mark.parametrize("mode", ["wait", "forever", "long_loop"])
def test_killed_client_leaves_nothing(build: Build, tcp_server: Server, mode: str) -> None:
    program = tcp_server.start(build("faults"), mode)
    program.expect("ready")
    worker = tcp_server.client_of(program.pid)["worker_pid"]
    program.process.kill()
    program.finish()
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker", 5.0)
    wait_until(lambda: tcp_server.clients() == [], "the lease to return", 5.0)
    assert tcp_server.smi()["devices"][0]["memory_used"] == 0


@pytest.mark.slow
@pytest.mark.timeout(120 + KILLS)
def test_random_kills_of_either_side(build: Build, tcp_server: Server) -> None:
    dice = random.Random(int(os.environ.get("ORION_SEED", "5")))
    for _ in range(KILLS):
        program = tcp_server.start(build("faults"), "forever")
        threading.Event().wait(dice.uniform(0.0, 0.15))
        rows = [c for c in tcp_server.clients() if c["pid"] == program.pid]
        if rows and rows[0]["worker_pid"] and dice.random() < 0.5:
            try:
                os.kill(rows[0]["worker_pid"], signal.SIGKILL)
            except ProcessLookupError:
                program.process.kill()
            code, out, error = program.finish(15.0)
            assert code != 0, f"{code}\n{out}\n{error}"
        else:
            program.process.kill()
            program.finish(10.0)
    wait_until(lambda: tcp_server.clients() == [], "all leases to return", 10.0)
    assert tcp_server.run(build("vectorAdd")).code == 0


# --- a network or a server that is none


def test_worker_that_stops_is_given_up_after_the_timeout(build: Build, tcp_server: Server) -> None:
    program = tcp_server.start(build("faults"), "long_loop", ORION_TCP_TIMEOUT="3")
    program.expect("ready")
    worker = int(tcp_server.client_of(program.pid)["worker_pid"])
    os.kill(worker, signal.SIGSTOP)
    code, out, error = program.finish(12.0)
    assert code == 1, out + error
    assert re.search(r"^synchronize: cudaError", out, re.MULTILINE), out
    assert "no sign of life" in error, error
    assert "ORION_TCP_TIMEOUT" in error, error
    wait_until(lambda: tcp_server.clients() == [], "the lease to return", 5.0)


class Relay:
    """Between a program and a server: what either says goes on to the other, until `spoil` says something itself."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.words = b""
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        host, _, port = self.server.rpartition(":")
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection((host, int(port)))
                self.pairs.append((client, server))
                threading.Thread(target=self.carry, args=(client, server), daemon=True).start()
                threading.Thread(target=self.carry, args=(server, client), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.words and any(source is server for _, server in self.pairs):
                    data = self.words
                target.sendall(data)

    def spoil(self, words: bytes) -> None:
        """From now on these words stand in the place of whatever the server says."""
        self.words = words

    def close(self) -> None:
        self.listener.close()
        for pair in self.pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


GARBAGE = {
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 20,
    "random": random.Random(7).randbytes(4096),
}


@pytest.mark.parametrize("words", GARBAGE.values(), ids=list(GARBAGE))
def test_server_that_sends_garbage_in_the_middle_ends_the_session_with_one_sentence(
    build: Build, tcp_server: Server, words: bytes
) -> None:
    """The program is the same as ever, and gets an error from its next call."""
    relay = Relay(tcp_server.environment["ORION_SERVER"])
    try:
        program = tcp_server.start(
            build("faults"), "wait", ORION_SERVER=relay.address, ORION_TCP_TIMEOUT="5"
        )
        program.expect("ready")
        relay.spoil(words)
        program.say("go on")
        code, out, error = program.finish(20.0)
    finally:
        relay.close()
    assert code == 1, out + error
    assert "cudaError" in out + error
    said = [line for line in error.splitlines() if line.startswith("orion: ")]
    said = [line for line in said if not line.startswith("orion: transport ")]
    assert len(said) == 1, error
    wait_until(lambda: tcp_server.clients() == [], "the lease to return", 10.0)


@contextmanager
def impostor(answer: bytes | None) -> Iterator[str]:
    """Something that listens: it says `answer` to whoever comes and hangs up, or nothing at all."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            held.append(client)
            with suppress(OSError):  # it has gone already
                if answer is not None:
                    client.recv(4096)
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5.0)
        for client in held:
            client.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "did not answer the hello within"),
        (b"", "closed the connection without a welcome"),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "cannot use the server"),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" * 20, "cannot use the server"),
    ],
)
@pytest.mark.parametrize("transport", ["tcp", "auto"])
def test_what_is_no_server_is_named_in_one_sentence(
    build: Build, orion: OrionRun, answer: bytes | None, says: str, transport: str
) -> None:
    with impostor(answer) as address:
        done = orion(
            "run", "-q", "--server", address, "--transport", transport, "--", build("vectorAdd"),
            seconds=15.0,
        )  # fmt: skip
    assert done.code == 1, done.said()
    assert says in done.err, done.said()
    assert address in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("orion: ")]) == 1


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ORION_TRANSPORT": "tpc"}, "ORION_TRANSPORT=tpc"),
        ({"ORION_TRANSPORT": "tcp", "ORION_SERVER": "unix:/nowhere"}, "HOST:PORT"),
        ({"ORION_TCP_TIMEOUT": "soon"}, "ORION_TCP_TIMEOUT=soon"),
    ],
)
def test_bad_variable_is_named(
    build: Build, tcp_server: Server, variables: dict[str, str], says: str
) -> None:
    done = tcp_server.run(build("vectorAdd"), **variables)
    assert done.code == 1, done.said()
    assert says in done.err, done.said()


def test_tcp_cannot_be_had_from_a_unix_address(orion: OrionRun) -> None:
    done = orion("run", "--server", "unix:/nowhere", "--transport", "tcp", "--", "true")
    assert done.code != 0
    assert "HOST:PORT" in done.err
