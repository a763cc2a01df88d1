# SPDX-License-Identifier: Apache-2.0
"""Runs a server in the foreground and shows who uses it. Ctrl-C ends it and its clients' workers.

--bind, or BIND_ADDR and PORT in the environment, add a TCP socket for programs that cannot reach the
unix socket: ORION_SERVER=HOST:PORT there, and ORION_TRANSPORT=devshm where /dev/shm is shared.

On a terminal with rich installed the picture is live; otherwise each arrival and departure is
one line, which suits a log.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from orion_shm.cli import servers
from orion_shm.cli.amounts import format_bytes, format_seconds, parse_mebibytes
from orion_shm.cli.errors import EXIT_FAILED, CommandError
from orion_shm.cli.smi import clients_table, devices_table

if TYPE_CHECKING:
    from orion_server.embedded import Embedded

REFRESH_SECONDS = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion up`."""
    parser.add_argument(
        "--listen",
        metavar="ADDR",
        help="unix:PATH to listen at (default: ORION_SERVER, else this user's default socket)",
    )
    parser.add_argument("--bind", metavar="ADDR:PORT", help="listen there, too")
    parser.add_argument(
        "--insecure-tcp",
        action="store_true",
        help="send data of programs on other hosts unencrypted (default: refuse them)",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="a line ID.SECRET for each token, mode 0600; programs over TCP then need one in ORION_TOKEN "
        "(default: ORION_TOKEN_FILE, else none)",
    )
    parser.add_argument(
        "--require-token",
        action="store_true",
        help="programs on the unix socket need a token, too",
    )
    parser.add_argument(
        "--tls",
        choices=("auto", "off", "required"),
        help="encrypt what travels over TCP, by keys made of tokens: auto is for programs that want it "
        "(default: ORION_TLS, else auto)",
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda", "null"), default="cpu", help="default: cpu"
    )
    parser.add_argument(
        "--gmem",
        type=parse_mebibytes,
        metavar="N",
        help="device memory that one program may have, in MiB or as 512M, 2G",
    )
    parser.add_argument(
        "--share-mode",
        choices=("fair", "capped", "exclusive"),
        help="how programs share the device's time (default: ORION_SHARE_MODE, else fair)",
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of a live picture")


def execute(options: argparse.Namespace) -> int:
    """Starts the server, shows it until a signal comes, ends it."""
    if options.insecure_tcp:
        os.environ["ORION_INSECURE_TCP"] = "1"  # the server inherits it
    address = options.listen or os.environ.get("ORION_SERVER") or default_address()
    with (
        stop_on_signals() as stop,
        servers.start_private(
            options.device,
            options.gmem,
            address,
            options.bind or bind_of(os.environ),
            options=server_options(options),
        ) as server,
    ):
        print(
            f"orion: {servers.private_devices(server)[0]['name']} serves at {server.address}; Ctrl-C ends it\n"
            f"orion: use it from another terminal: ORION_SERVER={server.address} orion run -- CMD",
            file=sys.stderr,
            flush=True,
        )
        live = not options.plain and sys.stdout.isatty() and show_live(server, stop)
        if not live:
            show_lines(server, stop)
        totals = server.stop()["totals"]
    if totals:
        print(
            f"orion: ended after {totals['sessions']} programs, {totals['calls']} calls, "
            f"{totals['kernels']} kernels, {format_bytes(totals['bytes'])} copied",
            file=sys.stderr,
        )
    return 0


def server_options(options: argparse.Namespace) -> list[str]:
    """What goes to the server as it is: a private one follows no environment of its own."""
    token_file = options.token_file or os.environ.get("ORION_TOKEN_FILE")
    more = ["--token-file", token_file] if token_file else []
    more += ["--require-token"] if options.require_token else []
    share_mode = options.share_mode or os.environ.get("ORION_SHARE_MODE")
    more += ["--share-mode", share_mode] if share_mode else []
    return [*more, *(["--tls", options.tls] if options.tls else [])]


def bind_of(environment: Mapping[str, str]) -> str | None:
    """What BIND_ADDR and PORT say together; None when neither is set."""
    address, port = environment.get("BIND_ADDR"), environment.get("PORT")
    if address is None and port is None:
        return None
    return f"{address or '127.0.0.1'}:{port}" if port else address


def default_address() -> str:
    """Where this user's server listens when nobody says otherwise."""
    try:
        from orion_server import paths
    except ImportError as error:
        raise CommandError(
            f"the server's package cannot be loaded ({error}); {servers.REMEDY}"
        ) from None
    return str(paths.default_address())


class Stop:
    """Set by a signal; waiting for it is the pause between two pictures."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.asked = False

    def set(self, _number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self.asked = True
        os.write(self.write_end, b"x")

    def wait(self, seconds: float) -> bool:
        """Waits until a signal has come or the time is over; True when it has come."""
        import select

        if not self.asked:
            select.select([self.read_end], [], [], seconds)
        return self.asked


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Turns SIGINT and SIGTERM into Stop while the server runs."""
    stop = Stop()
    before = {number: signal.signal(number, stop.set) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_live(server: Embedded, stop: Stop) -> bool:
    """The live picture; False when rich is not installed."""
    try:
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        return False

    def picture() -> Group:
        status = with_server(status_of(server))
        clients = clients_table(status["clients"]).rich()
        uptime = format_seconds(float(status["server"]["uptime"]))
        counted = status["totals"]
        line = f"up {uptime}, {counted['sessions']} programs, {counted['kernels']} kernels so far"
        below = clients if status["clients"] else Text("waiting for programs")
        return Group(devices_table(status["devices"]).rich(), below, Text(line, style="dim"))  # type: ignore[arg-type]

    with Live(picture(), auto_refresh=False) as live:
        while not stop.wait(REFRESH_SECONDS):
            live.update(picture(), refresh=True)
    return True


def show_lines(server: Embedded, stop: Stop) -> None:
    """One line for each program that comes or goes."""
    known: dict[int, dict[str, Any]] = {}
    while not stop.wait(REFRESH_SECONDS):
        clients = status_of(server)["clients"]
        now = {client["session"]: client for client in clients if client["worker_pid"]}
        for session in now.keys() - known.keys():
            client = now[session]
            print(
                f"orion: program {client['pid']} ({client['command']}) connected by "
                f"{client['transport']}, worker {client['worker_pid']}",
                flush=True,
            )
        for session in known.keys() - now.keys():
            client = known[session]
            print(f"orion: program {client['pid']} ({client['command']}) has gone", flush=True)
        known = now


def status_of(server: Embedded) -> dict[str, Any]:
    """The server's status; CommandError when it has died."""
    from orion_server.errors import OrionServerError

    try:
        return server.status()
    except OrionServerError as error:
        raise CommandError(f"{error}; see the messages above", EXIT_FAILED) from None


def with_server(status: dict[str, Any]) -> dict[str, Any]:
    """Adds the server's address to its devices and clients, as `orion smi` does."""
    from orion_shm.cli.smi import merge

    merged = merge([status])
    return {**status, "devices": merged["devices"], "clients": merged["clients"]}
