# SPDX-License-Identifier: Apache-2.0
"""A machine within the machine: namespaces, mounts and control groups for one node, and programs that run in them.

Its first process is the init of a PID namespace: when that ends, the kernel ends everything in it, and the mounts and
networks go with their namespaces. It ends when this process does, however that ends (PDEATHSIG). Folders with fixed
paths, such as /var/lib/kubelet, are the node's own, so nothing of this machine's is seen or changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .needs import CONTROLLERS
from .shell import CannotRun, say, wait_for

NAME = "node-1"
ADDRESS = "10.0.0.10"
BRIDGE = "172.17.0.1"  # as Docker has it, and the classic manifests expect it
GROUP = "orion-k8s-real"
CGROUPS = Path("/sys/fs/cgroup")
STOP_SECONDS = 20.0
# $1: a folder of the node on a disk. No link leads out: the node's network ends at itself.
SET_UP = f"""
set -eu
mkdir "$1/lib" "$1/log" "$1/cgroup"
mount --rbind {CGROUPS} "$1/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$1/cgroup" {CGROUPS}
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount --bind "$1/lib" /var/lib
mount --bind "$1/log" /var/log
echo 0123456789abcdef0123456789abcdef > /run/machine-id
mount --bind /run/machine-id /etc/machine-id
mkdir -p /var/lib/kubelet /run/netns
mount --make-rshared /
hostname {NAME}
ip link set lo up
ip link add eth0 type veth peer name uplink
ip link set uplink up
ip link set eth0 up
ip address add {ADDRESS}/24 dev eth0
ip link add docker0 type bridge
ip link set docker0 up
ip address add {BRIDGE}/16 dev docker0
"""


class Program:
    """Something that runs in the node until it is stopped."""

    def __init__(self, node: Node, name: str, command: Sequence[str | os.PathLike[str]]) -> None:
        self.node = node
        self.name = name
        self.command = command
        self.log = node.folder / f"{name}.log"
        self.start()

    def start(self) -> None:
        """Once more, if it was killed."""
        self.killed = False
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*self.node.enter, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.node.environment,
                start_new_session=True,  # Ctrl-C is for us: we end them in order
            )

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal, and waits for its end."""
        self.check()
        self.killed = True
        nsenter = self.process.pid  # its one child is the program, as soon as it has entered
        children = Path(f"/proc/{nsenter}/task/{nsenter}/children")
        wait_for(lambda: bool(children.read_text()), f"{self.name} to begin", STOP_SECONDS)
        os.kill(int(children.read_text()), number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise CannotRun(f"{self.name} does not end: {self.last_words()}") from None

    def check(self) -> None:
        """CannotRun with its last words, if it has ended by itself."""
        if self.process.poll() is not None and not self.killed:
            raise CannotRun(f"{self.name} has ended by itself:\n{self.last_words()}")

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Node:
    def __init__(
        self, folder: Path, path: Sequence[Path], libraries: Path, group: str = GROUP
    ) -> None:
        """folder: what it writes, made here and removed by close(). path: folders with its programs, before the
        machine's. libraries: a folder with what they load. group: the name of its control groups, which no other
        node may have."""
        self.folder = folder
        self.group = group
        self.folder.mkdir(mode=0o755)
        self.programs: list[Program] = []
        folders = [*map(str, path), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        self.environment = {
            "PATH": ":".join(folders),
            "HOME": "/run",
            "LD_LIBRARY_PATH": str(libraries),
            "LC_ALL": "C.UTF-8",
        }
        self._init: subprocess.Popen[str] | None = None
        try:
            self._make_groups()
            self._unshare()
        except BaseException:
            self.close()
            raise

    def _unshare(self) -> None:
        say("making a node: namespaces, mounts, a network that ends at itself")
        # `wait` reaps what becomes an orphan; a shell that is init hears no signal but KILL
        script = f"{SET_UP}\necho ready\nexec >/dev/null\nwhile :; do sleep 600 & wait; done"
        self._init = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork"),
                *("--kill-child", "--mount-proc", "--propagation", "private"),
                *("sh", "-c", script, "init", str(self.folder)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._init.stdout is not None
        if self._init.stdout.readline() != "ready\n":
            assert self._init.stderr is not None
            why = self._init.stderr.read().strip()
            raise CannotRun(f"the machine refuses namespaces or mounts: {why}")
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text()
        self.init_pid = int(children.split()[0])
        self.root = Path("/proc", str(self.init_pid), "root")  # as its processes see files
        names = ("--mount", "--net", "--pid", "--ipc", "--uts")
        self.enter = ["nsenter", "--target", str(self.init_pid), *names]

    # --- what runs in it

    def start(self, name: str, *command: str | os.PathLike[str]) -> Program:
        """A program that goes on until it is stopped; what it says is in its log."""
        self.programs.append(Program(self, name, command))
        return self.programs[-1]

    def run(
        self,
        *command: str | os.PathLike[str],
        say_to_it: str | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        seconds: float = 120.0,
    ) -> subprocess.CompletedProcess[str]:
        """A program that ends by itself; both its outputs are in stdout."""
        try:
            return subprocess.run(
                [*self.enter, f"--wd={folder or '/'}", *command],
                env={**self.environment, **(environment or {})},
                input=say_to_it or "",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            words = " ".join(map(str, command))
            raise CannotRun(f"`{words}` has not ended within {seconds:.0f} s") from None

    def write(self, path: str, text: str) -> None:
        """A file within the node."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def pids(self, word: str) -> list[int]:
        """The node's processes, as it numbers them, one of whose arguments ends so."""
        found = []
        for file in (self.root / "proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # it has ended
                words = file.read_text(errors="replace").split("\0")
                if any(one.endswith(f"/{word}") for one in words):
                    found.append(int(file.parent.name))
        return sorted(found)

    def check(self) -> None:
        """CannotRun if one of its programs has ended by itself."""
        for program in self.programs:
            program.check()

    # --- control groups

    def _make_groups(self) -> None:
        self._remove_groups()  # of a run that was killed
        for name in [*CONTROLLERS, "systemd", "hugetlb"]:
            if not (CGROUPS / name).is_dir():
                continue
            group = CGROUPS / name / self.group
            try:
                group.mkdir(exist_ok=True)
            except OSError as e:
                raise CannotRun(f"control groups cannot be made: {group}: {e.strerror}") from None
            if name == "cpuset":
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (group / file).write_text((group.parent / file).read_text())

    def _remove_groups(self) -> None:
        for top in CGROUPS.glob(f"*/{self.group}"):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):  # what is left is said by close()
                    os.rmdir(folder)

    def _groups_are_gone(self) -> bool:
        self._remove_groups()
        return not any(CGROUPS.glob(f"*/{self.group}"))

    def close(self) -> None:
        """Ends everything in it, and removes what it has left."""
        if self._init is not None:
            if getattr(self, "init_pid", None):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.init_pid, signal.SIGKILL)
            else:
                self._init.kill()
            self._init.communicate()
            self._init = None
        for program in self.programs:
            program.process.wait()
        try:
            wait_for(self._groups_are_gone, "the end of the node's processes", 30.0)
        finally:
            _remove(self.folder)


def _remove(folder: Path) -> None:
    """Mounts are gone with their namespace; the last of them may take a moment."""
    deadline = time.monotonic() + 10.0
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
