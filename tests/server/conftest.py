# SPDX-License-Identifier: Apache-2.0
"""Servers of the null and the CPU device, one for each module of tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from orion_server_fixtures import Server


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*arguments: str, **environment: str) -> Server:
        made.append(Server(tmp_path / f"server{len(made)}", *arguments, **environment))
        return made[-1]

    yield make
    for server in made:
        server.stop()
        assert not server.processes()


@pytest.fixture(scope="module")
def null_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(
        tmp_path_factory.mktemp("null"), "--device", "null", "--memory", "256M", "--vgpu", "8"
    )
    yield server
    server.stop()
    assert not server.processes()


@pytest.fixture(scope="module")
def cpu_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("llvmlite", reason="the CPU device needs llvmlite")
    server = Server(tmp_path_factory.mktemp("cpu"), "--device", "cpu", "--memory", "256M")
    yield server
    server.stop()
    assert not server.processes()
