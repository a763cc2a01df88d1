# SPDX-License-Identifier: Apache-2.0
"""Encrypted sessions: when they are, that they are, and that nothing goes to another host in the clear unasked.

The other host is a network namespace with a cable of its own.
"""

from __future__ import annotations

import ctypes.util
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from e2e_support import Build, OrionRun, Server, running_server

TOKEN = "me.correct-horse-battery-staple"
NO_OPENSSL = ctypes.util.find_library("ssl") is None
pytestmark = pytest.mark.skipif(NO_OPENSSL, reason="no OpenSSL here: apt-get install openssl")
OVER_TCP = ("--transport", "tcp")


def token_file(folder: Path, text: str = TOKEN) -> str:
    path = folder / "tokens"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def tls_server(environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server on the CPU device that encrypts, and a client's environment that suits it."""
    options = ("--bind", "127.0.0.1:0", "--token-file", token_file(tmp_path), "--tls", "required")
    with running_server(environment, *options) as server:
        server.environment |= {
            "ORION_SERVER": server.smi()["servers"][0]["bind"],
            "ORION_TRANSPORT": "tcp",
            "ORION_TOKEN": TOKEN,
        }
        yield server


def test_vector_add_passes_encrypted(build: Build, orion_run: OrionRun) -> None:
    done = orion_run(build("vectorAdd"), options=OVER_TCP, ORION_TLS="required")
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out
    assert "orion: transport tcp, encrypted, to 127.0.0.1" in done.err


def test_program_of_this_host_is_not_encrypted_by_itself(build: Build, orion_run: OrionRun) -> None:
    done = orion_run(build("vectorAdd"), options=OVER_TCP)
    assert done.code == 0, done.said()
    assert "encrypted" not in done.err


@pytest.mark.parametrize("stop", ["copies", "host_functions", "two_threads_one_stream"])
def test_feature(build: Build, tls_server: Server, stop: str) -> None:
    done = tls_server.run(build("tour"), stop)
    assert done.code == 0, done.said()


def test_smi_names_it_and_a_killed_worker_leaves_a_proved_epitaph(
    build: Build, tls_server: Server
) -> None:
    program = tls_server.start(build("faults"), "wait")
    program.expect("ready")
    row = tls_server.client_of(program.pid)
    assert row["transport"] == "tls"
    os.kill(int(row["worker_pid"]), signal.SIGKILL)
    program.say("go on")
    code, out, error = program.finish()
    assert code != 0, out
    assert "SIGKILL" in error


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ORION_TLS": "off"}, "this server encrypts"),
        ({"ORION_TLS": "sometimes"}, "ORION_TLS=sometimes"),
        ({"ORION_TLS": "required", "ORION_TOKEN": ""}, "needs a token"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    build: Build, tls_server: Server, variables: dict[str, str], says: str
) -> None:
    done = tls_server.run(build("vectorAdd"), **variables)
    assert done.code == 1, done.said()
    assert says in done.err
    assert len([line for line in done.err.splitlines() if line.startswith("orion: ")]) == 1


@contextmanager
def between(
    address: str, record: list[bytes], change: Callable[[bytes], bytes] = bytes
) -> Iterator[str]:
    """Somebody on the way, who hands everything on, changed or not, and keeps a copy."""
    host, port = address.rsplit(":", 1)
    listener = socket.create_server(("127.0.0.1", 0))
    lines: list[socket.socket] = []

    def hand_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                record.append(data)
                target.sendall(change(data))
        for line in (source, target):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                here, _ = listener.accept()
            except OSError:
                return
            there = socket.create_connection((host, int(port)))
            lines.extend((here, there))
            for pair in ((here, there), (there, here)):
                threading.Thread(target=hand_on, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for line in lines:
            line.close()


PATTERN = b"nobody shall read this on its way"
COPY = f"""
import cupy
data = cupy.asarray(bytearray({PATTERN!r} * 1000), dtype=cupy.uint8)
assert bytes(data.get()) == {PATTERN!r} * 1000
"""


@pytest.mark.parametrize("encrypted", [True, False])
def test_listener_on_the_way_reads_nothing_of_an_encrypted_session(
    environment: dict[str, str], tmp_path: Path, encrypted: bool
) -> None:
    pytest.importorskip("cupy", reason="cupy makes the data")
    record: list[bytes] = []
    options = ("--bind", "127.0.0.1:0", "--token-file", token_file(tmp_path))
    with running_server(environment, *options) as server:
        with between(server.smi()["servers"][0]["bind"], record) as address:
            done = server.run(
                sys.executable, "-c", COPY,
                ORION_SERVER=address, ORION_TRANSPORT="tcp", ORION_TOKEN=TOKEN,
                ORION_TLS="required" if encrypted else "off",
            )  # fmt: skip
        assert done.code == 0, done.said()
    said = b"".join(record)
    assert (PATTERN in said) is not encrypted
    assert TOKEN.partition(".")[2].encode() not in said


def without_flags(magic: bytes, offset: int) -> Callable[[bytes], bytes]:
    """Takes the wish for TLS out of a hello, or the promise of it out of a welcome."""

    def change(data: bytes) -> bytes:
        if not data.startswith(magic):
            return data
        flags = struct.unpack_from("<I", data, offset)[0] & ~0xC
        return data[:offset] + struct.pack("<I", flags) + data[offset + 4 :]

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_flags(b"OrHello1", 16), "check ORION_TOKEN"),
        (without_flags(b"OrWelco1", 36), "does not know the secret of token me"),
    ],
)
def test_somebody_on_the_way_cannot_talk_them_out_of_it(
    build: Build,
    environment: dict[str, str],
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    says: str,
) -> None:
    options = ("--device", "null", "--bind", "127.0.0.1:0", "--token-file", token_file(tmp_path))
    with running_server(environment, *options) as server:
        with between(server.smi()["servers"][0]["bind"], [], change) as address:
            done = server.run(
                build("vectorAdd"),
                ORION_SERVER=address, ORION_TRANSPORT="tcp", ORION_TOKEN=TOKEN,
                ORION_TLS="required",
            )  # fmt: skip
        assert done.code == 1, done.said()
        assert says in done.err


