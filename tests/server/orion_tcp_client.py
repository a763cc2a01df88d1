# SPDX-License-Identifier: Apache-2.0
"""A client in plain Python whose session is on a TCP socket: frames out, frames in."""

from __future__ import annotations

import itertools
import socket
import struct
import time

from orion_raw_client import NO_SLOT, OPCODES, Refused, SessionLost, introduce
from orion_server import wire

RECORD = struct.Struct("<IHHII")
STAGE, DONE, REPLY, EVENT, CREDIT, PULSE, NOTICE = range(0xFF01, 0xFF08)


class TcpClient:
    def __init__(self, bind: str, timeout: float = 20.0, **changes: object) -> None:
        address, port = bind.rsplit(":", 1)
        self.socket = socket.create_connection((address, int(port)), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        values = {"transport": wire.TRANSPORT_TCP, **changes}
        self.key = introduce(self.socket, **values)  # type: ignore[arg-type]
        head = self._exactly(16)
        while struct.unpack_from("<Q", head)[0] == wire.NOTICE_MAGIC:  # the worker is starting
            self._exactly(wire.NOTICE.size - 16)
            head = self._exactly(16)
        self.welcome = wire.decode_welcome(head + self._exactly(wire.WELCOME.size - 16))
        if self.welcome.status != wire.STATUS_OK:
            self.socket.close()
            raise Refused(self.welcome)
        self.sequence = itertools.count(1)
        self.chunks: dict[tuple[int, int], bytes] = {}

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> TcpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            try:
                part = self.socket.recv(size - len(received))
            except ConnectionError:
                part = b""
            if not part:
                raise SessionLost(0, "hung up")
            received += part
        return received

    def frame(
        self, kind: int, payload: bytes = b"", slot: int = NO_SLOT, sequence: int = 0
    ) -> bytes:
        payload += bytes(-len(payload) % 8)
        return RECORD.pack(16 + len(payload), kind, slot, sequence, self.welcome.epoch) + payload

    def post(
        self, name: str | int, payload: bytes = b"", slot: int = NO_SLOT, sequence: int = 0
    ) -> None:
        opcode = OPCODES[name] if isinstance(name, str) else name
        self.socket.sendall(self.frame(opcode, payload, slot, sequence))

    def next(self) -> tuple[int, int, int, bytes]:
        """(kind, slot, sequence, payload) of the next frame; SessionLost at the epitaph or the end."""
        size, kind, slot, sequence, epoch = RECORD.unpack(self._exactly(16))
        assert epoch == self.welcome.epoch
        assert size % 8 == 0
        payload = self._exactly(size - 16)
        if kind == NOTICE:
            _, _, _, _, _, result, _, text = wire.NOTICE.unpack(payload)
            raise SessionLost(result, wire.text_of(text))
        return kind, slot, sequence, payload

    def call(self, name: str | int, payload: bytes = b"", slot: int = 0) -> tuple[int, bytes, int]:
        """(result, data, sticky) of a sync operation."""
        wanted = next(self.sequence)
        self.post(name, payload, slot, wanted)
        while True:
            kind, at, sequence, data = self.next()
            if kind == STAGE:
                self.chunks[at, sequence] = data
            if kind == REPLY and (at, sequence) == (slot, wanted):
                result, sticky, size, _ = struct.unpack_from("<iiII", data)
                return result, data[16 : 16 + size], sticky

    def await_end(self, seconds: float = 5.0) -> SessionLost:
        deadline = time.monotonic() + seconds
        self.socket.settimeout(seconds)
        while time.monotonic() < deadline:
            try:
                self.next()
            except SessionLost as lost:
                self.close()
                return lost
        raise AssertionError("the session did not end")
