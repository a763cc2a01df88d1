# SPDX-License-Identifier: Apache-2.0
"""The `orion-controller` command."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orion_server import settings
from orion_server.errors import OrionServerError

from . import config as configuration
from .config import Config

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from .service import Service


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="orion-controller",
        description="Leases the vGPUs of Orion servers to programs, and shows who uses what.",
    )
    p.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"settings file (default: {configuration.DEFAULT_FILE}, if it exists)",
    )
    p.add_argument(
        "--check-config", action="store_true", help="print each setting and where it came from"
    )
    p.add_argument("--json", action="store_true", help="with --check-config: as JSON")
    p.add_argument(
        "--openapi", action="store_true", help="print the description of the HTTP API and exit"
    )
    settings.add_flags(p, configuration.SETTINGS)
    return p


def listen(addresses: Sequence[str], port: int) -> list[socket.socket]:
    found: list[socket.socket] = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            found.append(socket.create_server((address, port), family=family, backlog=1024))
        except OSError as e:
            for each in found:
                each.close()
            raise OrionServerError(
                f"cannot listen on {address}:{port}: {e.strerror}; choose another --bind or port"
            ) from e
        port = found[0].getsockname()[1]  # with port 0 all have the first one's
    return found


async def serve(config: Config, plain: list[socket.socket], secured: list[socket.socket]) -> None:
    """Until SIGTERM or SIGINT. One application, at one or two ports."""
    from .api import build
    from .logs import say
    from .service import Service

    service = Service(config)
    app = build(service)
    servers = [(web_server(app, service, lifespan="on"), plain)]
    if secured:
        tls = {"ssl_certfile": config.certificate, "ssl_keyfile": config.certificate_key}
        servers.append((web_server(app, service, lifespan="off", **tls), secured))

    def stop() -> None:
        for server, _ in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    for listener in (*plain, *secured):
        address, port = listener.getsockname()[:2]
        scheme = "https" if listener in secured else "http"
        state = str(config.state_dir)
        say("listening", "started", scheme=scheme, address=address, port=port, state=state)
    await asyncio.gather(*(server.serve(sockets=listeners) for server, listeners in servers))


def web_server(app: FastAPI, service: Service, **more: Any) -> uvicorn.Server:
    import uvicorn

    from .native import Native
    from .port import Port

    class OurPort(Port):
        make_native = staticmethod(lambda: Native(service))
        request_seconds = service.config.request_seconds

    class OurServer(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # signals are for all servers of the process: serve() has them

    return OurServer(
        uvicorn.Config(
            app,
            http=OurPort,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=16384,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=2,
            proxy_headers=False,  # who asks is decided by the connection, not by a header
            **more,
        )
    )


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        config, values = configuration.read(arguments, os.environ, arguments.config)
        if arguments.check_config:
            print(settings.explain(configuration.SETTINGS, values, arguments.json))
            return 0
        return run(config, arguments.openapi)
    except OrionServerError as e:
        print(f"orion-controller: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def run(config: Config, only_describe: bool) -> int:
    try:
        from . import api, logs
        from .store import StoreError
    except ImportError as e:
        raise OrionServerError(
            f"{e.name} is not installed: pip install 'orion-vgpu[controller]'"
        ) from e
    if only_describe:
        import json

        print(json.dumps(api.describe(), indent=2))
        return 0
    logs.set_up(config.log)
    plain = listen(config.bind, config.port)
    secured = []
    try:
        if config.certificate:
            secured = listen(config.bind, config.tls_port)
        asyncio.run(serve(config, plain, secured))
    except StoreError as e:
        raise OrionServerError(str(e)) from e
    except ssl.SSLError as e:
        raise OrionServerError(f"cannot use {config.certificate}: {e}") from e
    finally:
        for listener in (*plain, *secured):
            listener.close()
    return 0
