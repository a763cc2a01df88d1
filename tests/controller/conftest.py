# SPDX-License-Identifier: Apache-2.0
"""Controllers, and servers that register with them; the tests' own helpers are found beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "server")]
pytest.importorskip("orion_controller", reason="orion_controller is not installed")

from controller_processes import ControllerProcess, live_servers, wait_for  # noqa: E402
from orion_server_fixtures import Server  # noqa: E402


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path / "controller")
    yield running
    running.stop()


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(controller: ControllerProcess, *arguments: str, **environment: str) -> Server:
        options = ("--device", "null", "--memory", "256M", "--vgpu", "2", *arguments)
        server = Server(
            tmp_path / f"server{len(made)}",
            *options,
            ORION_CONTROLLER=controller.address,
            **environment,
        )
        made.append(server)
        wait_for(lambda: live_servers(controller) == len(made), "the server registers")
        return server

    yield make
    for server in made:
        server.stop()
        assert not server.processes()
