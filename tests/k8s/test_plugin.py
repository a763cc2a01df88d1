# SPDX-License-Identifier: Apache-2.0
"""The plugin before a kubelet that speaks the real protocol, with a real server behind it."""

from __future__ import annotations

import itertools
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from fake_kubelet import Endpoint, FakeKubelet
from orion_device_plugin import devices
from orion_raw_client import RawClient
from orion_server.status import query
from orion_server_fixtures import Server, wait_for
from plugin_process import PluginProcess

GPU, GMEM = "virtaitech.com/gpu", "virtaitech.com/gmem"
Start = Callable[..., PluginProcess]


@pytest.fixture
def kubelet(folder: Path) -> Iterator[FakeKubelet]:
    with FakeKubelet(folder / "kubelet") as kubelet:
        yield kubelet


def registered(kubelet: FakeKubelet, resource: str = GPU, seconds: float = 20.0) -> Endpoint:
    def listed() -> bool:
        return resource in kubelet.endpoints and bool(kubelet.endpoints[resource].devices)

    wait_for(listed, seconds, f"{resource} registered and listed")
    return kubelet.endpoints[resource]


def healths(endpoint: Endpoint) -> set[str]:
    return set(endpoint.devices.values())


def allocations(server: Server) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = query(server.address, request={"op": "allocations"})[
        "allocations"
    ]
    return rows


