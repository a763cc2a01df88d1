# SPDX-License-Identifier: Apache-2.0
"""Real containers, started as the manifests say: server, plugin and programs, and how they reach each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes.util import find_library
from datetime import datetime
from pathlib import Path
from typing import Any

import node as nodes
import pytest
from fake_kubelet import Endpoint, FakeKubelet
from node import BRIDGE, Container, Node
from orion_server import ucx_wheel
from orion_server.status import query
from orion_server_fixtures import wait_for

yaml = pytest.importorskip("yaml", reason="needs PyYAML")

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))
import manifests  # noqa: E402
import nvcc as nvcc_finder  # noqa: E402

GPU = "virtaitech.com/gpu"
ORION = Path(sys.executable).with_name("orion")
# containers have this machine's libraries
OVER_TCP = "tls" if find_library("ssl") else "tcp"
CLASSIC = {"ORION_CONTROLLER": f"{BRIDGE}:9123", "ORION_INSECURE_TCP": "1"}
why_not = nodes.missing()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(why_not is not None, reason=str(why_not)),
    pytest.mark.timeout(300),
]


def pod_of(path: str, name: str, *components: str) -> dict[str, Any]:
    overlays = manifests.DEPLOY / "overlays"
    text = (
        manifests.compose(manifests.DEPLOY / path, [overlays / one for one in components])
        if components
        else manifests.render(manifests.DEPLOY / path)
    )
    for one in yaml.safe_load_all(text):
        if one["metadata"]["name"] == name:
            spec: dict[str, Any] = one["spec"]["template"]["spec"]
            return spec
    raise AssertionError(f"no {name} in {path}")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with programs as users have them."""
    folder = tmp_path_factory.mktemp("programs")
    try:
        nvcc = nvcc_finder.find_nvcc()
    except nvcc_finder.NvccError as error:
        pytest.skip(str(error))
    for source in (
        ROOT / "examples" / "vectorAdd.cu",
        ROOT / "tests" / "e2e" / "programs" / "faults.cu",
    ):
        nvcc.compile(source, folder / source.stem, "static", (), nvcc_finder.PTX_ONLY, [])
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    return folder


