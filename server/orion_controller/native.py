# SPDX-License-Identifier: Apache-2.0
"""The native hello at the controller: what libcuda.so.1 says, without HTTP, when ORION_CONTROLLER names us.

The client's hello is the one that it would say to a server. The answers are a challenge where a client's key is
configured (ORION_TOKEN=client.KEY), notices to wait (with the reason, each second, while it is in the queue), then a
redirect to the server that has its vGPU, or a welcome that refuses. A client that hangs up leaves the queue.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orion_server import errors, wire
from orion_server.errors import ProtocolError, Refusal
from orion_server.ledger import several
from orion_server.tokens import Exchange, Token

from . import views
from .auth import Denied, Role, is_here
from .logs import say
from .model import MIB, Client, Lease, Refused, Request, Wish
from .service import Service

WAIT_SECONDS = 1.0  # between notices; a client gives up after three without one
CLIENT_ID = "client"  # of the token whose secret is the client's key


class Native(asyncio.Protocol):
    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""
        self._hello: wire.Hello | None = None
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._serving: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None

    # --- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer: Any = transport.get_extra_info("peername") or ("",)
        own: Any = transport.get_extra_info("sockname") or ("",)
        self._peer, self._own = str(peer[0]), str(own[0])
        seconds = self._service.config.request_seconds
        why = f"no complete hello came within {seconds:g} seconds"
        self._late = asyncio.get_running_loop().call_later(
            seconds, self._refuse, wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, why
        )

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._received += data
        try:
            if self._hello is None:
                self._hear_hello()
            elif self._serving is None and self._exchange is not None:
                self._hear_answer(self._hello, self._exchange)
            else:
                raise ProtocolError("something came after the hello")
        except Refusal as e:
            self._refuse(e.status, e.cuda_result, str(e))
        except ProtocolError as e:
            self._refuse(wire.STATUS_PROTOCOL, errors.INVALID_VALUE, str(e))
        except Denied as e:
            self._refuse(wire.STATUS_REFUSED, errors.NOT_PERMITTED, str(e))

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        if self._serving is not None:
            self._serving.cancel()
        if self._request is not None:
            self._service.leave(self._request)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    # --- who it is

    def _hear_hello(self) -> None:
        if len(self._received) < wire.hello_bytes_wanted(self._received):
            return
        hello = wire.decode_hello(self._received)
        said, self._received = self._received, b""
        key = self._service.keys.key(Role.CLIENT)
        self._hello = hello
        if key and hello.token:
            known = Token(CLIENT_ID, key.encode()) if hello.token == CLIENT_ID else None
            self._exchange = Exchange(known, said)
            self._transport.write(self._exchange.challenge())
            return
        if key:
            raise Denied("this controller wants its client key: set ORION_TOKEN=client.KEY", True)
        self._service.keys.check(Role.CLIENT, "", is_here(self._peer, self._own))
        self._begin(hello)

    def _hear_answer(self, hello: wire.Hello, exchange: Exchange) -> None:
        if len(self._received) < wire.NOTICE.size:
            return
        if len(self._received) > wire.NOTICE.size or not exchange.accepts(self._received):
            raise Denied(f"token {hello.token!r} is not the client's key: check ORION_TOKEN", False)
        self._begin(hello)

    def _begin(self, hello: wire.Hello) -> None:
        self._in_time()
        self._serving = asyncio.get_running_loop().create_task(self._serve(hello))
        self._serving.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            say("broken", repr(task.exception()), logging.ERROR, peer=self._peer)
            self._transport.close()

    # --- what it gets

    async def _serve(self, hello: wire.Hello) -> None:
        host = "here" if is_here(self._peer, self._own) else self._peer
        try:
            if hello.vgpu > 1:
                raise Refused("impossible", several(hello.vgpu))
            wish = Wish(
                1,
                hello.gmem_mib * MIB,
                hello.ratio,
                bool(hello.flags & wire.FLAG_CROSS_NODE),
                None,  # the client hangs up when it has waited for long enough
                host,
            )
            client = Client(hello.command, hello.pid, hello.uid, "", self._peer)
            lease = await self._wait(wish, client)
            self._redirect(hello, lease, host)
        except Refused as e:
            self._refuse(wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, str(e))

    async def _wait(self, wish: Wish, client: Client) -> Lease:
        self._request = self._service.ask(wish, client)
        while not self._request.settled:
            notice = wire.encode_notice(wire.NOTICE_WAIT, message=self._request.reason)
            self._transport.write(notice)
            lease = await self._service.wait(self._request, WAIT_SECONDS)
            if lease is not None:
                return lease
        lease = await self._service.wait(self._request, None)
        assert lease is not None, "a settled request has a lease or is refused"
        return lease

    def _redirect(self, hello: wire.Hello, lease: Lease, host: str) -> None:
        grant = self._service.grants(lease, host)[0]
        token = grant.token
        if self._exchange is not None:
            token = mask(token, self._exchange.key())
        redirect = wire.encode_redirect(
            wire.Redirect(
                lease.id,
                grant.part.memory,
                self._service.ledger.ratio_of(grant.part),
                token,
                views.absolute(grant.address, self._own),
                grant.local,
                hello.version,
            )
        )
        if self._exchange is not None:
            redirect = self._exchange.seal_redirect(redirect)
        self._transport.write(redirect)
        self._request = None  # from now on the token may be used
        self._transport.close()

    def _refuse(self, status: int, result: int, why: str) -> None:
        self._in_time()
        say("hello refused", why, logging.WARNING, peer=self._peer)
        self._transport.write(wire.encode_refusal(Refusal(status, result, why), self._hello))
        self._transport.close()


def mask(token: str, key: bytes) -> str:
    """ID.SECRET with the secret's 32 bytes covered by a key of as many that is used for nothing else."""
    token_id, _, secret = token.partition(".")
    covered = bytes(a ^ b for a, b in zip(bytes.fromhex(secret), key, strict=True))
    return f"{token_id}.{covered.hex()}"
