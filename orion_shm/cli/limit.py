# SPDX-License-Identifier: Apache-2.0
"""Changes what a running program may use of its device. `orion smi` has the numbers of the sessions.

A lower memory limit takes nothing away: new allocations fail until the program has freed enough.
docs/sharing.md says what ratio and mode mean.
"""

from __future__ import annotations

import argparse
from typing import Any

from orion_shm.cli import servers
from orion_shm.cli.amounts import MIB, format_bytes, parse_mebibytes, parse_percent
from orion_shm.cli.errors import CommandError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion limit`."""
    parser.add_argument("session", type=int, metavar="SESSION", help="its number in `orion smi`")
    parser.add_argument("--server", metavar="ADDR", help="of this server: unix:PATH")
    parser.add_argument(
        "--gmem", type=parse_mebibytes, metavar="N", help="device memory, in MiB or as 512M, 2G"
    )
    parser.add_argument(
        "--ratio", type=parse_percent, metavar="P", help="share of the device's time in percent"
    )
    parser.add_argument(
        "--mode", choices=("fair", "capped", "exclusive"), help="how its share is enforced"
    )


def execute(options: argparse.Namespace) -> int:
    """Asks the server; the new limits are in force when this returns."""
    request: dict[str, Any] = {"op": "limit", "session": options.session}
    if options.gmem is not None:
        request["memory"] = options.gmem * MIB
    if options.ratio is not None:
        request["ratio"] = options.ratio
    if options.mode is not None:
        request["mode"] = options.mode
    if len(request) == 2:
        raise CommandError("nothing to change: name --gmem, --ratio or --mode")
    now = servers.ask(servers.one_address(options.server), request)
    print(
        f"session {now['session']}: {format_bytes(now['memory_limit'])}, "
        f"{now['ratio']} % ({now['mode']})"
    )
    return 0
