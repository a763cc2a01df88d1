# SPDX-License-Identifier: Apache-2.0
"""A kubelet as far as a device plugin can tell: the real protocol, over the real sockets, with bad habits on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from orion_device_plugin import kubelet_api as api

message = api.plugin_messages
pod_message = api.pod_messages


class Endpoint:
    """A plugin that has registered: the connection to it, and what its list says."""

    def __init__(self, kubelet: FakeKubelet, request: Any) -> None:
        self.resource = request.resource_name
        self.options = request.options
        self.devices: dict[str, str] = {}
        self.lists = 0
        self.ended = threading.Event()
        path = kubelet.folder / request.endpoint
        self.channel = grpc.insecure_channel(f"unix://{path}", options=api.CHANNEL_OPTIONS)
        grpc.channel_ready_future(self.channel).result(timeout=10)
        self.watch = self._method("ListAndWatch")(message["Empty"]())
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for answer in self.watch:
                self.devices = {d.ID: d.health for d in answer.devices}
                self.lists += 1
        except grpc.RpcError:
            pass
        self.ended.set()

    def _method(self, name: str) -> Any:
        return api.caller(self.channel, api.DEVICE_PLUGIN, api.DEVICE_PLUGIN_METHODS, message, name)

    def allocate(self, *containers: Sequence[str]) -> list[Any]:
        requests = [message["ContainerAllocateRequest"](devices_ids=ids) for ids in containers]
        request = message["AllocateRequest"](container_requests=requests)
        return list(self._method("Allocate")(request, timeout=30).container_responses)

    def start_container(self, ids: Sequence[str]) -> None:
        self._method("PreStartContainer")(
            message["PreStartContainerRequest"](devices_ids=ids), timeout=30
        )

    def prefer(self, available: Sequence[str], required: Sequence[str], size: int) -> list[str]:
        one = message["ContainerPreferredAllocationRequest"](
            available_deviceIDs=available, must_include_deviceIDs=required, allocation_size=size
        )
        request = message["PreferredAllocationRequest"](container_requests=[one])
        answer = self._method("GetPreferredAllocation")(request, timeout=30)
        return list(answer.container_responses[0].deviceIDs)

    def close(self) -> None:
        self.watch.cancel()
        self.channel.close()


class FakeKubelet:
    def __init__(
        self,
        folder: Path,
        *,
        version: str = api.VERSION,
        delay: float = 0.0,
        dial_delay: float | None = None,
    ) -> None:
        self.folder = folder
        self.socket = folder / "kubelet.sock"
        self.pod_socket = folder.parent / "pods" / "kubelet.sock"
        self.version = version  # the one that it takes
        self.delay = delay  # seconds before it answers Register
        self.dial_delay = dial_delay  # and after its answer, before it calls back; None: within
        self.asked = 0  # calls of Register
        self.endpoints: dict[str, Endpoint] = {}
        self.registrations = 0
        self.refused = 0
        self.pods: dict[tuple[str, str], dict[str, dict[str, Sequence[str]]]] = {}
        self._servers: list[Any] = []
        self._later: list[threading.Timer] = []

    # --- its life

    def start(self) -> FakeKubelet:
        """As the kubelet does: everything in the folder but its checkpoint goes, then it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pod_socket.parent.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            if path.name != "kubelet_internal_checkpoint":
                path.unlink()
        self.pod_socket.unlink(missing_ok=True)
        self._listen(
            self.socket, api.handler(api.REGISTRATION, api.REGISTRATION_METHODS, message, self)
        )
        self._listen(
            self.pod_socket,
            api.handler(api.POD_RESOURCES, api.POD_RESOURCES_METHODS, pod_message, self),
        )
        return self

    def _listen(self, path: Path, handler: Any) -> None:
        server = grpc.server(futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(f"unix://{path}")
        server.start()
        self._servers.append(server)

    def stop(self) -> None:
        for call in self._later:
            call.cancel()
        self._later.clear()
        for endpoint in self.endpoints.values():
            endpoint.close()
        self.endpoints.clear()
        for server in self._servers:
            server.stop(None).wait()
        self._servers.clear()

    def __enter__(self) -> FakeKubelet:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- what it serves

    def Register(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked += 1
        time.sleep(self.delay)
        if request.version != self.version:
            self.refused += 1
            context.abort(
                grpc.StatusCode.UNKNOWN,
                f"requested API version {request.version!r} is not supported by kubelet. "
                f"Supported version is {[self.version]}",
            )
        if self.dial_delay is None:
            self._call_back(request)
        else:
            self._later.append(threading.Timer(self.dial_delay, self._call_back, [request]))
            self._later[-1].start()
        self.registrations += 1
        return message["Empty"]()

    def _call_back(self, request: Any) -> None:
        old = self.endpoints.pop(request.resource_name, None)
        if old is not None:
            old.close()
        self.endpoints[request.resource_name] = Endpoint(self, request)

    def List(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        answer = pod_message["ListPodResourcesResponse"]()
        for (namespace, name), containers in self.pods.items():
            pod = answer.pod_resources.add(namespace=namespace, name=name)
            for container, resources in containers.items():
                row = pod.containers.add(name=container)
                for resource, ids in resources.items():
                    row.devices.add(resource_name=resource, device_ids=ids)
        return answer
