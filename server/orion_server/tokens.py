# SPDX-License-Identifier: Apache-2.0
"""Tokens: which ones there are, and the exchange by which a client and this server show each other that they know one.

`Tokens` is what the server asks; a file of them is one implementation. The codes are those of csrc/wire/token.h.
"""

from __future__ import annotations

import hmac
import logging
import os
import re
import secrets
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .errors import OrionServerError, ProtocolError
from .wire import NOTICE, NOTICE_ANSWER, NOTICE_CHALLENGE, NOTICE_MAGIC, PROOF_BYTES, WELCOME

log = logging.getLogger("orion.server")

NONCE_BYTES = 32
FILE_MOST = 1 << 20
TOKEN = re.compile(r"([A-Za-z0-9_-]{1,63})\.([!-~]{16,255})")
PROVED = struct.Struct("<32s32s")  # nonce and code, in the last field of a notice


@dataclass(frozen=True)
class Token:
    """One token and the limits of the lease that it is good for; 0: no limit of its own."""

    id: str
    secret: bytes = field(repr=False)
    memory_mib: int = 0
    ratio: int = 0


class Tokens(Protocol):
    """Whoever issues tokens: asked once for each hello that names one; never slow, never raises."""

    def find(self, token_id: str) -> Token | None:
        """The token of that ID if it is valid now."""


class TokenFile:
    """A file with a line ID.SECRET for each token; read again when it has changed.

    Raises OrionServerError at the start when the file cannot be read, says something else, or when others may read it.
    Later it is logged, and the tokens known before stay valid.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = self._look()
        self._tokens = self._read()
        self._problem = ""

    def find(self, token_id: str) -> Token | None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._tokens, self._stamp, self._problem = self._read(), stamp, ""
        except OrionServerError as e:
            if str(e) != self._problem:  # once is enough
                self._problem = str(e)
                log.error("%s; the tokens known before stay valid", e)
        return self._tokens.get(token_id)

    def _look(self) -> tuple[int, int, int]:
        try:
            status = self.path.stat()
        except OSError as e:
            raise OrionServerError(f"cannot read the tokens in {self.path}: {e.strerror}") from e
        if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_MOST:
            raise OrionServerError(f"{self.path} is no file of tokens: a line ID.SECRET for each")
        if status.st_mode & 0o077 or status.st_uid not in (os.geteuid(), 0):
            raise OrionServerError(
                f"others can read the tokens in {self.path}: chown it to the server's user and chmod 600 it"
            )
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _read(self) -> dict[str, Token]:
        try:
            text = self.path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as e:
            raise OrionServerError(f"cannot read the tokens in {self.path}: {e}") from e
        tokens: dict[str, Token] = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = TOKEN.fullmatch(line.strip())
            if match is None or match[1] in tokens:
                raise OrionServerError(
                    f"line {number} of {self.path} is no token of its own: write ID.SECRET, the ID of at most 63 "
                    "letters, digits, - and _, the secret of 16 to 255 printable characters"
                )
            tokens[match[1]] = Token(match[1], match[2].encode())
        return tokens


def make_token(token_id: str) -> str:
    """A new ID.SECRET."""
    return f"{token_id}.{secrets.token_urlsafe(32)}"


class Exchange:
    """A challenge, and what follows from its answer. One for each connection: its nonce is good for nothing else.

    An unknown ID is challenged like a known one, so that nobody learns from it which ones there are.
    """

    def __init__(self, token: Token | None, hello: bytes) -> None:
        self.token = token
        self._secret = token.secret if token is not None else secrets.token_bytes(32)
        self._hello = hello
        self._server_nonce = secrets.token_bytes(NONCE_BYTES)
        self._client_nonce = b""

    def challenge(self) -> bytes:
        return NOTICE.pack(
            NOTICE_MAGIC, NOTICE.size, NOTICE_CHALLENGE, 0, 0, 0, 0, self._server_nonce
        )

    def accepts(self, answer: bytes) -> bool:
        """Is that notice the client's answer to the challenge, and right? ProtocolError when it is no answer."""
        magic, size, kind, _, _, _, _, proved = NOTICE.unpack(answer)
        if (magic, size, kind) != (NOTICE_MAGIC, NOTICE.size, NOTICE_ANSWER):
            raise ProtocolError("what came after the challenge is no answer to it")
        self._client_nonce, code = PROVED.unpack_from(proved)
        right = hmac.compare_digest(code, self._code("orion 1 answer"))
        return right and self.token is not None

    def seal(self, welcome: bytes) -> bytes:
        """The encoded welcome with the server's proof at its end."""
        assert len(welcome) == WELCOME.size
        body = welcome[:-PROOF_BYTES]
        return body + self._code("orion 1 proof", body)

    def seal_redirect(self, redirect: bytes) -> bytes:
        """The same for a controller's encoded redirect."""
        body = redirect[:-PROOF_BYTES]
        return body + self._code("orion 1 redirect", body)

    def key(self) -> bytes:
        """Of this session alone; the worker gets it instead of the secret."""
        return self._code("orion 1 session key")

    def _code(self, purpose: str, rest: bytes = b"") -> bytes:
        message = purpose.encode() + b"\0" + self._server_nonce + self._client_nonce + self._hello
        return hmac.digest(self._secret, message + rest, "sha256")


def seal_epitaph(key: bytes, frame: bytes) -> bytes:
    """The last frame of an encrypted session, from us instead of from the worker that could have encrypted it."""
    return frame + hmac.digest(key, b"orion 1 epitaph\0" + frame, "sha256")