class Cluster:
    """One node with its server, as an overlay has it, and on request the plugin behind a kubelet."""

    def __init__(
        self, overlay: str, programs: Path, server: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.node = Node()
        self.programs = programs
        self.kubelet: FakeKubelet | None = None
        pod = server or pod_of(f"overlays/{overlay}", "orion-server")
        user = pod["containers"][0]["securityContext"]["runAsUser"]
        os.chown(self.node.run_folder, user, user)
        self.server = self.node.start_pod(pod, "server", **options)
        self.address = f"unix:{self.node.run_folder}/orion.sock"
        try:
            self.server.expect("ready: ")
        except BaseException:
            self.close()
            raise

    def start_plugin(self) -> Endpoint:
        self.kubelet = FakeKubelet(self.node.kubelet_folder).start()
        pod = pod_of("overlays/shm-memfd", "orion-plugin")
        self.plugin = self.node.start_pod(pod, "plugin")
        kubelet = self.kubelet

        def listed() -> bool:
            return GPU in kubelet.endpoints and bool(kubelet.endpoints[GPU].devices)

        wait_for(listed, 30.0, "the plugin at the kubelet")
        return kubelet.endpoints[GPU]

    def start_controller(self) -> None:
        """And waits until the server is known to it."""
        pod = pod_of("overlays/shm-hostipc", "orion-controller")
        self.controller = self.node.start_pod(pod, "controller")
        wait_for(lambda: bool(self.ask_controller("devices")), 30.0, "the server at the controller")

    def ask_controller(self, what: str) -> list[dict[str, Any]]:
        """One of its lists; none while it does not answer."""
        url = f"http://127.0.0.1:9123/v1/{what}"
        ask = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode())"
        done = self.node.inside(sys.executable, "-c", ask, check=False)
        found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
        return found

    def end_of_lease(self, lease: str) -> float:
        """When the controller freed it, by its own clock, which is ours: asking takes time itself."""
        said = self.controller.expect('"event": "freed"', f'"lease": "{lease}"')
        time_of = json.loads(said.splitlines()[-1])["time"]
        return datetime.fromisoformat(time_of.replace("Z", "+00:00")).timestamp()

    def clients(self) -> list[dict[str, Any]]:
        command = [ORION, "smi", "--json", "--server", self.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)["clients"]
        return found

    def end_of_last_session(self) -> float:
        """Waits for it. By the server's own clock, which is ours: asking takes time itself."""
        found: list[dict[str, Any]] = []

        def ended() -> bool:
            found[:] = query(self.address, request={"op": "report"})["sessions"]
            return bool(found) and found[-1]["state"] == "ended"

        wait_for(ended, 30.0, "the end of the session")
        return float(found[-1]["connected"] + found[-1]["seconds"])

    def run(
        self, program: str, *arguments: str, pod: dict[str, Any] | None = None, **options: Any
    ) -> Container:
        """A program in a pod like the client's of the manifests."""
        return self.node.start_pod(
            pod or pod_of("base/client", "orion-client"),
            "vectoradd",
            mounts=[f"{self.programs}:/programs:ro", *options.pop("mounts", [])],
            command=[program if program == "sh" else f"/programs/{program}", *arguments],
            **options,
        )

    def watch_vectoradd(self, **options: Any) -> tuple[dict[str, Any], str]:
        """vectorAdd again and again until `orion smi --json` has seen it: as that shows it, and what it said."""
        loop = "while /programs/vectorAdd; do :; done"
        program = self.run("sh", "-c", loop, **options)
        seen: list[dict[str, Any]] = []

        def running() -> bool:
            assert program.process.poll() is None, program.finish()
            found = (c for c in self.clients() if c["command"].endswith("vectorAdd"))
            seen.extend(
                c for c in found if c["calls"]
            )  # one that tries /dev/shm in vain calls nothing
            return bool(seen)

        wait_for(running, 60.0, "vectorAdd in orion smi")
        text = program.expect("Test PASSED")
        program.kill()
        program.finish()
        wait_for(lambda: not self.clients(), 30.0, "the end of vectorAdd")
        return seen[0], text

    def check(self, pod: dict[str, Any] | None = None, **options: Any) -> dict[str, str]:
        """What `orion check` says of the vGPU in a pod like the client's; Kubernetes sets the variable in each."""
        environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", **options.pop("environment", {})}
        program = self.node.start_pod(
            pod or pod_of("base/client", "orion-client"),
            "vectoradd",
            command=[str(ORION), "check", "--json"],
            environment=environment,
            **options,
        )
        _, out = program.finish()
        rows = json.loads(out[out.index("{") :])["rows"]
        (row,) = (row for row in rows if row["name"] == "pod's vGPU")
        return dict(row)

    def library(self) -> str:
        """A mount of the client library, for pods without the plugin's."""
        done = subprocess.run(
            [ORION, "run", "--print-library-dir"], capture_output=True, text=True, check=True
        )
        return f"{done.stdout.strip()}/libcuda.so.1:/usr/lib/x86_64-linux-gnu/libcuda.so.1:ro"

    def close(self) -> None:
        if self.kubelet is not None:
            self.kubelet.stop()
        self.node.close()


@pytest.fixture(scope="module")
def memfd(programs: Path) -> Iterator[Cluster]:
    cluster = Cluster("shm-memfd", programs)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def plugin(memfd: Cluster) -> Endpoint:
    return memfd.start_plugin()


@pytest.fixture(scope="module")
def hostipc(programs: Path) -> Iterator[Cluster]:
    cluster = Cluster("shm-hostipc", programs)
    try:
        cluster.start_controller()
        yield cluster
    finally:
        cluster.close()


def said_transport(text: str) -> str:
    (line,) = (line for line in text.splitlines() if "orion: transport " in line)
    return line


# --- sockets: the default


def test_restricted_pod_runs_vectoradd_through_shared_memory(
    memfd: Cluster, plugin: Endpoint
) -> None:
    (granted,) = plugin.allocate(sorted(plugin.devices)[:1])
    binary = f"{memfd.programs}/vectorAdd:/usr/local/bin/vectorAdd:ro"  # where the image has it
    pod = pod_of("base/client", "orion-client")
    program = memfd.node.start_pod(pod, "vectoradd", granted=granted, mounts=[binary])
    status, out = program.finish()
    assert status == 0, out
    assert "Test PASSED" in out
    assert "orion: transport" not in out  # nothing to complain of
    client, _ = memfd.watch_vectoradd(granted=granted)
    assert (client["transport"], client["uid"]) == ("shm", 10001)


