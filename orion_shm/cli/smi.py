# SPDX-License-Identifier: Apache-2.0
"""Shows the devices of running servers and the programs that use them.

Asks the server that --server or ORION_SERVER names; without one, the default server and all
private servers of this user. docs/smi-schema.md describes the JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from orion_shm.cli import servers
from orion_shm.cli.amounts import format_bytes, format_seconds
from orion_shm.cli.errors import EXIT_FAILED, CommandError
from orion_shm.cli.tables import RIGHT, Table

SCHEMA_VERSION = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion smi`."""
    parser.add_argument("--server", metavar="ADDR", help="ask only this one: unix:PATH, HOST:PORT")
    parser.add_argument("--json", action="store_true", help="print JSON (docs/smi-schema.md)")
    parser.add_argument(
        "--timeout", type=float, default=2.0, metavar="S", help="seconds to wait for an answer"
    )


def execute(options: argparse.Namespace) -> int:
    """Prints the table or the JSON; exit code 1 when no server runs."""
    merged = merge(collect(servers.configured_address(options.server), options.timeout))
    if options.json:
        print(json.dumps(merged, indent=2))
        return 0
    devices_table(merged["devices"]).print()
    print()
    if merged["clients"]:
        clients_table(merged["clients"], time.time()).print()
    else:
        print("No program uses these devices.")
    return 0


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
    table = Table(("#", RIGHT), "device", "server", ("memory", RIGHT), ("programs", RIGHT))
    for device in devices:
        memory = f"{format_bytes(device['memory_used'])} / {format_bytes(device['memory_total'])}"
        table.add(device["index"], device["name"], device["server"], memory, device["clients"])
    return table


def clients_table(clients: Sequence[dict[str, Any]], now: float) -> Table:
    """One row for each program."""
    table = Table(
        ("pid", RIGHT),
        ("worker", RIGHT),
        "program",
        ("#", RIGHT),
        ("memory", RIGHT),
        ("limit", RIGHT),
        ("calls", RIGHT),
        ("kernels", RIGHT),
        ("copied", RIGHT),
        "transport",
        ("since", RIGHT),
    )
    for client in clients:
        table.add(
            client["pid"],
            client["worker_pid"],
            client["command"][:40],
            client["device"],
            format_bytes(client["memory_used"]),
            format_bytes(client["memory_limit"]),
            client["calls"],
            client["kernels"],
            format_bytes(client["bytes"]),
            client["transport"],
            format_seconds(max(0.0, now - client["connected"])),
        )
    return table
