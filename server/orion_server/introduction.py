# SPDX-License-Identifier: Apache-2.0
"""How a worker and its client come to know of each other: the worker's order, and the welcome that the client gets."""

from __future__ import annotations

import struct

from . import messages, wire
from .errors import ProtocolError
from .session import Session


def order(session: Session) -> bytes:
    """Whom the worker is to serve, and within which bounds (messages.ORDER)."""
    hello = session.hello
    return messages.ORDER.pack(
        session.lease.limit,
        hello.range_bytes,
        *(*hello.candidates, *([0] * 8))[:8],
        hello.flags,
        session.transport == wire.TRANSPORT_DEVSHM,
        max(session.uid, 0),
        _stream_of(session),
        bool(session.key),
        0,
        session.key,
    )


def _stream_of(session: Session) -> int:
    if not session.on_socket:
        return messages.ORDER_NONE
    if session.transport == wire.TRANSPORT_UCX:
        return messages.ORDER_UCX
    return messages.ORDER_TLS if session.tls else messages.ORDER_TCP


def welcome(session: Session, ready: messages.Message) -> bytes:
    """Where the worker says that its segments are, for the session and for its client: sealed, if that has a token.

    ProtocolError: the worker's announcement is not as long as messages.READY.
    """
    try:
        nonce, flags, slots, device, *segments = messages.READY.unpack(ready.text)
    except struct.error as e:
        raise ProtocolError(str(e)) from e
    names = [wire.text_of(name) for name in segments]
    session.range_base, session.arena_bytes = ready.a, ready.b
    session.devshm_names = tuple(n for n in names if n)
    data = wire.encode_welcome(
        wire.Welcome(
            session_id=session.id,
            epoch=session.worker.epoch,
            flags=flags | (wire.FLAG_TLS if session.tls else 0),
            range_base=ready.a,
            arena_bytes=ready.b,
            heap_bytes=ready.c,
            memory_limit=session.lease.limit,
            worker_pid=session.worker.pid,
            slots=slots,
            nonce=nonce,
            command_name=names[0],
            reply_name=names[1],
            device=wire.text_of(device),
            version=session.hello.version,
        )
    )
    return data if session.exchange is None else session.exchange.seal(data)
