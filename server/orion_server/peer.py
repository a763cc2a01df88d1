# SPDX-License-Identifier: Apache-2.0
"""Who is at the other end of a TCP connection, as far as the kernel knows."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from ipaddress import ip_address
from pathlib import Path

TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
ESTABLISHED = "01"
KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 5),
    (socket.TCP_KEEPINTVL, 2),
    (socket.TCP_KEEPCNT, 3),
    (socket.TCP_USER_TIMEOUT, 60_000),  # milliseconds; a client that is stopped gets so long
)


def set_up(client: socket.socket) -> None:
    """Small answers go at once, and a client whose host has vanished is noticed."""
    with contextlib.suppress(OSError):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            client.setsockopt(socket.IPPROTO_TCP, option, value)


def is_here(client: socket.socket) -> bool:
    """A loopback address, or both ends have the same one: the connection never leaves this host."""
    theirs = str(client.getpeername()[0])
    return theirs == client.getsockname()[0] or ip_address(theirs.partition("%")[0]).is_loopback


def user_of(client: socket.socket) -> int | None:
    """The user at the other end; None when it is on another host, or in another network namespace."""
    if not is_here(client):
        return None
    theirs, ours = client.getpeername(), client.getsockname()
    wanted = [_entry(client.family, *theirs[:2]), _entry(client.family, *ours[:2]), ESTABLISHED]
    with contextlib.suppress(OSError, ValueError):
        for line in TABLES[client.family].read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[1:4] == wanted:
                return int(fields[7])
    return None


def _entry(family: int, address: str, port: int) -> str:
    """An address as the kernel's table has it: words in the processor's order, in hex."""
    raw = socket.inet_pton(family, address.partition("%")[0])
    words = struct.unpack(f">{len(raw) // 4}I", raw)
    text = "".join(f"{int.from_bytes(w.to_bytes(4, 'big'), sys.byteorder):08X}" for w in words)
    return f"{text}:{port:04X}"
