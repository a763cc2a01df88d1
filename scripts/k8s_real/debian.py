# SPDX-License-Identifier: Apache-2.0
"""Debian's packages, unpacked into the cache. The machine's own apt and dpkg are neither read nor changed."""

from __future__ import annotations

from pathlib import Path

from .shell import CannotRun, run, say

MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"  # the last one whose source package holds all of Kubernetes
# What the cluster runs on. Its own programs come from source: Debian builds kubectl alone.
PACKAGES = (
    "containerd",
    "containernetworking-plugins",
    "etcd-server",
    "kubernetes-client",
    "libseccomp2",
    "runc",
)
COMPILER = ("golang-1.19-go", "golang-1.19-src")


def configuration(folder: Path) -> str:
    """An apt.conf by which apt keeps to `folder`."""
    lines = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
    }
    return "".join(f'{key} "{value}";\n' for key, value in lines.items())


def sources(keys: Path) -> str:
    """A sources.list with the suite's programs and sources."""
    return "".join(
        f"{kind} [signed-by={keys}] {MIRROR} {SUITE} main\n" for kind in ("deb", "deb-src")
    )


class Apt:
    def __init__(self, folder: Path, keys: Path) -> None:
        self.folder = folder
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(sources(keys))
        (folder / "apt.conf").write_text(configuration(folder))
        self.environment = {"APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}

    def update(self) -> None:
        """Learns what the mirror has."""
        say(f"asking {MIRROR} what it has")
        run(["apt-get", "-q", "update"], "apt-get update", environment=self.environment)

    def unpack(self, packages: tuple[str, ...], target: Path) -> None:
        """Their files below `target`; nothing of them is run."""
        archives = self.folder / "debs"
        archives.mkdir(exist_ok=True)
        target.mkdir(parents=True, exist_ok=True)
        say(f"downloading {' '.join(packages)}")
        run(
            ["apt-get", "-q", "download", *packages],
            "apt-get download",
            folder=archives,
            environment=self.environment,
        )
        for package in packages:
            found = sorted(archives.glob(f"{package}_*.deb"), key=lambda p: p.stat().st_mtime)
            if not found:
                raise CannotRun(f"apt-get has downloaded no {package}: is it in {SUITE}?")
            run(["dpkg-deb", "--extract", found[-1], target], f"unpacking {package}")

    def source(self, package: str, target: Path) -> str:
        """Upstream's tree as Debian has it, in `target`; its version, such as 1.20.5+really1.20.2."""
        downloads = self.folder / "source"
        downloads.mkdir(exist_ok=True)
        say(f"downloading the source of {package}")
        run(
            ["apt-get", "-q", "source", "--download-only", package],
            f"apt-get source {package}",
            folder=downloads,
            environment=self.environment,
        )
        (tarball, *_) = sorted(downloads.glob(f"{package}_*.orig.tar.*"), reverse=True)
        target.mkdir(parents=True)
        unpack = ["tar", "--extract", "--file", str(tarball), "--strip-components=1"]
        run([*unpack, "--directory", str(target)], f"unpacking {package}")
        return tarball.name.partition("_")[2].partition(".orig.")[0]
