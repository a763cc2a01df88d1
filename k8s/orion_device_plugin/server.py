# SPDX-License-Identifier: Apache-2.0
"""The orion-server of this node, asked over its administrator's socket (docs/plugin-protocol.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from orion_server.errors import OrionServerError, RequestRefused
from orion_server.status import query

RETRY_SECONDS = 0.25


class Server:
    def __init__(self, address: str, patience: float = 10.0) -> None:
        self.address = address
        self.patience = (
            patience  # seconds that a container may wait for a server which is being restarted
        )

    async def status(self) -> dict[str, Any]:
        return await self._ask({"op": "status"})

    async def is_ready(self) -> bool:
        """It answers, and knows its device."""
        try:
            return bool((await self.status())["server"]["state"] == "ready")
        except OrionServerError:
            return False

    async def allocations(self) -> list[dict[str, Any]]:
        answer = await self._ask({"op": "allocations"})
        return list(answer["allocations"])

    async def allocate(self, vgpus: Mapping[str, list[int]], fresh: bool) -> dict[str, Any]:
        """The allocation; waits for a server that is not there for a moment."""
        request = {"op": "allocate", "vgpus": vgpus, "fresh": fresh}
        deadline = time.monotonic() + self.patience
        while True:
            try:
                allocation: dict[str, Any] = (await self._ask(request))["allocation"]
                return allocation
            except RequestRefused:
                if time.monotonic() >= deadline or await self.is_ready():
                    raise
            except OrionServerError:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(RETRY_SECONDS)

    async def describe(self, name: str, labels: Mapping[str, str], memory: int | None) -> None:
        request: dict[str, Any] = {"op": "describe", "allocation": name, "labels": labels}
        if memory is not None:
            request["memory"] = memory
        await self._ask(request)

    async def release(self, name: str) -> None:
        await self._ask({"op": "release", "allocation": name})

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(query, self.address, 5.0, request)
