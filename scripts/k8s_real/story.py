# SPDX-License-Identifier: Apache-2.0
"""What the cluster is asked to do, step by step; each step ends with what must hold."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import manifests

from . import clients
from .asking import SYSTEM, Asking, must
from .protocol import NAMES
from .shell import ROOT, say

DEPLOY = "k8s/deploy"
OVERLAY, CLIENT = manifests.DEPLOY / "overlays/shm-memfd", manifests.DEPLOY / "base/client"
SERVERS = ("9.0", "10.0", "12", "13")
VGPUS = 4  # VGPU of the manifests, on one device
CAPACITY = "custom-columns=NODE:.metadata.name,VGPUS:.status.allocatable.virtaitech\\.com/gpu"
HEALTH = (
    "custom-columns=NODE:.metadata.name,HAS:.status.capacity.virtaitech\\.com/gpu,"
    "OFFERS:.status.allocatable.virtaitech\\.com/gpu"
)
PASSED = "Test PASSED"


def protocol(ask: Asking) -> None:
    """What the plugin encodes is what this kubelet reads: an unmade field would be no error, only empty."""
    ask.transcript.say(
        "The plugin has the kubelet's interfaces as tables of names, numbers and types. Beside the `.proto` files of "
        "this Kubernetes' source:"
    )
    files = [ask.cluster.protocols / name for name in NAMES]
    module = "scripts.k8s_real.protocol"
    ask.show(
        *(sys.executable, "-m", module, *map(str, files)),
        shown=f"python -m {module} {' '.join(NAMES)}",
    )


def deploy(ask: Asking) -> None:
    """Controller, plugin, server, as the classic guide has them."""
    ask.show("kubectl", "get", "nodes")
    for name in ("controller", "plugin", f"server-cuda{SERVERS[0]}"):
        ask.show("kubectl", "create", "-f", f"{DEPLOY}/deploy-{name}.yaml")
    for name in ("controller", "plugin", "server"):
        ask.await_roll_out(name)
    ask.await_vgpus(VGPUS)
    ask.show("kubectl", *SYSTEM, "get", "pods", "-o", "wide")
    ask.show("kubectl", "get", "nodes", "-o", CAPACITY)


def client(ask: Asking) -> None:
    """The guide's Job as it is."""
    file = f"{DEPLOY}/deploy-client.yaml"
    ask.show("kubectl", "create", "-f", file)
    ask.show("kubectl", "wait", "--for=condition=complete", "--timeout=120s", "job/orion-client")
    said = ask.show("kubectl", "logs", "job/orion-client")
    must(PASSED in said, f"the client's Job did not say that it passed: {said}")
    ask.show("kubectl", "delete", "-f", file)


def servers(ask: Asking) -> None:
    """One DaemonSet: each file replaces the server of the one before."""
    for name in SERVERS[1:]:
        ask.show("kubectl", "replace", "-f", f"{DEPLOY}/deploy-server-cuda{name}.yaml")
        ask.await_roll_out("server")
    ask.await_vgpus(VGPUS)
    must(PASSED in ask.run_job("after-servers", "socket", "vectorAdd"), "vectorAdd failed")


def ways(ask: Asking) -> None:
    """MODE shm, /dev/shm and tcp, as the server sees them while the programs run."""
    for way, (about, names) in clients.WAYS.items():
        ask.transcript.say(about)
        name = f"way-{way}"
        ask.start_job(name, way, "faults", "wait")
        found = ask.show_clients()
        must(len(found) == 1, f"one program runs, and the server has {len(found)}")
        mode = found[0]["transport"]
        must(mode in names, f"{way}: the transport is {mode}, not {' or '.join(names)}")
        ask.finish_job(name)


def refused(ask: Asking) -> None:
    """Mistakes that users make, and more than there is."""
    for what, text in clients.refused().items():
        done = ask.node.run("kubectl", "apply", "-f", "-", say_to_it=text)
        ask.transcript.command(f"kubectl apply -f -    # the client's Job with {what}", done.stdout)
        must(done.returncode != 0, f"{what} was not refused")
    made = clients.job("too-many", "socket", "vectorAdd")
    resources = made["spec"]["template"]["spec"]["containers"][0]["resources"]
    resources["limits"][clients.GPU] = str(VGPUS + 1)
    ask.apply(made)
    reason = "jsonpath={.items[0].status.conditions[0].message}"
    pod = ("get", "pods", "-l", "job-name=too-many", "-o", reason)
    ask.until(lambda: clients.GPU in ask.answer(*pod), "the scheduler's answer")
    ask.transcript.say(f"A Job that asks for {VGPUS + 1} of {VGPUS} waits:")
    ask.show("kubectl", *pod)
    ask.kubectl("delete", "job", "too-many")


