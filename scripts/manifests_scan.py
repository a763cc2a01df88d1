# SPDX-License-Identifier: Apache-2.0
"""checkov over all that k8s/deploy renders, and over the Dockerfile; what it may find is in k8s/checkov.yaml.

Each entry there says for which objects of which files it holds. A finding without an entry fails the scan, and so does
an entry that nothing needs any more. checkov is too large for .venv: it has a venv of its own in build/checkov.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import manifests
import yaml

VERSION = "3.3.30"
ACCEPTED = manifests.ROOT / "k8s" / "checkov.yaml"
OVERLAYS = manifests.DEPLOY / "overlays"
COMPONENTS = ("rdma", "monitoring")
WITH_SERVER = ("shm-memfd", "shm-hostipc", "tcp-pool")
CLIENTS = ("shm-hostipc/client", "tcp-pool/client", "rdma/client")


@dataclass(frozen=True, order=True)
class Found:
    """checkov's complaint about one object."""

    file: str
    resource: str
    check: str
    text: str


def units() -> dict[str, str]:
    """What is scanned: name of a file -> its objects. Overlays alone and with each component, and the classic files."""
    found = {"client.yaml": manifests.render(manifests.DEPLOY / "base" / "client")}
    for name in WITH_SERVER:
        found[f"{name}.yaml"] = manifests.render(OVERLAYS / name)
        for component in COMPONENTS:
            text = manifests.compose(OVERLAYS / name, [OVERLAYS / component])
            found[f"{name}+{component}.yaml"] = text
    for name in CLIENTS:
        found[f"{name.replace('/', '-')}.yaml"] = manifests.render(OVERLAYS / name)
    found |= {path.name: text for path, text in manifests.rendered().items()}
    return found


def findings(report: Mapping[str, Any]) -> list[Found]:
    """Those of checkov's report in JSON."""
    failed = report.get("results", {}).get("failed_checks", [])
    return sorted(
        {
            Found(Path(one["file_path"]).name, one["resource"], one["check_id"], one["check_name"])
            for one in failed
        }
    )


def judge(found: Iterable[Found], accepted: Mapping[str, Any]) -> list[str]:
    """A line for each finding that is not accepted, and for each entry that accepts nothing."""
    used: set[tuple[str, str]] = set()
    wrong = []
    for one in found:
        places = accepted.get(one.check, {}).get("in", [])
        matching = [place for place in places if fnmatchcase(f"{one.file} {one.resource}", place)]
        used |= {(one.check, place) for place in matching}
        if not matching:
            wrong.append(f"{one.check} {one.file} {one.resource}: {one.text}")
    for check, entry in accepted.items():
        for place in entry["in"]:
            if (check, place) not in used:
                wrong.append(f"{check} {place}: nothing needs this entry of {ACCEPTED.name}")
    return wrong


def install() -> Path:
    """checkov, in the version that is pinned here."""
    venv = manifests.ROOT / "build" / "checkov"
    program, stamp = venv / "bin" / "checkov", venv / "version"
    if not stamp.exists() or stamp.read_text() != VERSION:
        print(f"manifests: installing checkov {VERSION} in build/checkov", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = str(venv / "bin" / "pip")
        options = ("install", "-q", "--disable-pip-version-check")
        subprocess.run([pip, *options, f"checkov=={VERSION}"], check=True)
        stamp.write_text(VERSION)
    return program


def run(program: Path, *arguments: str | os.PathLike[str]) -> list[Found]:
    """checkov's findings; it asks nobody for rules."""
    command = [program, "--compact", "--quiet", "--skip-download", "--output", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"manifests: checkov has no report: {done.stdout}{done.stderr}") from None
    return findings(report)


def main() -> int:
    program = install()
    with tempfile.TemporaryDirectory() as folder:
        scanned = units()
        for name, text in scanned.items():
            Path(folder, name).write_text(text)
        found = run(program, "--framework", "kubernetes", "--directory", folder)
    dockerfile = manifests.ROOT / "k8s" / "images" / "Dockerfile"
    found += run(program, "--framework", "dockerfile", "--file", dockerfile)
    wrong = judge(found, yaml.safe_load(ACCEPTED.read_text()))
    print("\n".join(wrong), end="\n" if wrong else "")
    print(
        f"manifests: checkov {VERSION}: {len(scanned)} files and the Dockerfile, {len(found)} findings, "
        f"{len(wrong)} of them wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
