# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests are built of: the installed `orion` command, processes, waiting."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ORION = Path(sys.executable).parent / "orion"
WATCHDOG_SECONDS = 60.0
ERROR_SECONDS = 5.0  # within which every bad input has to be answered


def wait_until(
    condition: Callable[[], Any],
    what: str,
    seconds: float = WATCHDOG_SECONDS,
    explain: Callable[[], str] = str,
) -> Any:
    """Waits until `condition` gives something true and returns it; fails with `what` and `explain()` otherwise."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}\n{explain()}")
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def children_of(pid: int) -> set[int]:
    """All descendants of a process, zombies included."""
    found: set[int] = set()
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= {int(child)} | children_of(int(child))
    except OSError:
        pass  # it ended meanwhile
    return found


def describe_processes(pids: set[int]) -> str:
    """Command lines, states and descriptors, for messages of failing tests."""
    lines = []
    for pid in sorted(pids):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            files = [os.readlink(entry) for entry in sorted(Path(f"/proc/{pid}/fd").iterdir())]
        except OSError as error:
            state, command, files = "?", str(error), []
        lines.append(f"{pid} {state} {command}\n    {' '.join(files)}")
    return "\n".join(lines)


def shared_files() -> set[str]:
    """Our files in /dev/shm, and those of all others: what was there before is for a test to leave out."""
    return {name for name in os.listdir("/dev/shm") if "orion" in name}


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Program:
    """A running program whose output is read line by line."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def expect(self, text: str, seconds: float = WATCHDOG_SECONDS) -> str:
        """Reads standard output up to a line that contains `text`."""
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, end - time.monotonic())):
                line = self.process.stdout.readline()
                if not line:
                    break
                self.lines.append(line.rstrip("\n"))
                if text in line:
                    return line.rstrip("\n")
        self.process.kill()
        raise AssertionError(
            f"no {text!r} in {self.lines}; stderr: {self.process.communicate()[1]}"
        )

    def say(self, text: str) -> None:
        """Writes one line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def finish(self, seconds: float = WATCHDOG_SECONDS) -> tuple[int, str, str]:
        """Waits for its end: exit code, standard output, standard error."""
        try:
            out, error = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, error = self.process.communicate()
            raise AssertionError(f"did not end within {seconds} s:\n{out}\n{error}") from None
        before = "".join(line + "\n" for line in self.lines)
        return self.process.returncode, before + out, error


def start(
    command: Sequence[str | os.PathLike[str]], environment: Mapping[str, str], **options: Any
) -> Program:
    """Starts a program with pipes to it, unbuffered towards us."""
    process = subprocess.Popen(
        [str(part) for part in command],
        env=dict(environment),
        text=True,
        bufsize=1,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )
    return Program(process)


@dataclass
class Result:
    """How a finished program ended, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float

    def said(self) -> str:
        """Both outputs, for messages of failing tests."""
        return f"exit code {self.code} after {self.seconds:.2f} s\n{self.out}\n{self.err}"


def run(
    command: Sequence[str | os.PathLike[str]],
    environment: Mapping[str, str],
    seconds: float = WATCHDOG_SECONDS,
    **options: Any,
) -> Result:
    """Runs a program to its end."""
    began = time.monotonic()
    program = start(command, environment, **options)
    code, out, error = program.finish(seconds)
    return Result(code, out, error, time.monotonic() - began)


def said_once(error: str) -> str:
    """The one line about the transport in what a program said."""
    lines = [line for line in error.splitlines() if line.startswith("orion: transport ")]
    assert len(lines) == 1, error
    return lines[0]


@dataclass
class Server:
    """`orion up` with its own socket."""

    program: Program
    address: str
    environment: dict[str, str]
    dead: bool = False  # a test has killed it

    @property
    def socket(self) -> Path:
        """Its socket's path."""
        return Path(self.address.removeprefix("unix:"))

    def smi(self) -> dict[str, Any]:
        """The answer of `orion smi --json`."""
        done = run([ORION, "smi", "--json", "--server", self.address], self.environment)
        assert done.code == 0, done.said()
        answer: dict[str, Any] = json.loads(done.out)
        return answer

    def clients(self) -> list[dict[str, Any]]:
        """The clients of that answer."""
        clients: list[dict[str, Any]] = self.smi()["clients"]
        return clients

    def client_of(self, pid: int) -> dict[str, Any]:
        """The client with this process id; waits until it is there and has a worker."""
        found: dict[str, Any] = wait_until(
            lambda: next((c for c in self.clients() if c["pid"] == pid and c["worker_pid"]), None),
            f"a client with pid {pid}",
        )
        return found

    def start(self, *command: str | os.PathLike[str], **variables: str) -> Program:
        """Starts a program as a client of this server, without `orion run` between."""
        return start(command, {**self.environment, **variables})

    def run(self, *command: str | os.PathLike[str], **variables: str) -> Result:
        """Runs a program as a client of this server to its end."""
        return run(command, {**self.environment, **variables})

    def stop(self) -> None:
        """Ends it as Ctrl-C does; nothing of it may be left."""
        processes = children_of(self.program.pid)
        self.program.process.send_signal(signal.SIGINT)
        code, out, error = self.program.finish()
        assert code == 0, f"orion up ended with {code}\n{out}\n{error}"
        wait_until(
            lambda: not [pid for pid in processes if is_alive(pid)],
            f"the end of all of the server's processes {processes}",
            ERROR_SECONDS,
        )
        assert not self.socket.exists()


@contextmanager
def running_server(environment: dict[str, str], *options: str) -> Iterator[Server]:
    """A server for the time of the block; its end is checked, too."""
    address = f"unix:{environment['XDG_RUNTIME_DIR']}/test.sock"
    program = start([ORION, "up", "--plain", "--listen", address, *options], environment)
    server = Server(program, address, client_environment(environment, address))
    try:
        wait_until(
            lambda: server.socket.exists() or program.process.poll() is not None, "the socket"
        )
        assert program.process.poll() is None, program.finish()
        yield server
        if not server.dead:
            server.stop()
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()
        for pipe in (program.process.stdin, program.process.stdout, program.process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()  # what it did not read goes nowhere


def client_environment(environment: dict[str, str], address: str) -> dict[str, str]:
    """What `orion run` would give a program, so that tests can start it directly."""
    done = run([ORION, "run", "--print-library-dir"], environment)
    assert done.code == 0, done.said()
    library = done.out.strip()
    return {**environment, "LD_LIBRARY_PATH": library, "ORION_SERVER": address}


Build = Callable[..., Path]  # build("vectorAdd", cudart="shared") gives the program's path
OrionRun = Callable[..., Result]
