# SPDX-License-Identifier: Apache-2.0
"""The `orion-server` command."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from . import server_settings, settings
from .config import Config
from .errors import OrionServerError
from .settings import Value


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="orion-server",
        description="Serves virtual GPUs of this host: one sandboxed worker process for each client.",
    )
    p.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"settings file (default: {server_settings.DEFAULT_FILE}, if it exists)",
    )
    p.add_argument(
        "--check", action="store_true", help="check configuration and device, print both, and exit"
    )
    p.add_argument(
        "--check-config",
        action="store_true",
        help="print each setting and where it came from, and exit",
    )
    p.add_argument("--json", action="store_true", help="with --check-config: as JSON")
    p.add_argument(
        "--witness", metavar="FD", help=argparse.SUPPRESS
    )  # a private server's tie to its parent
    settings.add_flags(p, server_settings.SETTINGS)
    return p


def check(config: Config) -> None:
    """Everything that can be known before a client comes."""
    from .embedded import check_device

    check_device(config.device)
    from .worker import warm_up

    try:
        info = warm_up(config.device, config.memory, config.threads)
    except OSError as e:
        raise OrionServerError(str(e)) from e
    print(
        json.dumps(
            {
                "socket": os.fspath(config.socket),
                "bind": f"{config.bind[0]}:{config.bind[1]}" if config.bind else None,
                "controller": config.controller or None,
                "device": config.device,
                "name": info["name"],
                "memory": config.memory,
                "vgpu": config.vgpu,
                "share_mode": config.sharing.mode.value,
                "lease_memory": config.sharing.lease_memory,
                "memory_overcommit": config.sharing.overcommit,
                "state_dir": os.fspath(config.state_dir),
            },
            indent=2,
        )
    )


def serve(config: Config, witness: socket.socket | None) -> None:
    from . import supervisor, ucx_wheel

    ucx_wheel.name_it(os.environ)  # for workers, should a client want UCX

    def ready(started: supervisor.Supervisor) -> None:
        logging.getLogger("orion.server").info("listening on %s", config.socket)
        if witness is not None:
            witness.sendall(b'{"ready": true}\n')
            started.loop.watch(witness, started.stop)

    supervisor.run(config, ready)


def log_as_set(values: Mapping[str, Value], private: bool) -> None:
    level = str(values["log_level"].value).upper()
    if private and values["log_level"].origin == "default":
        level = "ERROR"
    handlers: list[logging.Handler] = []
    if values["log_to_screen"].value:
        handlers.append(logging.StreamHandler(sys.stderr))
    if values["log_to_file"].value:
        path: Path = values["log_file"].value
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handlers.append(logging.FileHandler(path))
        except OSError as e:
            raise OrionServerError(
                f"cannot log to {path}: {e.strerror}; choose another --log-file"
            ) from e
    stamp = "%(asctime)s " if values["log_with_time"].value else ""
    logging.basicConfig(
        level=level,
        format=stamp + "%(levelname)s %(message)s",
        handlers=handlers or [logging.NullHandler()],
    )


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    private = arguments.witness is not None
    witness = socket.socket(fileno=int(arguments.witness)) if private else None
    if witness is not None:
        witness.set_inheritable(False)
    try:
        config, values = server_settings.read(arguments, os.environ, private)
        if arguments.check_config:
            print(settings.explain(server_settings.SETTINGS, values, arguments.json))
            return 0
        log_as_set(values, private)
        if arguments.check:
            check(config)
        else:
            serve(config, witness)
    except OrionServerError as e:
        if witness is not None:
            witness.sendall(json.dumps({"error": str(e)}).encode() + b"\n")
        else:
            print(f"orion-server: {e}", file=sys.stderr)
        return 2
    return 0
