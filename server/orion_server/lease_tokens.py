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
import logging
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from .tokens import Token, Tokens

LAYOUT = struct.Struct(">QIIHBBB")  # 21 bytes, 28 characters of base64url
ID_LENGTH = 28
HELD = 0x1
CONTEXT = b"orion lease token 1"
LIFE_MOST = 2 * 86400  # seconds; a lease can be held, or renewed, for one day at a time
MIB = 1 << 20

log = logging.getLogger("orion.server")


@dataclass(frozen=True)
class Terms:
    """What a token grants. memory in bytes, whole MiB; ratio in percent."""

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


def encode_id(terms: Terms) -> str:
    packed = LAYOUT.pack(
        terms.lease,
        terms.expires,
        terms.memory // MIB,
        terms.device,
        terms.part,
        terms.ratio,
        HELD if terms.held else 0,
    )
    return base64.urlsafe_b64encode(packed).decode()


def decode_id(text: str) -> Terms | None:
    """None for what no controller writes."""
    if len(text) != ID_LENGTH or not text.isascii():
        return None
    try:
        packed = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    lease, expires, mebibytes, device, part, ratio, flags = LAYOUT.unpack(packed)
    if not 1 <= ratio <= 100 or flags & ~HELD or mebibytes == 0:
        return None
    return Terms(lease, part, device, mebibytes * MIB, ratio, expires, bool(flags & HELD))


def derive_key(secret: bytes, server: str, boot: str, epoch: int) -> bytes:
    """The key of one life of one server, from the controller's own secret."""
    message = b"\0".join((CONTEXT + b" key", server.encode(), boot.encode(), b"%d" % epoch))
    return hmac.new(secret, message, hashlib.sha256).digest()


def key_id(key: bytes | None) -> str:
    """Which key it is, for who knows it; empty for none."""
    return hmac.new(key, CONTEXT + b" key id", hashlib.sha256).hexdigest()[:16] if key else ""


def secret_of(key: bytes, token_id: str) -> bytes:
    """The SECRET as it stands in the token: 64 hex digits."""
    message = CONTEXT + b"\0" + token_id.encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest().encode()


def make_token(key: bytes, terms: Terms) -> str:
    token_id = encode_id(terms)
    return f"{token_id}.{secret_of(key, token_id).decode()}"


class LeaseTokens:
    """The server's side, a `Tokens`: which are good now. As long as no controller has sent a key, none is."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key: bytes | None = None
        self._in_use: dict[tuple[int, int], str] = {}  # -> the token's ID
        self._worthless: dict[
            tuple[int, int], int
        ] = {}  # spent or revoked -> when it expires anyway

    @property
    def key_id(self) -> str:
        return key_id(self._key)

    def set_key(self, key: bytes) -> None:
        self._key = key

    def find(self, token_id: str) -> Token | None:
        """The token if it is good now; else the log says why not."""
        terms = decode_id(token_id)
        if terms is None:
            return None
        problem = self.refusal(token_id)
        if problem is not None or self._key is None:
            log.info("token %s of lease %016x is refused: %s", token_id, terms.lease, problem)
            return None
        secret = secret_of(self._key, token_id)
        return Token(token_id, secret, terms.memory // MIB, terms.ratio)

    def refusal(self, token_id: str) -> str | None:
        """One clause; None when the token is good now."""
        terms = decode_id(token_id)
        if terms is None:
            return "it is no token of a controller"
        if self._key is None:
            return "this server has not heard from its controller yet"
        if self._clock() > terms.expires:
            return "it has expired"
        if terms.key in self._worthless:
            return "its lease has ended, or it was used before"
        return None

    def begin(self, token_id: str) -> str | None:
        """A session is to be admitted with it; a clause says why it can't be: somebody was quicker."""
        terms = decode_id(token_id)
        if terms is None:
            return None  # some other kind of token
        problem = self.refusal(token_id)
        if problem is None and terms.key in self._in_use:
            problem = "another program uses its lease now"
        if problem is None:
            self._in_use[terms.key] = token_id
        return problem

    def finish(self, token_id: str, used: bool) -> None:
        """That session is over. used: its client got as far as using it, not merely to try a transport."""
        terms = decode_id(token_id)
        if terms is None or self._in_use.get(terms.key) != token_id:
            return
        del self._in_use[terms.key]
        if used and not terms.held:
            self._worthless.setdefault(terms.key, terms.expires)

    def revoke(self, lease: int, part: int) -> None:
        """The controller takes it back; a session that uses it is the caller's to end."""
        # when it expires is not known here, only that tokens live for LIFE_MOST at most
        self._worthless[lease, part] = int(self._clock()) + LIFE_MOST

    def ended(self) -> list[tuple[int, int]]:
        """Leases under which nobody can come any more, as long as their tokens have not expired."""
        now = self._clock()
        for key in [k for k, expires in self._worthless.items() if now > expires]:
            del self._worthless[key]
        return [key for key in self._worthless if key not in self._in_use]


class TokensOf:
    """Several issuers of tokens as one."""

    def __init__(self, *issuers: Tokens) -> None:
        self._issuers = issuers

    def find(self, token_id: str) -> Token | None:
        return next(filter(None, (issuer.find(token_id) for issuer in self._issuers)), None)