def test_smi_shows_the_pod_its_share_and_its_transport(memfd: Cluster, plugin: Endpoint) -> None:
    ids = sorted(plugin.devices)[1:2]
    (granted,) = plugin.allocate(ids)
    assert memfd.kubelet is not None
    memfd.kubelet.pods["ml", "train-0"] = {"main": {GPU: ids}}
    plugin.start_container(ids)
    program = memfd.run("faults", "wait", granted=granted)
    program.expect("ready")
    (client,) = memfd.clients()
    assert client["transport"] == "shm"
    assert client["uid"] == 10001
    assert client["labels"] == {"namespace": "ml", "pod": "train-0", "container": "main"}
    assert client["vgpu"] == 1
    assert client["memory_limit"] == 512 << 20  # ORION_GMEM of the manifest
    program.say("go on")
    status, out = program.finish()
    assert status == 0, out


def test_killed_container_frees_its_vgpu_within_a_second(memfd: Cluster, plugin: Endpoint) -> None:
    (granted,) = plugin.allocate(sorted(plugin.devices)[2:3])
    program = memfd.run("faults", "forever", granted=granted)
    program.expect("ready")
    assert len(memfd.clients()) == 1
    program.kill()
    killed = time.time()
    assert memfd.end_of_last_session() - killed < 1.0
    assert memfd.clients() == []
    program.finish()


def test_container_sees_its_own_door_alone(memfd: Cluster, plugin: Endpoint) -> None:
    (granted,) = plugin.allocate(sorted(plugin.devices)[3:4])
    pod = pod_of("base/client", "orion-client")
    script = (
        "ls /run/orion; ls /dev/shm | wc -l; touch /run/orion/x; cat /run/orion/allocation.json"
    )
    done = memfd.node.start_pod(pod, "vectoradd", granted=granted, command=["sh", "-c", script])
    status, out = done.finish()
    assert status == 0, out
    assert out.splitlines()[:3] == ["allocation.json", "orion.sock", "0"]
    assert "Read-only file system" in out
    assert '"token"' in out


def test_second_process_of_a_container_with_one_vgpu_is_told_why(
    memfd: Cluster, plugin: Endpoint
) -> None:
    (granted,) = plugin.allocate(sorted(plugin.devices)[:1])
    first = memfd.run("faults", "wait", granted=granted)
    first.expect("ready")
    second = memfd.run("vectorAdd", granted=granted)  # as another process of the same container
    status, out = second.finish()
    assert status != 0
    assert "ask for more virtaitech.com/gpu" in out
    first.say("go on")
    assert first.finish()[0] == 0


def test_pod_without_a_vgpu_is_told_that_there_is_no_server(
    memfd: Cluster, plugin: Endpoint
) -> None:
    program = memfd.run("vectorAdd", mounts=[memfd.library()])
    status, out = program.finish()
    assert status != 0
    assert "no server: neither ORION_SERVER nor ORION_CONTROLLER is set" in out


def test_check_in_a_restricted_pod_shows_the_vgpu(memfd: Cluster, plugin: Endpoint) -> None:
    (granted,) = plugin.allocate(sorted(plugin.devices)[:1])
    row = memfd.check(granted=granted)
    allocation = dict(granted.envs)["ORION_ALLOCATION"]
    assert (row["state"], row["found"]) == ("ok", f"1 of allocation {allocation}, shared memory")


def test_check_in_a_pod_without_the_resource_says_what_to_ask_for(memfd: Cluster) -> None:
    row = memfd.check()
    assert (row["state"], row["found"]) == ("missing", "none: /run/orion is not mounted")
    assert "set resources.limits virtaitech.com/gpu: 1" in row["remedy"]


def test_program_starts_again_after_the_server_was_upgraded(programs: Path) -> None:
    cluster = Cluster("shm-memfd", programs)
    try:
        endpoint = cluster.start_plugin()
        ids = sorted(endpoint.devices)[:1]
        (granted,) = endpoint.allocate(ids)
        program = cluster.run("faults", "wait", granted=granted)
        program.expect("ready")
        cluster.server.stop()
        program.say("go on")
        status, out = program.finish()
        assert status != 0, out
        row = cluster.check(granted=granted)
        assert row["state"] == "missing"
        assert "nobody listens at /run/orion/orion.sock" in row["found"]
        assert "start the pod again" in row["remedy"]
        cluster.server = cluster.node.start_pod(
            pod_of("overlays/shm-memfd", "orion-server"), "server"
        )
        cluster.server.expect("ready: ")
        endpoint.start_container(ids)
        again = cluster.run("vectorAdd", granted=granted)  # the kubelet remembers what was granted
        status, out = again.finish()
        assert status == 0, out
    finally:
        cluster.close()


