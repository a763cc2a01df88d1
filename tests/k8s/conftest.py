# SPDX-License-Identifier: Apache-2.0
"""A real orion-server, the real device plugin, and a kubelet that is not one."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "server")]
sys.path.append(str(HERE.parents[1] / "scripts"))  # dockerfile

from orion_server_fixtures import Server  # noqa: E402
from plugin_process import PluginProcess  # noqa: E402


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: sockets lie deep in it."""
    made = Path(tempfile.mkdtemp(prefix="ok-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    """Eight vGPUs of the null device, 2 GiB."""
    server = Server(folder / "s", "--device", "null", "--memory", "2G", "--vgpu", "8")
    yield server
    server.stop()


@pytest.fixture
def start_plugin(folder: Path, server: Server) -> Iterator[Callable[..., PluginProcess]]:
    started: list[PluginProcess] = []

    def start(*arguments: str, **environment: str) -> PluginProcess:
        (folder / "kubelet").mkdir(exist_ok=True)
        started.append(PluginProcess(folder, server.address, *arguments, **environment))
        return started[-1]

    yield start
    for plugin in started:
        plugin.stop()
