# SPDX-License-Identifier: Apache-2.0
"""A client in plain Python: hello, rings, replies. Slow and simple, so that server tests need no libcuda."""

from __future__ import annotations

import ctypes
import hmac
import itertools
import mmap
import os
import platform
import re
import socket
import struct
import time
from pathlib import Path

from orion_server import wire
from orion_server.messages import receive_packet

ROOT = Path(__file__).parents[2]
RING_BYTES = 256 << 10
RING_AT = 16 << 10
STAGE_AT = RING_AT + RING_BYTES
STAGE_BYTES = 256 << 10
COMMAND_BYTES = STAGE_AT + 16 * STAGE_BYTES
REPLY_EVENTS = wire.REPLY_SEGMENT_BYTES - wire.EVENT_BYTES
NO_SLOT = 0xFFFF
RANGE_BYTES = 1 << 36
GRANULE = 2 << 20
_SYS_FUTEX = {"x86_64": 202}.get(platform.machine(), 98)
_libc = ctypes.CDLL(None)


def opcodes() -> dict[str, int]:
    text = (ROOT / "csrc/spec/opcodes.toml").read_text(encoding="utf-8")
    return {
        name: int(number) for name, number in re.findall(r"^(\w+) = (\d+)$", text, re.MULTILINE)
    }


OPCODES = opcodes()


class SessionLost(Exception):
    """The socket hung up; `result` and text are the epitaph's."""

    def __init__(self, result: int, text: str) -> None:
        self.result = result
        super().__init__(text)


class Refused(Exception):
    def __init__(self, welcome: wire.Welcome) -> None:
        self.welcome = welcome
        super().__init__(welcome.message)


def hello(**changes: object) -> wire.Hello:
    values: dict[str, object] = {
        "version": 1,
        "flags": 1,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "transport": wire.TRANSPORT_MEMFD,
        "gmem_mib": 0,
        "vgpu": 0,
        "ratio": 0,
        "candidates": (0x100000000000, 0x200000000000),
        "range_bytes": RANGE_BYTES,
        "token": "",
        "command": "raw client",
    }
    values.update(changes)
    return wire.Hello(**values)  # type: ignore[arg-type]


def introduce(line: socket.socket, token: str = "", **changes: object) -> bytes:
    """Says hello and proves `token`, ID.SECRET; the key of the session."""
    token_id, _, secret = token.partition(".")
    said = wire.encode_hello(hello(**{"token": token_id, **changes}))
    line.sendall(said)
    if not token:
        return b""
    challenge = b""
    while len(challenge) < wire.NOTICE.size:
        part = line.recv(wire.NOTICE.size - len(challenge))
        if not part:
            raise SessionLost(0, "no challenge")
        challenge += part
    kind = struct.unpack_from("<I", challenge, 12)[0]
    assert kind == wire.NOTICE_CHALLENGE, kind
    nonces = challenge[40:72] + os.urandom(32)

    def code(purpose: bytes) -> bytes:
        return hmac.digest(secret.encode(), purpose + b"\0" + nonces + said, "sha256")

    answer = struct.pack("<32s32s", nonces[32:], code(b"orion 1 answer"))
    line.sendall(
        wire.NOTICE.pack(
            wire.NOTICE_MAGIC, wire.NOTICE.size, wire.NOTICE_ANSWER, 0, 0, 0, 0, answer
        )
    )
    return code(b"orion 1 session key")


