# SPDX-License-Identifier: Apache-2.0
"""Hello, welcome and notice: the fixed-size messages on a client's socket. The twin of csrc/wire/hello.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from .errors import INVALID_VALUE, ProtocolError, Refusal

# Ours, and the one before, once there is one, which is served as well: each client is answered in its own.
VERSION = 1
VERSION_MIN = 1
HELLO_MAGIC = 0x316F6C6C6548724F
WELCOME_MAGIC = 0x316F636C6557724F
NOTICE_MAGIC = 0x316369746F4E724F
REDIRECT_MAGIC = 0x317269646552724F

HELLO = struct.Struct("<QIIIIIIQII8QQ64s128s")
WELCOME = struct.Struct("<QIIIiQIIQQQQIIQ64s64s64s256s32s")
PROOF_BYTES = 32  # the end of a welcome
NOTICE = struct.Struct("<QIIQQiI256s")
REDIRECT = struct.Struct("<QIIQQII128s128s128s32s")
HELLO_HEAD = struct.Struct("<QII")  # enough to see whether the rest can be understood

FLAG_CROSS_NODE = 0x10  # hello to a controller: several vGPUs may come from several servers

TRANSPORT_ANY, TRANSPORT_MEMFD, TRANSPORT_DEVSHM, TRANSPORT_LOCAL, TRANSPORT_TCP = 0, 1, 2, 3, 4
TRANSPORT_UCX = 5
TRANSPORT_NAMES = {
    TRANSPORT_MEMFD: "shm",
    TRANSPORT_DEVSHM: "/dev/shm",
    TRANSPORT_LOCAL: "local",
    TRANSPORT_TCP: "tcp",
    TRANSPORT_UCX: "ucx",
}

# orion_status_t
STATUS_OK, STATUS_NO_MEMORY, STATUS_SYSTEM, STATUS_REFUSED, STATUS_VERSION = 0, 5, 7, 8, 9
STATUS_PROTOCOL = 4
STATUS_AGAIN = 1  # nothing is free now: whoever will wait may come again

NOTICE_EXTENT, NOTICE_EPITAPH, NOTICE_WAIT, NOTICE_OFFER = 1, 2, 3, 4
NOTICE_CHALLENGE, NOTICE_ANSWER = 5, 6

# flags
FLAG_TLS, FLAG_TLS_WANTED = 0x4, 0x8

# wire/frame.h: a session on a socket; the worker sends all other frames
RECORD = struct.Struct("<IHHII")
FRAME_NOTICE = 0xFF07

# shm/layout.h: where client threads sleep in the reply segment
REPLY_CONTROL_BYTES = 4096
REPLY_SLOTS = 128
REPLY_BYTES = 4096
EVENT_BYTES = 64 * 1024
REPLY_SEGMENT_BYTES = REPLY_CONTROL_BYTES + REPLY_SLOTS * REPLY_BYTES + EVENT_BYTES
REPLY_FUTEX_WORDS = (
    *(REPLY_CONTROL_BYTES + slot * REPLY_BYTES for slot in range(REPLY_SLOTS)),
    128,  # tail: who waits for room in the ring
    512,  # event_head
    *(640 + 64 * stage for stage in range(16)),
)


def text_of(raw: bytes) -> str:
    """A NUL-padded field as printable text: it goes to logs and tables."""
    text = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def field_of(text: str, size: int) -> bytes:
    """A text as a field of `size` bytes, cut at a character's boundary so that a NUL always ends it."""
    return text.encode()[: size - 1].decode("utf-8", "ignore").encode()


@dataclass(frozen=True)
class Hello:
    version: int
    flags: int
    pid: int
    uid: int
    transport: int
    gmem_mib: int
    vgpu: int
    ratio: int
    candidates: tuple[int, ...]
    range_bytes: int
    token: str
    command: str


def hello_bytes_wanted(received: bytes) -> int:
    """How many bytes the hello that begins so will have; Refusal when it is none, or of a version not served."""
    if len(received) < HELLO_HEAD.size:
        return HELLO.size
    magic, version, size = HELLO_HEAD.unpack_from(received)
    if magic != HELLO_MAGIC:
        raise ProtocolError("the first bytes are no Orion hello")
    if not VERSION_MIN <= version <= VERSION:
        raise Refusal(
            STATUS_VERSION,
            INVALID_VALUE,
            f"this server speaks protocol version {VERSION_MIN} to {VERSION}, the client version {version}: "
            + ("upgrade the server" if version > VERSION else "upgrade the client's libcuda.so.1"),
        )
    if size != HELLO.size:
        raise ProtocolError(
            f"the hello claims {size} bytes where version {version} has {HELLO.size}"
        )
    return HELLO.size


def decode_hello(data: bytes) -> Hello:
    hello_bytes_wanted(data)
    if len(data) != HELLO.size:
        raise ProtocolError(f"the hello has {len(data)} bytes instead of {HELLO.size}")
    values = HELLO.unpack(data)
    _, version, _, flags, pid, uid, transport, gmem, vgpu, ratio = values[:10]
    candidates = values[10:18]
    range_bytes, token, command = values[18:]
    if transport == TRANSPORT_LOCAL or not TRANSPORT_ANY <= transport <= TRANSPORT_UCX:
        raise ProtocolError(
            f"the hello asks for transport {transport}, which this server does not know"
        )
    named = candidates[: candidates.index(0)] if 0 in candidates else candidates
    return Hello(
        version,
        flags,
        pid,
        uid,
        transport,
        gmem,
        vgpu,
        ratio,
        tuple(named),
        range_bytes,
        text_of(token),
        text_of(command),
    )


