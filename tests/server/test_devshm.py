# SPDX-License-Identifier: Apache-2.0
"""Clients that share /dev/shm but no descriptors: over TCP, proven by the nonce, files gone afterwards."""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import signal
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from orion_raw_client import COMMAND_BYTES, RawClient, hello
from orion_server import devshm, wire
from orion_server_fixtures import wait_for

SHM = Path("/dev/shm")
ROOT = os.geteuid() == 0


@pytest.fixture
def server(make_server):
    return make_server("--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0")


def say_hello(server) -> socket.socket:
    address, port = server.status()["server"]["bind"].split(":")
    line = socket.create_connection((address, int(port)), 10)
    line.sendall(wire.encode_hello(hello(transport=wire.TRANSPORT_DEVSHM)))
    return line


def answer_on(line: socket.socket) -> bytes:
    """A welcome, or less."""
    received = b""
    while len(received) < wire.WELCOME.size:
        part = line.recv(wire.WELCOME.size - len(received))
        if not part:
            break
        received += part
    return received


def greet(server) -> tuple[socket.socket, wire.Welcome]:
    line = say_hello(server)
    return line, wire.decode_welcome(answer_on(line))


def files_of(welcome: wire.Welcome) -> list[Path]:
    return [SHM / welcome.command_name, SHM / welcome.reply_name]


def our_files() -> set[Path]:
    return {path for path in SHM.iterdir() if devshm.NAME.fullmatch(path.name)}


def leave_file(folder: Path, owner: int | None = None) -> Path:
    """As a creator that has died does."""
    path = folder / f"orion-{secrets.token_hex(16)}"
    path.write_bytes(bytes(4096))
    path.chmod(0o600)
    if owner is not None:
        os.chown(path, owner, -1)
    return path


def kill_all(server) -> None:
    """Server, zygote and workers, none of which can clear anything away."""
    for pid in server.processes():
        os.kill(pid, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: not server.processes(), 5.0, "all of it to be dead")


def test_session_over_files_is_proven_and_leaves_none(server):
    line, welcome = greet(server)
    assert welcome.status == wire.STATUS_OK
    assert welcome.arena_bytes == 0
    files = files_of(welcome)
    assert all(f.stat().st_mode & 0o777 == 0o600 for f in files)
    assert all(f.stat().st_uid == os.getuid() for f in files)
    client = RawClient.__new__(RawClient)
    client.socket, client.welcome, client.timeout = line, welcome, 10.0
    line.setblocking(False)
    with open(files[0], "r+b") as command, open(files[1], "rb") as reply:
        client.attach(
            mmap.mmap(command.fileno(), COMMAND_BYTES),
            mmap.mmap(reply.fileno(), wire.REPLY_SEGMENT_BYTES, prot=mmap.PROT_READ),
        )
    nonce = struct.unpack_from("<Q", client.reply, 24)[0]
    assert nonce == welcome.nonce
    struct.pack_into("<Q", client.command, 32, nonce)
    assert client.call("orionDescribe")[0] == 0
    wait_for(lambda: not any(f.exists() for f in files), 3.0, "files unlinked once both have them")
    assert server.status()["clients"][0]["transport"] == "/dev/shm"
    client.close()
    server.wait_idle()


def test_unproven_session_ends_and_leaves_no_files(server):
    line, welcome = greet(server)
    files = files_of(welcome)
    assert all(f.exists() for f in files)
    line.close()
    server.wait_idle()
    assert not any(f.exists() for f in files)


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_worker_killed_before_it_has_told_the_names_leaves_no_files(server):
    before = our_files()
    (zygote,) = children(server.process.pid)
    reached = 0
    for _ in range(100):
        wait_for(lambda: len(children(zygote)) == 1, 5.0, "a worker that waits for its client")
        (worker,) = children(zygote)
        line = say_hello(server)
        wait_for(lambda: our_files() - before, 5.0, "a file")
        os.kill(worker, signal.SIGKILL)
        answer = answer_on(line)
        line.close()
        server.wait_idle()
        wait_for(lambda: our_files() <= before, 5.0, "what it left to be removed")
        # with a welcome it was in time to tell them, and the server has removed them by name
        welcomed = len(answer) == wire.WELCOME.size
        reached += not welcomed or wire.decode_welcome(answer).status != wire.STATUS_OK
        if reached >= 3:
            break
    assert reached >= 3
    assert "files of dead sessions from /dev/shm" in server.text()


def test_next_server_removes_what_a_killed_one_left(make_server, server):
    line, welcome = greet(server)
    kill_all(server)
    files = files_of(welcome)
    assert all(f.exists() for f in files)
    line.close()
    after = make_server("--device", "null", "--memory", "64M")
    wait_for(lambda: not any(f.exists() for f in files), 5.0, "files of a killed server removed")
    wait_for(lambda: "files of dead sessions from /dev/shm" in after.text(), 5.0, "a line of it")


