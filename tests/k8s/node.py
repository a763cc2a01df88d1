# SPDX-License-Identifier: Apache-2.0
"""A node without Kubernetes: real containers (podman, runc), started as the manifests say, in a network of their own.

The node has its own network namespace with a bridge at 172.17.0.1, its own folders in place of /run/orion and the
kubelet's, and podman's storage beside them; nothing of it outlives close(). Images are not built: a container's root
is an empty tree with the host's /usr under an overlay, to which the Dockerfile's own files are added.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import dockerfile
from orion_server_fixtures import processes_of, wait_for

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(sys.executable).parent.parent
# what pip would put into an image: Orion and its interpreter, which may be one beside the system's
PYTHON = [VENV, *([Path(sys.base_prefix)] if not sys.base_prefix.startswith("/usr") else [])]
BRIDGE = "172.17.0.1"
# runc can't raise hard limits without CAP_SYS_RESOURCE, which podman asks for unless told otherwise
LIMITS = ("--ulimit", "nofile=16384:16384", "--ulimit", "nproc=4096:4096")
SECONDS = 60.0


def missing() -> str | None:
    """Why there can be no node here; None when there can."""
    if os.geteuid() != 0:
        return "containers need root"
    absent = [
        name
        for name in ("podman", "runc", "conmon", "iptables", "unshare", "nsenter", "ip")
        if not shutil.which(name)
    ]
    if absent:
        return (
            f"{', '.join(absent)} is missing: apt-get install --no-install-recommends "
            "podman runc conmon netavark aardvark-dns iptables iproute2 util-linux"
        )
    return None


class Container:
    """A container, and a file of what it says: one that nobody listens to goes on all the same."""

    def __init__(self, node: Node, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self.node = node
        self.name = name
        self.process = process
        self.log = log
        self._heard = 0  # characters of it

    def finish(self, seconds: float = SECONDS) -> tuple[int, str]:
        """Its exit status and what it said since the last expect()."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait(seconds)
        return status, self.log.read_text()[self._heard :]

    def kill(self) -> None:
        """Ends all its processes at once; returns before they are gone."""
        self.node.podman("kill", "--signal", "KILL", self.name)

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def expect(self, *words: str) -> str:
        """Waits until a line has all the words; what was said up to it, and not expected before."""
        deadline = time.monotonic() + SECONDS
        while True:
            ended = self.process.poll() is not None
            new = self.log.read_text()[self._heard :]
            end = 0
            for line in new.splitlines(keepends=True):
                end += len(line)
                if line.endswith("\n") and all(word in line for word in words):
                    self._heard += end
                    return new[:end]
            assert not ended, f"{self.name} ended before it said {words}:\n{new}"
            assert time.monotonic() < deadline, f"{self.name} has not said {words}:\n{new}"
            time.sleep(0.02)

    def stop(self) -> None:
        self.node.podman("stop", "--time", "10", self.name, check=False)
        self.process.wait(30)


