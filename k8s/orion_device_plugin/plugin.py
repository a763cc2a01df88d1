# SPDX-License-Identifier: Apache-2.0
"""What the kubelet calls: one object for each resource that is offered.

Allocate makes the container's allocation at the server; PreStartContainer, which comes before each start of the
container, makes sure that it is there and says whose it is. Neither believes anything of the pod's environment.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from orion_server.errors import OrionServerError

from . import devices, kubelet_api, pods
from .server import Server

log = logging.getLogger("orion.device_plugin")

message = kubelet_api.plugin_messages
RUN_DIRECTORY = "/run/orion"  # in the container: where libcuda.so.1 looks


@dataclass(frozen=True)
class Offer:
    """What the kubelet is told of a resource."""

    ids: tuple[str, ...] = ()
    healthy: bool = False


class Resource(ABC):
    """A resource's devices, told to whoever watches. A list that has changed is sent again."""

    pre_start = False
    preferences = False

    def __init__(self, name: str, endpoint: str) -> None:
        self.name = name
        self.endpoint = endpoint  # the socket's file name
        self.watchers = 0
        self._offer = Offer()
        self._changed = asyncio.Condition()

    @property
    def offered(self) -> Offer:
        return self._offer

    async def offer(self, ids: Sequence[str], healthy: bool) -> None:
        new = Offer(tuple(ids), healthy)
        if new == self._offer:
            return
        size = sum(len(text) for text in ids) + 20 * len(ids)
        if size > kubelet_api.MESSAGE_MOST:
            log.error(
                "%s: a list of %d devices (%d bytes) is more than the kubelet takes: use a smaller VGPU",
                self.name,
                len(ids),
                size,
            )
            return
        async with self._changed:
            self._offer = new
            self._changed.notify_all()
        log.info("%s: %d devices, %s", self.name, len(ids), "healthy" if healthy else "unhealthy")

    def options(self) -> Any:
        return message["DevicePluginOptions"](
            pre_start_required=self.pre_start, get_preferred_allocation_available=self.preferences
        )

    # --- the kubelet's calls, under the names of its interface

    async def GetDevicePluginOptions(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        return self.options()

    async def ListAndWatch(self, _request: Any, _context: Any) -> AsyncIterator[Any]:  # noqa: N802
        told: Offer | None = None
        self.watchers += 1
        try:
            while True:
                async with self._changed:
                    while self._offer == told:
                        await self._changed.wait()
                    told = self._offer
                health = kubelet_api.HEALTHY if told.healthy else kubelet_api.UNHEALTHY
                listed = [message["Device"](ID=text, health=health) for text in told.ids]
                yield message["ListAndWatchResponse"](devices=listed)
        finally:
            self.watchers -= 1

    async def GetPreferredAllocation(self, _request: Any, context: Any) -> Any:  # noqa: N802
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"{self.name}: one device is as good as another"
        )

    async def Allocate(self, request: Any, context: Any) -> Any:  # noqa: N802
        answers = []
        for container in request.container_requests:
            try:
                answers.append(await self.allocate(list(container.devices_ids)))
            except (OrionServerError, ValueError) as e:
                log.error("%s: %s cannot be given: %s", self.name, list(container.devices_ids), e)
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(e))
        return message["AllocateResponse"](container_responses=answers)

    async def PreStartContainer(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            await self.before_start(list(request.devices_ids))
        except (OrionServerError, ValueError) as e:
            log.error("%s: a container cannot start: %s", self.name, e)
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(e))
        return message["PreStartContainerResponse"]()

    # --- what the resources differ in

    @abstractmethod
    async def allocate(self, ids: list[str]) -> Any:
        """The ContainerAllocateResponse for these devices."""

    async def before_start(self, ids: list[str]) -> None:  # noqa: B027 - called where pre_start is set
        """Before each start of a container with these devices."""


