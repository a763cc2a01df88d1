# SPDX-License-Identifier: Apache-2.0
"""Tokens of leases: `ID.SECRET`, made by the controller, recomputed by the one server that they are for.

The ID says which lease it is, its bounds and when it expires by the server's own monotonic clock, so that nobody's
calendar matters. The SECRET is an HMAC over the ID under a key that controller and server share, made anew for each
life (epoch) of the server: no field can be altered, and no token outlives its server. A token is for one session at a
time, and unless it belongs to a held lease, for one session altogether.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

LAYOUT = struct.Struct(">QIIHBBB")  # 21 bytes, 28 characters of base64url
ID_LENGTH = 28
HELD = 0x1
CONTEXT = b"orion lease token 1"
SPENT_MOST = 65536
MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a token grants. memory in bytes; ratio in percent, 0: an equal share."""

    lease: int
    part: int
    device: int
    memory: int
    ratio: int
    expires: int  # seconds of the server's monotonic clock
    held: bool

    @property
    def key(self) -> tuple[int, int]:
        return self.lease, self.part


def encode_id(limits: Limits) -> str:
    packed = LAYOUT.pack(
        limits.lease,
        limits.expires,
        limits.memory // MIB,
        limits.device,
        limits.part,
        limits.ratio,
        HELD if limits.held else 0,
    )
    return base64.urlsafe_b64encode(packed).decode()


def decode_id(text: str) -> Limits | None:
    """None for what no controller writes."""
    if len(text) != ID_LENGTH or not text.isascii():
        return None
    try:
        packed = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    lease, expires, mebibytes, device, part, ratio, flags = LAYOUT.unpack(packed)
    if ratio > 100 or flags & ~HELD or mebibytes == 0:
        return None
    return Limits(lease, part, device, mebibytes * MIB, ratio, expires, bool(flags & HELD))


def derive_key(secret: bytes, server: str, boot: str, epoch: int) -> bytes:
    """The key of one life of one server, from the controller's own secret."""
    message = b"\0".join((CONTEXT + b" key", server.encode(), boot.encode(), b"%d" % epoch))
    return hmac.new(secret, message, hashlib.sha256).digest()


def secret_of(key: bytes, token_id: str) -> bytes:
    """The SECRET as it stands in the token: 64 hex digits."""
    message = CONTEXT + b"\0" + token_id.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest().encode()


def make_token(key: bytes, limits: Limits) -> str:
    token_id = encode_id(limits)
    return f"{token_id}.{secret_of(key, token_id).decode()}"


class LeaseTokens:
    """The server's side: which tokens are good now. No key yet: none is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key: bytes | None = None
        self._in_use: set[tuple[int, int]] = set()
        self._worthless: dict[
            tuple[int, int], int
        ] = {}  # spent or revoked -> when it expires anyway

    def set_key(self, key: bytes) -> None:
        self._key = key

    def secret(self, token_id: str) -> bytes | None:
        """For the challenge; None: this token is worth nothing, refusal() says why."""
        if self._key is None or self.refusal(token_id) is not None:
            return None
        return secret_of(self._key, token_id)

    def refusal(self, token_id: str) -> str | None:
        """One clause for the log and the client; None when the token may be good."""
        limits = decode_id(token_id)
        if limits is None:
            return "it is no token of a controller"
        if self._key is None:
            return "this server has not heard from its controller yet"
        if self._clock() > limits.expires:
            return "it has expired"
        if limits.key in self._in_use:
            return "another program uses its lease now"
        if limits.key in self._worthless:
            return "its lease has ended"
        return None

    def limits(self, token_id: str) -> Limits | None:
        return decode_id(token_id)

    def begin(self, token_id: str) -> bool:
        """A session was admitted with it. False: it has become worthless since its secret was asked for."""
        limits = decode_id(token_id)
        if limits is None or self.refusal(token_id) is not None:
            return False
        self._in_use.add(limits.key)
        return True

    def finish(self, token_id: str) -> None:
        """That session is over."""
        limits = decode_id(token_id)
        if limits is None or limits.key not in self._in_use:
            return
        self._in_use.discard(limits.key)
        if not limits.held:
            self._worthless[limits.key] = limits.expires

    def revoke(self, lease: int, part: int) -> None:
        """The controller takes it back; a session that uses it is the caller's to end."""
        self._forget_expired()
        # when it expires is not known here, only that tokens of leases live for two days at most
        self._worthless.setdefault((lease, part), int(self._clock()) + 2 * 86400)

    def ended(self) -> list[tuple[int, int]]:
        """Leases under which nobody can come any more, as long as their tokens have not expired."""
        self._forget_expired()
        return [key for key in self._worthless if key not in self._in_use]

    def _forget_expired(self) -> None:
        now = self._clock()
        for key in [k for k, expires in self._worthless.items() if now > expires]:
            del self._worthless[key]
        while len(self._worthless) > SPENT_MOST:
            del self._worthless[next(iter(self._worthless))]