def all_in_use(ask: Asking) -> None:
    """One container for each vGPU; the next one waits for the first to end."""
    names = [f"user-{number}" for number in range(VGPUS)]
    for name in names:
        ask.start_job(name, "socket", "faults", "wait")
    found = ask.show_clients()
    must({one["vgpu"] for one in found} == set(range(VGPUS)), "not every vGPU has its program")
    must(len({one["labels"]["pod"] for one in found}) == VGPUS, "not every program has its pod")
    ask.apply(clients.job("next", "socket", "vectorAdd"))
    ask.until(lambda: "Pending" in ask.pods_of("next"), "the fifth pod")
    ask.show("kubectl", "get", "pods")
    ask.transcript.say("The fifth waits. One of the four ends, and the fifth gets its vGPU:")
    ask.finish_job(names[0])
    must(PASSED in ask.await_completion("next"), "vectorAdd failed")
    ask.remove_jobs(*names[1:])


def kubelet_killed(ask: Asking) -> None:
    """Containers run on, the plugin registers again, new pods start."""
    ask.start_job("load", "socket", "faults", "forever")
    registered = ask.registrations()
    ask.transcript.say(
        "A program runs on a vGPU. The kubelet is killed (SIGKILL), then started again."
    )
    ask.show_clients()
    before = ask.calls()
    ask.cluster.kubelet.kill()
    ask.until(lambda: ask.calls() > before, "calls without a kubelet")
    began = time.monotonic()
    ask.cluster.kubelet.start()
    ask.until(lambda: ask.registrations() > registered, "the plugin's registration")
    ask.await_vgpus(VGPUS)
    seconds = time.monotonic() - began
    after = ask.calls()
    ask.until(lambda: ask.calls() > after, "calls after the kubelet's return")
    words = "after its start the plugin has registered again and the node offers all vGPUs"
    ask.transcript.say(
        f"{seconds:.0f} s {words}; no container was started again, the program goes on:"
    )
    ask.show("kubectl", "get", "pods", "-A")
    ask.show_clients()
    must(ask.restarts() == 0, "a container was started again because the kubelet was")
    must(PASSED in ask.run_job("after-kubelet", "socket", "vectorAdd"), "vectorAdd failed")
    ask.remove_jobs("load")


def controller_killed(ask: Asking) -> None:
    """Programs that it gave a vGPU run on; the next ones get theirs from its successor."""
    loads = ("load-1", "load-2")
    for name in loads:
        ask.start_job(name, "network", "faults", "forever")
    ask.transcript.say("Two programs run without pause on vGPUs that the controller has leased.")
    found = ask.show_clients()
    must(len({one["vgpu"] for one in found}) == len(loads), "two programs have the same vGPU")
    ask.show_leases()
    ids = {one["id"] for one in ask.leases()}
    before = ask.calls()
    for pid in ask.node.pids("orion-controller"):
        ask.node.run("kill", "-KILL", str(pid))
    ask.transcript.say("The controller's process is killed (SIGKILL). The kubelet starts another:")
    ask.until(lambda: ask.calls() > before, "calls without the controller")
    ask.until(lambda: ask.restarts("controller") == 1, "the controller's restart")
    ask.await_roll_out("controller")
    ask.show("kubectl", *SYSTEM, "get", "pods")
    ask.until(lambda: {one["id"] for one in ask.leases()} == ids, "the leases")
    after = ask.calls()
    ask.until(lambda: ask.calls() > after, "calls under the new controller")
    ask.transcript.say("The programs go on, it knows their leases, and it leases a third vGPU:")
    ask.show_clients()
    ask.show_leases()
    must(PASSED in ask.run_job("after-controller", "network", "vectorAdd"), "vectorAdd failed")
    ask.remove_jobs(*loads)
    ask.until(lambda: not ask.leases(), "the end of the leases")


def server_killed(ask: Asking) -> None:
    """Its programs end with a CUDA error, not with a hang; the next ones find its successor."""
    ask.start_job("load", "socket", "faults", "forever")
    ask.node.run("kill", "-KILL", str(min(ask.node.pids("orion-server"))))
    ask.transcript.say(
        "A program runs on a vGPU. The server's first process is killed (SIGKILL); the program learns it:"
    )
    ask.show("kubectl", "wait", "--for=condition=failed", "--timeout=60s", "job/load")
    said = ask.show("kubectl", "logs", "job/load")
    must("loop: cudaError" in said, f"the program did not get a CUDA error: {said}")
    ask.kubectl("delete", "job", "load")
    ask.until(lambda: ask.restarts("server") == 1, "the server's restart")
    ask.await_roll_out("server")
    ask.await_vgpus(VGPUS)
    must(PASSED in ask.run_job("after-crash", "socket", "vectorAdd"), "vectorAdd failed")


