# SPDX-License-Identifier: Apache-2.0
"""What a channel over a network asks for and refuses; what holds for all channels is in test_channel.py."""

from __future__ import annotations

import ctypes.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import orion_shm

SECONDS = 20.0
TOKEN = "tests.a-secret-of-the-tests"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORION_TOKEN", "ORION_TLS", "ORION_INSECURE_TCP"):
        monkeypatch.delenv(name, raising=False)


class Accepted:
    """The channel that a listener accepts in a thread."""

    def __init__(self, listener: orion_shm.Listener) -> None:
        self.made: list[orion_shm.Channel] = []
        self.listener = listener
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self) -> None:
        try:
            self.made.append(self.listener.accept(SECONDS))
        except ValueError:  # closed
            return

    def channel(self) -> orion_shm.Channel:
        self.thread.join()
        return self.made[0]


@pytest.fixture
def listener() -> Iterator[orion_shm.Listener]:
    with orion_shm.listen("tcp://127.0.0.1:0", token=TOKEN) as made:
        yield made


def test_a_listener_names_the_port_that_it_took() -> None:
    with orion_shm.listen("tcp://:0") as first:
        host, port = first.address.removeprefix("tcp://").split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        with pytest.raises(ConnectionRefusedError, match=port):
            orion_shm.listen(first.address)
        with pytest.raises(TimeoutError, match="nobody accepted"):
            orion_shm.connect(first.address, 0.05)
    with pytest.raises(ConnectionRefusedError, match=port):
        orion_shm.connect(first.address)
    with pytest.raises(ValueError, match="resolve"):
        orion_shm.connect("tcp://no-such-host.invalid:1")


def test_ipv6_addresses_have_brackets() -> None:
    try:
        made = orion_shm.listen("tcp://[::1]:0")
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with made, Accepted(made).listener, orion_shm.connect(made.address, SECONDS) as channel:
        assert channel.address.startswith("tcp://[::1]:")


