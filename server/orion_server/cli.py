# SPDX-License-Identifier: Apache-2.0
"""The `orion-server` command."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from pathlib import Path

from . import drivers
from .config import (
    TLS_MODES,
    Config,
    bind_from_environment,
    default_memory,
    default_state_dir,
    parse_bind,
    parse_count,
    parse_size,
)
from .errors import OrionServerError
from .paths import default_socket, socket_path

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="orion-server",
        description="Serves virtual GPUs of this host: one sandboxed worker process for each client.",
    )
    p.add_argument(
        "--socket", metavar="PATH", help=f"unix socket for clients (default: {default_socket()})"
    )
    p.add_argument(
        "--mode",
        metavar="OCTAL",
        help="permissions of the socket (default: 666 for root, else 600)",
    )
    p.add_argument(
        "--bind",
        metavar="ADDR:PORT",
        help="also listen on TCP (default: BIND_ADDR and PORT, 127.0.0.1 and 9960 where one is missing; else off)",
    )
    p.add_argument(
        "--insecure-tcp",
        action="store_true",
        help="send data of clients on other hosts unencrypted (default: ORION_INSECURE_TCP=1, else refuse them)",
    )
    p.add_argument(
        "--token-file",
        metavar="FILE",
        help="a line ID.SECRET for each token, mode 0600; clients over TCP then need one "
        "(default: ORION_TOKEN_FILE, else none)",
    )
    p.add_argument(
        "--require-token",
        action="store_true",
        help="clients on the unix socket need a token, too",
    )
    p.add_argument(
        "--tls",
        choices=TLS_MODES,
        help="encrypt what travels over TCP, by keys made of tokens: auto is for clients that want it "
        "(default: ORION_TLS, else auto)",
    )
    p.add_argument(
        "--device", choices=("auto", *drivers.DEVICES), help="default: ORION_DEVICE, else cpu"
    )
    p.add_argument(
        "--memory", metavar="SIZE", help="device memory, e.g. 4G (default: half of the host's)"
    )
    p.add_argument("--vgpu", metavar="N", help="clients at a time (default: VGPU, else 64)")
    p.add_argument(
        "--threads",
        metavar="N",
        default="0",
        help="multiprocessors of the CPU device (default: all cores)",
    )
    p.add_argument(
        "--state-dir",
        metavar="DIR",
        help="object cache (default: ORION_CACHE_DIR, else ~/.cache/orion)",
    )
    p.add_argument(
        "--log-level", choices=sorted(LEVELS), default=os.environ.get("ORION_LOG", "info")
    )
    p.add_argument(
        "--check", action="store_true", help="check configuration and device, print both, and exit"
    )
    p.add_argument(
        "--witness", metavar="FD", help=argparse.SUPPRESS
    )  # a private server's tie to its parent
    return p


def config_from(arguments: argparse.Namespace) -> Config:
    env = os.environ
    device = arguments.device or env.get("ORION_DEVICE") or "cpu"
    device = drivers.choose(device)
    if device not in drivers.DEVICES:
        raise OrionServerError(f"ORION_DEVICE={device!r} is no device: choose cpu, cuda or null")
    mode = arguments.mode or ("666" if os.geteuid() == 0 and not arguments.witness else "600")
    try:
        permissions = int(mode, 8)
    except ValueError:
        raise OrionServerError(f"--mode {mode!r} is no octal number such as 660") from None
    token_file = arguments.token_file
    if not token_file and not arguments.witness:  # a private server has its own
        token_file = env.get("ORION_TOKEN_FILE")
    if arguments.require_token and not token_file:
        raise OrionServerError("--require-token needs --token-file, or nobody could come in")
    tls = arguments.tls or env.get("ORION_TLS") or "auto"
    if tls not in TLS_MODES:
        raise OrionServerError(f"ORION_TLS={tls!r} is not known: say auto, off or required")
    if tls == "required" and not token_file:
        raise OrionServerError("--tls required needs --token-file: keys are made of tokens")
    return Config(
        socket=socket_path(arguments.socket) if arguments.socket else default_socket(),
        bind=parse_bind(arguments.bind, "--bind")
        if arguments.bind
        else (None if arguments.witness else bind_from_environment(env)),
        insecure_tcp=arguments.insecure_tcp or env.get("ORION_INSECURE_TCP") == "1",
        token_file=Path(token_file) if token_file else None,
        require_token=arguments.require_token,
        tls=tls,
        device=device,
        memory=parse_size(arguments.memory, "--memory")
        if arguments.memory
        else (0 if device == "cuda" else default_memory()),
        vgpu=parse_count(arguments.vgpu or env.get("VGPU", "64"), "VGPU", 1, 4096),
        threads=parse_count(arguments.threads, "--threads", 0, 1024),
        state_dir=Path(arguments.state_dir) if arguments.state_dir else default_state_dir(),
        mode=permissions,
    )


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
                "device": config.device,
                "name": info["name"],
                "memory": config.memory,
                "vgpu": config.vgpu,
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


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    private = arguments.witness is not None
    level = LEVELS.get(arguments.log_level, logging.INFO)
    if private and "ORION_LOG" not in os.environ:
        level = logging.ERROR
    logging.basicConfig(
        level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    witness = socket.socket(fileno=int(arguments.witness)) if private else None
    if witness is not None:
        witness.set_inheritable(False)
    try:
        config = config_from(arguments)
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
