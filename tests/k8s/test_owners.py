# SPDX-License-Identifier: Apache-2.0
"""Whose allocations are, by PodResources, and what becomes of those that are nobody's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_kubelet import FakeKubelet
from orion_device_plugin import devices
from orion_device_plugin.plugin import Owners
from orion_device_plugin.server import Server as ServerLine
from orion_raw_client import RawClient
from orion_server_fixtures import Server

GPU = "virtaitech.com/gpu"


class Books:
    def __init__(self, server: Server, kubelet: FakeKubelet) -> None:
        self.kubelet = kubelet
        self.line = ServerLine(server.address)
        self.owners = Owners(self.line, kubelet.pod_socket, GPU, None)
        self.owners.GRACE = 0.0
        self.uuid = server.status()["devices"][0]["uuid"]

    def allocate(self, *numbers: int) -> dict[str, Any]:
        return asyncio.run(self.line.allocate({self.uuid: list(numbers)}, fresh=True))

    def look(self) -> None:
        asyncio.run(self.owners.look())

    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["id"]: row for row in asyncio.run(self.line.allocations())}

    def pod(self, name: str, *numbers: int) -> None:
        ids = [devices.vgpu_id(self.uuid, n) for n in numbers]
        self.kubelet.pods["ml", name] = {"main": {GPU: ids}}


@pytest.fixture
def books(folder: Path, server: Server) -> Iterator[Books]:
    with FakeKubelet(folder / "kubelet") as kubelet:
        yield Books(server, kubelet)


def test_owner_is_told_to_the_server(books: Books) -> None:
    row = books.allocate(1, 2)
    books.pod("train-0", 2, 1)
    books.look()
    labels = {"namespace": "ml", "pod": "train-0", "container": "main"}
    assert books.rows()[row["id"]]["labels"] == labels
    assert books.owners.known[row["id"]].pod == "train-0"


def test_allocation_whose_pod_is_gone_is_released(books: Books) -> None:
    kept, lost = books.allocate(0), books.allocate(1)
    books.pod("a", 0)
    books.pod("b", 1)
    books.look()
    del books.kubelet.pods["ml", "b"]
    for _ in range(Owners.MISSES - 1):
        books.look()
        assert set(books.rows()) == {kept["id"], lost["id"]}  # a list may be late
    books.look()
    assert set(books.rows()) == {kept["id"]}
    assert set(books.owners.known) == {kept["id"]}


def test_allocation_that_somebody_uses_is_kept(books: Books) -> None:
    row = books.allocate(3)
    with RawClient(Path(row["directory"], "orion.sock")):
        for _ in range(Owners.MISSES + 1):
            books.look()
        assert set(books.rows()) == {row["id"]}


def test_new_allocation_is_given_time_to_be_listed(books: Books) -> None:
    books.owners.GRACE = 3600.0
    row = books.allocate(3)
    for _ in range(Owners.MISSES + 1):
        books.look()
    assert set(books.rows()) == {row["id"]}


def test_silent_kubelet_releases_nothing_and_is_complained_of_once(
    books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    row = books.allocate(3)
    books.kubelet.stop()
    for _ in range(Owners.MISSES + 1):
        books.look()
    assert set(books.rows()) == {row["id"]}
    assert len([r for r in caplog.records if "whose devices are whose" in r.message]) == 1


def test_same_vgpus_in_a_part_of_a_container_are_not_its_allocation(books: Books) -> None:
    row = books.allocate(4)
    books.pod("train-0", 4, 5)
    books.look()
    assert books.rows()[row["id"]]["labels"] == {}
