# SPDX-License-Identifier: Apache-2.0
"""What a worker and the supervisor say to each other: the twin of server/worker/control.h."""

from __future__ import annotations

import array
import builtins
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from .errors import ProtocolError

MAGIC = 0x4C54434F
TEXT_MOST = 1024
HEAD = struct.Struct("<IHHIiQQQ")
READY = struct.Struct("<QII64s64s64s")
ORDER = struct.Struct("<QQ8QIIIIII32s")
ORDER_NONE, ORDER_TCP, ORDER_TLS, ORDER_UCX = 0, 1, 2, 3  # what a session on a socket runs over
SHARE = struct.Struct("<II5QII64s64s")
CACHE_KEY = 32
FDS_MOST = 4


class Kind(IntEnum):
    READY = 1
    FAILED = 2
    GRANT = 3
    RELEASE = 4
    FAULT = 5
    CACHE_GET = 6
    CACHE_SLOT = 7
    CACHE_PUT = 8
    LOG = 9
    GOODBYE = 10
    START = 11
    EXPOSE = 12
    PROVEN = 13
    ADOPT = 14
    SHARE = 20
    MOVED = 21
    UNMOVE = 22
    UNSHARE = 23
    OPEN = 24
    CLOSE = 25
    BELL = 26


@dataclass(frozen=True)
class ShareText:
    """The text of SHARE and OPEN and of their answers: orion_share_text_t."""

    kind: int
    is_opaque: int = 0
    id: int = 0
    address: int = 0
    bytes: int = 0
    asked: int = 0
    first: int = 0
    party: int = 0
    handle: builtins.bytes = b""
    opaque: builtins.bytes = b""

    def pack(self) -> builtins.bytes:
        return SHARE.pack(
            self.kind,
            self.is_opaque,
            self.id,
            self.address,
            self.bytes,
            self.asked,
            self.first,
            self.party,
            0,
            self.handle,
            self.opaque,
        )

    @classmethod
    def unpack(cls, text: builtins.bytes) -> ShareText:
        """struct.error: it has another length."""
        kind, opaque, number, *sizes, party, _, handle, inner = SHARE.unpack(text)
        address, size, asked, first = sizes
        return cls(kind, opaque, number, address, size, asked, first, party, handle, inner)


@dataclass(frozen=True)
class Message:
    kind: int
    id: int = 0
    result: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    text: bytes = b""


def encode(message: Message) -> bytes:
    text = message.text[:TEXT_MOST]
    return (
        HEAD.pack(
            MAGIC,
            message.kind,
            len(text),
            message.id,
            message.result,
            message.a,
            message.b,
            message.c,
        )
        + text
    )


def decode(packet: bytes) -> Message:
    if len(packet) < HEAD.size:
        raise ProtocolError(f"a control message of {len(packet)} bytes")
    magic, kind, text_bytes, number, result, a, b, c = HEAD.unpack_from(packet)
    if magic != MAGIC or text_bytes > TEXT_MOST or len(packet) != HEAD.size + text_bytes:
        raise ProtocolError("a malformed control message")
    if kind not in Kind._value2member_map_:
        raise ProtocolError(f"a control message of unknown kind {kind}")
    return Message(kind, number, result, a, b, c, packet[HEAD.size :])


def receive_packet(
    line: socket.socket, size: int, fds_most: int, flags: int = 0
) -> tuple[bytes, list[int]]:
    """socket.recv_fds() forgets its flags in some Python versions, and lets descriptors leak into child processes."""
    room = socket.CMSG_SPACE(fds_most * array.array("i").itemsize)
    packet, ancillary, _, _ = line.recvmsg(size, room, flags | socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, list(fds)


def send_packet(line: socket.socket, data: bytes, fds: Sequence[int] | None = None) -> int:
    """Never blocks and never raises SIGPIPE; how much was sent."""
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    if not fds:
        return line.send(data, flags)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes())
    return line.sendmsg([data], [rights], flags)


def receive(line: socket.socket) -> tuple[Message, list[int]] | None:
    """One message and its descriptors; None when the other side is gone. BlockingIOError when there is none."""
    packet, fds = receive_packet(line, HEAD.size + TEXT_MOST, FDS_MOST, socket.MSG_DONTWAIT)
    if not packet:
        close_all(fds)
        return None
    try:
        return decode(packet), fds
    except ProtocolError:
        close_all(fds)
        raise


def send(line: socket.socket, message: Message, fds: Sequence[int] | None = None) -> None:
    """A worker that does not read its answers is a broken one: OSError."""
    send_packet(line, encode(message), fds)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
