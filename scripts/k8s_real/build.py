# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' programs, built once from Debian's source package and kept in the cache."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from .debian import COMPILER, PACKAGES, Apt
from .needs import KEYS
from .protocol import NAMES, SOURCE
from .shell import CannotRun, run, say

PROGRAMS = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-apiserver")
GENERATED = "pkg/generated/openapi"
TAG = re.compile(r"^// \+k8s:openapi-gen=true", re.MULTILINE)
NOT_SERVED = ("code-generator", "sample-apiserver")  # tagged, but not part of the API server


def upstream(version: str) -> str:
    """Debian's 1.20.5+really1.20.2 is Kubernetes' v1.20.2."""
    found = re.search(r"(\d+\.\d+\.\d+)$", version)
    if found is None:
        raise CannotRun(f"{version!r} is no version of Kubernetes")
    return f"v{found[1]}"


def linker_flags(version: str) -> str:
    """What -ldflags must say for the programs to know who they are."""
    major, minor, _ = version[1:].split(".")
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
    }
    packages = ("component-base/version", "client-go/pkg/version")
    words = ["-s", "-w"]
    for package in packages:
        for name, value in values.items():
            words.append(f"-X k8s.io/kubernetes/vendor/k8s.io/{package}.{name}={value}")
    return " ".join(words)


def tagged_packages(tree: Path) -> list[str]:
    """The import paths of all packages whose types the API server describes."""
    found = set()
    for place in ("pkg", "staging/src/k8s.io"):
        for file in (tree / place).rglob("*.go"):
            if TAG.search(file.read_text(errors="replace")):
                found.add(file.parent.relative_to(tree).as_posix())
    return sorted(
        f"k8s.io/kubernetes/{path.replace('staging/src/', 'vendor/')}"
        for path in found
        if not any(f"/{name}/" in f"{path}/" for name in NOT_SERVED)
    )


class Cache:
    """~/.cache/orion/k8s-real, or ORION_K8S_CACHE: what later runs need not make again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.debian = folder / "debian"  # packages, unpacked
        self.programs = folder / "programs"
        self.protocols = folder / "protocols"  # the kubelet's .proto files
        self._go = folder / "go"
        self._stamp = folder / "version"  # written last

    @property
    def version(self) -> str | None:
        """Of the Kubernetes that is built, such as v1.20.2; None before it is."""
        return self._stamp.read_text().strip() if self._stamp.exists() else None

    def fill(self) -> str:
        """Builds what is not there; the version. About half an hour on two processors, the first time."""
        if self.version is not None:
            if not self.protocols.exists():  # filled by an Orion that did not look at them
                apt = self._apt()
                tree = apt.folder / "tree"
                apt.source("kubernetes", tree)
                self._keep_protocols(tree)
                shutil.rmtree(apt.folder)
            return self.version
        self.programs.mkdir(parents=True, exist_ok=True)
        apt = self._apt()
        apt.unpack(PACKAGES, self.debian)
        apt.unpack(COMPILER, self._go / "compiler")
        tree = self._go / "path/src/k8s.io/kubernetes"
        shutil.rmtree(tree, ignore_errors=True)  # of a run that was interrupted
        version = upstream(apt.source("kubernetes", tree))
        self._keep_protocols(tree)
        self._describe(tree)
        for program in PROGRAMS:
            self._build(tree, f"./cmd/{program}", program, "-ldflags", linker_flags(version))
        self._stamp.write_text(f"{version}\n")
        shutil.rmtree(self._go)  # 4 GB that nothing needs any more
        shutil.rmtree(apt.folder)
        return version

    def _apt(self) -> Apt:
        apt = Apt(self.folder / "apt", KEYS)
        apt.update()
        return apt

    def _keep_protocols(self, tree: Path) -> None:
        shutil.rmtree(self.protocols, ignore_errors=True)
        made = self.folder / "protocols.new"
        shutil.rmtree(made, ignore_errors=True)
        for name in NAMES:
            (made / name).parent.mkdir(parents=True)
            shutil.copy(tree / SOURCE / name, made / name)
        made.rename(self.protocols)

    def _environment(self) -> dict[str, str]:
        compiler = self._go / "compiler/usr/lib/go-1.19"
        (self._go / "tmp").mkdir(exist_ok=True)
        return {
            "GOROOT": str(compiler),
            "GOPATH": str(self._go / "path"),  # modules would have to be downloaded
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOCACHE": str(self._go / "objects"),
            "GOTMPDIR": str(self._go / "tmp"),
        }

    def _build(self, tree: Path, package: str, program: str, *flags: str) -> None:
        began = time.monotonic()
        say(f"building {program}")
        go = self._go / "compiler/usr/lib/go-1.19/bin/go"
        target = self.programs / program
        run(
            [go, "build", "-trimpath", *flags, "-o", target, package],
            f"building {program}",
            folder=tree,
            environment=self._environment(),
        )
        say(f"built {program} in {time.monotonic() - began:.0f} s")

    def _describe(self, tree: Path) -> None:
        """Generates the description of the API's types, which source packages leave out."""
        self._build(tree, "./vendor/k8s.io/kube-openapi/cmd/openapi-gen", "openapi-gen")
        command = [
            str(self.programs / "openapi-gen"),
            *("--input-dirs", ",".join(tagged_packages(tree))),
            *("--output-package", f"k8s.io/kubernetes/{GENERATED}"),
            *("--output-file-base", "zz_generated.openapi"),
            *("--go-header-file", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"),
            *("--report-filename", str(self._go / "report")),
            *("--output-base", str(self._go / "path/src")),
        ]
        run(command, "describing the API", folder=tree, environment=self._environment())
        (self.programs / "openapi-gen").unlink()
