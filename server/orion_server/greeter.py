# SPDX-License-Identifier: Apache-2.0
"""The door: accepts connections, reads one hello from each within a deadline, refuses with a sentence or admits.

A hello that names a token is answered with a challenge first; the deadline is for the hello and the answer together.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from . import errors, messages, peer, wire
from .allocations import Allocation
from .config import Config
from .errors import OrionServerError, ProtocolError, Refusal
from .loop import Loop
from .tokens import Exchange, Token, Tokens

log = logging.getLogger("orion.server")

HELLO_SECONDS = 5.0
GREETINGS_MOST = 256
ACCEPTS_A_TURN = 32
SO_PEERPIDFD = 77


@dataclass
class Greeting:
    """A connection that has not said hello yet."""

    client: socket.socket
    deadline: float
    tcp: bool
    allocation: Allocation | None = None  # of whose door it came to
    received: bytearray = field(default_factory=bytearray)
    hello: wire.Hello | None = None  # once it is complete
    exchange: Exchange | None = None


@dataclass(frozen=True)
class Guest:
    """Who has said a good hello, by the kernel's word where the kernel knows."""

    client: socket.socket
    hello: wire.Hello
    transport: int
    pid: int  # 0: of a namespace that we can't see, or of another host
    uid: int  # -1: nobody knows
    allocation: Allocation | None = None  # the container that it is, by the door it came through
    exchange: Exchange | None = None  # it has proved that it knows a token
    tls: bool = False  # what travels on its socket is encrypted

    @property
    def token(self) -> Token | None:
        return self.exchange.token if self.exchange is not None else None

    @property
    def token_id(self) -> str:
        return self.token.id if self.token is not None else ""

    def pidfd(self) -> int:
        """A forked child may keep the client's socket open; its process's end is seen here all the same."""
        if self.client.family != socket.AF_UNIX:
            return -1
        with contextlib.suppress(OSError):
            return self.client.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
        with contextlib.suppress(OSError):
            return os.pidfd_open(self.pid) if self.pid else -1
        return -1