def test_a_token_is_asked_of_both_ends(
    listener: orion_shm.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = Accepted(listener)
    with pytest.raises(ConnectionRefusedError, match="wants a token"):
        orion_shm.connect(listener.address)
    with pytest.raises(ConnectionRefusedError, match="secret of the token is another"):
        orion_shm.connect(listener.address, token="tests.some-other-secret-text")
    with pytest.raises(ValueError, match=r"ID\.SECRET"):
        orion_shm.connect(listener.address, token="no dot")
    monkeypatch.setenv("ORION_TOKEN", TOKEN)
    with orion_shm.connect(listener.address, SECONDS) as channel, accepted.channel() as other:
        channel.send(b"in")
        assert other.recv(SECONDS) == b"in"
        assert channel.transport == other.transport == "tcp"


def test_an_end_that_cannot_prove_itself_is_refused() -> None:
    with orion_shm.listen("tcp://127.0.0.1:0") as listener:
        Accepted(listener)
        with pytest.raises(ConnectionRefusedError, match="no token"):
            orion_shm.connect(listener.address, token=TOKEN)


def test_tls_carries_all_of_it(
    listener: orion_shm.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORION_TLS", "required")
    accepted = Accepted(listener)
    with (
        orion_shm.connect(listener.address, SECONDS, token=TOKEN) as channel,
        accepted.channel() as other,
    ):
        assert channel.transport == other.transport == "tls"
        sent = np.arange(3_000_000)
        sending = threading.Thread(target=channel.send_array, args=(sent, SECONDS))
        sending.start()
        np.testing.assert_array_equal(other.recv_array(SECONDS), sent)
        sending.join()
        serving = threading.Thread(target=other.serve, args=(lambda data: data[::-1],))
        serving.start()
        assert channel.call(b"abc", SECONDS) == b"cba"
        channel.close()
        serving.join()


def test_tls_without_a_token_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORION_TLS", "required")
    with orion_shm.listen("tcp://127.0.0.1:0") as listener:
        Accepted(listener)
        with pytest.raises(ValueError, match="token=ID"):
            orion_shm.connect(listener.address)


def test_other_hosts_are_listened_for_with_a_token_only() -> None:
    with pytest.raises(ValueError, match="insecure=True"):
        orion_shm.listen("tcp://0.0.0.0:0")
    with pytest.raises(ValueError, match="UCX"):
        orion_shm.listen("ucx://0.0.0.0:0", token=TOKEN)
    with pytest.raises(ValueError, match="decided by user"):
        orion_shm.listen("a-name", token=TOKEN)
    orion_shm.listen("tcp://0.0.0.0:0", token=TOKEN).close()
    orion_shm.listen("tcp://0.0.0.0:0", insecure=True).close()


def test_schemes_do_not_mix() -> None:
    with orion_shm.listen("ucx://127.0.0.1:0") as listener:
        Accepted(listener)
        with pytest.raises(ConnectionRefusedError, match="ucx://"):
            orion_shm.connect(listener.address.replace("ucx", "tcp"))


def test_who_speaks_something_else_is_no_channel_and_harms_none(
    listener: orion_shm.Listener,
) -> None:
    accepted = Accepted(listener)
    host, port = listener.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as web:
        web.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(400))
        with orion_shm.connect(listener.address, SECONDS, token=TOKEN) as channel:
            channel.send(b"x")
            with accepted.channel() as other:
                assert other.recv(SECONDS) == b"x"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connected:
                connected.sendall(b"220 hello" * 50)

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(orion_shm.ProtocolError, match="no channel of Orion"):
            orion_shm.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        answering.join()


class CudaArray:
    """Looks like an array on a GPU."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": (1,), "typestr": "<f4", "data": (64, False), "version": 3}


def test_a_cuda_array_is_refused_with_the_remedy(listener: orion_shm.Listener) -> None:
    accepted = Accepted(listener)
    with orion_shm.connect(listener.address, SECONDS, token=TOKEN) as channel:
        for send in (channel.send, channel.send_array, channel.call):
            with pytest.raises(BufferError, match="asnumpy"):
                send(CudaArray())
        channel.send(b"next")
        with accepted.channel() as other:
            assert other.recv(SECONDS) == b"next"


def test_an_empty_array_is_sent_as_it_is_now(listener: orion_shm.Listener) -> None:
    accepted = Accepted(listener)
    with orion_shm.connect(listener.address, SECONDS, token=TOKEN) as channel:
        made = channel.empty(1000, "i4")
        made[:] = 1
        channel.send_array(made)
        made[:] = 2
        channel.send_array(made[500:])
        with accepted.channel() as other:
            assert other.recv(SECONDS).sum() == 1000
            assert other.recv(SECONDS).sum() == 1000


def test_memory_that_a_listener_holds_for_others_is_bounded() -> None:
    with orion_shm.listen("tcp://127.0.0.1:0", arena_limit=1 << 20) as listener:
        accepted = Accepted(listener)
        with orion_shm.connect(listener.address, SECONDS) as channel, accepted.channel() as other:
            with pytest.raises(MemoryError, match="arena_limit"):
                channel.empty(2 << 20, "u1")
            channel.send_array(np.ones(100_000))
            with pytest.raises(TimeoutError):
                channel.send_array(np.ones(100_000), 0.05)  # the first has not been taken
            assert other.recv(SECONDS).sum() == 100_000
            channel.send_array(np.ones(100_000), SECONDS)


# ---- another host

CLIENT = """
import sys, numpy, orion_shm
try:
    with orion_shm.connect(sys.argv[1], 10, token=sys.argv[2], insecure=sys.argv[3] == "insecure") as channel:
        channel.send_array(numpy.arange(200_000))
        print(channel.transport, channel.call(b"abc", 10))
except (ValueError, ConnectionError) as error:
    print(type(error).__name__, error)
"""


def from_afar(
    name: str, listener: orion_shm.Listener, token: str, insecure: bool, **variables: str
) -> str:
    """What a client on the other host says."""
    address = f"tcp://10.77.{os.getpid() % 250}.1:{listener.address.rpartition(':')[2]}"
    arguments = [address, token, "insecure" if insecure else "secure"]
    done = subprocess.run(
        ["ip", "netns", "exec", name, sys.executable, "-c", CLIENT, *arguments],
        env={**os.environ, **variables},
        cwd="/",  # what is installed is to be found, not the checkout
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def serve_one(listener: orion_shm.Listener) -> threading.Thread:
    def serve() -> None:
        with listener.accept(SECONDS) as channel:
            assert channel.recv(SECONDS).sum() == 19999900000
            channel.serve(lambda data: data[::-1], SECONDS)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.skipif(ctypes.util.find_library("ssl") is None, reason="no OpenSSL here")
def test_another_host_is_reached_encrypted_with_a_token(far_away: str) -> None:
    with orion_shm.listen("tcp://0.0.0.0:0", token=TOKEN) as listener:
        serving = serve_one(listener)
        assert "wants a token" in from_afar(far_away, listener, "", True)
        said = from_afar(far_away, listener, TOKEN, True, ORION_TLS="off")
        assert "data would travel unencrypted" in said  # the listener has not agreed
        assert from_afar(far_away, listener, TOKEN, False) == "tls b'cba'\n"
        serving.join()


def test_another_host_is_reached_in_the_clear_if_both_ends_say_so(far_away: str) -> None:
    with orion_shm.listen("tcp://0.0.0.0:0", insecure=True) as listener:
        serving = serve_one(listener)
        assert "insecure=True" in from_afar(far_away, listener, "", False)
        assert from_afar(far_away, listener, "", True) == "tcp b'cba'\n"
        serving.join()
