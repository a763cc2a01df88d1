# SPDX-License-Identifier: Apache-2.0
"""Finding a server, asking it for its status, starting a private one.

The server's package is imported inside the functions: `orion --help` and `orion check` must work
where it cannot be loaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orion_shm.cli.errors import CommandError

if TYPE_CHECKING:
    from orion_server.embedded import Embedded

Status = dict[str, Any]
MOUNTED_SOCKET = "/run/orion/orion.sock"  # the same as in client/wishes.h
REMEDY = "install it with: pip install 'orion-vgpu[server,cpu]'"


def configured_address(named: str | None) -> str | None:
    """The server that --server or ORION_SERVER names; None when neither does."""
    return named or os.environ.get("ORION_SERVER") or None


def mounted_address() -> str | None:
    """The server whose socket is where libcuda.so.1 looks when ORION_SERVER is not set; None when none answers."""
    address = f"unix:{MOUNTED_SOCKET}"
    if not os.path.exists(MOUNTED_SOCKET):
        return None
    return address if answers(address) else None


def answers(address: str) -> bool:
    """Whether a server gives its status."""
    try:
        return bool(ask_status(address))
    except CommandError:
        return False


def running_addresses() -> list[str]:
    """The default server and the private ones that run for this user."""
    try:
        from orion_server import paths
    except ImportError as error:
        raise CommandError(f"the server's package cannot be loaded ({error}); {REMEDY}") from None
    return list(paths.running_addresses())


def ask_status(address: str, timeout: float = 2.0) -> Status:
    """What the server at `address` says of itself; CommandError when it does not answer."""
    try:
        from orion_server import status
    except ImportError as error:
        raise CommandError(f"the server's package cannot be loaded ({error}); {REMEDY}") from None
    try:
        return dict(status.query(address, timeout=timeout))
    except Exception as error:
        raise CommandError(
            f"no server answers at {address} ({error}); start one with `orion up --listen {address}`"
        ) from None


def ask(address: str, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to an administrator's request; CommandError with the server's own words when it refuses."""
    try:
        from orion_server import status
    except ImportError as error:
        raise CommandError(f"the server's package cannot be loaded ({error}); {REMEDY}") from None
    try:
        return dict(status.query(address, request=request))
    except Exception as error:
        raise CommandError(str(error)) from None


def one_address(named: str | None) -> str:
    """The server that is named, or the only one that runs here; CommandError when that is not one."""
    address = configured_address(named)
    if address is not None:
        return address
    running = running_addresses()
    if not running:
        raise CommandError("no server runs here; start one with `orion up`")
    if len(running) > 1:
        raise CommandError(f"several servers run here ({', '.join(running)}): name one by --server")
    return running[0]


def device_names(status: Status) -> str:
    """The names of a server's devices, for people."""
    return ", ".join(str(device["name"]) for device in status["devices"]) or "no device"


def private_devices(server: Embedded) -> list[dict[str, Any]]:
    """The devices of a private server; waits until it is ready, CommandError when it cannot be."""
    from orion_server.errors import OrionServerError

    try:
        return server.devices
    except OrionServerError as error:
        raise CommandError(str(error)) from None


def bound_address(server: Embedded) -> str:
    """HOST:PORT of a private server that was started with `bind`."""
    bound = server.bound
    if bound is None:
        raise CommandError("the private server does not listen on TCP")
    return bound


def chosen_device(device: str) -> str:
    """`auto` as the device that this machine has."""
    try:
        from orion_server import drivers
    except ImportError as error:
        raise CommandError(f"the server's package cannot be loaded ({error}); {REMEDY}") from None
    return drivers.choose(device)


def name_ucx(environment: dict[str, str]) -> None:
    """Tells a program where the UCX of PyPI is, if it is installed; the system's is found without."""
    try:
        from orion_server import ucx_wheel
    except ImportError:
        return
    ucx_wheel.name_it(environment)


def start_private(
    device: str,
    gmem_mib: int | None,
    address: str | None = None,
    bind: str | None = None,
    own_token: bool = False,
    options: Sequence[str] = (),
) -> Embedded:
    """Starts a server that ends with this process; CommandError says what is missing."""
    try:
        from orion_server import embedded
        from orion_server.errors import OrionServerError
    except ImportError as error:
        raise CommandError(f"the server's package cannot be loaded ({error}); {REMEDY}") from None
    try:
        return embedded.start(
            device=device,
            gmem_mib=gmem_mib,
            address=address,
            bind=bind,
            own_token=own_token,
            options=options,
        )
    except OrionServerError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"the server could not start: {error}") from None
