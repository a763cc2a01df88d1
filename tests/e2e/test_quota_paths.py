# SPDX-License-Identifier: Apache-2.0
"""The limit as programs meet it: by each function of the driver API that gives memory, exact, and free at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from allocation_paths import PATHS, REFUSED
from e2e_support import run

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from orion_server_fixtures import Server

HERE = Path(__file__).resolve().parent
MIB = 1 << 20
LIMIT = 32 * MIB
OUT_OF_MEMORY, NOT_SUPPORTED = 2, 801

Said = list[tuple[str, int, int, int]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ("--device", "cpu", "--threads", "1", "--memory", "256M")
    running = Server(tmp_path_factory.mktemp("server"), *options)
    yield running
    running.stop()
    assert not running.processes()


@pytest.fixture
def act(environment: dict[str, str], server: Server, libcuda: Path) -> Callable[[str], Said]:
    """Runs the program; afterwards all is free, though it has freed nothing."""
    of_client = {
        **environment,
        "ORION_SERVER": server.address,
        "ORION_GMEM": "32",
        "LD_LIBRARY_PATH": str(libcuda.parent),
    }

    def one(path: str) -> Said:
        done = run([sys.executable, HERE / "allocation_paths.py", path], of_client)
        assert done.code == 0, done.said()
        server.wait_idle(30.0)
        device = server.status()["devices"][0]
        assert (device["memory_used"], device["memory_granted"]) == (0, 0)
        return [tuple(json.loads(line)) for line in done.out.splitlines()]

    return one


@pytest.mark.parametrize("path", PATHS)
def test_no_path_passes_the_limit_and_info_is_exact(act: Callable[[str], Said], path: str) -> None:
    assert act(path) == [
        (str(20 * MIB), 0, 12 * MIB, LIMIT),
        (str(14 * MIB), OUT_OF_MEMORY, 12 * MIB, LIMIT),
        (str(12 * MIB), 0, 0, LIMIT),
        ("512", OUT_OF_MEMORY, 0, LIMIT),
        ("back", 0, 12 * MIB, LIMIT),
        ("back", 0, LIMIT, LIMIT),
        ("all of it", 0, 0, LIMIT),
    ]


def test_all_paths_share_one_limit_and_leave_it_whole(act: Callable[[str], Said]) -> None:
    """Extents of one kind would be in the way of another, if they were kept."""
    said = act("mixed")
    whole, parts, over = said[: 2 * len(PATHS)], said[2 * len(PATHS) : -len(PATHS)], said[-8:]
    assert [(result, free) for _, result, free, _ in whole] == [(0, 0)] * len(whole)
    assert [(result, free) for _, result, free, _ in parts] == [
        (0, (24 - 8 * i) * MIB) for i in range(4)
    ]
    assert [result for _, result, _, _ in over] == [OUT_OF_MEMORY] * len(PATHS)


def test_last_two_megabytes_can_be_pinned(act: Callable[[str], Said]) -> None:
    assert act("last") == [
        ("cuMemAlloc", 0, 2 * MIB, LIMIT),
        ("cuMemHostAlloc", 0, 0, LIMIT),
        ("cuMemAllocManaged", 0, 0, LIMIT),  # beside the other, in the same extent
    ]


def test_what_is_not_served_takes_nothing(act: Callable[[str], Said]) -> None:
    """Arrays, virtual memory, further pools, graphs."""
    assert act("refused") == [(name, NOT_SUPPORTED, LIMIT, LIMIT) for name in REFUSED]