class RawClient:
    def __init__(self, path: str | Path, timeout: float = 20.0, **changes: object) -> None:
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(os.fspath(path))
        self.key = introduce(self.socket, **changes)  # type: ignore[arg-type]
        self.extents: list[tuple[int, int, int]] = []
        while (
            struct.unpack("<Q", self.socket.recv(8, socket.MSG_PEEK).ljust(8, b"\0"))[0]
            == wire.NOTICE_MAGIC
        ):
            self.socket.recv(wire.NOTICE.size)  # the worker is starting
        data, fds = receive_packet(self.socket, wire.WELCOME.size, 4)
        if not data:
            raise SessionLost(0, "no welcome")
        self.welcome = wire.decode_welcome(data)
        if self.welcome.status != wire.STATUS_OK:
            self.socket.close()
            raise Refused(self.welcome)
        self.socket.setblocking(False)  # a timeout would make Python wait before each look
        command_fd, reply_fd = fds
        self.attach(
            mmap.mmap(command_fd, COMMAND_BYTES),
            mmap.mmap(reply_fd, wire.REPLY_SEGMENT_BYTES, prot=mmap.PROT_READ),
        )
        os.close(command_fd)
        os.close(reply_fd)

    def attach(self, command: mmap.mmap, reply: mmap.mmap) -> None:
        self.command, self.reply = command, reply
        self._word = ctypes.c_uint32.from_buffer(self.command, 128)
        self.extents: list[tuple[int, int, int]] = []
        self.head = 0
        self.sequence = itertools.count(1)
        self.stages = itertools.count(1)

    def close(self) -> None:
        self.socket.close()

    def __del__(self) -> None:  # most tests end their session by what they do with it
        self.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- records

    def post(
        self, name: str | int, payload: bytes = b"", slot: int = NO_SLOT, sequence: int = 0
    ) -> None:
        payload += bytes(-len(payload) % 8)
        size = 16 + len(payload)
        opcode = OPCODES[name] if isinstance(name, str) else name
        left = RING_BYTES - self.head % RING_BYTES
        if left < size:
            self._write(struct.pack("<IHHII", left, 0, NO_SLOT, 0, self.welcome.epoch), left)
        self._write(
            struct.pack("<IHHII", size, opcode, slot, sequence, self.welcome.epoch) + payload, size
        )
        self.wake()

    def _write(self, data: bytes, advance: int) -> None:
        self._room(advance)
        at = RING_AT + self.head % RING_BYTES
        self.command[at : at + len(data)] = data
        self.head = (self.head + advance) & 0xFFFFFFFF
        self._word.value = self.head

    def _room(self, size: int) -> None:
        deadline = time.monotonic() + self.timeout
        while (
            (self.head - struct.unpack_from("<I", self.reply, 128)[0]) & 0xFFFFFFFF
        ) + size > RING_BYTES:
            self._look(deadline)

    def wake(self) -> None:
        _libc.syscall(
            ctypes.c_long(_SYS_FUTEX), ctypes.byref(self._word), 1, 0x7FFFFFFF, None, None, 0
        )

    def call(self, name: str | int, payload: bytes = b"", slot: int = 0) -> tuple[int, bytes, int]:
        """(result, data, sticky) of a sync operation; SessionLost when the server is gone."""
        sequence = next(self.sequence)
        self.post(name, payload, slot, sequence)
        return self.await_reply(slot, sequence)

    def await_reply(self, slot: int, sequence: int) -> tuple[int, bytes, int]:
        at = wire.REPLY_CONTROL_BYTES + slot * wire.REPLY_BYTES
        deadline = time.monotonic() + self.timeout
        while struct.unpack_from("<I", self.reply, at)[0] != sequence:
            self._look(deadline)
        _, result, size, sticky = struct.unpack_from("<IiIi", self.reply, at)
        return result, self.reply[at + 16 : at + 16 + size], sticky

    def _look(self, deadline: float) -> None:
        """A little patience, and an eye on the socket."""
        try:
            data, fds = receive_packet(self.socket, wire.NOTICE.size, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError("no answer") from None
            time.sleep(0.0002)
            return
        except OSError:
            data, fds = b"", []
        if not data:
            raise SessionLost(0, "hung up")
        _, _, kind, offset, size, result, _, text = wire.NOTICE.unpack(data)
        if kind == wire.NOTICE_EPITAPH:
            raise SessionLost(result, wire.text_of(text))
        self.extents.append((offset, size, fds[0]))

    def take_notices(self) -> None:
        """What the supervisor has sent so far: extents came before the reply that they belong to."""
        before = -1
        while before != len(self.extents):
            before = len(self.extents)
            self._look(time.monotonic() + 1)

    def await_end(self, timeout: float = 5.0) -> SessionLost:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._look(deadline)
            except SessionLost as lost:
                return lost

    # --- operations

    def alloc(self, size: int) -> int:
        result, data, _ = self.call("cuMemAlloc_v2", struct.pack("<Q", size))
        if result:
            raise MemoryError(result)
        return int(struct.unpack_from("<Q", data)[0])

    def free(self, address: int) -> None:
        self.post("cuMemFree_v2", struct.pack("<Q", address))

    def info(self) -> tuple[int, int]:
        _, data, _ = self.call("cuMemGetInfo_v2")
        free, total = struct.unpack_from("<QQ", data)
        return free, total

    def copy_in(self, address: int, data: bytes) -> None:
        self.post("orionCopyIn", struct.pack("<QQII", address, 0, len(data), 0) + data)

    def copy_out(self, address: int, size: int) -> tuple[int, bytes]:
        result, data, _ = self.call("orionCopyOut", struct.pack("<QQII", address, 0, size, 0))
        return result, data[8 : 8 + size]

    def upload(self, image: bytes, upload: int = 1) -> None:
        self.post("orionUploadBegin", struct.pack("<IIQ", upload, 0, len(image)))
        for at in range(0, len(image), STAGE_BYTES):
            part = image[at : at + STAGE_BYTES]
            sequence = next(self.stages)
            self.command[STAGE_AT : STAGE_AT + len(part)] = part
            self.post("orionUploadChunk", struct.pack("<IIIIQ", upload, 0, sequence, len(part), at))
            deadline = time.monotonic() + self.timeout
            while struct.unpack_from("<I", self.reply, 640)[0] != sequence:
                self._look(deadline)

    def load(self, image: bytes, module: int = 1 << 32) -> int:
        self.upload(image)
        return self.call("orionModuleLoad", struct.pack("<IIQ", 1, 0, module))[0]

    def function(
        self, name: str, function: int = 1 << 32, module: int = 1 << 32
    ) -> tuple[int, bytes]:
        text = name.encode() + b"\0"
        result, data, _ = self.call(
            "orionModuleFunction", struct.pack("<QQII", module, function, len(text), 0) + text
        )
        return result, data[8:]

    def launch(
        self, params: bytes, grid: int = 1, block: int = 1, function: int = 1 << 32, stream: int = 0
    ) -> None:
        fixed = struct.pack(
            "<QQ9II", function, stream, grid, 1, 1, block, 1, 1, 0, 0, len(params), 0
        )
        self.post("orionLaunch", fixed + params)
