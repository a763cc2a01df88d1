# SPDX-License-Identifier: Apache-2.0
"""What the machine must have, looked for before anything is made."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

from .shell import CannotRun

TOOLS = {  # program -> Debian package that has it
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "gcc": "gcc",
    "ip": "iproute2",
    "ldd": "libc-bin",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "setpriv": "util-linux",
    "tar": "tar",
    "unshare": "util-linux",
}
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio")
BUILD_BYTES, RUN_BYTES = 8 << 30, 3 << 30


def first_missing(
    *,
    user: int,
    has: Callable[[str], bool],
    exists: Callable[[Path], bool],
    machine: str,
    free: int,
    built: bool,
    cgroups: Path = Path("/sys/fs/cgroup"),
) -> str | None:
    """A sentence about the first thing that is not there; None when all is.

    user: effective uid. has: is a program found. free: bytes where the cache lies. built: are Kubernetes' programs
    in the cache already.
    """
    if user != 0:
        return "namespaces, mounts and containers need root: run `sudo make k8s-real`"
    if machine != "x86_64":
        return f"only x86_64 was tried, and this machine is {machine}"
    if not has("apt-get"):
        return (
            "there is no apt-get: Kubernetes is built from Debian's source package, which needs Debian or a system "
            "made of it"
        )
    missing = [name for name in TOOLS if not has(name)]
    if missing:
        packages = " ".join(sorted({TOOLS[name] for name in missing}))
        return f"{', '.join(missing)} is missing: apt-get install {packages}"
    if not exists(KEYS):
        return "Debian's keys are missing: apt-get install debian-archive-keyring"
    absent = [name for name in CONTROLLERS if not exists(cgroups / name)]
    if absent:
        return (
            f"the kubelet of Kubernetes 1.20 needs cgroup v1, and {cgroups} has no {absent[0]}: start the kernel with "
            "systemd.unified_cgroup_hierarchy=0"
        )
    for path, remedy in (
        (Path("/dev/kmsg"), "mknod /dev/kmsg c 1 11"),
        (Path("/etc/machine-id"), "systemd-machine-id-setup"),
    ):
        if not exists(path):
            return f"{path} is missing, which every node has: {remedy}"
    wanted = RUN_BYTES if built else BUILD_BYTES
    if free < wanted:
        return (
            f"{free >> 30} GiB are free where the cache lies and {wanted >> 30} are needed: make room, or set "
            "ORION_K8S_CACHE to another folder"
        )
    return None


def look(cache: Path, built: bool) -> None:
    """CannotRun with the first thing that is missing on this machine."""
    place = cache
    while not place.exists():
        place = place.parent
    why = first_missing(
        user=os.geteuid(),
        has=lambda name: shutil.which(name) is not None,
        exists=Path.exists,
        machine=platform.machine(),
        free=shutil.disk_usage(place).free,
        built=built,
    )
    if why is not None:
        raise CannotRun(why)
