# SPDX-License-Identifier: Apache-2.0
"""The plugin as a whole: asks the server what there is, offers it, and keeps the books straight."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from orion_server.errors import OrionServerError

import orion_shm

from . import devices, shim
from .metrics import Metrics, serve_http
from .plugin import Gmem, Owners, Resource, Vgpus
from .registration import Registration
from .server import Server

log = logging.getLogger("orion.device_plugin")

STATUS_SECONDS = 2.0
OWNERS_SECONDS = 5.0
LOST_MOST = (
    3  # questions in a row without a good answer: a server that is being upgraded is not ill
)
SAY_EVERY = 30  # questions


@dataclass(frozen=True)
class Settings:
    server: str  # unix:PATH
    resource: str
    gmem_resource: str | None
    kubelet: Path
    pod_resources: Path
    controller: str | None
    library_directory: Path | None  # on the host; None: images bring the client library along
    targets: tuple[str, ...]
    spread: bool
    http: tuple[str, int] | None


class Daemon:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server = Server(settings.server)
        self.owners = Owners(
            self.server, settings.pod_resources, settings.resource, settings.gmem_resource
        )
        library = None
        if settings.library_directory is not None:
            library = shim.install(
                orion_shm.library_directory() / shim.NAME, settings.library_directory
            )
        self.vgpus = Vgpus(
            settings.resource,
            self.server,
            self.owners,
            library=library,
            targets=settings.targets,
            controller=settings.controller,
            spread=settings.spread,
        )
        self.gmem = Gmem(settings.gmem_resource) if settings.gmem_resource else None
        resources: list[Resource] = [self.vgpus, *([self.gmem] if self.gmem else [])]
        self.registrations = [Registration(resource, settings.kubelet) for resource in resources]
        self.metrics = Metrics(self)

    async def run(self) -> None:
        """Until cancelled; whatever ends one part ends all, so that the DaemonSet sees it."""
        http = serve_http(self.settings.http, self.metrics) if self.settings.http else None
        parts = [asyncio.create_task(self._watch_server())]
        try:
            await self._first_offer()
            parts += [asyncio.create_task(r.run()) for r in self.registrations]
            parts.append(asyncio.create_task(self._watch_owners()))
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            if http is not None:
                http.shutdown()
                http.server_close()

    async def _first_offer(self) -> None:
        """A kubelet that was told of no devices would believe it: nothing is registered before they are known."""
        while not self.vgpus.offered.ids:
            await asyncio.sleep(0.05)

    async def _watch_server(self) -> None:
        cards: tuple[devices.Card, ...] = ()
        lost = 0
        while True:
            why = ""
            try:
                status = await self.server.status()
                if status["server"]["state"] == "ready":
                    cards = devices.cards_of(status)
                else:
                    why = f"the server is not ready: {status['server']['state']}"
            except OrionServerError as e:
                why = str(e)
            if why and lost % SAY_EVERY == 0:
                log.warning("%s", why)
            lost = lost + 1 if why else 0
            if lost == 0 or lost >= LOST_MOST:
                await self.vgpus.offer(devices.all_vgpus(cards), healthy=not lost)
                if self.gmem is not None:
                    await self.gmem.offer(devices.all_gmem(cards), healthy=not lost)
            self.metrics.turned = time.monotonic()
            await asyncio.sleep(STATUS_SECONDS)

    async def _watch_owners(self) -> None:
        while True:
            try:
                await self.owners.look()
            except OrionServerError as e:
                log.debug("allocations cannot be looked at: %s", e)
            await asyncio.sleep(OWNERS_SECONDS)
