# SPDX-License-Identifier: Apache-2.0
"""Memory that a client brings along: its descriptor comes on the session's socket, the worker asks for it.

This is all that a client may say after its hello. The descriptor has to be a memory file that cannot shrink, or the
client could have its worker killed by touching it; that worker alone, but without a reason that anybody could read.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from . import errors, messages, wire
from .messages import Message
from .session import Session, answer

OFFERS_MOST = 16  # sent and not yet asked for


def listen(session: Session) -> bytes:
    """Takes offers from the client's socket. BlockingIOError: there is nothing more. b"": it has hung up. Other bytes:
    something that it must not say."""
    while True:
        data, fds = messages.receive_packet(
            session.client, wire.NOTICE.size, 2, socket.MSG_DONTWAIT
        )
        if not data or not _take(session, data, fds):
            messages.close_all(fds)
            return data


def _take(session: Session, data: bytes, fds: list[int]) -> bool:
    try:
        magic, size, kind, address, length, _, _, _ = wire.NOTICE.unpack(data)
    except struct.error:
        return False
    if (magic, size, kind, len(fds)) != (wire.NOTICE_MAGIC, wire.NOTICE.size, wire.NOTICE_OFFER, 1):
        return False
    if (
        len(session.offers) >= OFFERS_MOST
        or address in session.offers
        or not _is_solid(fds[0], length)
    ):
        return False
    session.offers[address] = (fds[0], length)
    return True


def _is_solid(fd: int, length: int) -> bool:
    """At least `length` bytes of memory, for good."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        return bool(seals & fcntl.F_SEAL_SHRINK) and os.fstat(fd).st_size >= length > 0
    except OSError:
        return False


def serve(session: Session, message: Message) -> None:
    """The worker asks for what the client has sent before, which may still be in the socket."""
    try:
        if listen(session):
            session.blame(errors.UNKNOWN, "the client sent something else than an offer of memory")
            session.worker.kill()
            return
    except BlockingIOError:
        pass
    except OSError:
        pass  # it has gone; the supervisor sees that as well
    fd, length = session.offers.pop(message.a, (-1, 0))
    if fd < 0 or length != message.b:
        answer(session, message, errors.INVALID_VALUE)
    else:
        answer(session, message, errors.SUCCESS, length, fd)
    if fd >= 0:
        os.close(fd)
