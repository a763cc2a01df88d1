# SPDX-License-Identifier: Apache-2.0
"""A resource's socket in the kubelet's folder, and its registration, for as long as the plugin lives.

A kubelet that starts removes every socket of the folder and forgets its plugins; it is known by its own socket's file.
So the order is: see the kubelet's socket, make ours, register, and then look twice a second whether both files are
still the same and whether the kubelet still listens to us. If not, all of it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from pathlib import Path

import grpc

from . import kubelet_api as api
from .plugin import Resource

log = logging.getLogger("orion.device_plugin")

LOOK_SECONDS = 0.5
REGISTER_SECONDS = 20.0  # older kubelets call back within, for up to 10
PATIENCE_SECONDS = 30.0  # between complaints that there is no kubelet
CALL_BACK_SECONDS = (
    20.0  # newer ones after it; to register again would take the socket away that they are calling
)
DEAF_SECONDS = 5.0  # nobody watches our list any more
FAILURES_MOST = 5  # within
FAILURE_WINDOW = 3600.0  # seconds; then the DaemonSet may try its luck with a new container
# its socket outlives a kubelet that has ended; a busy one answers late
WAIT_FOR = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

Identity = tuple[int, int, int]


class KubeletRefuses(Exception):
    """Registration fails again and again, for a reason that waiting does not cure."""


def identity_of(path: Path) -> Identity | None:
    """Which file it is; a new one at the same place differs."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns


class Registration:
    def __init__(self, resource: Resource, folder: Path) -> None:
        self.resource = resource
        self.kubelet = folder / "kubelet.sock"
        self.socket = folder / resource.endpoint
        self.registered = False
        self.count = 0  # registrations so far
        self._failures: deque[float] = deque()

    async def run(self) -> None:
        """Until cancelled. KubeletRefuses after repeated failures."""
        while True:
            kubelet = await self._await_kubelet()
            server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
            server.add_generic_rpc_handlers(
                (
                    api.handler(
                        api.DEVICE_PLUGIN,
                        api.DEVICE_PLUGIN_METHODS,
                        api.plugin_messages,
                        self.resource,
                    ),
                )
            )
            try:
                self.socket.unlink(missing_ok=True)
                server.add_insecure_port(f"unix://{self.socket}")
                await server.start()
                await self._serve(kubelet)
            except (OSError, RuntimeError) as e:  # gRPC says RuntimeError when it cannot bind
                log.warning("%s: cannot listen on %s: %s", self.resource.name, self.socket, e)
                await asyncio.sleep(LOOK_SECONDS)
            finally:
                self.registered = False
                await server.stop(None)
                with contextlib.suppress(OSError):
                    self.socket.unlink(missing_ok=True)

    async def _serve(self, kubelet: Identity) -> None:
        """Registers and stays; returns when it has to be done again."""
        ours = identity_of(self.socket)
        if ours is None or identity_of(self.kubelet) != kubelet:
            return
        try:
            await self._register()
        except grpc.aio.AioRpcError as e:
            await self._failed(e)
            return
        self.registered = True
        self.count += 1
        log.info("%s: registered with the kubelet", self.resource.name)
        patience, heard = CALL_BACK_SECONDS, time.monotonic()
        while identity_of(self.kubelet) == kubelet and identity_of(self.socket) == ours:
            if self.resource.watchers:
                patience, heard = DEAF_SECONDS, time.monotonic()
            elif time.monotonic() - heard > patience:
                log.warning("%s: the kubelet does not listen any more", self.resource.name)
                return
            await asyncio.sleep(LOOK_SECONDS)
        log.info("%s: the kubelet was started again", self.resource.name)

    async def _await_kubelet(self) -> Identity:
        complained = 0.0
        while (found := identity_of(self.kubelet)) is None:
            if time.monotonic() - complained > PATIENCE_SECONDS:
                complained = time.monotonic()
                log.warning("there is no kubelet at %s yet", self.kubelet)
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def _register(self) -> None:
        request = api.plugin_messages["RegisterRequest"](
            version=api.VERSION,
            endpoint=self.resource.endpoint,
            resource_name=self.resource.name,
            options=self.resource.options(),
        )
        async with grpc.aio.insecure_channel(
            f"unix://{self.kubelet}", options=api.CHANNEL_OPTIONS
        ) as channel:
            register = api.caller(
                channel, api.REGISTRATION, api.REGISTRATION_METHODS, api.plugin_messages, "Register"
            )
            await register(request, timeout=REGISTER_SECONDS)

    async def _failed(self, error: grpc.aio.AioRpcError) -> None:
        now = time.monotonic()
        if error.code() in WAIT_FOR:
            await asyncio.sleep(LOOK_SECONDS)
            return
        log.error("%s: the kubelet refuses: %s", self.resource.name, error.details())
        self._failures.append(now)
        while self._failures and now - self._failures[0] > FAILURE_WINDOW:
            self._failures.popleft()
        if len(self._failures) >= FAILURES_MOST:
            raise KubeletRefuses(
                f"the kubelet has refused {self.resource.name} {len(self._failures)} times: {error.details()}"
            )
        await asyncio.sleep(min(30.0, LOOK_SECONDS * 2.0 ** (len(self._failures) - 2)))