def get(plugin: PluginProcess, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{plugin.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, ""


# --- what is offered


def test_every_vgpu_is_offered_under_a_lasting_name(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin()
    endpoint = registered(kubelet)
    uuid = server.status()["devices"][0]["uuid"]
    assert endpoint.devices == {devices.vgpu_id(uuid, n): "Healthy" for n in range(8)}
    assert endpoint.options.pre_start_required
    assert endpoint.options.get_preferred_allocation_available


def test_container_gets_its_door_the_library_and_the_controller(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin("--controller", "172.17.0.1:9123")
    endpoint = registered(kubelet)
    ids = sorted(endpoint.devices)[2:4]
    (answer,) = endpoint.allocate(ids)
    (allocation,) = allocations(server)
    assert dict(answer.envs) == {
        "ORION_CONTROLLER": "172.17.0.1:9123",
        "ORION_VGPU_IDS": "2,3",
        "ORION_ALLOCATION": allocation["id"],
    }
    mounts = {m.container_path: m.host_path for m in answer.mounts}
    assert all(m.read_only for m in answer.mounts)
    assert not answer.devices
    assert mounts.pop("/run/orion") == allocation["directory"]
    assert set(mounts) == {
        "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
        "/usr/lib64/libcuda.so.1",
        "/usr/local/nvidia/lib64/libcuda.so.1",
    }
    (library,) = {Path(path) for path in mounts.values()}
    assert b"orion_shim_marker" in library.read_bytes()
    assert os.access(library, os.X_OK)
    with RawClient(Path(str(allocation["directory"]), "orion.sock")) as client:
        assert client.call("cuMemGetInfo_v2")[0] == 0
        assert server.status()["clients"][0]["vgpu"] in (2, 3)


def test_containers_of_one_request_get_doors_of_their_own(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin("--library-dir", "")
    endpoint = registered(kubelet)
    ids = sorted(endpoint.devices)
    answers = endpoint.allocate(ids[:1], ids[1:3])
    assert [[m.container_path for m in a.mounts] for a in answers] == [["/run/orion"]] * 2
    assert len({a.mounts[0].host_path for a in answers}) == 2
    assert len(allocations(server)) == 2


@pytest.mark.parametrize("ids", [["GPU-0::1"], [], ["gmem-1"]])
def test_strange_device_is_refused_with_a_sentence(
    kubelet: FakeKubelet, server: Server, start_plugin: Start, ids: list[str]
) -> None:
    start_plugin()
    endpoint = registered(kubelet)
    with pytest.raises(grpc.RpcError, match="is not among the 8 vGPUs here"):
        endpoint.allocate(ids)
    assert allocations(server) == []


def test_preference_is_answered(kubelet: FakeKubelet, start_plugin: Start) -> None:
    start_plugin()
    endpoint = registered(kubelet)
    ids = sorted(endpoint.devices)
    assert endpoint.prefer(ids[::-1], ids[5:6], 3) == [ids[5], ids[0], ids[1]]


def test_memory_as_a_second_resource_becomes_the_containers_limit(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin("--gmem")
    gpu, gmem = registered(kubelet), registered(kubelet, GMEM)
    assert len(gmem.devices) == 8
    vgpu, units = sorted(gpu.devices)[:1], sorted(gmem.devices)[:3]
    (answer,) = gmem.allocate(units)
    assert dict(answer.envs) == {"ORION_GMEM": "768"}
    assert not answer.mounts
    gpu.allocate(vgpu)
    kubelet.pods["ml", "train-0"] = {"main": {GPU: vgpu, GMEM: units}}
    gpu.start_container(vgpu)
    (row,) = allocations(server)
    assert row["memory"] == 768 << 20
    assert row["labels"] == {"namespace": "ml", "pod": "train-0", "container": "main"}
    with RawClient(Path(str(row["directory"]), "orion.sock"), gmem_mib=768) as client:
        assert client.welcome.memory_limit == 768 << 20
        labels = server.status()["clients"][0]["labels"]
        assert labels["pod"] == "train-0"


def test_thousand_vgpus_are_listed_and_given(folder: Path, kubelet: FakeKubelet) -> None:
    server = Server(folder / "big", "--device", "null", "--memory", "4G", "--vgpu", "1000")
    plugin = PluginProcess(folder, server.address)
    try:
        endpoint = registered(kubelet)
        assert len(endpoint.devices) == 1000
        endpoint.allocate(sorted(endpoint.devices))
        (row,) = allocations(server)
        assert row["memory"] == (4 << 30) // 1000 * 1000
    finally:
        plugin.stop()
        server.stop()


def test_thousand_vgpus_are_given_one_by_one(folder: Path, kubelet: FakeKubelet) -> None:
    """A thousand containers: each has its own door, memory and token, and the last one's works as the first one's."""
    server = Server(folder / "big", "--device", "null", "--memory", "4G", "--vgpu", "1000")
    plugin = PluginProcess(folder, server.address)
    try:
        endpoint = registered(kubelet)
        ids = sorted(endpoint.devices)
        for one in ids:
            endpoint.allocate([one])
        rows = allocations(server)
        given = [number for row in rows for number in next(iter(dict(row["vgpus"]).values()))]  # type: ignore[call-overload]
        assert sorted(given) == list(range(1000))
        assert len({row["directory"] for row in rows}) == 1000
        assert {row["memory"] for row in rows} == {(4 << 30) // 1000}
        for row in (rows[0], rows[-1]):
            with RawClient(Path(str(row["directory"]), "orion.sock")) as client:
                assert client.call("cuMemGetInfo_v2")[0] == 0
    finally:
        plugin.stop()
        server.stop()


# --- health


def test_devices_of_a_lost_server_are_ill_and_get_well_again(
    folder: Path, kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin()
    endpoint = registered(kubelet)
    before = dict(endpoint.devices)
    server.process.kill()
    wait_for(lambda: healths(endpoint) == {"Unhealthy"}, 30.0, "unhealthy")
    wait_for(lambda: not server.processes(), 10.0, "the end of the server")
    again = Server(folder / "s", "--device", "null", "--memory", "2G", "--vgpu", "8")
    try:
        wait_for(lambda: healths(endpoint) == {"Healthy"}, 30.0, "healthy")
        assert endpoint.devices == before
        assert kubelet.registrations == 1
        endpoint.allocate(sorted(before)[:1])
    finally:
        again.stop()


def test_container_waits_for_a_server_that_is_just_being_restarted(
    folder: Path, kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin()
    endpoint = registered(kubelet)
    server.process.kill()
    wait_for(lambda: not server.processes(), 10.0, "the end of the server")
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(endpoint.allocate, sorted(endpoint.devices)[:1])
        again = Server(folder / "s", "--device", "null", "--memory", "2G", "--vgpu", "8")
        try:
            assert len(answer.result(30)) == 1
            assert len(allocations(again)) == 1
        finally:
            again.stop()


def test_container_that_starts_again_finds_its_door(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin()
    endpoint = registered(kubelet)
    ids = sorted(endpoint.devices)[:2]
    endpoint.allocate(ids)
    (row,) = allocations(server)
    query(server.address, request={"op": "release", "allocation": row["id"]})
    assert not Path(str(row["directory"])).exists()
    endpoint.start_container(ids)
    assert Path(str(row["directory"]), "orion.sock").exists()


# --- who is restarted when


def test_kubelet_that_comes_later_is_found(folder: Path, start_plugin: Start) -> None:
    plugin = start_plugin()
    wait_for(lambda: "there is no kubelet" in plugin.text(), 20.0, "the complaint")
    with FakeKubelet(folder / "kubelet") as kubelet:
        assert healths(registered(kubelet)) == {"Healthy"}


def test_kubelet_that_starts_again_is_registered_with_again(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    start_plugin()
    first = registered(kubelet)
    ids = sorted(first.devices)
    first.allocate(ids[:1])
    for _ in range(3):
        kubelet.stop()
        kubelet.start()
        assert sorted(registered(kubelet).devices) == ids
    assert kubelet.registrations == 4
    assert len(allocations(server)) == 1  # containers outlive the kubelet


def test_kubelet_that_is_gone_for_a_while_leaves_its_socket(
    kubelet: FakeKubelet, start_plugin: Start
) -> None:
    plugin = start_plugin()
    registered(kubelet)
    kubelet.stop()
    kubelet.socket.touch()  # what a killed one leaves: nobody listens there
    wait_for(lambda: "was started again" in plugin.text(), 20.0, "the loss to be seen")
    kubelet.start()
    assert healths(registered(kubelet)) == {"Healthy"}
    assert plugin.process.poll() is None


def test_plugin_that_starts_again_is_known_again(
    kubelet: FakeKubelet, server: Server, start_plugin: Start
) -> None:
    first = start_plugin()
    endpoint = registered(kubelet)
    ids = sorted(endpoint.devices)
    endpoint.allocate(ids[:1])
    (row,) = allocations(server)
    assert first.stop() == 0
    assert endpoint.ended.wait(10)
    second = start_plugin()
    wait_for(lambda: kubelet.registrations == 2, 20.0, "the second registration")
    assert sorted(registered(kubelet).devices) == ids
    assert [r["id"] for r in allocations(server)] == [row["id"]]
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    start_plugin()
    wait_for(lambda: kubelet.registrations == 3, 20.0, "the third registration")


def all_orders() -> list[str]:
    """Of: the kubelet ends (k) and starts (K), the plugin ends (p) and starts (P)."""
    orders = ("".join(order) for order in itertools.permutations("kKpP"))
    return [o for o in orders if o.index("k") < o.index("K") and o.index("p") < o.index("P")]


@pytest.mark.parametrize("order", all_orders())
def test_containers_outlive_kubelet_and_plugin_in_whichever_order_they_start_again(
    kubelet: FakeKubelet, server: Server, start_plugin: Start, order: str
) -> None:
    plugin = start_plugin()
    endpoint = registered(kubelet)
    ids = sorted(endpoint.devices)
    endpoint.allocate(ids[:2])
    (row,) = allocations(server)
    with RawClient(Path(str(row["directory"]), "orion.sock")) as client:
        for step in order:
            if step == "k":
                kubelet.stop()
            elif step == "K":
                kubelet.start()
            elif step == "p":
                plugin.process.kill()
                plugin.process.wait()
            else:
                plugin = start_plugin()
            assert client.call("cuMemGetInfo_v2")[0] == 0
        endpoint = registered(kubelet)
        wait_for(lambda: healths(endpoint) == {"Healthy"}, 20.0, "healthy")
        assert sorted(endpoint.devices) == ids
        endpoint.start_container(ids[:2])  # the same container, once more
        endpoint.allocate(ids[2:3])  # and another one
        assert len(allocations(server)) == 2
        assert row["id"] in {r["id"] for r in allocations(server)}
        assert client.call("cuMemGetInfo_v2")[0] == 0
    assert plugin.process.poll() is None


def test_plugins_socket_that_is_removed_comes_back(
    kubelet: FakeKubelet, start_plugin: Start
) -> None:
    start_plugin()
    registered(kubelet)
    (kubelet.folder / "orion-gpu.sock").unlink()
    wait_for(lambda: kubelet.registrations == 2, 20.0, "the second registration")
    assert healths(registered(kubelet)) == {"Healthy"}


def test_kubelet_that_stops_listening_is_told_again(
    kubelet: FakeKubelet, start_plugin: Start
) -> None:
    plugin = start_plugin()
    registered(kubelet).watch.cancel()
    wait_for(lambda: kubelet.registrations == 2, 30.0, "the second registration")
    assert "does not listen any more" in plugin.text()


def test_slow_kubelet_is_waited_for(folder: Path, start_plugin: Start) -> None:
    with FakeKubelet(folder / "kubelet", delay=3.0) as kubelet:
        start_plugin()
        assert healths(registered(kubelet)) == {"Healthy"}
        assert kubelet.registrations == 1


def test_kubelet_of_another_version_is_named_and_the_plugin_ends(
    folder: Path, start_plugin: Start
) -> None:
    with FakeKubelet(folder / "kubelet", version="v2") as kubelet:
        plugin = start_plugin()
        assert plugin.process.wait(60) == 1
        assert kubelet.refused == 5
    assert "requested API version 'v1beta1' is not supported" in plugin.text().splitlines()[-1]


def test_server_that_comes_later_is_waited_for(folder: Path, kubelet: FakeKubelet) -> None:
    plugin = PluginProcess(folder, f"unix:{folder}/s/s.sock")
    try:
        wait_for(lambda: "no server answers" in plugin.text(), 20.0, "the complaint")
        assert kubelet.endpoints == {}  # a list without devices would be believed
        server = Server(folder / "s", "--device", "null", "--memory", "2G", "--vgpu", "8")
        try:
            assert len(registered(kubelet).devices) == 8
        finally:
            server.stop()
    finally:
        plugin.stop()


# --- what it says of itself


def test_probes_and_metrics(kubelet: FakeKubelet, server: Server, start_plugin: Start) -> None:
    plugin = start_plugin()
    endpoint = registered(kubelet)
    wait_for(lambda: get(plugin, "/readyz")[0] == 200, 10.0, "ready")
    assert get(plugin, "/livez")[0] == 200
    assert get(plugin, "/nowhere")[0] == 404
    ids = sorted(endpoint.devices)[:2]
    endpoint.allocate(ids)
    kubelet.pods["ml", "train-0"] = {"main": {GPU: ids}}
    endpoint.start_container(ids)
    text = get(plugin, "/metrics")[1]
    assert f'orion_plugin_devices{{health="healthy",resource="{GPU}"}} 8.0' in text
    assert f'orion_plugin_registrations_total{{resource="{GPU}"}} 1.0' in text
    assert 'namespace="ml",pod="train-0"} 2.0' in text
    kubelet.stop()
    kubelet.socket.unlink(missing_ok=True)
    wait_for(lambda: get(plugin, "/readyz")[0] == 503, 10.0, "not ready")
    assert get(plugin, "/livez")[0] == 200