def encode_hello(hello: Hello) -> bytes:
    candidates = (*hello.candidates, *([0] * 8))[:8]
    return HELLO.pack(
        HELLO_MAGIC,
        hello.version,
        HELLO.size,
        hello.flags,
        hello.pid,
        hello.uid,
        hello.transport,
        hello.gmem_mib,
        hello.vgpu,
        hello.ratio,
        *candidates,
        hello.range_bytes,
        field_of(hello.token, 64),
        field_of(hello.command, 128),
    )


@dataclass(frozen=True)
class Welcome:
    status: int = STATUS_OK
    cuda_result: int = 0
    session_id: int = 0
    epoch: int = 0
    flags: int = 0
    range_base: int = 0
    arena_bytes: int = 0
    heap_bytes: int = 0
    memory_limit: int = 0
    worker_pid: int = 0
    slots: int = 0
    nonce: int = 0
    command_name: str = ""
    reply_name: str = ""
    device: str = ""
    message: str = ""
    version: int = field(default_factory=lambda: VERSION)  # the client's, where it is known
    proof: bytes = bytes(PROOF_BYTES)


def encode_welcome(w: Welcome) -> bytes:
    return WELCOME.pack(
        WELCOME_MAGIC,
        w.version,
        WELCOME.size,
        w.status,
        w.cuda_result,
        w.session_id,
        w.epoch,
        w.flags,
        w.range_base,
        w.arena_bytes,
        w.heap_bytes,
        w.memory_limit,
        w.worker_pid,
        w.slots,
        w.nonce,
        field_of(w.command_name, 64),
        field_of(w.reply_name, 64),
        field_of(w.device, 64),
        field_of(w.message, 256),
        w.proof,
    )


def encode_refusal(refusal: Refusal, hello: Hello | None) -> bytes:
    """The welcome that sends a client away, in words of its own version if it has said which."""
    welcome = Welcome(
        status=refusal.status,
        cuda_result=refusal.cuda_result,
        message=str(refusal),
        version=VERSION if hello is None else hello.version,
    )
    return encode_welcome(welcome)


def decode_welcome(data: bytes) -> Welcome:
    if len(data) != WELCOME.size:
        raise ProtocolError(f"the welcome has {len(data)} bytes instead of {WELCOME.size}")
    (
        magic,
        version,
        _,
        status,
        result,
        session,
        epoch,
        flags,
        base,
        arena,
        heap,
        limit,
        pid,
        slots,
        nonce,
        command,
        reply,
        device,
        message,
        proof,
    ) = WELCOME.unpack(data)
    if magic != WELCOME_MAGIC:
        raise ProtocolError("the answer is no Orion welcome")
    return Welcome(
        status,
        result,
        session,
        epoch,
        flags,
        base,
        arena,
        heap,
        limit,
        pid,
        slots,
        nonce,
        text_of(command),
        text_of(reply),
        text_of(device),
        text_of(message),
        version,
        proof,
    )


@dataclass(frozen=True)
class Redirect:
    """A controller's answer: where the vGPU is."""

    lease: int
    memory_limit: int  # bytes
    ratio: int  # percent, 0: an equal share
    token: str
    address: str  # HOST:PORT, may be empty
    local: str  # path of a unix socket that may be in the client's reach, may be empty
    version: int = field(default_factory=lambda: VERSION)


def encode_redirect(r: Redirect) -> bytes:
    return REDIRECT.pack(
        REDIRECT_MAGIC,
        r.version,
        REDIRECT.size,
        r.lease,
        r.memory_limit,
        r.ratio,
        0,
        field_of(r.token, 128),
        field_of(r.address, 128),
        field_of(r.local, 128),
        bytes(PROOF_BYTES),
    )


def decode_redirect(data: bytes) -> Redirect:
    if len(data) != REDIRECT.size:
        raise ProtocolError(f"the redirect has {len(data)} bytes instead of {REDIRECT.size}")
    magic, version, _, lease, memory, ratio, _, token, address, local, _ = REDIRECT.unpack(data)
    if magic != REDIRECT_MAGIC:
        raise ProtocolError("the answer is no Orion redirect")
    return Redirect(lease, memory, ratio, text_of(token), text_of(address), text_of(local), version)


def encode_notice(
    kind: int, offset: int = 0, size: int = 0, cuda_result: int = 0, message: str = ""
) -> bytes:
    return NOTICE.pack(
        NOTICE_MAGIC, NOTICE.size, kind, offset, size, cuda_result, 0, field_of(message, 256)
    )


def frame_notice(epoch: int, notice: bytes) -> bytes:
    """The notice as the last frame of a session on a socket."""
    return RECORD.pack(RECORD.size + len(notice), FRAME_NOTICE, 0, 0, epoch) + notice
