# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the server's package, so that the commands can be tested alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def status_of(address: str, clients: int = 1) -> dict[str, Any]:
    """What a server says of itself."""
    return {
        "schema": 1,
        "server": {"address": address, "pid": 7, "version": "1", "started": 1.0, "uptime": 2.0},
        "devices": [
            {
                "index": 0,
                "name": "Orion CPU device",
                "uuid": "GPU-0",
                "kind": "cpu",
                "memory_total": 1 << 30,
                "memory_used": 4096,
                "compute_capability": "8.0",
                "clients": clients,
            }
        ],
        "clients": [
            {
                "session": 1,
                "pid": 4242,
                "worker_pid": 4243,
                "uid": 0,
                "command": "vectorAdd",
                "device": 0,
                "memory_used": 4096,
                "memory_limit": 1 << 30,
                "calls": 17,
                "bytes": 600000,
                "kernels": 1,
                "transport": "shm",
                "connected": 1.0,
                "seconds": 2.5,
            }
        ][:clients],
        "totals": {"sessions": 1, "calls": 17, "bytes": 600000, "kernels": 1, "memory_peak": 4096},
    }


@dataclass
class FakeEmbedded:
    """A private server that only remembers."""

    address: str = "unix:/nowhere/private.sock"
    devices: list[dict[str, Any]] = field(
        default_factory=lambda: status_of("unix:/nowhere/private.sock")["devices"]
    )
    token: str | None = None
    stops: int = 0

    def status(self) -> dict[str, Any]:
        """As the real one."""
        return status_of(self.address)

    def stop(self) -> dict[str, Any]:
        """Counts; may be called again."""
        self.stops += 1
        return {"schema": 1, "sessions": [], "totals": self.status()["totals"]}

    def __enter__(self) -> FakeEmbedded:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()


@dataclass
class FakeServer:
    """What the fake package was asked, and what it shall answer."""

    embedded: FakeEmbedded = field(default_factory=FakeEmbedded)
    started: list[dict[str, Any]] = field(default_factory=list)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    refuse: str = ""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: dict[str, Any] = field(default_factory=dict)


class FakeError(Exception):
    """Stands for orion_server.errors.OrionServerError."""


@pytest.fixture
def fake_server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """Puts the stand-in in place of orion_server."""
    fake = FakeServer()

    def begin(**wishes: Any) -> FakeEmbedded:
        if fake.refuse:
            raise FakeError(fake.refuse)
        fake.started.append(wishes)
        return fake.embedded

    def query(
        address: str, timeout: float = 2.0, request: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        if address not in fake.statuses:
            raise ConnectionRefusedError("connection refused")
        if request is None:
            return fake.statuses[address]
        fake.requests.append((address, request))
        if fake.refuse:
            raise FakeError(fake.refuse)
        return fake.answer

    contents = {
        "embedded": {"start": begin},
        "errors": {"OrionServerError": FakeError},
        "drivers": {"choose": lambda device: "cpu" if device == "auto" else device},
        "paths": {
            "running_addresses": lambda: list(fake.statuses),
            "default_address": lambda: "unix:/nowhere/default.sock",
        },
        "status": {"query": query},
    }
    package = ModuleType("orion_server")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "orion_server", package)
    for name, members in contents.items():
        module = ModuleType(f"orion_server.{name}")
        for member, value in members.items():
            setattr(module, member, value)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(package, name, module, raising=False)
    return fake


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with something named libcuda.so.1."""
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "libcuda.so.1").write_bytes(b"\x7fELF orion_shim_marker")
    monkeypatch.setenv("ORION_LIBRARY_DIR", str(folder))
    monkeypatch.delenv("ORION_SERVER", raising=False)
    return folder
