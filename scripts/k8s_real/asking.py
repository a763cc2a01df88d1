# SPDX-License-Identifier: Apache-2.0
"""Questions to the cluster, of which the transcript shows those that users would ask themselves."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import clients
from .cluster import Cluster
from .node import NAME, Node
from .shell import ROOT, WentWrong, wait_for
from .transcript import Transcript

SYSTEM = ("-n", "orion-system")
SMI = ("smi", "--json", "--server", "unix:/run/orion/orion.sock")
SHOWN = ("transport", "labels", "uid", "vgpu", "memory_limit", "calls")
LEASES = "http://127.0.0.1:9123/v1/leases"
SECONDS = 180.0


class Asking:
    """kubectl, the server's own report, and the controller's."""

    def __init__(self, node: Node, cluster: Cluster, transcript: Transcript) -> None:
        self.node = node
        self.cluster = cluster
        self.transcript = transcript
        self.device = "unknown"  # what the server calls it

    # --- kubectl

    def show(self, *command: str, say_to_it: str = "", shown: str = "") -> str:
        """Runs it, and shows it, or `shown`, in the transcript. WentWrong when it fails."""
        done = self.node.run(*command, folder=ROOT, say_to_it=say_to_it, seconds=SECONDS + 30.0)
        self.transcript.command(shown or shlex.join(command), done.stdout)
        must(done.returncode == 0, f"`{shlex.join(command)}`: {done.stdout.strip()}")
        return done.stdout

    def kubectl(self, *arguments: str, say_to_it: str = "") -> str:
        """The same without showing it."""
        command = ("kubectl", *arguments)
        done = self.node.run(*command, folder=ROOT, say_to_it=say_to_it, seconds=SECONDS + 30.0)
        must(done.returncode == 0, f"`{shlex.join(command)}`: {done.stdout.strip()}")
        return done.stdout

    def answer(self, *arguments: str) -> str:
        """What kubectl says, right or wrong: for what may not be there yet."""
        return self.node.run("kubectl", *arguments).stdout.strip()

    def until(self, condition: Callable[[], bool], what: str) -> float:
        """The seconds until it held, while the cluster is alive."""

        def holds() -> bool:
            self.node.check()
            return condition()

        return wait_for(holds, what, SECONDS)

    # --- DaemonSets

    def await_roll_out(self, name: str) -> None:
        """Until the DaemonSet's pod is ready, and it is the one that was asked for."""
        wait = ("rollout", "status", f"--timeout={SECONDS:.0f}s", f"daemonset/orion-{name}")
        self.show("kubectl", *SYSTEM, *wait)

    def await_vgpus(self, count: int) -> None:
        """Until the node offers so many."""
        path = "jsonpath={.status.allocatable.virtaitech\\.com/gpu}"
        ask = ("get", "node", NAME, "-o", path)
        self.until(lambda: self.answer(*ask) == str(count), f"{count} vGPUs on the node")

    def restarts(self, component: str = "") -> int:
        """How often containers were started again: of one part of Orion, or of all pods."""
        label = f"app.kubernetes.io/component={component}" if component else ""
        pods = json.loads(self.kubectl("get", "pods", "-A", "-l", label, "-o", "json"))["items"]
        statuses = [s for pod in pods for s in pod["status"].get("containerStatuses", [])]
        return sum(status["restartCount"] for status in statuses)

    def registrations(self) -> int:
        """How often the plugin has told the kubelet of vGPUs."""
        return self.answer(*SYSTEM, "logs", "daemonset/orion-plugin").count("gpu: registered")

    # --- Jobs

    def apply(self, made: dict[str, Any]) -> None:
        """An object of ours."""
        self.kubectl("apply", "-f", "-", say_to_it=json.dumps(made))

    def start_job(self, name: str, way: str, *command: str) -> None:
        """Until its program says that it is ready."""
        self.apply(clients.job(name, way, *command))
        logs = ("logs", f"job/{name}", "-c", clients.CONTAINER)

        def ready() -> bool:
            must("Error" not in self.pods_of(name), f"the program of {name} failed")
            return "ready" in self.answer(*logs).splitlines()

        try:
            self.until(ready, f"the program of {name}")
        except WentWrong as e:
            said = (
                f"{self.answer(*logs)}\n{self.answer('describe', 'pods', '-l', f'job-name={name}')}"
            )
            raise WentWrong(f"{e}\n{said}") from None

    def pods_of(self, name: str) -> str:
        """A line for each pod of the Job, with its state."""
        return self.answer("get", "pods", "-l", f"job-name={name}", "--no-headers")

    def finish_job(self, name: str) -> None:
        """Lets it go on, until it is complete; the end of what it said is shown."""
        pod = self.kubectl("get", "pods", "-l", f"job-name={name}", "-o", "name").strip()
        attach = ("attach", "--stdin", "-c", clients.CONTAINER, pod)
        self.kubectl(*attach, say_to_it="go on\n")
        self.await_completion(name)

    def run_job(self, name: str, way: str, *command: str) -> str:
        """A Job from its beginning to its end; what its program said."""
        self.apply(clients.job(name, way, *command))
        return self.await_completion(name)

    def await_completion(self, name: str) -> str:
        """What its program said; then the Job is deleted."""
        job = f"job/{name}"
        wait = ("wait", "--for=condition=complete", f"--timeout={SECONDS:.0f}s", job)
        self.show("kubectl", *wait)
        said = self.show("kubectl", "logs", job)
        self.kubectl("delete", job)
        return said

    def remove_jobs(self, *names: str) -> None:
        """At once, with their programs."""
        self.kubectl("delete", "job", *names)
        self.until(lambda: not self.clients(), "the end of the programs")

    # --- what Orion says itself

    def clients(self) -> list[dict[str, Any]]:
        """The programs of the server. Asked on the node: it works without a kubelet."""
        found: list[dict[str, Any]] = self._smi()["clients"]
        return found

    def _smi(self) -> dict[str, Any]:
        done = self.node.run(Path(sys.executable).with_name("orion"), *SMI)
        must(done.returncode == 0, f"the server does not answer: {done.stdout.strip()}")
        report: dict[str, Any] = json.loads(done.stdout)
        self.device = str(report["devices"][0]["name"])
        return report

    def calls(self) -> int:
        """What all programs have called together."""
        return sum(one["calls"] for one in self.clients())

    def show_clients(self) -> list[dict[str, Any]]:
        """A part of what the server says of each."""
        found = self.clients()
        lines = [json.dumps({key: one[key] for key in SHOWN}) for one in found]
        self.transcript.command(
            f"{shlex.join(('orion', *SMI))}    # of its clients", "\n".join(lines)
        )
        return found

    def leases(self) -> list[dict[str, Any]]:
        """Those that the controller knows; none while it does not answer."""
        ask = f"import urllib.request as u; print(u.urlopen({LEASES!r}, timeout=5).read().decode())"
        done = self.node.run(sys.executable, "-c", ask)
        found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
        return found

    def show_leases(self) -> None:
        """A part of what the controller says of each."""
        shown = ("id", "state", "command", "vgpus")
        lines = [json.dumps({key: one[key] for key in shown}) for one in self.leases()]
        self.transcript.command(f"curl {LEASES}    # of each", "\n".join(lines))


def must(holds: bool, otherwise: str) -> None:
    """WentWrong unless it holds."""
    if not holds:
        raise WentWrong(otherwise)