class Vgpus(Resource):
    pre_start = True
    preferences = True

    def __init__(
        self,
        name: str,
        server: Server,
        owners: Owners,
        *,
        library: Path | None,
        targets: Sequence[str],
        controller: str | None,
        spread: bool,
    ) -> None:
        super().__init__(name, "orion-gpu.sock")
        self._server = server
        self._owners = owners
        self._library = library
        self._targets = targets
        self._controller = controller
        self._spread = spread

    async def allocate(self, ids: list[str]) -> Any:
        self._known(ids)
        vgpus = devices.vgpus_of(ids)
        allocation = await self._server.allocate(vgpus, fresh=True)
        numbers = [str(n) for numbers in vgpus.values() for n in numbers]
        environment = {"ORION_VGPU_IDS": ",".join(numbers), "ORION_ALLOCATION": allocation["id"]}
        if self._controller:
            environment["ORION_CONTROLLER"] = self._controller
        mounts = [(RUN_DIRECTORY, allocation["directory"])]
        if self._library is not None:
            mounts += [(target, str(self._library)) for target in self._targets]
        return message["ContainerAllocateResponse"](
            envs=environment,
            mounts=[
                message["Mount"](container_path=inside, host_path=outside, read_only=True)
                for inside, outside in mounts
            ],
        )

    async def before_start(self, ids: list[str]) -> None:
        self._known(ids)
        allocation = await self._server.allocate(devices.vgpus_of(ids), fresh=False)
        await self._owners.tell(allocation)

    async def GetPreferredAllocation(self, request: Any, _context: Any) -> Any:  # noqa: N802
        answers = [
            message["ContainerPreferredAllocationResponse"](
                deviceIDs=devices.prefer(
                    list(one.available_deviceIDs),
                    list(one.must_include_deviceIDs),
                    one.allocation_size,
                    self._spread,
                )
            )
            for one in request.container_requests
        ]
        return message["PreferredAllocationResponse"](container_responses=answers)

    def _known(self, ids: Sequence[str]) -> None:
        strange = sorted(set(ids) - set(self.offered.ids))
        if strange or not ids:
            raise ValueError(
                f"{strange or 'nothing'} is not among the {len(self.offered.ids)} vGPUs here"
            )


class Gmem(Resource):
    """Device memory in units of 256 MiB. Its allocation is an amount; PodResources says to which vGPUs it belongs."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "orion-gmem.sock")

    async def allocate(self, ids: list[str]) -> Any:
        mebibytes = devices.gmem_bytes(ids) >> 20
        return message["ContainerAllocateResponse"](envs={"ORION_GMEM": str(mebibytes)})


class Owners:
    """Tells the server whose its allocations are, and which are nobody's any more."""

    GRACE = 60.0  # seconds: the kubelet lists a container some time after Allocate
    MISSES = 3  # lists in a row without the container

    def __init__(self, server: Server, socket: Path, vgpu: str, gmem: str | None) -> None:
        self._server = server
        self._socket = socket
        self._vgpu = vgpu
        self._gmem = gmem
        self._missed: dict[str, int] = {}
        self._said = False
        self.known: dict[str, pods.Container] = {}  # allocation -> owner, for the metrics

    async def tell(self, allocation: dict[str, Any]) -> None:
        """Names one allocation's container, as far as the kubelet tells. A pod can start without."""
        found = await self._list()
        if found is not None:
            await self._match(allocation, found)

    async def look(self) -> None:
        """All of them: names those that have an owner, releases those that have lost it."""
        found = await self._list()
        if found is None:
            return
        rows = await self._server.allocations()
        for row in rows:
            name = row["id"]
            if await self._match(row, found) or row["sessions"] or row["age"] < self.GRACE:
                self._missed.pop(name, None)
                continue
            self._missed[name] = self._missed.get(name, 0) + 1
            if self._missed[name] >= self.MISSES:
                log.info("allocation %s belongs to no container any more", name)
                await self._server.release(name)
                self.known.pop(name, None)
                del self._missed[name]
        present = {row["id"] for row in rows}
        for gone in [name for name in (*self.known, *self._missed) if name not in present]:
            self.known.pop(gone, None)
            self._missed.pop(gone, None)

    async def _match(self, row: dict[str, Any], found: list[pods.Container]) -> bool:
        owner = pods.owner(found, self._vgpu, devices.vgpu_ids(row["vgpus"]))
        if owner is None:
            return False
        self.known[row["id"]] = owner
        gmem = owner.devices.get(self._gmem or "")
        memory = devices.gmem_bytes(gmem) if gmem else None
        if row["labels"] != owner.labels or (memory is not None and memory != row["memory"]):
            await self._server.describe(row["id"], owner.labels, memory)
        return True

    async def _list(self) -> list[pods.Container] | None:
        try:
            found = await pods.containers(self._socket)
        except grpc.RpcError as e:
            if not self._said:
                log.warning(
                    "the kubelet does not tell whose devices are whose (%s: %s): vGPUs are released only when it gives "
                    "them out again",
                    self._socket,
                    e.details() if isinstance(e, grpc.aio.AioRpcError) else e,
                )
            self._said = True
            return None
        self._said = False
        return found
