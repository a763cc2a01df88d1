# SPDX-License-Identifier: Apache-2.0
"""The `orion-device-plugin` command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from orion_server.errors import OrionServerError
from orion_server.paths import default_address

from . import shim

KUBELET = "/var/lib/kubelet"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def parser() -> argparse.ArgumentParser:
    env = os.environ
    p = argparse.ArgumentParser(
        prog="orion-device-plugin",
        description="Offers the vGPUs of this node's orion-server to the kubelet.",
    )
    p.add_argument(
        "--server",
        metavar="unix:PATH",
        default=env.get("ORION_SERVER") or default_address(),
        help="the server's socket (default: ORION_SERVER, else %(default)s)",
    )
    p.add_argument("--resource", default="virtaitech.com/gpu", help="default: %(default)s")
    p.add_argument(
        "--gmem",
        action="store_true",
        default=env.get("ORION_GMEM_RESOURCE") == "1",
        help="offer device memory as a second resource, virtaitech.com/gmem in units of 256 MiB "
        "(default: ORION_GMEM_RESOURCE=1)",
    )
    p.add_argument(
        "--placement",
        choices=("pack", "spread"),
        default=env.get("ORION_PLACEMENT", "pack"),
        help="fill one card first, or share each with as few as possible (default: %(default)s)",
    )
    p.add_argument(
        "--controller",
        metavar="HOST:PORT",
        default=env.get("ORION_CONTROLLER"),
        help="given to containers as ORION_CONTROLLER (default: the variable)",
    )
    p.add_argument(
        "--library-dir",
        metavar="DIR",
        default=env.get("ORION_LIBRARY_HOST_DIR", "/var/lib/orion/lib"),
        help="where on the host the client library is put, to be mounted into containers; "
        "empty: images bring it along (default: %(default)s)",
    )
    p.add_argument(
        "--library-target",
        metavar="PATH",
        action="append",
        help=f"where containers see it, may be repeated (default: {', '.join(shim.TARGETS)})",
    )
    p.add_argument(
        "--kubelet-dir", metavar="DIR", default=f"{KUBELET}/device-plugins", help="%(default)s"
    )
    p.add_argument(
        "--pod-resources",
        metavar="PATH",
        default=f"{KUBELET}/pod-resources/kubelet.sock",
        help="%(default)s",
    )
    p.add_argument(
        "--http",
        metavar="ADDR:PORT",
        default=env.get("ORION_PLUGIN_HTTP"),
        help="/livez, /readyz, /metrics (default: ORION_PLUGIN_HTTP, else off)",
    )
    p.add_argument(
        "--log-level", choices=sorted(LEVELS), default=os.environ.get("ORION_LOG", "info")
    )
    return p


async def serve(arguments: argparse.Namespace) -> None:
    from orion_server.config import parse_bind

    from .daemon import Daemon, Settings

    daemon = Daemon(
        Settings(
            server=arguments.server,
            resource=arguments.resource,
            gmem_resource=arguments.resource.partition("/")[0] + "/gmem"
            if arguments.gmem
            else None,
            kubelet=Path(arguments.kubelet_dir),
            pod_resources=Path(arguments.pod_resources),
            controller=arguments.controller,
            library_directory=Path(arguments.library_dir) if arguments.library_dir else None,
            targets=tuple(arguments.library_target or shim.TARGETS),
            spread=arguments.placement == "spread",
            http=parse_bind(arguments.http, "--http") if arguments.http else None,
        )
    )
    running = asyncio.create_task(daemon.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    logging.basicConfig(
        level=LEVELS.get(arguments.log_level, logging.INFO),
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        from .registration import KubeletRefuses
    except ImportError as e:
        print(
            f"orion-device-plugin: {e}; install it with: pip install 'orion-vgpu[k8s]'",
            file=sys.stderr,
        )
        return 2
    try:
        asyncio.run(serve(arguments))
    except (KubeletRefuses, OrionServerError, OSError) as e:
        print(f"orion-device-plugin: {e}", file=sys.stderr)
        return 1
    return 0
