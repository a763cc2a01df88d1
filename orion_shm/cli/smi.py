# SPDX-License-Identifier: Apache-2.0
"""Shows the devices of running servers, the programs that use them, and what each uses of them.

Asks the server that --server or ORION_SERVER names; without one, the default server and all
private servers of this user. docs/smi-schema.md describes the JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from orion_shm.cli import servers
from orion_shm.cli.amounts import format_bytes, format_part, format_seconds
from orion_shm.cli.errors import EXIT_FAILED, CommandError
from orion_shm.cli.tables import RIGHT, Table

SCHEMA_VERSION = 1
CLEAR_SCREEN = "\033[H\033[2J"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion smi`."""
    parser.add_argument("--server", metavar="ADDR", help="ask only this one: unix:PATH, HOST:PORT")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/smi-schema.md)")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=parse_interval,
        const=1.0,
        metavar="S",
        help="again and again, every S seconds (1), until Ctrl-C; with --json one document a line",
    )
    parser.add_argument(
        "--timeout", type=float, default=2.0, metavar="S", help="seconds to wait for an answer"
    )


def execute(options: argparse.Namespace) -> int:
    """Prints the table or the JSON; exit code 1 when no server runs."""
    named = servers.configured_address(options.server)
    if options.watch is None:
        show(merge(collect(named, options.timeout)), options.json)
        return 0
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            merged = merge(collect(named, options.timeout))
            if options.json:
                print(json.dumps(merged), flush=True)
            else:
                if sys.stdout.isatty():
                    print(CLEAR_SCREEN, end="")
                show(merged, False)
                print(flush=True)
            time.sleep(options.watch)
    return 0


def parse_interval(text: str) -> float:
    """Seconds between two pictures, 0.1 to 3600."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 3600")
    return seconds


def show(merged: dict[str, Any], as_json: bool) -> None:
    """Prints one picture."""
    if as_json:
        print(json.dumps(merged, indent=2))
        return
    devices_table(merged["devices"]).print()
    print()
    if merged["clients"]:
        clients_table(merged["clients"]).print()
    else:
        print("No program uses these devices.")


def collect(named: str | None, timeout: float) -> list[dict[str, Any]]:
    """The status of the named server, or of all that run for this user."""
    if named is not None:
        return [servers.ask_status(named, timeout)]
    found = []
    for address in servers.running_addresses():
        try:
            found.append(servers.ask_status(address, timeout))
        except CommandError:  # it ended between the search and the question
            continue
    if not found:
        raise CommandError(
            "no server runs here; start one with `orion up`, or run a program with `orion run`",
            EXIT_FAILED,
        )
    return found


def merge(statuses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One document of all servers' answers; each device and client says whose it is."""
    merged: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "servers": [],
        "devices": [],
        "clients": [],
    }
    for status in statuses:
        address = status["server"]["address"]
        merged["servers"].append(status["server"])
        for kind in ("devices", "clients"):
            merged[kind] += [{"server": address, **entry} for entry in status[kind]]
    return merged


def devices_table(devices: Sequence[dict[str, Any]]) -> Table:
    """One row for each device."""
    table = Table(
        ("#", RIGHT),
        "device",
        "server",
        ("memory", RIGHT),
        ("busy", RIGHT),
        "sharing",
        ("programs", RIGHT),
    )
    for device in devices:
        memory = f"{format_bytes(device['memory_used'])} / {format_bytes(device['memory_total'])}"
        table.add(
            device["index"],
            device["name"],
            device["server"],
            memory,
            format_part(device.get("busy")),
            device.get("share_mode", "-"),
            device["clients"],
        )
    return table


def clients_table(clients: Sequence[dict[str, Any]]) -> Table:
    """One row for each program."""
    table = Table(
        ("session", RIGHT),
        ("pid", RIGHT),
        ("host pid", RIGHT),
        ("worker", RIGHT),
        "program",
        ("#", RIGHT),
        ("memory", RIGHT),
        ("limit", RIGHT),
        ("busy", RIGHT),
        ("share", RIGHT),
        ("calls", RIGHT),
        ("kernels", RIGHT),
        ("copied", RIGHT),
        "transport",
        ("since", RIGHT),
    )
    for client in clients:
        table.add(
            client["session"],
            client["pid"],
            client.get("host_pid") or "-",
            client["worker_pid"] or "-",
            client["command"][:40],
            client["device"],
            format_bytes(client["memory_used"]),
            format_bytes(client["memory_limit"]),
            format_part(client.get("busy")),
            format_part(client.get("share")),
            client["calls"],
            client["kernels"],
            format_bytes(client["bytes"]),
            client["transport"],
            format_seconds(client["seconds"]),
        )
    return table
