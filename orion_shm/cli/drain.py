# SPDX-License-Identifier: Apache-2.0
"""Lets no new program onto a server and waits until those that are there have ended.

They run on undisturbed. With --stop the server ends after the last of them; --undo lets programs in again.
"""

from __future__ import annotations

import argparse
import time

from orion_shm.cli import servers
from orion_shm.cli.errors import EXIT_FAILED, CommandError

LOOK_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion drain`."""
    parser.add_argument("--server", metavar="ADDR", help="this one: unix:PATH")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--stop", action="store_true", help="end the server after the last program")
    what.add_argument("--undo", action="store_true", help="take programs again")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="S",
        help="wait at most so long (default: as long as it takes); it goes on draining either way",
    )


def execute(options: argparse.Namespace) -> int:
    """Exit code 1 when programs are left after --timeout."""
    address = servers.one_address(options.server)
    answer = servers.ask(address, {"op": "drain", "stop": options.stop, "undo": options.undo})
    if options.undo:
        print(f"{address} takes programs again")
        return 0
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    left = int(answer["clients"])
    print(f"{address} takes no new programs; {left} still there", flush=True)
    while left and (deadline is None or time.monotonic() < deadline):
        time.sleep(LOOK_SECONDS)
        try:
            left = len(servers.ask_status(address)["clients"])
        except CommandError:
            if options.stop:
                left = 0  # it has ended
            else:
                raise
    if left:
        print(f"{left} still there after {options.timeout:g} seconds")
        return EXIT_FAILED
    print("none is left" + (", the server ends" if options.stop else ""))
    return 0