def replaced(ask: Asking) -> None:
    """The DaemonSets' pods are deleted. Programs survive plugin and controller, not their server."""
    ask.start_job("with-lease", "network", "faults", "forever")
    ask.start_job("with-socket", "socket", "faults", "forever")  # beside a lease of the controller
    ids = {one["id"] for one in ask.leases()}
    must(len(ids) == 1, f"one program has a lease, and the controller has {len(ids)}")
    delete = ("kubectl", *SYSTEM, "delete", "pod", "-l")
    for name in ("plugin", "controller"):
        ask.show(*delete, f"app.kubernetes.io/component={name}")
        ask.await_roll_out(name)
    ask.await_vgpus(VGPUS)
    before = ask.calls()
    ask.until(lambda: ask.calls() > before, "calls after the plugin's and the controller's end")
    ask.until(lambda: {one["id"] for one in ask.leases()} == ids, "the adopted lease")
    words = "Two programs have not noticed. The new controller has an empty database, and the lease"
    ask.transcript.say(f"{words} from the server's report:")
    ask.show_clients()
    ask.show_leases()
    ask.remove_jobs("with-socket", "with-lease")
    ask.show(*delete, "app.kubernetes.io/component=server")
    ask.await_roll_out("server")
    ask.await_vgpus(VGPUS)
    must(PASSED in ask.run_job("after-server", "socket", "vectorAdd"), "vectorAdd failed")


def health(ask: Asking) -> None:
    """Devices are as well as their server: without it the node still has them, and offers none."""
    file = f"{DEPLOY}/deploy-server-cuda{SERVERS[-1]}.yaml"
    ask.show("kubectl", "delete", "--wait", "-f", file)
    ask.await_vgpus(0)
    ask.show("kubectl", "get", "nodes", "-o", HEALTH)
    ask.show("kubectl", "create", "-f", file)
    ask.await_roll_out("server")
    ask.await_vgpus(VGPUS)
    ask.show("kubectl", "get", "nodes", "-o", HEALTH)
    must(PASSED in ask.run_job("after-health", "socket", "vectorAdd"), "vectorAdd failed")


def uninstall(ask: Asking) -> None:
    """Nothing of Orion runs afterwards, and the node offers nothing."""
    for name in (f"server-cuda{SERVERS[-1]}", "plugin", "controller"):
        ask.show("kubectl", "delete", "--wait", "-f", f"{DEPLOY}/deploy-{name}.yaml")
    for program in ("orion-server", "orion-controller", "orion-device-plugin"):
        ask.until(lambda name=program: not ask.node.pids(name), f"the end of {program}")  # type: ignore[misc]
    ask.await_vgpus(0)
    ask.show("kubectl", "get", "nodes", "-o", CAPACITY)


def sockets_alone(ask: Asking) -> None:
    """The default overlay, on the node that the classic deployment has left."""
    server, job = manifests.render(OVERLAY), manifests.render(CLIENT)
    folder, client = (path.relative_to(ROOT) for path in (OVERLAY, CLIENT))
    ask.show(
        "kubectl",
        "apply",
        "-f",
        "-",
        say_to_it=server,
        shown=f"kubectl kustomize {folder} | kubectl apply -f -",
    )
    for name in ("server", "plugin"):
        ask.await_roll_out(name)
    ask.await_vgpus(VGPUS)
    ask.show("kubectl", *SYSTEM, "get", "pods", "-o", "wide")
    ask.show(
        "kubectl",
        "create",
        "-f",
        "-",
        say_to_it=job,
        shown=f"kubectl kustomize {client} | kubectl create -f -",
    )
    must(PASSED in ask.await_completion("orion-client"), "vectorAdd failed")
    ask.start_job("way-socket", "socket", "faults", "wait")
    (found,) = ask.show_clients()
    must(found["transport"] == "shm", f"the transport is {found['transport']}, not shm")
    ask.finish_job("way-socket")
    ask.kubectl("delete", "-f", "-", say_to_it=server)


STEPS: dict[str, Callable[[Asking], None]] = {
    "The plugin and the kubelet's interfaces": protocol,
    "The classic guide, file by file": deploy,
    "The client's Job": client,
    "Every server file": servers,
    "Three ways to a server": ways,
    "What is refused, and what waits": refused,
    "Every vGPU in use": all_in_use,
    "The kubelet is killed": kubelet_killed,
    "The controller is killed under load": controller_killed,
    "The server is killed under load": server_killed,
    "Plugin, controller and server are replaced": replaced,
    "Devices without their server": health,
    "Everything is deleted": uninstall,
    "The default: sockets alone": sockets_alone,
}


def tell(ask: Asking) -> None:
    """All of it."""
    for title, step in STEPS.items():
        say(title)
        began = time.monotonic()
        ask.transcript.heading(title)
        step(ask)
        say(f"as it should be, after {time.monotonic() - began:.0f} s")
