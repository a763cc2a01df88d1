# SPDX-License-Identifier: Apache-2.0
"""The native hello at the controller: what libcuda.so.1 says, without HTTP, when ORION_CONTROLLER names us.

The client's hello is the one that it would say to a server. The answers are notices to wait (with the reason, each
second, while it is in the queue), then a redirect to the server that has its vGPU, or a welcome that refuses. A client
that hangs up leaves the queue.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from orion_server import errors, wire
from orion_server.errors import ProtocolError, Refusal

from . import views
from .auth import Denied, Role, is_here
from .logs import say
from .model import MIB, Client, Lease, Refused, Request, Wish
from .service import Service

WAIT_SECONDS = 1.0  # between notices; a client gives up after three without one


class Native(asyncio.Protocol):
    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""
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
        if self._serving is not None:
            self._refuse(
                wire.STATUS_PROTOCOL, errors.INVALID_VALUE, "something came after the hello"
            )
            return
        self._received += data
        try:
            if len(self._received) < wire.hello_bytes_wanted(self._received):
                return
            hello = wire.decode_hello(self._received)
        except Refusal as e:
            self._refuse(e.status, e.cuda_result, str(e))
            return
        except ProtocolError as e:
            self._refuse(wire.STATUS_PROTOCOL, errors.INVALID_VALUE, str(e))
            return
        self._in_time()
        self._serving = asyncio.get_running_loop().create_task(self._serve(hello))
        self._serving.add_done_callback(self._served)

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

    def _served(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            say("broken", repr(task.exception()), logging.ERROR, peer=self._peer)
            self._transport.close()

    # --- what is said

    async def _serve(self, hello: wire.Hello) -> None:
        here = is_here(self._peer, self._own)
        try:
            self._service.keys.check(Role.CLIENT, "", here)
            if hello.vgpu > 1:
                raise Refused(
                    "impossible",
                    f"ORION_VGPU={hello.vgpu}: a program can use one vGPU so far; more are to be had by HTTP",
                )
            wish = Wish(
                max(hello.vgpu, 1),
                hello.gmem_mib * MIB,
                hello.ratio,
                bool(hello.flags & wire.FLAG_CROSS_NODE),
                None,  # the client hangs up when it has waited for long enough
                "here" if here else self._peer,
            )
            client = Client(hello.command, hello.pid, hello.uid, "", self._peer)
            lease = await self._wait(wish, client)
            self._redirect(lease, wish.host)
        except Refused as e:
            self._refuse(wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, str(e))
        except Denied as e:
            self._refuse(wire.STATUS_REFUSED, errors.DEVICE_UNAVAILABLE, str(e))

    async def _wait(self, wish: Wish, client: Client) -> Lease:
        self._request = self._service.ask(wish, client)
        lease = await self._service.wait(self._request, 0.0 if self._request.settled else 0.001)
        while lease is None:
            notice = wire.encode_notice(wire.NOTICE_WAIT, message=self._request.reason)
            self._transport.write(notice)
            lease = await self._service.wait(self._request, WAIT_SECONDS)
        return lease

    def _redirect(self, lease: Lease, host: str) -> None:
        grant = self._service.grants(lease, host)[0]
        self._transport.write(
            wire.encode_redirect(
                wire.Redirect(
                    lease.id,
                    grant.part.memory,
                    grant.part.ratio,
                    grant.token,
                    views.absolute(grant.address, self._own),
                    grant.local,
                )
            )
        )
        self._request = None  # from now on the token may be used
        self._transport.close()

    def _refuse(self, status: int, result: int, why: str) -> None:
        self._in_time()
        say("hello refused", why, logging.WARNING, peer=self._peer)
        self._transport.write(
            wire.encode_welcome(wire.Welcome(status=status, cuda_result=result, message=why))
        )
        self._transport.close()