@pytest.mark.skipif(OVER_TCP != "tls", reason="needs OpenSSL (libssl) on this machine")
def test_token_of_the_container_opens_the_server_over_tcp(hostipc: Cluster) -> None:
    endpoint = hostipc.start_plugin()
    (granted,) = endpoint.allocate(sorted(endpoint.devices)[1:2])
    over_tcp = {"ORION_TRANSPORT": "tcp"}  # encrypted with the token: nothing has to be trusted
    program = hostipc.run("faults", "wait", granted=granted, environment=over_tcp)
    program.expect("ready")
    (client,) = hostipc.clients()
    assert client["transport"] == OVER_TCP
    assert client["allocation"] == dict(granted.envs)["ORION_ALLOCATION"]
    assert client["vgpu"] == 1
    program.say("go on")
    status, out = program.finish()
    assert status == 0, out


def test_init_container_brings_the_library_to_pods_without_the_plugins(
    memfd: Cluster, plugin: Endpoint
) -> None:
    (granted,) = plugin.allocate(sorted(plugin.devices)[:1])
    del granted.mounts[1:]  # as from a plugin with --library-dir ''
    volume = memfd.node.folder / "shim"
    volume.mkdir(mode=0o777)
    volume.chmod(0o777)
    pod = pod_of("base/client", "orion-client")
    mounts = [
        f"{memfd.library().partition(':')[0]}:/orion/libcuda.so.1:ro",
        f"{ROOT}/k8s/images/client-shim-entrypoint.sh:/orion/install:ro",
        f"{volume}:/target",
    ]
    status, out = memfd.node.start_pod(pod, "client-shim", mounts=mounts).finish()
    assert status == 0, out
    assert "LD_LIBRARY_PATH=/target" in out
    program = memfd.run(
        "vectorAdd",
        granted=granted,
        environment={"LD_LIBRARY_PATH": "/target"},
        mounts=[f"{volume}:/target:ro"],
    )
    status, out = program.finish()
    assert status == 0, out
    assert "Test PASSED" in out


# --- the classic guide: the bridge's address, /dev/shm, TCP


def test_vectoradd_with_hostipc_shares_dev_shm(hostipc: Cluster) -> None:
    pod = pod_of("overlays/shm-hostipc/client", "orion-client")
    client, text = hostipc.watch_vectoradd(pod=pod, environment=CLASSIC, mounts=[hostipc.library()])
    assert (client["transport"], client["uid"]) == ("/dev/shm", 10001)
    assert "orion: transport" not in text


def test_vectoradd_without_hostipc_goes_over_tcp_and_says_why(hostipc: Cluster) -> None:
    client, text = hostipc.watch_vectoradd(environment=CLASSIC, mounts=[hostipc.library()])
    assert client["transport"] == OVER_TCP
    line = said_transport(text)
    assert ("tcp, encrypted," in line) == (OVER_TCP == "tls")
    assert f"to {BRIDGE}:9960" in line
    assert "hostIPC: true" in line
    assert "No such file or directory" in line  # this container has a /dev/shm of its own


def test_check_says_why_it_is_tcp(hostipc: Cluster) -> None:
    row = hostipc.check(environment=CLASSIC)
    assert row["state"] == "warn"
    assert row["found"] == f"none of its own; tcp by ORION_CONTROLLER={BRIDGE}:9123"
    assert "this container does not share memory with its host's server" in row["remedy"]
    assert "mount its socket as /run/orion, or share /dev/shm (hostIPC: true)" in row["remedy"]
    assert "No such file or directory" in row["remedy"]
    assert "resources.limits virtaitech.com/gpu" in row["remedy"]


