# SPDX-License-Identifier: Apache-2.0
"""The supervisor: puts a server together, runs its loop and takes it down again.

One thread, one loop, the standard library alone. No byte of a client is parsed in this process beyond its fixed-size
hello, no image and no kernel; data never passes through. Everything a peer sends is bounded, nothing waits for a peer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from . import errors, futex, zygote
from .allocations import Allocation, Allocations
from .cache import ObjectCache
from .config import Config, default_memory
from .control import ControlPort, answer
from .devshm import Sweeper
from .exporter import Exporter
from .grants import Grants
from .greeter import Greeter
from .ipc import IpcTable
from .lease_tokens import TokensOf
from .leasing import Leasing
from .ledger import Device
from .loop import Loop
from .paths import allocations_path, control_path, identity_of, listen
from .session import Session
from .sessions import Sessions
from .shares import Shares
from .tokens import TokenFile, Tokens
from .waiting_room import WaitingRoom
from .workers import Workers

log = logging.getLogger("orion.server")

STOP_SECONDS = 2.0


class Supervisor:
    def __init__(self, config: Config) -> None:
        self.config = config
        # a GPU's memory is known when its driver has been asked
        self.memory = config.memory or (1 << 50 if config.device == "cuda" else default_memory())
        self.started = time.time()  # for people
        self.since = time.monotonic()
        self.loop = Loop()
        self.sweeper = Sweeper(self.loop)
        self.sessions = Sessions(self)
        self.device = Device(
            0,
            config.device,
            f"Orion {config.device} device",
            "",
            self.memory,
            config.vgpu,
            overcommit=config.sharing.overcommit,
        )
        self.shares = Shares(config.device)
        self.draining = self.stop_when_empty = False
        self.caches: dict[str, ObjectCache] = {}
        self.ipc = IpcTable()
        self.grants = Grants(self._cache_of, self.ipc.release)
        self.stopping = False
        self.leasing = Leasing(self, config)
        self.allocations = Allocations(
            allocations_path(config.socket),
            self.device,
            lambda listener, allocation: self.greeter.listen(listener, allocation=allocation),
            lambda listener: self.greeter.stop_listening(listener),
            self._end_allocation,
            self._count_allocation,
            lambda: self.endpoint,
        )
        self.tokens = self._issuers()
        self.waiting = WaitingRoom(self.loop, self.sessions.open, self.leasing.give_back)
        address = f"unix:{config.socket}"
        self.exporter = Exporter(self.loop, address, config.metrics) if config.metrics else None
        self.greeter = Greeter(self.loop, config, self.tokens, self.sessions.admit)
        paths = (config.socket, control_path(config.socket))
        self.workers = Workers(
            self.loop,
            zygote.ZygoteConfig(
                config.device, self.memory, config.threads, tuple(map(os.fspath, paths))
            ),
            self._on_warm,
            self.sessions.on_exit,
            self._on_zygote_lost,
        )

    def _issuers(self) -> Tokens:
        """Of the tokens that clients may come with."""
        issuers: list[Tokens] = [self.allocations]
        if self.config.controller:
            issuers.append(self.leasing.tokens)
        if self.config.token_file is not None:
            issuers.append(TokenFile(self.config.token_file))
        return TokensOf(*issuers)

    # --- start and stop

    def open(self) -> None:
        """Sockets are ready when this returns; the zygote may still be importing."""
        path = self.config.socket
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.greeter.listen(listen(path, self.config.mode))
        self.control = ControlPort(
            listen(control_path(path), 0o600), self.loop, lambda request: answer(self, request)
        )
        self.bound = {p: identity_of(p) for p in (path, control_path(path))}
        if self.config.bind is not None:
            self.greeter.listen_tcp(*self.config.bind)
        self.workers.open()
        if self.exporter is not None:
            self.exporter.open()

    def run(self) -> None:
        """Until stop(). Every turn is short: no handler waits for anybody."""
        while not self.stopping:
            due = min(
                self.greeter.next_deadline(),
                self.waiting.next_deadline(),
                self.workers.next_deadline(),
                self.shares.due,
            )
            self.loop.turn(max(0.0, min(1.0, due - time.monotonic())))
            self.shares.turn(time.monotonic())
            self._expire()

    def stop(self) -> None:
        self.stopping = True

    def close(self) -> None:
        """Clients get an epitaph, workers die, sockets and their files go. Bounded by a few seconds."""
        self.stopping = True
        self.allocations.close()
        self.greeter.close()
        self.waiting.close()
        for session in self.sessions:
            session.blame(errors.DEVICE_UNAVAILABLE, "the server was stopped")
            self.sessions.end(session)
        deadline = time.monotonic() + STOP_SECONDS
        while self.sessions and time.monotonic() < deadline:
            self.loop.turn(0.05)
        for session in self.sessions:
            self.sessions.finish(session)
        if self.exporter is not None:
            self.exporter.close()
        self.control.close()
        self.leasing.close()
        self.sweeper.close(STOP_SECONDS)
        for path, identity in self.bound.items():
            with contextlib.suppress(OSError):
                # somebody may have removed it, and another server bound it anew
                if identity_of(path) == identity:
                    path.unlink()
        self.workers.close()
        self.ipc.close()
        self.shares.close()
        self.loop.close()

    def _expire(self) -> None:
        now = time.monotonic()
        self.greeter.expire(now)
        self.waiting.expire(now)
        if self.exporter is not None:
            self.exporter.expire(now)
        self.workers.expire(now)
        self.leasing.turn(now)
        self.shares.note_all(now)
        self.sessions.expire(now)
        self.ipc.expire(now)

    def look_if_empty(self) -> None:
        """A drained server may be meant to end with its last client."""
        if self.stop_when_empty and not self.sessions:
            log.info("the last client has gone; this server was drained and ends")
            self.stop()

    # --- the workers

    def _on_warm(self, info: dict[str, Any]) -> None:
        self.device.name = info["name"]
        self.device.uuid = info["uuid"]
        self.device.compute_capability = info["compute_capability"]
        # a GPU runs one client at a time
        self.device.threads = 1 if self.config.device == "cuda" else info["multiprocessors"]
        self.shares.set_threads(self.device.threads)
        self.memory = self.device.memory = min(self.memory, info["memory"])
        self.allocations.restore()
        self.sweeper.sweep()  # what those left who were killed with their server, or with their zygote
        log.info(
            "ready: %s, %d MiB, %d vGPUs", self.device.name, self.memory >> 20, self.device.slots
        )

    def _on_zygote_lost(self) -> None:
        self.sessions.lose_all(self.workers.problem or "the server's zygote was killed")

    def _cache_of(self, session: Session) -> ObjectCache | None:
        """The object cache of its tenant; None: it shares none with anybody."""
        tenant = session.tenant
        if tenant is None:
            return None
        if tenant not in self.caches:
            self.caches[tenant] = ObjectCache(
                self.config.state_dir, tenant, self.config.cache_bytes
            )
        return self.caches[tenant]

    # --- containers

    def _end_allocation(self, allocation: Allocation, why: str) -> None:
        for session in self.sessions:
            if session.allocation is allocation:
                session.blame(errors.DEVICE_UNAVAILABLE, why)
                session.worker.kill()

    def _count_allocation(self, allocation: Allocation) -> int:
        return sum(s.allocation is allocation for s in self.sessions)

    @property
    def endpoint(self) -> str | None:
        """ADDR:PORT of the TCP socket; None without one."""
        bind = self.config.bind
        return f"{bind[0]}:{self.greeter.tcp_port}" if bind else None


def run(config: Config, ready: Callable[[Supervisor], None] | None = None) -> None:
    """A supervisor in this process until SIGTERM or SIGINT."""
    supervisor = Supervisor(config)
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    supervisor.loop.watch(wake, supervisor.stop)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    raise_file_limit()
    futex.adopt_orphans()
    supervisor.open()
    try:
        if ready is not None:
            ready(supervisor)
        supervisor.run()
    finally:
        supervisor.close()


def raise_file_limit() -> None:
    """Each extent of each client is a descriptor."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