# --- another host


def from_afar(server: Server, name: str, program: Path, **variables: str):  # type: ignore[no-untyped-def]
    bind = server.smi()["servers"][0]["bind"]
    address = f"10.77.{os.getpid() % 250}.1:{bind.rpartition(':')[2]}"
    return server.run("ip", "netns", "exec", name, program, ORION_SERVER=address, **variables)


def test_other_host_is_served_encrypted_with_a_token_and_not_at_all_without(
    build: Build, environment: dict[str, str], tmp_path: Path, far_away: str
) -> None:
    options = ("--bind", "0.0.0.0:0", "--token-file", token_file(tmp_path))
    with running_server(environment, *options) as server:
        done = from_afar(server, far_away, build("vectorAdd"), ORION_TOKEN=TOKEN)
        assert done.code == 0, done.said()
        assert "transport tcp, encrypted, to 10.77" in done.err
        assert "the server is on another host" in done.err
        done = from_afar(server, far_away, build("vectorAdd"))
        assert done.code == 1, done.said()
        assert "data would travel unencrypted: set ORION_TOKEN" in done.err
        done = from_afar(server, far_away, build("vectorAdd"), ORION_TOKEN=TOKEN, ORION_TLS="off")
        assert done.code == 1, done.said()
        assert "unset ORION_TLS" in done.err
        # the program would; the server does not
        done = from_afar(
            server, far_away, build("vectorAdd"),
            ORION_TOKEN=TOKEN, ORION_TLS="off", ORION_INSECURE_TCP="1",
        )  # fmt: skip
        assert done.code == 1, done.said()
        assert "this server does not send a client's data unencrypted" in done.err


def test_server_that_does_not_encrypt_gets_nothing_from_another_host(
    build: Build, environment: dict[str, str], tmp_path: Path, far_away: str
) -> None:
    options = ("--bind", "0.0.0.0:0", "--token-file", token_file(tmp_path), "--tls", "off")
    with running_server(environment, *options, "--insecure-tcp") as server:
        done = from_afar(server, far_away, build("vectorAdd"), ORION_TOKEN=TOKEN)
        assert done.code == 1, done.said()
        assert "does not encrypt, so nothing was sent to it" in done.err
        done = from_afar(
            server, far_away, build("vectorAdd"), ORION_TOKEN=TOKEN, ORION_INSECURE_TCP="1"
        )
        assert done.code == 0, done.said()
        assert "encrypted" not in done.err
