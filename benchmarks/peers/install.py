# SPDX-License-Identifier: Apache-2.0
"""Installs the peers (extra `bench-peers` of pyproject.toml) into this Python, one by one: a peer that cannot be had
here is named with the reason and left out, and `make bench` goes on without it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent.parent


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["optional-dependencies"]["bench-peers"])


def install(requirement: str) -> str | None:
    """None, or why it could not be installed."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    finished = subprocess.run([*command, requirement], capture_output=True, text=True)
    if finished.returncode == 0:
        return None
    errors = [line for line in finished.stderr.splitlines() if "error" in line.lower()]
    return (errors or ["pip failed without saying why"])[-1].strip()


def main() -> int:
    for requirement in requirements():
        name = re.split(r"[<>=!~;\[ ]", requirement)[0]
        try:
            print(f"bench: {name} {version(name)}")
        except PackageNotFoundError:
            problem = install(requirement)
            said = f"{version(name)}, new" if problem is None else f"NOT THERE: {problem}"
            print(f"bench: {name} {said}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
