# SPDX-License-Identifier: Apache-2.0
"""Tokens: what a file of them may be, and that nobody without one comes in over TCP."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

import pytest
from orion_raw_client import RawClient, Refused, hello
from orion_server import errors, wire
from orion_server.errors import OrionServerError, ProtocolError
from orion_server.limits import Limits, Policy, limits_of_wishes
from orion_server.tokens import Exchange, Token, TokenFile, make_token
from orion_server_fixtures import Server
from orion_tcp_client import TcpClient

ME = "me.correct-horse-battery-staple"
OTHER = "other.0123456789abcdef0123456789"


def token_file(folder: Path, text: str = f"# ours\n{ME}\n\n{OTHER}\n", mode: int = 0o600) -> Path:
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    server = Server(
        folder / "server", "--device", "null", "--memory", "256M", "--bind", "127.0.0.1:0",
        "--token-file", str(token_file(folder)),
    )  # fmt: skip
    yield server
    server.stop()
    assert not server.processes()


@pytest.fixture
def bind(server) -> str:
    return str(server.status()["server"]["bind"])


# --- the exchange


def test_client_with_a_token_is_served_and_the_server_proves_itself(bind):
    for token in (ME, OTHER):
        with TcpClient(bind, token=token) as client:
            assert client.call("orionDescribe")[0] == 0
            assert client.welcome.proof != bytes(32)


def test_proofs_of_two_sessions_differ(bind):
    with TcpClient(bind, token=ME) as one, TcpClient(bind, token=ME) as two:
        assert one.welcome.proof != two.welcome.proof
        assert one.key != two.key


@pytest.mark.parametrize(
    "token",
    [
        "me.correct-horse-battery-stable",
        "nobody.correct-horse-battery-staple",
        "me.",
        "other." + ME,
    ],
)
def test_wrong_token_is_refused_and_logged(server, bind, token):
    with pytest.raises(Refused, match="check ORION_TOKEN") as refused:
        TcpClient(bind, token=token)
    assert refused.value.welcome.cuda_result == errors.NOT_PERMITTED
    assert "refused a client at 127.0.0.1: token" in server.text()
    assert "battery" not in server.text()


@pytest.mark.parametrize("transport", [wire.TRANSPORT_TCP, wire.TRANSPORT_DEVSHM])
def test_client_over_tcp_without_a_token_is_refused_with_the_remedy(bind, transport):
    with pytest.raises(Refused, match="set ORION_TOKEN"):
        TcpClient(bind, transport=transport)


def test_unix_socket_needs_none_and_takes_one(server):
    with RawClient(server.socket) as client:
        assert client.welcome.proof == bytes(32)
        assert client.call("orionDescribe")[0] == 0


def test_unix_socket_needs_one_where_it_is_required(make_server, tmp_path):
    server = make_server(
        "--device", "null", "--memory", "64M", "--token-file", str(token_file(tmp_path)),
        "--require-token",
    )  # fmt: skip
    with pytest.raises(Refused, match="set ORION_TOKEN"):
        RawClient(server.socket)


def answer_of(line: socket.socket, said: bytes) -> wire.Welcome:
    line.sendall(said)
    received = b""
    while len(received) < wire.WELCOME.size and (part := line.recv(4096)):
        received += part
    return wire.decode_welcome(received)


def challenged(bind: str, token: str = "me") -> tuple[socket.socket, bytes]:
    address, port = bind.rsplit(":", 1)
    line = socket.create_connection((address, int(port)), 10)
    line.sendall(wire.encode_hello(hello(transport=wire.TRANSPORT_TCP, token=token)))
    return line, line.recv(wire.NOTICE.size, socket.MSG_WAITALL)


def test_unknown_id_is_challenged_like_a_known_one(bind):
    known, unknown = challenged(bind, "me"), challenged(bind, "nobody")
    assert known[1][:40] == unknown[1][:40]
    assert known[1][40:72] != unknown[1][40:72]
    for line, _ in (known, unknown):
        line.close()


def test_answer_that_was_right_once_is_refused_the_second_time(bind):
    recorded: list[bytes] = []

    class Recorder(socket.socket):
        def sendall(self, data, *rest):  # type: ignore[no-untyped-def,override]
            recorded.append(bytes(data))
            return super().sendall(data, *rest)

    from orion_raw_client import introduce

    address, port = bind.rsplit(":", 1)
    with Recorder(socket.AF_INET) as line:
        line.settimeout(10)
        line.connect((address, int(port)))
        introduce(line, token=ME, transport=wire.TRANSPORT_TCP)
    said, answer = recorded
    with socket.create_connection((address, int(port)), 10) as line:
        line.sendall(said)
        line.recv(wire.NOTICE.size, socket.MSG_WAITALL)
        assert "its secret is another" in answer_of(line, answer).message


@pytest.mark.parametrize(
    "answer",
    [
        bytes(wire.NOTICE.size),
        wire.encode_notice(wire.NOTICE_EPITAPH),
        wire.NOTICE.pack(wire.NOTICE_MAGIC, 12, wire.NOTICE_ANSWER, 0, 0, 0, 0, b""),
        wire.encode_hello(hello()),
    ],
)
def test_what_is_no_answer_is_refused(bind, answer):
    line, _ = challenged(bind)
    with line:
        welcome = answer_of(line, answer)
        assert welcome.status == wire.STATUS_PROTOCOL
        assert "no answer" in welcome.message


def test_slow_answer_is_refused_within_the_time_of_the_hello(bind):
    line, _ = challenged(bind)
    began = time.monotonic()
    with line:
        assert "within 5 seconds" in answer_of(line, b"x").message
    assert time.monotonic() - began < 8


def test_answer_in_single_bytes_is_taken(bind):
    class Slow(socket.socket):
        def sendall(self, data, *rest):  # type: ignore[no-untyped-def,override]
            for byte in data:
                super().sendall(bytes([byte]), *rest)

    from orion_raw_client import introduce

    address, port = bind.rsplit(":", 1)
    with Slow(socket.AF_INET) as line:
        line.settimeout(10)
        line.connect((address, int(port)))
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        introduce(line, token=ME, transport=wire.TRANSPORT_TCP)
        assert answer_of(line, b"").status == wire.STATUS_OK


def test_codes_are_those_of_the_c_side():
    """tests/csrc/wire/token_test.c has the same numbers."""
    said = bytes(3 * i & 255 for i in range(wire.HELLO.size))
    exchange = Exchange(Token("x", b"correct-horse-battery-staple"), said)
    exchange._server_nonce = bytes(range(32))
    nonce = bytes(range(100, 132))
    code = bytes.fromhex("5f32b4f30de726c8ecddd11d4b5dab5337fb57c0f9864b6ae028a491998c4b73")
    head = (wire.NOTICE_MAGIC, wire.NOTICE.size, wire.NOTICE_ANSWER, 0, 0, 0, 0)
    assert exchange.accepts(wire.NOTICE.pack(*head, nonce + code))
    sealed = exchange.seal(bytes(5 * i & 255 for i in range(wire.WELCOME.size)))
    assert sealed[-32:].hex() == "5049af455b579fecb3a00383268f6fa38e71c7c0eca7702cfabad310c8be7d6b"
    assert (
        exchange.key().hex() == "5b52fbc3d01f6f145d03e90d803db596bbc553d119774ff8830f19fb1ade33e6"
    )
    assert not exchange.accepts(wire.NOTICE.pack(*head, nonce + code[:-1] + b"x"))
    with pytest.raises(ProtocolError):
        exchange.accepts(bytes(wire.NOTICE.size))


def test_nobody_proves_a_token_that_does_not_exist():
    exchange = Exchange(None, b"")
    code = exchange._code("orion 1 answer")
    head = (wire.NOTICE_MAGIC, wire.NOTICE.size, wire.NOTICE_ANSWER, 0, 0, 0, 0)
    assert not exchange.accepts(wire.NOTICE.pack(*head, struct.pack("<32s32s", b"", code)))


def test_limits_of_a_token_bound_the_lease():
    device, policy = 1 << 30, Policy()
    token = Token("x", b"s", memory_mib=100, ratio=30)
    assert limits_of_wishes(0, 0, device, policy, token) == Limits(100 << 20, 30)
    assert limits_of_wishes(50, 20, device, policy, token) == Limits(50 << 20, 20)
    assert limits_of_wishes(200, 90, device, policy, token) == Limits(100 << 20, 30)
    assert limits_of_wishes(0, 0, device, policy) == Limits(0, 100)
    assert limits_of_wishes(0, 0, device, policy, Token("y", b"s")) == Limits(0, 100)


# --- the file


@pytest.mark.parametrize(
    "text",
    ["nonsense\n", "a.short\n", f"{ME}\n{ME}\n", "a b.0123456789abcdef\n", ".0123456789abcdef\n"],
)
def test_file_that_says_something_else_is_refused_with_the_line(tmp_path, text):
    with pytest.raises(OrionServerError, match=r"line [12] of .*tokens"):
        TokenFile(token_file(tmp_path, text))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_file_that_others_can_read_is_refused(tmp_path, mode):
    with pytest.raises(OrionServerError, match="chmod 600"):
        TokenFile(token_file(tmp_path, mode=mode))


def test_file_that_is_none_or_too_long_is_refused(tmp_path):
    with pytest.raises(OrionServerError, match="cannot read"):
        TokenFile(tmp_path / "none")
    with pytest.raises(OrionServerError, match="no file of tokens"):
        TokenFile(tmp_path)
    with pytest.raises(OrionServerError, match="no file of tokens"):
        TokenFile(token_file(tmp_path, "#" * ((1 << 20) + 1)))


def test_changed_file_counts_at_once_and_a_broken_one_changes_nothing(tmp_path):
    path = token_file(tmp_path)
    tokens = TokenFile(path)
    assert tokens.find("me") is not None
    new = make_token("new")
    token_file(tmp_path, new + "\n")
    found = tokens.find("new")
    assert found is not None
    assert found.secret == new.partition(".")[2].encode()
    assert tokens.find("me") is None
    token_file(tmp_path, "broken\n")
    assert tokens.find("new") == found
    os.unlink(path)
    assert tokens.find("new") == found


def test_server_does_not_start_with_a_file_that_others_can_read(tmp_path):
    from orion_server.cli import main

    path = token_file(tmp_path, mode=0o644)
    arguments = ["--device", "null", "--socket", str(tmp_path / "s"), "--token-file", str(path)]
    assert main(arguments) == 2


def test_secret_is_not_in_the_text_of_a_token():
    assert "battery" not in repr(Token("me", b"correct-horse-battery-staple"))