class Greeter:
    def __init__(
        self, loop: Loop, config: Config, tokens: Tokens, admit: Callable[[Guest], None]
    ) -> None:
        self._loop = loop
        self._config = config
        self._tokens = tokens
        self._admit = admit  # takes the guest over, or raises a Refusal
        self._listeners: list[socket.socket] = []
        self._greetings: dict[int, Greeting] = {}
        self.tcp_port = 0
        self._said = ""  # to the last one that was refused: who waits comes again and again

    def listen(
        self, listener: socket.socket, tcp: bool = False, allocation: Allocation | None = None
    ) -> None:
        self._listeners.append(listener)
        self._loop.watch(listener, lambda: self._accept(listener, tcp, allocation))

    def stop_listening(self, listener: socket.socket) -> None:
        """The caller closes it; who came through it and has not said hello yet goes."""
        self._loop.unwatch(listener)
        for greeting in list(self._greetings.values()):
            if greeting.allocation is not None and greeting.allocation.listener is listener:
                self._drop(greeting)
        self._listeners = [other for other in self._listeners if other is not listener]

    def listen_tcp(self, address: str, port: int) -> None:
        try:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.create_server((address, port), family=family, backlog=64)
        except OSError as e:
            raise OrionServerError(
                f"cannot listen on {address}:{port}: {e.strerror}; choose another --bind, or none"
            ) from e
        listener.setblocking(False)
        self.tcp_port = listener.getsockname()[1]
        self.listen(listener, tcp=True)

    def next_deadline(self) -> float:
        return min((g.deadline for g in self._greetings.values()), default=float("inf"))

    def expire(self, now: float) -> None:
        why = f"no complete hello came within {HELLO_SECONDS:.0f} seconds"
        for greeting in [g for g in self._greetings.values() if g.deadline <= now]:
            self._refuse(greeting, Refusal(wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, why))

    def close(self) -> None:
        for listener in self._listeners:
            self._loop.unwatch(listener)
            listener.close()
        for greeting in list(self._greetings.values()):
            self._drop(greeting)

    def _accept(self, listener: socket.socket, tcp: bool, allocation: Allocation | None) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as e:
                log.warning("cannot accept a client: %s", e.strerror)
                return
            if tcp:
                peer.set_up(client)
            self._greet(client, tcp, allocation)

    def _greet(self, client: socket.socket, tcp: bool, allocation: Allocation | None) -> None:
        client.setblocking(False)
        if len(self._greetings) >= GREETINGS_MOST:
            self._drop(min(self._greetings.values(), key=lambda g: g.deadline))
        greeting = Greeting(client, time.monotonic() + HELLO_SECONDS, tcp, allocation)
        self._greetings[client.fileno()] = greeting
        self._loop.watch(client, lambda: self._read(greeting))
        self._read(greeting)  # the hello is often there already

    def _read(self, greeting: Greeting) -> None:
        try:
            wanted = self._wanted(greeting)
            data = greeting.client.recv(wanted - len(greeting.received))
            if not data:
                self._drop(greeting)
                return
            greeting.received += data
            if len(greeting.received) == self._wanted(greeting):
                message = bytes(greeting.received)
                greeting.received.clear()
                if greeting.exchange is None:
                    self._hear_hello(greeting, message)
                else:
                    self._hear_answer(greeting, greeting.exchange, message)
        except BlockingIOError:
            return
        except Refusal as e:
            self._refuse(greeting, e)
        except ProtocolError as e:
            self._refuse(greeting, Refusal(wire.STATUS_PROTOCOL, errors.INVALID_VALUE, str(e)))
        except OSError:
            self._drop(greeting)

    def _wanted(self, greeting: Greeting) -> int:
        if greeting.exchange is not None:
            return wire.NOTICE.size
        return wire.hello_bytes_wanted(bytes(greeting.received))

    def _hear_hello(self, greeting: Greeting, message: bytes) -> None:
        greeting.hello = hello = wire.decode_hello(message)
        token = self._tokens.find(hello.token) if hello.token else None
        issued = self._config.token_file is not None or bool(self._config.controller)
        # a token that nobody here has issued: where none are issued at all, the client has to judge that
        if token is None and not (issued if hello.token else self._needs_token(greeting, issued)):
            self._let_in(greeting, hello)
            return
        if not hello.token:
            raise _not_permitted(
                "this server wants a token: set ORION_TOKEN=ID.SECRET as its operator gave it to you"
            )
        greeting.exchange = Exchange(token, message)
        messages.send_packet(greeting.client, greeting.exchange.challenge())

    def _needs_token(self, greeting: Greeting, issued: bool) -> bool:
        if greeting.allocation is not None:  # its door says who it is
            return False
        return (greeting.tcp and issued) or self._config.require_token

    def _hear_answer(self, greeting: Greeting, exchange: Exchange, message: bytes) -> None:
        assert greeting.hello is not None
        if not exchange.accepts(message):
            raise _not_permitted(
                f"token {greeting.hello.token!r} is unknown here, or its secret is another: check ORION_TOKEN"
            )
        self._let_in(greeting, greeting.hello)

    def _let_in(self, greeting: Greeting, hello: wire.Hello) -> None:
        guest = self._guest(greeting, hello)
        self._forget(greeting)
        self._admit(guest)

    def _guest(self, greeting: Greeting, hello: wire.Hello) -> Guest:
        client = greeting.client
        over_memory = not greeting.tcp or hello.transport == wire.TRANSPORT_DEVSHM
        if over_memory and not self._config.enable_shm:
            raise Refusal(
                wire.STATUS_REFUSED,
                errors.NOT_SUPPORTED,
                "this server's enable_shm is false: set ORION_TRANSPORT=tcp and ORION_SERVER=HOST:PORT",
            )
        if not greeting.tcp:
            credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, uid, _ = struct.unpack("3i", credentials)
            transport = hello.transport or wire.TRANSPORT_MEMFD
            if transport in (wire.TRANSPORT_TCP, wire.TRANSPORT_UCX):
                name = wire.TRANSPORT_NAMES[transport]
                raise _not_supported(
                    f"transport {name} needs HOST:PORT in ORION_SERVER, not a unix socket"
                )
            return Guest(
                client, hello, transport, max(pid, 0), uid, greeting.allocation, greeting.exchange
            )
        if hello.transport == wire.TRANSPORT_DEVSHM:
            # the user is a claim, which the modes of the files in /dev/shm prove
            return Guest(client, hello, hello.transport, 0, hello.uid, None, greeting.exchange)
        if hello.transport == wire.TRANSPORT_MEMFD:
            raise _not_supported(
                "shared memory of this kind needs the server's unix socket: "
                f"set ORION_SERVER=unix:{self._config.socket}, or ORION_TRANSPORT=tcp"
            )
        over_ucx = hello.transport == wire.TRANSPORT_UCX
        if over_ucx and not self._config.enable_rdma:
            raise _not_supported("this server's enable_rdma is false: use ORION_TRANSPORT=tcp")
        if over_ucx and self._config.tls == "required":
            raise _not_supported("this server encrypts, and UCX does not: use ORION_TRANSPORT=tcp")
        tls = not over_ucx and self._encrypts(greeting, hello)
        if not tls and not self._config.insecure_tcp and not peer.is_here(client):
            raise _not_supported(
                "this server does not send a client's data unencrypted to another host: give it a token with "
                "--token-file, use a tunnel, or start it with --insecure-tcp on a network that you trust"
            )
        user = peer.user_of(client)
        uid = -1 if user is None else user
        transport = wire.TRANSPORT_UCX if over_ucx else wire.TRANSPORT_TCP
        return Guest(client, hello, transport, 0, uid, None, greeting.exchange, tls)

    def _encrypts(self, greeting: Greeting, hello: wire.Hello) -> bool:
        """The client says whether it can and whether it wants to; keys are made of a token."""
        can = greeting.exchange is not None and bool(hello.flags & wire.FLAG_TLS)
        if self._config.tls == "required":
            if not can:
                raise _not_supported(
                    "this server encrypts what travels over TCP: set ORION_TOKEN, do not set ORION_TLS=off, "
                    "and see that the program finds OpenSSL"
                )
            return True
        return self._config.tls == "auto" and can and bool(hello.flags & wire.FLAG_TLS_WANTED)

    def _refuse(self, greeting: Greeting, refusal: Refusal) -> None:
        if refusal.status != wire.STATUS_AGAIN or str(refusal) != self._said:
            log.info("refused a client%s: %s", _whereabouts(greeting), refusal)
        self._said = str(refusal)
        with contextlib.suppress(OSError):
            messages.send_packet(greeting.client, wire.encode_refusal(refusal, greeting.hello))
        self._drop(greeting)

    def _drop(self, greeting: Greeting) -> None:
        self._forget(greeting)
        greeting.client.close()

    def _forget(self, greeting: Greeting) -> None:
        if self._greetings.get(greeting.client.fileno()) is greeting:
            del self._greetings[greeting.client.fileno()]
            self._loop.unwatch(greeting.client)


def _not_permitted(why: str) -> Refusal:
    return Refusal(wire.STATUS_REFUSED, errors.NOT_PERMITTED, why)


def _not_supported(why: str) -> Refusal:
    return Refusal(wire.STATUS_REFUSED, errors.NOT_SUPPORTED, why)


def _whereabouts(greeting: Greeting) -> str:
    with contextlib.suppress(OSError):
        if greeting.tcp:
            return f" at {greeting.client.getpeername()[0]}"
    return ""
