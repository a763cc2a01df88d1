# SPDX-License-Identifier: Apache-2.0
"""One client's session as the supervisor keeps it: its sockets, its worker, its lease and what became of it."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from . import devshm, errors, futex, messages, wire
from .allocations import Allocation
from .ledger import Lease
from .stats import Counters
from .tokens import Exchange
from .workers import Worker


class State(Enum):
    STARTING = "starting"  # the zygote forks, the worker prepares itself
    RUNNING = "running"
    ENDING = "ending"  # the worker is being killed or reaped
    ENDED = "ended"


def _cut_off(fd: int, at: int, size: int) -> None:
    """Whoever still has that end of the file mapped keeps addresses, not memory."""
    try:
        os.ftruncate(fd, at)
    except OSError:  # sealed, as all are that the client has mapped as well
        futex.drop_pages(fd, size, at)


@dataclass
class Session:
    worker: Worker
    client: socket.socket
    hello: wire.Hello
    pid: int  # the client's, by the kernel's word; 0: of a namespace we can't see
    uid: int
    lease: Lease
    transport: int
    allocation: Allocation | None = None  # whose container it is
    connected: float = field(default_factory=time.time)  # for people
    state: State = State.STARTING
    client_pidfd: int = -1
    reply_fd: int = -1
    devshm_names: tuple[str, ...] = ()
    range_base: int = 0
    arena_bytes: int = 0
    extents: dict[int, int] = field(default_factory=dict)  # address -> descriptor
    exposed: set[int] = field(default_factory=set)  # heap extents that the client has mapped
    shared: dict[int, None] = field(default_factory=dict)  # see ipc.py: numbers, in order
    opened: dict[tuple[int, int], None] = field(default_factory=dict)  # number and party
    kept: set[int] = field(default_factory=set)  # extents that other clients have opened
    since: float = field(default_factory=time.monotonic)
    told_to_wait: float = field(default_factory=time.monotonic)  # that its worker is starting
    token_id: str = ""  # of a lease that a controller gave
    used: bool = False  # its client got its segments or its stream, and can use them
    exchange: Exchange | None = None  # the client has proved a token; the welcome is sealed in turn
    tls: bool = False
    key: bytes = b""  # of a session over TLS or UCX
    offers: dict[int, tuple[int, int]] = field(default_factory=dict)  # see adoption.py
    slot_fd: int = -1  # what the worker may fill for the object cache
    slot_bytes: int = 0
    client_gone: bool = False
    goodbye: bool = False
    fault: tuple[int, str] | None = None
    error: str | None = None
    ended: float = 0.0
    busy_seconds: float = 0.0  # of device time, when it has ended
    logged: int = 0
    last: Counters = field(default_factory=Counters)

    @property
    def id(self) -> int:
        return self.worker.id

    @property
    def on_socket(self) -> bool:
        """The client's socket is the worker's: nobody else may read it."""
        return self.transport in (wire.TRANSPORT_TCP, wire.TRANSPORT_UCX)

    @property
    def tenant(self) -> str | None:
        """With whom it may share compiled kernels. None: nobody vouches for it, it could not be told from another."""
        if self.allocation is not None:
            return self.allocation.tenant
        return None if self.uid < 0 else str(self.uid)

    @property
    def ipc_group(self) -> str | None:
        """With whom it may share memory and events: its container, elsewhere its user. None: with nobody."""
        if self.allocation is not None:
            return f"container-{self.allocation.id}"
        return None if self.uid < 0 else str(self.uid)

    @property
    def seconds(self) -> float:
        """For how long it has been here, or was."""
        return (self.ended or time.monotonic()) - self.since

    def counters(self) -> Counters:
        if self.state is not State.ENDED:
            self.last = self.worker.stats.read(memory_most=self.lease.granted + self.lease.limit)
        return self.last

    def blame(self, result: int, why: str) -> None:
        """What ends it, as an epitaph for its client. The first reason stays."""
        self.fault = self.fault or (result, why)

    def cause(self) -> tuple[int, str] | None:
        """Why the worker has ended, as an epitaph for the client; None when it ended in order."""
        if self.fault is not None:
            return self.fault
        status = self.worker.exit_status
        if self.goodbye or status == 0:
            return None
        if status is None:
            return errors.DEVICE_UNAVAILABLE, "the server's process that served this client is gone"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = (
                signal.Signals(number).name
                if number in signal.Signals._value2member_map_
                else str(number)
            )
            if number in (signal.SIGSEGV, signal.SIGBUS):
                return (
                    errors.ILLEGAL_ADDRESS,
                    f"the worker was ended by {name}: a kernel used an illegal address",
                )
            return errors.LAUNCH_FAILED, f"the worker was ended by {name} (signal {number})"
        return errors.LAUNCH_FAILED, f"the worker ended with code {os.WEXITSTATUS(status)}"

    def notify(self, data: bytes, fds: list[int] | None = None) -> bool:
        """To the client, never blocking: one that does not read its socket loses its session."""
        if self.client_gone:
            return False
        try:
            return messages.send_packet(self.client, data, fds) == len(data)
        except OSError:
            return False

    def release_extent(self, address: int, size: int) -> None:
        """It, or its end, is free again."""
        base = self.lease.extent_that_ends(address, size)
        if base is None or not self.lease.release(address, size):
            return
        fd = self.extents[base]
        if base != address:
            _cut_off(fd, address - base, size)
            return
        del self.extents[base]
        self.exposed.discard(base)
        if base in self.kept:
            self.kept.discard(base)
        else:
            _cut_off(fd, 0, size)
        os.close(fd)

    def unlink_segments(self) -> None:
        """/dev/shm mode: at the latest when the session ends."""
        devshm.unlink(self.devshm_names)
        self.devshm_names = ()

    def close(self) -> None:
        """Everything goes; the last counters and the error stay for the record."""
        if self.state is State.ENDED:
            return
        self.counters()
        self.state = State.ENDED
        self.ended = time.monotonic()
        for address, size in list(self.lease.extents.items()):
            self.release_extent(address, size)
        self.lease.close()
        if self.reply_fd >= 0:
            futex.wake_reply_segment(self.reply_fd)
        for fd in (self.client_pidfd, self.reply_fd, self.slot_fd, *self.extents.values()):
            if fd >= 0:
                os.close(fd)
        self.extents.clear()
        self.unlink_segments()
        for fd, _ in self.offers.values():
            os.close(fd)
        self.offers.clear()
        self.client.close()
        self.worker.close()

    def row(self) -> dict[str, Any]:
        """This session in status and report."""
        counters = self.counters()
        alive = self.state is not State.ENDED
        return {
            "session": self.id,
            "pid": self.hello.pid or self.pid,  # as the program sees itself
            "host_pid": self.pid or None,  # as this host does
            "worker_pid": self.worker.pid or None,  # whoever signals 0 signals himself
            "uid": self.uid if self.uid >= 0 else None,
            "command": self.hello.command,
            "device": self.lease.device.index,
            "device_name": self.lease.device.name,
            "token": self.token_id or None,
            "vgpu": self.lease.slot,
            "ratio": self.lease.limits.ratio,
            "mode": self.lease.limits.mode.value,
            "memory_used": counters.memory_used if alive else 0,
            "memory_peak": counters.memory_peak,
            "memory_limit": self.lease.limit,
            "calls": counters.calls,
            "bytes": counters.bytes,
            "kernels": counters.kernels,
            "transport": "tls" if self.tls else wire.TRANSPORT_NAMES.get(self.transport, "?"),
            "connected": self.connected,
            "seconds": round(self.seconds, 6),
            "state": self.state.value,
            "error": self.error,
            "allocation": self.allocation.id if self.allocation else None,
            "labels": self.allocation.labels if self.allocation else {},
            "busy_seconds": self.busy_seconds,
        }


def answer(
    session: Session, question: messages.Message, result: int, size: int = 0, fd: int = -1
) -> None:
    """A worker that does not take its answers is stuck for good: it is killed."""
    reply = messages.Message(question.kind, question.id, result, question.a, size)
    try:
        messages.send(session.worker.control, reply, [fd] if fd >= 0 else None)
    except OSError:
        session.worker.kill()
