# SPDX-License-Identifier: Apache-2.0
"""Kubernetes on one node: etcd, API server, scheduler, controller manager, containerd and kubelet."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import images
from .build import Cache
from .node import ADDRESS, BRIDGE, GROUP, NAME, Node, Program
from .shell import CannotRun, run, say, wait_for

HOME = "/run/kubernetes"
ETCD = "http://127.0.0.1:2379"
SERVER = f"https://{ADDRESS}:6443"
CONTAINERD = "/run/containerd/containerd.sock"
# who -> user, group: what the API server's own roles are bound to
USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet": (f"system:node:{NAME}", "system:nodes"),
}


def token_file(tokens: dict[str, str]) -> str:
    """The API server's list of who has which token."""
    lines = []
    for who, (user, group) in USERS.items():
        lines.append(f"{tokens[who]},{user},{who}" + (f',"{group}"' if group else ""))
    return "\n".join(lines) + "\n"


def kubeconfig(token: str) -> str:
    """How to reach the API server, as one user."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "here",
                    "cluster": {
                        "server": SERVER,
                        "certificate-authority": f"{HOME}/pki/apiserver.crt",
                    },
                }
            ],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "current-context": "here",
        }
    )


def kubelet_configuration() -> str:
    """For a node with cgroup v1, without systemd and firewall."""
    return json.dumps(
        {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{GROUP}",
            "failSwapOn": False,
            "oomScoreAdj": 0,  # lowering it needs CAP_SYS_RESOURCE
            "resolvConf": "",
            "makeIPTablesUtilChains": False,
            "imageGCHighThresholdPercent": 100,  # no image can be had again
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "500Mi"},
        }
    )


def containerd_configuration(programs: Path, folder: Path) -> str:
    """containerd's, with Debian's network plugins."""
    return f"""\
version = 2
root = "{folder}/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/{images.PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{programs}/usr/lib/cni"
    conf_dir = "/run/cni"
"""


NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "docker0",
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": "/run/cni/addresses",
                "ranges": [[{"subnet": "172.17.0.0/16", "gateway": BRIDGE}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
    ],
}


class Cluster:
    def __init__(self, node: Node, cache: Cache) -> None:
        self.node = node
        self.debian = cache.debian
        self.programs = cache.programs
        self.protocols = cache.protocols
        self.tokens = {who: secrets.token_hex(16) for who in USERS}
        self.kubelet: Program

    def start(self, archive: Path) -> None:
        """Until the node is ready. archive: the images."""
        self._write_files()
        say("starting etcd and the API server")
        self.node.start(
            "etcd",
            *("etcd", "--data-dir", "/run/etcd"),
            *("--listen-client-urls", ETCD, "--advertise-client-urls", ETCD),
        )
        self.node.start("kube-apiserver", *self._api_server())
        self._await("the API server", "kubectl", "get", "--raw", "/readyz")
        say("starting scheduler, controller manager, containerd")
        common = ("--leader-elect=false", "--kubeconfig")
        self.node.start("kube-scheduler", "kube-scheduler", *common, f"{HOME}/scheduler.json")
        self.node.start(
            "kube-controller-manager",
            *("kube-controller-manager", *common, f"{HOME}/controller-manager.json"),
            *("--use-service-account-credentials", f"--root-ca-file={HOME}/pki/apiserver.crt"),
            f"--service-account-private-key-file={HOME}/accounts.key",
        )
        self.node.start("containerd", "containerd", "--config", "/run/containerd.toml")
        self._await("containerd", "ctr", "--address", CONTAINERD, "version")
        say("importing the images")
        ctr = ["ctr", "--address", CONTAINERD, "--namespace", "k8s.io"]
        done = self.node.run(*ctr, "images", "import", archive, seconds=600.0)
        if done.returncode != 0:
            raise CannotRun(f"containerd refuses the images: {done.stdout.strip()}")
        say("starting the kubelet")
        self.kubelet = self.node.start("kubelet", *self._kubelet())
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        self._await("the node", "kubectl", "get", "node", NAME, "-o", ready, expect="True")

    def _write_files(self) -> None:
        key = run(["openssl", "genrsa", "2048"], "making a key")
        self.node.write(f"{HOME}/accounts.key", key[key.index("-----BEGIN") :])
        self.node.write(f"{HOME}/tokens.csv", token_file(self.tokens))
        for who, token in self.tokens.items():
            self.node.write(f"{HOME}/{who}.json", kubeconfig(token))
        self.node.write(f"{HOME}/kubelet-configuration.json", kubelet_configuration())
        self.node.write("/run/cni/10-pods.conflist", json.dumps(NETWORK))
        settings = containerd_configuration(self.debian, self.node.folder)
        self.node.write("/run/containerd.toml", settings)
        self.node.environment["KUBECONFIG"] = f"{HOME}/admin.json"

    def _api_server(self) -> Sequence[str]:
        accounts = f"{HOME}/accounts.key"
        return (
            "kube-apiserver",
            f"--etcd-servers={ETCD}",
            f"--bind-address={ADDRESS}",
            f"--advertise-address={ADDRESS}",
            f"--cert-dir={HOME}/pki",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={HOME}/tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--kubelet-preferred-address-types=InternalIP",  # there is no DNS
            "--allow-privileged=false",  # nothing of Orion's asks for it
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={accounts}",
            f"--service-account-key-file={accounts}",
        )

    def _kubelet(self) -> Sequence[str]:
        return (
            "kubelet",
            f"--config={HOME}/kubelet-configuration.json",
            f"--kubeconfig={HOME}/kubelet.json",
            f"--hostname-override={NAME}",
            f"--node-ip={ADDRESS}",
            "--container-runtime=remote",
            f"--container-runtime-endpoint=unix://{CONTAINERD}",
        )

    def _await(self, what: str, *command: str, expect: str = "") -> None:
        last = subprocess.CompletedProcess[str]([], 0, "")

        def answers() -> bool:
            nonlocal last
            self.node.check()
            last = self.node.run(*command)
            return last.returncode == 0 and expect in last.stdout

        try:
            wait_for(answers, what, 120.0)
        except CannotRun as e:
            raise CannotRun(f"{e}: {last.stdout.strip()}\n{self._logs()}") from None

    def _logs(self) -> str:
        return "\n".join(f"{p.name}: {p.last_words(4)}" for p in self.node.programs)

    def versions(self) -> dict[str, str]:
        """What was started, and its version."""
        asked = {
            "Kubernetes": ("kubelet", "--version"),
            "kubectl": ("kubectl", "version", "--client", "--short"),
            "etcd": ("etcd", "--version"),
            "containerd": ("containerd", "--version"),
            "runc": ("runc", "--version"),
        }
        found = {}
        for name, command in asked.items():
            words = self.node.run(*command).stdout.splitlines()[0].split()
            found[name] = next(w for w in words if w.lstrip("v")[:1].isdigit())
        return found
