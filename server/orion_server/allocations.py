# SPDX-License-Identifier: Apache-2.0
"""Allocations: vGPUs set aside for one container, and a door of its own through which it reaches them.

The device plugin asks for one over the administrator's socket when the kubelet hands vGPUs to a container. It is a
directory, mounted read-only into that container as /run/orion: a socket and allocation.json. Whoever comes in by that
socket is that container, whatever it says; nobody else may reach the directory, since its parent is the server's alone.

The directories are also the record: a server that starts finds them and opens their doors again, so containers outlive
it. The same vGPUs always make the same directory, which lets a container that is started again find its door.
docs/plugin-protocol.md describes all of it for who writes the other side.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import errors, wire
from .clocks import Instant
from .errors import OrionServerError, Refusal
from .ledger import Device, Lease, open_lease, reserve
from .limits import Policy, limits_of_wishes
from .paths import SOCKET_NAME, listen
from .tokens import Token

log = logging.getLogger("orion.server")

SCHEMA = 1
FILE_NAME = "allocation.json"
FILE_MOST = 1 << 16  # bytes
ID = re.compile(r"[0-9a-f]{16}")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
LABELS = ("namespace", "pod", "container")


@dataclass
class Allocation:
    device: Device
    slots: tuple[int, ...]  # vGPUs of the device, rising
    directory: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    created: float = field(default_factory=time.time)  # for people
    begun: Instant = field(default_factory=Instant.now)
    memory: int | None = None  # bytes for all its processes; None: the slots' share of the device
    labels: dict[str, str] = field(default_factory=dict)  # whose it is, as the kubelet says
    listener: socket.socket | None = None

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def tenant(self) -> str | None:
        """With whom compiled kernels may be shared: the namespace, once it is known."""
        namespace = self.labels.get("namespace")
        return None if namespace is None else f"namespace-{namespace}"

    def budget(self) -> int:
        share = self.device.memory // self.device.slots * len(self.slots)
        return min(self.memory or share, self.device.memory)

    def open_lease(self, hello: wire.Hello, policy: Policy) -> Lease:
        """One of its vGPUs for a process; wishes are held within what it has. Refusal says what is used up."""
        taken = {s: self.device.leases[s] for s in self.slots if s in self.device.leases}
        if len(taken) == len(self.slots):
            raise Refusal(
                wire.STATUS_REFUSED,
                errors.DEVICE_UNAVAILABLE,
                f"this container's vGPUs ({len(self.slots)}) are in use, each by one process: end one of them, or ask "
                "for more virtaitech.com/gpu",
            )
        left = self.budget() - sum(lease.limit for lease in taken.values())
        wish = hello.gmem_mib << 20 or self.budget() // len(self.slots)
        if left <= 0:
            raise Refusal(
                wire.STATUS_REFUSED,
                errors.OUT_OF_MEMORY,
                f"this container's {self.budget() >> 20} MiB of device memory are promised to its other processes: "
                "set ORION_GMEM for each",
            )
        gmem_mib = max(min(wish, left) >> 20, 1)
        limits = limits_of_wishes(gmem_mib, hello.ratio, self.device.memory, policy)
        lease = open_lease(self.device, limits, hello.vgpu, among=self.slots)
        if wish > left:
            log.info(
                "allocation %s: ORION_GMEM=%d is more than it has, %d MiB are given",
                self.id,
                hello.gmem_mib,
                left >> 20,
            )
        return lease

    def kept(self) -> int:
        """Bytes that its processes have not been promised yet."""
        leases = (self.device.leases.get(slot) for slot in self.slots)
        return max(0, self.budget() - sum(lease.limit for lease in leases if lease is not None))

    def row(self, sessions: int) -> dict[str, Any]:
        return {
            "id": self.id,
            "directory": os.fspath(self.directory),
            "vgpus": {self.device.uuid: list(self.slots)},
            "memory": self.budget(),
            "labels": self.labels,
            "age": self.begun.age(),
            "sessions": sessions,
        }


def identity(vgpus: Mapping[str, list[int]]) -> str:
    """The name of the directory: the same for the same vGPUs."""
    text = json.dumps({uuid: sorted(slots) for uuid, slots in vgpus.items()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Allocations:
    def __init__(
        self,
        root: Path,
        device: Device,
        open_door: Callable[[socket.socket, Allocation], None],
        close_door: Callable[[socket.socket], None],
        end_sessions: Callable[[Allocation, str], None],
        count_sessions: Callable[[Allocation], int],
        endpoint: Callable[[], str | None],
    ) -> None:
        self._root = root
        self._device = device
        self._open_door = open_door
        self._close_door = close_door
        self._end_sessions = end_sessions
        self._count_sessions = count_sessions
        self._endpoint = endpoint
        self._all: dict[str, Allocation] = {}

    # --- start and stop

    def restore(self) -> None:
        """When the device is known: opens the doors of the last server's allocations again. What cannot be read, or is
        of another device, is left alone and said."""
        if not self._root.is_dir():
            return
        for directory in sorted(self._root.iterdir()):
            if not ID.fullmatch(directory.name) or directory.name in self._all:
                continue
            try:
                allocation = self._read(directory)
                allocation.listener = listen(directory / SOCKET_NAME, 0o666)
                self._write(allocation)  # the endpoint may be another one now
            except (OSError, ValueError, KeyError, TypeError, OrionServerError) as e:
                log.warning("allocation %s cannot be taken up again: %s", directory.name, e)
                continue
            self._keep(allocation)
        if self._all:
            log.info("%d allocations of the last server go on", len(self._all))

    def _read(self, directory: Path) -> Allocation:
        """Only the server writes here, but another version of it may have."""
        with open(directory / FILE_NAME, "rb") as file:
            found = json.loads(file.read(FILE_MOST))
        ((uuid, slots),) = found["vgpus"].items()
        if found["schema"] != SCHEMA or identity(found["vgpus"]) != directory.name:
            raise ValueError(f"its {FILE_NAME} is of another version or another allocation")
        if not all(isinstance(s, int) and 0 <= s < self._device.slots for s in slots) or not slots:
            raise ValueError(
                f"it holds vGPUs that this server does not have (VGPU={self._device.slots})"
            )
        if uuid != self._device.uuid:
            raise ValueError(f"its device {uuid} is not here")
        labels = {k: v for k, v in found["labels"].items() if k in LABELS and is_label(v)}
        secret = str(found["token"]).partition(".")[2]
        return Allocation(
            self._device, tuple(sorted(slots)), directory, secret, float(found["created"]),
            Instant.read(found.get("begun")), found["memory"], labels,
        )  # fmt: skip

    def close(self) -> None:
        """The directories stay for the next server."""
        for allocation in self._all.values():
            self._shut(allocation)
        self._all.clear()

    def memory_kept(self) -> int:
        """Bytes that containers may still ask for."""
        return sum(allocation.kept() for allocation in self._all.values())

    # --- who comes over TCP

    def find(self, token_id: str) -> Token | None:
        """The token in a container's allocation.json: see tokens.Tokens."""
        allocation = self._all.get(token_id)
        return Token(token_id, allocation.secret.encode()) if allocation is not None else None

    def of_token(self, token: Token | None) -> Allocation | None:
        """The container that has proved to know that token."""
        return self._all.get(token.id) if token is not None else None

    # --- what the plugin asks for

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """OrionServerError: what is wrong with the request."""
        operation = request["op"]
        if operation == "allocations":
            return {"allocations": [a.row(self._count_sessions(a)) for a in self._all.values()]}
        if operation == "allocate":
            allocation = self.allocate(request.get("vgpus"), request.get("fresh", True) is True)
        else:
            allocation = self._find(request.get("allocation"))
            if operation == "release":
                self.release(allocation.id, "its container is gone")
                return {"released": allocation.id}
            self.describe(allocation, request.get("labels"), request.get("memory"))
        return {"allocation": allocation.row(self._count_sessions(allocation))}

    def allocate(self, vgpus: object, fresh: bool) -> Allocation:
        """fresh: the kubelet hands these vGPUs out anew, so whatever held one of them is over. Not fresh: the container
        has them already and is about to start (again)."""
        slots = self._checked(vgpus)
        name = identity({self._device.uuid: list(slots)})
        if name in self._all and not fresh:
            return self._all[name]
        for other in [a for a in self._all.values() if set(a.slots) & set(slots)]:
            self._forget(other, "its vGPUs were given to another container")
            if other.id != name:
                self._remove(other)
        allocation = Allocation(self._device, slots, self._root / name)
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            allocation.directory.mkdir(exist_ok=True)
            allocation.directory.chmod(0o755)
            allocation.listener = listen(allocation.directory / SOCKET_NAME, 0o666)
            self._write(allocation)
        except OSError as e:
            raise OrionServerError(
                f"cannot make {allocation.directory}: {e.strerror}; the server must be able to write there"
            ) from e
        self._keep(allocation)
        log.info("allocation %s: vGPUs %s", name, ", ".join(map(str, slots)))
        return allocation

    def describe(self, allocation: Allocation, labels: object, memory: object) -> None:
        """Whose it is, and how much memory it may have beyond its share."""
        if labels is not None:
            if not isinstance(labels, dict) or not all(
                k in LABELS and is_label(v) for k, v in labels.items()
            ):
                raise OrionServerError(f"labels are {', '.join(LABELS)}, each a name of Kubernetes")
            allocation.labels = labels
        if memory is not None:
            if not isinstance(memory, int) or memory < 1 << 20:
                raise OrionServerError("memory is a number of bytes, one MiB at least")
            allocation.memory = memory
        self._write(allocation)

    def release(self, name: str, why: str) -> None:
        allocation = self._all[name]
        self._forget(allocation, why)
        self._remove(allocation)

    # --- helpers

    def _find(self, name: object) -> Allocation:
        allocation = self._all.get(name) if isinstance(name, str) else None
        if allocation is None:
            raise OrionServerError(f"there is no allocation {name!r}")
        return allocation

    def _checked(self, vgpus: object) -> tuple[int, ...]:
        device = self._device
        if not device.uuid:
            raise OrionServerError("the device is not known yet: ask again when the state is ready")
        if not isinstance(vgpus, dict) or len(vgpus) != 1:
            raise OrionServerError("vgpus is an object with one device: {UUID: [number, ...]}")
        ((uuid, slots),) = vgpus.items()
        if uuid != device.uuid:
            raise OrionServerError(f"there is no device {uuid} here, only {device.uuid}")
        if (
            not isinstance(slots, list)
            or not slots
            or len(set(map(str, slots))) != len(slots)
            or not all(type(s) is int and 0 <= s < device.slots for s in slots)
        ):
            raise OrionServerError(f"vGPUs are different numbers from 0 to {device.slots - 1}")
        return tuple(sorted(slots))

    def _keep(self, allocation: Allocation) -> None:
        self._all[allocation.id] = allocation
        reserve(self._device, allocation.slots)
        if allocation.listener is not None:
            self._open_door(allocation.listener, allocation)

    def _forget(self, allocation: Allocation, why: str) -> None:
        del self._all[allocation.id]
        self._device.reserved -= set(allocation.slots)
        self._shut(allocation)
        self._end_sessions(allocation, why)
        log.info("allocation %s has ended: %s", allocation.id, why)

    def _remove(self, allocation: Allocation) -> None:
        shutil.rmtree(allocation.directory, ignore_errors=True)

    def _shut(self, allocation: Allocation) -> None:
        """The socket's file stays where it is: a container that has it mounted sees the next one there."""
        if allocation.listener is not None:
            self._close_door(allocation.listener)
            allocation.listener.close()
            allocation.listener = None

    def _write(self, allocation: Allocation) -> None:
        """Readable for any user of the container; appears whole."""
        document = {
            "schema": SCHEMA,
            "id": allocation.id,
            "vgpus": {allocation.device.uuid: list(allocation.slots)},
            "endpoint": self._endpoint(),
            "token": f"{allocation.id}.{allocation.secret}",
            "created": allocation.created,
            "begun": allocation.begun.record(),
            "memory": allocation.memory,
            "labels": allocation.labels,
        }
        temporary = allocation.directory / f".{FILE_NAME}"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o644)
            json.dump(document, file)
        temporary.replace(allocation.directory / FILE_NAME)


def is_label(value: object) -> bool:
    return isinstance(value, str) and LABEL.fullmatch(value) is not None
