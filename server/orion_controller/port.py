# SPDX-License-Identifier: Apache-2.0
"""One port for all: HTTP, and the native hello of programs, told apart by their first bytes.

uvicorn makes one of these for each connection. A request, or a hello, must be here in full within a few seconds of its
first byte, or of the connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import h11
from orion_server import wire
from uvicorn.protocols.http.h11_impl import H11Protocol

from .logs import say

MAGIC = wire.HELLO_MAGIC.to_bytes(8, "little")


class Port(H11Protocol):
    """HTTP/1.1 by uvicorn, unless the first eight bytes are a hello's."""

    make_native: Callable[[], asyncio.Protocol]
    request_seconds: float

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._begun = b""  # the first bytes, until it is known whose they are
        self._is_http = False
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_http:
            self._begun += data
            if MAGIC.startswith(self._begun):
                return
            if self._begun.startswith(MAGIC):
                self._become_native()
                return
            self._is_http, data, self._begun = True, self._begun, b""
        super().data_received(data)
        if self._is_complete():
            self._unset_deadline()
        else:
            self._set_deadline()

    def _become_native(self) -> None:
        self._unset_deadline()
        self.connections.discard(self)
        native = self.make_native()
        self.transport.set_protocol(native)
        native.connection_made(self.transport)
        native.data_received(self._begun)

    def _is_complete(self) -> bool:
        """Nothing more has to come: the request is here, or none has begun (that time is keep-alive's)."""
        state = self.conn.their_state
        if state is h11.IDLE:
            return not self.conn.trailing_data[0]
        return state is not h11.SEND_BODY

    def _set_deadline(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.request_seconds, self._on_late)

    def _unset_deadline(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _on_late(self) -> None:
        self._late = None
        peer = self.client[0] if self.client else ""
        reason = f"no complete request came within {self.request_seconds:g} s"
        say("request refused", reason, logging.WARNING, status=408, peer=peer)
        if self.conn.our_state is h11.IDLE or self.conn.our_state is h11.SEND_RESPONSE:
            body = b'{"reason": "%s", "kind": "slow"}' % reason.encode()
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
                b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            )
        self.transport.close()