def test_check_is_content_with_hostipc(hostipc: Cluster) -> None:
    pod = pod_of("overlays/shm-hostipc/client", "orion-client")
    row = hostipc.check(pod, environment=CLASSIC)
    found = f"none of its own; shared memory by ORION_CONTROLLER={BRIDGE}:9123"
    assert (row["state"], row["found"]) == ("ok", found)


def test_user_whom_the_server_cannot_give_a_segment_goes_over_tcp(programs: Path) -> None:
    """A server without CAP_CHOWN cannot give its file in /dev/shm to the program's user."""
    cluster = Cluster("shm-hostipc", programs, drop=["CHOWN"])
    try:
        assert "cannot give a shared memory file to user 10001" in why_tcp(cluster)
    finally:
        cluster.close()


def test_user_whom_the_segment_does_not_belong_to_goes_over_tcp(programs: Path) -> None:
    """A server that is not root: its files in /dev/shm are its own, and 0600."""
    server = pod_of("overlays/shm-hostipc", "orion-server")
    (container,) = server["containers"]
    container["securityContext"] |= {"runAsUser": 20001, "runAsGroup": 20001}
    container["args"] = ["--socket", "/run/orion/orion.sock"]  # for others it is elsewhere
    cluster = Cluster("shm-hostipc", programs, server)
    try:
        line = why_tcp(cluster)
        assert "Permission denied" in line
        belongs = "it belongs to user 20001, and this program's user is 10001"
        assert belongs in line
        pod = pod_of("overlays/shm-hostipc/client", "orion-client")
        row = cluster.check(pod, environment=CLASSIC)
        assert row["state"] == "warn"
        assert belongs in row["remedy"]
    finally:
        cluster.close()


def why_tcp(cluster: Cluster) -> str:
    """What vectorAdd with hostIPC says of its transport, which is TCP all the same."""
    cluster.start_controller()
    client, text = cluster.watch_vectoradd(
        pod=pod_of("overlays/shm-hostipc/client", "orion-client"),
        environment=CLASSIC,
        mounts=[cluster.library()],
    )
    assert client["transport"] == OVER_TCP
    return said_transport(text)


def states(cluster: Cluster) -> list[str]:
    return [lease["state"] for lease in cluster.ask_controller("leases")]


@pytest.mark.parametrize("way", ["hostipc", "tcp"])
def test_killed_container_frees_its_lease_within_a_second(hostipc: Cluster, way: str) -> None:
    folder = "overlays/shm-hostipc/client" if way == "hostipc" else "base/client"
    program = hostipc.run(
        "faults",
        "forever",
        pod=pod_of(folder, "orion-client"),
        environment=CLASSIC,
        mounts=[hostipc.library()],
    )
    program.expect("ready")
    wait_for(lambda: states(hostipc) == ["active"], 30.0, "the lease at the controller")
    (lease,) = hostipc.ask_controller("leases")
    program.kill()
    killed = time.time()
    assert hostipc.end_of_last_session() - killed < 1.0
    assert hostipc.end_of_lease(lease["id"]) - killed < 1.0
    assert hostipc.ask_controller("leases") == []
    assert hostipc.clients() == []
    program.finish()


# --- UCX


@pytest.mark.skipif(ucx_wheel.library() is None, reason="needs UCX (extra `ucx`)")
def test_rdma_overlay_serves_a_pod_over_ucx(programs: Path) -> None:
    """The settings of server and client there; the device is missing here, so UCX takes its tcp."""
    server = pod_of("overlays/shm-hostipc", "orion-server", "rdma")
    bridges = {
        "UCX_TCP_BRIDGE_ENABLE": "y"
    }  # this node has no other network, and UCX leaves them out
    cluster = Cluster("shm-hostipc", programs, server, environment=bridges)
    try:
        cluster.start_controller()
        pod = pod_of("overlays/rdma/client", "orion-client")
        pod["containers"][0]["volumeMounts"] = []
        environment = {
            "ORION_CONTROLLER": f"{BRIDGE}:9123",
            "ORION_TOKEN": "",  # the classic controller has no keys
            "LD_LIBRARY_PATH": "",
            "ORION_LIBUCP": str(ucx_wheel.library()),  # the image has Debian's
        }
        client, text = cluster.watch_vectoradd(
            pod=pod, environment=environment, mounts=[cluster.library()]
        )
        assert client["transport"] == "ucx"
        assert "ORION_TRANSPORT=ucx asks for it" in said_transport(text)
    finally:
        cluster.close()
