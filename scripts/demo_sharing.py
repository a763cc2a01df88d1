# SPDX-License-Identifier: Apache-2.0
"""Three programs with different quotas and shares on one CPU device, and whether the limits hold.

A controller leases the device's vGPUs to them. Each takes more memory than it may have and computes without end. The
table shows what was asked for and what the server measured: first with all three, then after one has ended, when the
other two get what it left. Where there is a browser, a picture shows the controller's dashboard at that time.
Exit code 0 only if every limit held, at the server and in what the controller knows.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import demo_controller
from orion_server import embedded

import orion_shm
from orion_shm.cli.amounts import format_bytes, format_part
from orion_shm.cli.tables import RIGHT, Table

ROOT = Path(__file__).resolve().parent.parent
BUSY = ROOT / "examples" / "busy.py"
PICTURE = ROOT / "build" / "dashboard" / "sharing.png"
MIB = 1 << 20
DEVICE_MIB = 640
START_SECONDS = 60.0
PASSED, FAILED = "PASSED", "FAILED"


@dataclass
class Client:
    """One of the programs."""

    name: str
    gmem_mib: int
    ratio: int
    process: subprocess.Popen[str] | None = None
    held: int = 0
    refused: bool = False

    def start(self, controller: str, seconds: float) -> None:
        """Asks the controller for a vGPU, and the device for 128 MiB more than it may have."""
        library = str(orion_shm.library_directory())
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ORION_")},
            "ORION_CONTROLLER": controller,
            "ORION_GMEM": str(self.gmem_mib),
            "ORION_RATIO": str(self.ratio),
            "LD_LIBRARY_PATH": f"{library}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        }
        command = [sys.executable, str(BUSY), "--memory", str(self.gmem_mib + 128)]
        command += ["--seconds", str(seconds), "--name", self.name]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def await_memory(self) -> None:
        """Until it has taken what it gets."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"demo: {self.name} ended with code {self.process.wait()}; see above")
        said = json.loads(line)
        self.held, self.refused = said["held"], said["refused"]

    def end(self) -> None:
        """By force: how it ends is not what is shown."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


def rows_of(server: embedded.Embedded, clients: list[Client]) -> dict[str, dict[str, Any]]:
    """What the server says of each."""
    rows = {row["pid"]: row for row in server.status()["clients"]}
    return {c.name: rows[c.process.pid] for c in clients if c.process and c.process.pid in rows}


def measure(
    server: embedded.Embedded, clients: list[Client], seconds: float
) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Shares of the device time that all used together, until that is `seconds`; and the last rows."""
    before = rows_of(server, clients)
    deadline = time.monotonic() + START_SECONDS + 20 * seconds
    while True:
        time.sleep(0.1)
        rows = rows_of(server, clients)
        used = {n: rows[n]["busy_seconds"] - before[n]["busy_seconds"] for n in rows}
        total = sum(used.values())
        if total >= seconds or time.monotonic() > deadline:
            return {name: value / (total or 1.0) for name, value in used.items()}, rows


def show(
    title: str,
    clients: list[Client],
    got: dict[str, float],
    rows: dict[str, dict[str, Any]],
    tolerance: float,
) -> bool:
    """Prints the table; whether all limits hold."""
    table = Table(
        "program",
        ("quota", RIGHT),
        ("holds", RIGHT),
        "more",
        ("ratio", RIGHT),
        ("due", RIGHT),
        ("measured", RIGHT),
        "result",
        title=title,
    )
    weights = sum(c.ratio for c in clients)
    all_good = True
    for client in clients:
        row, due = rows[client.name], client.ratio / weights
        good = (
            client.refused
            and client.held <= row["memory_used"] <= row["memory_limit"] == client.gmem_mib * MIB
            and abs(got[client.name] - due) <= tolerance
        )
        all_good &= good
        table.add(
            client.name,
            format_bytes(row["memory_limit"]),
            format_bytes(row["memory_used"]),
            "refused" if client.refused else "given",
            f"{client.ratio} %",
            format_part(due),
            f"{100 * got[client.name]:.1f} %",
            PASSED if good else FAILED,
        )
    table.print()
    print()
    return all_good


def known(controller: str, clients: list[Client]) -> bool:
    """Whether the controller says of each what its server enforces; it hears of it within a second."""
    deadline = time.monotonic() + demo_controller.START_SECONDS
    wanted = {(c.process.pid, c.gmem_mib * MIB, c.ratio) for c in clients if c.process}
    while time.monotonic() < deadline:
        now = demo_controller.overview(controller)
        if wanted == {(c["pid"], c["memory_limit"], c["ratio"]) for c in now["clients"]}:
            (device,) = now["devices"]
            print(
                f"demo: the controller has leased {device['vgpus_leased']} of {device['vgpus']} vGPUs, "
                f"{format_bytes(device['memory_leased'])} and {device['ratio_leased']:.0f} % of the time"
            )
            return True
        time.sleep(0.1)
    print(f"demo: FAILED: the controller knows {now['clients']}")
    return False


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="device time to measure over, each time"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.05, help="how far a share may be off (0.05)"
    )
    parser.add_argument("--picture", type=Path, default=PICTURE, help="of the dashboard")
    options = parser.parse_args()
    tolerance = options.tolerance
    clients = [
        Client("small", 96, 20),
        Client("middle", 160, 30),
        Client("large", 320, 50),
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        demo_controller.running(Path(folder, "controller")) as controller,
        embedded.start(
            device="cpu",
            gmem_mib=DEVICE_MIB,
            address=f"unix:{folder}/s.sock",
            options=("--threads", "1", "--vgpu", "4", "--controller", controller),
        ) as server,
    ):
        print(
            f"demo: one {server.devices[0]['name']} with one thread and {DEVICE_MIB} MiB, leased by a controller; "
            "three programs want more memory than they may have, and all of the time\n",
            flush=True,
        )
        try:
            demo_controller.await_server(controller)
            for client in clients:
                client.start(controller, 3600)
            for client in clients:
                client.await_memory()
            measure(server, clients, 0.3)
            good = show("all three", clients, *measure(server, clients, options.seconds), tolerance)
            good &= known(controller, clients)
            if options.picture is not None:
                names = [client.name for client in clients]
                print(f"demo: {demo_controller.photograph(controller, options.picture, names)}\n")
            clients.pop().end()
            while len(rows_of(server, clients)) != len(server.status()["clients"]):
                time.sleep(0.02)
            measure(server, clients, 0.3)
            good &= show(
                "after the large one has ended",
                clients,
                *measure(server, clients, options.seconds),
                tolerance,
            )
            device = server.status()["devices"][0]
            granted = int(device["memory_granted"])
            good &= granted <= DEVICE_MIB * MIB
            print(
                f"demo: {format_bytes(granted)} of {format_bytes(device['memory_total'])} are given out; "
                "what the large one held is free"
            )
        finally:
            for client in clients:
                client.end()
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