def test_end_of_a_session_removes_what_others_left_but_not_what_lives(make_server, server):
    other = make_server("--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0")
    line, welcome = greet(server)
    kill_all(server)
    line.close()
    first, lives = greet(other)
    second, _ = greet(other)
    second.close()
    wait_for(lambda: not any(f.exists() for f in files_of(welcome)), 5.0, "the dead one's removed")
    assert all(f.exists() for f in files_of(lives))
    first.close()
    other.wait_idle()
    assert not any(f.exists() for f in files_of(lives))


def test_sweep_takes_abandoned_files_and_nothing_else(tmp_path):
    abandoned = leave_file(tmp_path)
    empty = leave_file(tmp_path)
    os.truncate(empty, 0)
    assert devshm.sweep(tmp_path) == 2
    assert not abandoned.exists()
    assert not empty.exists()


def test_sweep_leaves_a_file_as_long_as_somebody_has_it_mapped(tmp_path):
    lives = leave_file(tmp_path)
    with open(lives, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert devshm.sweep(tmp_path) == 0
        mapping = mmap.mmap(file.fileno(), 4096)
    assert devshm.sweep(tmp_path) == 0
    assert lives.exists()
    mapping.close()
    assert devshm.sweep(tmp_path) == 1


def test_sweep_is_harmed_by_nothing_that_has_such_a_name(tmp_path):
    """A tenant may put there what he likes. Nothing of it is followed, waited for or, but for files, removed."""
    precious = tmp_path / "precious"
    precious.write_text("keep me")

    def name() -> Path:
        return tmp_path / f"orion-{secrets.token_hex(16)}"

    os.mkfifo(name())
    name().mkdir()
    name().symlink_to(precious)
    name().symlink_to(tmp_path / "nowhere")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(name()))
    for other in (
        "orion-",
        f"orion-{'a' * 31}",
        f"orion-{'a' * 33}",
        f"orion-{'A' * 32}",
        f"sem.orion-{'a' * 32}",
        f"orion-{'a' * 32}\n",
    ):
        (tmp_path / other).write_bytes(b"")
    before = {path.name for path in tmp_path.iterdir()}
    assert devshm.sweep(tmp_path) == 0
    assert {path.name for path in tmp_path.iterdir()} == before
    assert precious.read_text() == "keep me"
    listener.close()


@pytest.mark.parametrize("kind", [fcntl.F_RDLCK, fcntl.F_WRLCK])
def test_sweep_does_not_wait_for_a_lease(tmp_path, kind):
    """The kernel lets whoever opens such a file wait for as long as 45 seconds; a FIFO's reader, for ever."""
    held = leave_file(tmp_path)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    fd = os.open(held, os.O_RDONLY)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
        assert devshm.sweep(tmp_path) == 0
        assert held.exists()
    finally:
        os.close(fd)
        signal.signal(signal.SIGIO, before)
    assert devshm.sweep(tmp_path) == 1


def test_sweep_looks_at_a_bounded_part_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(devshm, "ENTRIES_MOST", 3)
    for _ in range(5):
        leave_file(tmp_path)
    assert [devshm.sweep(tmp_path) for _ in range(3)] == [3, 2, 0]


SWEEP = """
import ctypes, os, struct, sys
from pathlib import Path
sys.path[:0] = {path!r}
from orion_server import devshm
{drop}
print(devshm.sweep(Path({folder!r})))
"""
# what the server of k8s/deploy has: CAP_CHOWN, CAP_KILL, CAP_SETGID, CAP_SETUID
FEW_CAPABILITIES = """
few = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7
header, data = struct.pack("Ii", 0x20080522, 0), struct.pack("6I", few, few, 0, 0, 0, 0)
assert ctypes.CDLL(None).capset(header, data) == 0
"""


def sweep_after(drop: str, folder: Path) -> int:
    """By another process, which first gives up rights."""
    code = SWEEP.format(path=sys.path, drop=drop, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return int(done.stdout)


if ROOT:  # nobody else can be two users

    @pytest.fixture
    def sticky():
        """As /dev/shm is, and as reachable."""
        folder = SHM / f"sweep-test-{os.getpid()}"
        folder.mkdir()
        folder.chmod(0o1777)
        yield folder
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    def test_files_that_were_given_to_users_are_swept_with_few_capabilities(sticky):
        """A server that has no more than them cannot open another user's file."""
        theirs, ours = leave_file(sticky, 4711), leave_file(sticky)
        with pytest.raises(AssertionError, match="Permission denied"):
            sweep_after(FEW_CAPABILITIES + f"open({str(theirs)!r})", sticky)
        assert sweep_after(FEW_CAPABILITIES, sticky) == 2
        assert not theirs.exists()
        assert not ours.exists()

    def test_unprivileged_server_sweeps_its_own_files_and_says_nothing_of_others(sticky):
        own, theirs = leave_file(sticky, 65534), leave_file(sticky, 4711)
        assert sweep_after("os.setgroups([]); os.setresuid(65534, 65534, 65534)", sticky) == 1
        assert not own.exists()
        assert theirs.exists()
        assert stat.S_IMODE(theirs.stat().st_mode) == 0o600
