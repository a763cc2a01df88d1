# SPDX-License-Identifier: Apache-2.0
"""Who may do what.

Three roles have a key each: client, server, administrator (who may do everything). A role whose key is not configured
is open to this host alone, unless the controller was told that the network may be trusted. There always is an
administrator's key: without one configured it is made in the state folder, where only the controller's user reads it.
A lease has a key of its own, which whoever asked for it gets: with it the lease is renewed, resized and released.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

from .config import Config


class Role(Enum):
    CLIENT = "client"
    SERVER = "server"
    ADMINISTRATOR = "administrator"


class Denied(Exception):
    """unknown: nobody has proved who they are, so that a key would help; else the key is good for other things."""

    def __init__(self, reason: str, unknown: bool) -> None:
        super().__init__(reason)
        self.unknown = unknown


def is_here(peer: str, own: str) -> bool:
    """A loopback address, or both ends have the same one: the connection never leaves this host."""
    try:
        return peer == own or ip_address(peer.partition("%")[0]).is_loopback
    except ValueError:
        return False


def administrator_key(state_dir: Path) -> str:
    """The key in the state folder, made when it is not there."""
    path = state_dir / "administrator.key"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(fd, "w", encoding="ascii") as file:
        made = secrets.token_hex(32)
        file.write(made + "\n")
    return made


class Keys:
    def __init__(self, config: Config, secret: bytes) -> None:
        self._keys = {
            Role.CLIENT: config.client_key,
            Role.SERVER: config.server_key,
            Role.ADMINISTRATOR: config.administrator_key or administrator_key(config.state_dir),
        }
        self._insecure = config.insecure
        self._secret = secret

    def key(self, role: Role) -> str:
        return self._keys[role]

    def lease_key(self, lease: int) -> str:
        return hmac.new(self._secret, b"lease key %d" % lease, hashlib.sha256).hexdigest()

    def check(self, role: Role, bearer: str, here: bool, lease: int = 0) -> None:
        """Denied unless the bearer's key is one for this; with a lease, that lease's key is one as well."""
        wanted = self._keys[role]
        allowed = [wanted, self._keys[Role.ADMINISTRATOR]]
        if lease:
            allowed.append(self.lease_key(lease))
        if bearer:
            if _is_one_of(bearer, allowed):
                return
            known = _is_one_of(bearer, self._keys.values())
            raise Denied(f"this key is not the {role.value}'s", not known)
        if wanted:
            raise Denied(f"this needs the {role.value}'s key: Authorization: Bearer KEY", True)
        if not (here or self._insecure):
            raise Denied(
                f"no {role.value}'s key is configured, so only this host may do this: "
                f"set [authentication] {role.value}-key in controller.conf",
                True,
            )


def _is_one_of(bearer: str, keys: Iterable[str]) -> bool:
    """Each is compared, whatever the first ones gave, and in the same time."""
    found = [hmac.compare_digest(bearer.encode(), key.encode()) for key in keys if key]
    return any(found)
