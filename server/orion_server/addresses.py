# SPDX-License-Identifier: Apache-2.0
"""Addresses of this host: of an interface by its name, and the one that containers on it are likely to reach."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Mapping

from .errors import OrionServerError

SIOCGIFADDR = 0x8915
BRIDGE = "172.17.0.1"  # docker0's, where there is one


def of_interface(name: str) -> str | None:
    """Its IPv4 address; None when it has none, or does not exist."""
    request = struct.pack("256s", name.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def of_net(name: str, what: str) -> str:
    found = of_interface(name)
    if found is None:
        known = ", ".join(n for _, n in socket.if_nameindex() if of_interface(n))
        raise OrionServerError(
            f"{what}={name!r} is no network interface with an IPv4 address; there are {known}"
        )
    return found


def automatic(environment: Mapping[str, str], what: str) -> str:
    """The container bridge's address if this host has one, else the host's own as Kubernetes tells it."""
    if BRIDGE in {of_interface(name) for _, name in socket.if_nameindex()}:
        return BRIDGE
    if environment.get("HOST_IP"):
        return environment["HOST_IP"]
    raise OrionServerError(
        f"{what}=auto finds no address: this host has no {BRIDGE} (docker0), and HOST_IP (in Kubernetes "
        "status.hostIP by the downward API) is not set; name an address"
    )
