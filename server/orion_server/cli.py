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
    Config,
    bind_from_environment,
    default_memory,
    default_state_dir,
    parse_bind,
    parse_count,
    parse_factor,
    parse_lease_memory,
    parse_metrics,
    parse_mode,
    parse_size,
)
from .errors import OrionServerError
from .limits import Mode, Policy
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
        "--device", choices=("auto", *drivers.DEVICES), help="default: ORION_DEVICE, else cpu"
    )
    p.add_argument(
        "--memory", metavar="SIZE", help="device memory, e.g. 4G (default: half of the host's)"
    )
    p.add_argument("--vgpu", metavar="N", help="clients at a time (default: VGPU, else 64)")
    p.add_argument(
        "--share-mode",
        choices=[mode.value for mode in Mode],
        help="how clients share the device's time (default: ORION_SHARE_MODE, else fair)",
    )
    p.add_argument(
        "--lease-memory",
        metavar="SIZE|share|rest",
        help="memory promised to a client that does not ask for any (default: ORION_LEASE_MEMORY, else rest: "
        "nothing, it takes what is not promised to others; share: --memory divided by --vgpu)",
    )
    p.add_argument(
        "--memory-overcommit",
        metavar="FACTOR",
        help="promise clients up to that many times the memory there is (default: 1)",
    )
    p.add_argument(
        "--metrics-port",
        metavar="[ADDR:]PORT",
        help="metrics for Prometheus, on 127.0.0.1 unless ADDR is named (default: ORION_METRICS_PORT, else off)",
    )
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
    memory = (
        parse_size(arguments.memory, "--memory")
        if arguments.memory
        else (0 if device == "cuda" else default_memory())
    )
    vgpu = parse_count(arguments.vgpu or env.get("VGPU", "64"), "VGPU", 1, 4096)
    return Config(
        socket=socket_path(arguments.socket) if arguments.socket else default_socket(),
        bind=parse_bind(arguments.bind, "--bind")
        if arguments.bind
        else (None if arguments.witness else bind_from_environment(env)),
        insecure_tcp=arguments.insecure_tcp or env.get("ORION_INSECURE_TCP") == "1",
        device=device,
        memory=memory,
        vgpu=vgpu,
        sharing=sharing_from(arguments, memory, vgpu),
        metrics=metrics_from(arguments),
        threads=parse_count(arguments.threads, "--threads", 0, 1024),
        state_dir=Path(arguments.state_dir) if arguments.state_dir else default_state_dir(),
        mode=permissions,
    )


def metrics_from(arguments: argparse.Namespace) -> tuple[str, int] | None:
    """A private server follows no environment: two of them would want the same port."""
    named = arguments.metrics_port
    if named is None and not arguments.witness:
        named = os.environ.get("ORION_METRICS_PORT")
    return parse_metrics(named, "--metrics-port") if named else None


def sharing_from(arguments: argparse.Namespace, memory: int, vgpu: int) -> Policy:
    env = os.environ
    return Policy(
        mode=parse_mode(
            arguments.share_mode or env.get("ORION_SHARE_MODE", "fair"), "ORION_SHARE_MODE"
        ),
        lease_memory=parse_lease_memory(
            arguments.lease_memory or env.get("ORION_LEASE_MEMORY", "rest"),
            "ORION_LEASE_MEMORY",
            memory,
            vgpu,
        ),
        overcommit=parse_factor(arguments.memory_overcommit or "1", "--memory-overcommit"),
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
                "share_mode": config.sharing.mode.value,
                "lease_memory": config.sharing.lease_memory,
                "memory_overcommit": config.sharing.overcommit,
                "state_dir": os.fspath(config.state_dir),
            },
            indent=2,
        )
    )


def serve(config: Config, witness: socket.socket | None) -> None:
    from . import supervisor

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