class Node:
    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="on-"))
        self.run_folder = self.folder / "run"
        self.kubelet_folder = self.folder / "kubelet"
        # what the manifests call folders of the host
        self.host = {
            "/run/orion": self.run_folder,
            "/var/lib/orion/lib": self.folder / "lib",
            "/var/lib/kubelet/device-plugins": self.kubelet_folder,
            "/var/lib/kubelet/pod-resources": self.folder / "pods",
            "/dev/shm": Path("/dev/shm"),
            "/etc/machine-id": self.folder / "machine-id",
        }
        for path in self.host.values():
            if path.name != "machine-id":
                path.mkdir(exist_ok=True)
        (self.folder / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        self.tree = self.folder / "tree"
        for name in ("usr", "etc", "dev", "proc", "sys", "tmp", "run", "var/lib", "var/cache"):
            (self.tree / name).mkdir(parents=True, exist_ok=True)
        for name in ("bin", "sbin", "lib", "lib64"):
            (self.tree / name).symlink_to(f"usr/{name}")
        (self.tree / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
        self.count = 0
        self.namespace = subprocess.Popen(
            [
                "unshare",
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo ready && exec sleep infinity",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.namespace.stdout is not None
        assert self.namespace.stdout.readline() == "ready\n"
        self.containers: list[Container] = []
        try:
            network = ("--subnet", "172.17.0.0/16", "--gateway", BRIDGE, "pods")
            self.podman("network", "create", *network)
            # the bridge is there as long as a container is
            bridge = self.start(["sleep", "infinity"], ["--network", "pods"])
            self._await_bridge(bridge)
        except BaseException:
            self.close()
            raise

    def _await_bridge(self, container: Container) -> None:
        deadline = time.monotonic() + SECONDS
        while BRIDGE not in self.inside("ip", "-4", "-o", "addr").stdout:
            assert container.process.poll() is None, container.log.read_text()
            assert time.monotonic() < deadline, "no bridge"
            time.sleep(0.02)

    def inside(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in the node's network."""
        enter = ["nsenter", "--net", "--target", str(self.namespace.pid)]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, timeout=SECONDS)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}{done.stdout}"
        return done

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.inside(*self._podman(), *arguments, check=check)

    def _podman(self) -> list[str]:
        storage = {
            "--root": "storage", "--runroot": "state", "--tmpdir": "tmp", "--network-config-dir": "networks",
        }  # fmt: skip
        places = [
            word for flag, name in storage.items() for word in (flag, str(self.folder / name))
        ]
        return ["podman", *places, "--runtime", "runc", "--cgroup-manager", "cgroupfs"]

    def start(self, command: Sequence[str], options: Iterable[str] = ()) -> Container:
        """A container in the foreground of a process of ours; what it says comes to us."""
        self.count += 1
        name = f"c{self.count}"
        full = [
            "nsenter", "--net", "--target", str(self.namespace.pid), *self._podman(),
            "run", "--interactive", "--rm", "--name", name, *LIMITS, "--pids-limit", "0",
            "--volume", "/usr:/usr:O", *options, "--rootfs", f"{self.tree}:O", *command,
        ]  # fmt: skip
        log = self.folder / f"{name}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                full, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, text=True
            )
        container = Container(self, name, process, log)
        self.containers.append(container)
        return container

    # --- as a kubelet would

    def start_pod(
        self,
        pod: dict[str, Any],
        image: str,
        *,
        granted: Any = None,
        environment: dict[str, str] | None = None,
        mounts: Sequence[str] = (),
        drop: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> Container:
        """The first container of a pod of the manifests, from a stage of the Dockerfile.

        granted: what the device plugin answered to Allocate. drop: capabilities that it shall not have after all.
        """
        stage = dockerfile.stages()[image]
        (container, *_) = pod["containers"]
        options = [
            *("--network", "host" if pod.get("hostNetwork") else "pods"),
            *("--ipc", "host" if pod.get("hostIPC") else "private"),
            *self._security(
                {**pod.get("securityContext", {}), **container["securityContext"]}, drop
            ),
            *self._volumes(pod, container),
            *(word for path in PYTHON for word in ("--volume", f"{path}:{path}:ro")),
        ]
        for source, target in stage.copies:
            if target.startswith("/usr/local/bin/"):
                options += ["--volume", f"{ROOT / source}:{target}:ro"]
        for volume in mounts:
            options += ["--volume", volume]
        variables = {"PATH": f"{VENV / 'bin'}:/usr/local/bin:/usr/bin", **stage.environment}
        if granted is not None:
            variables |= dict(granted.envs)
            for mount in granted.mounts:
                source = self.on_host(mount.host_path)
                mode = "ro" if mount.read_only else "rw"
                options += ["--volume", f"{source}:{mount.container_path}:{mode}"]
        for one in container.get("env", []):  # the pod's own come last
            variables[one["name"]] = one.get("value", BRIDGE)  # by the downward API: our address
        for name, value in {**variables, **(environment or {})}.items():
            options += ["--env", f"{name}={value}"]
        program = list(command) or [
            *container.get("command", stage.entrypoint),
            *container.get("args", stage.command),
        ]
        return self.start(program, options)

    def on_host(self, path: str) -> Path:
        """A path as the manifests and the plugin say it, where it is here."""
        for place, ours in self.host.items():
            if path == place or path.startswith(f"{place}/"):
                return ours / path.removeprefix(place).lstrip("/")
        raise AssertionError(f"{path} is no folder of this node")

    def _security(self, context: dict[str, Any], drop: Sequence[str]) -> list[str]:
        options = ["--user", f"{context.get('runAsUser', 0)}:{context.get('runAsGroup', 0)}"]
        capabilities = context.get("capabilities", {})
        for name in capabilities.get("drop", []):
            options += ["--cap-drop", name]
        for name in capabilities.get("add", []):
            if name not in drop:
                options += ["--cap-add", name]
        if context.get("allowPrivilegeEscalation") is False:
            options += ["--security-opt", "no-new-privileges"]
        if context.get("readOnlyRootFilesystem"):
            options += ["--read-only", "--read-only-tmpfs=false"]
        return options

    def _volumes(self, pod: dict[str, Any], container: dict[str, Any]) -> list[str]:
        kinds = {volume["name"]: volume for volume in pod.get("volumes", [])}
        options = []
        for mount in container.get("volumeMounts", []):
            volume = kinds[mount["name"]]
            if "emptyDir" in volume:
                empty = Path(tempfile.mkdtemp(dir=self.folder))
                empty.chmod(0o1777)
                options += ["--volume", f"{empty}:{mount['mountPath']}"]
            else:
                mode = "ro" if mount.get("readOnly") else "rw"
                source = self.on_host(volume["hostPath"]["path"])
                options += ["--volume", f"{source}:{mount['mountPath']}:{mode}"]
        return options

    def close(self) -> None:
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        for container in self.containers:
            container.process.kill()
            container.process.wait()
            assert container.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                container.process.stdin.close()
        self.podman("network", "rm", "--force", "pods", check=False)
        self.namespace.kill()
        self.namespace.wait()
        assert self.namespace.stdout is not None
        self.namespace.stdout.close()
        self._remove_folder()

    def _remove_folder(self) -> None:
        """With what is mounted in it, once podman has tidied up after its containers: it would make the folder anew."""
        wait_for(lambda: not processes_of(f"{self.folder}/"), SECONDS, "podman's end")
        deadline = time.monotonic() + SECONDS
        while self.folder.exists():
            table = Path("/proc/self/mountinfo").read_text().splitlines()
            mounts = [line.split()[4] for line in table]
            for path in sorted(
                (m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True
            ):
                subprocess.run(["umount", "--lazy", path], check=False)
            try:
                shutil.rmtree(self.folder)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
