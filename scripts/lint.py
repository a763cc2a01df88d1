# SPDX-License-Identifier: Apache-2.0
"""Runs every check of form over the tree: ruff, mypy --strict, clang-format. --fix repairs what can be repaired."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
C_FOLDERS = ("csrc", "client", "server", "tests", "benchmarks", "examples")
# Each is one run of mypy: packages that are imported by their name, beginning at this folder.
PYTHON_ROOTS = {
    "csrc": ["codegen"],
    "server": ["orion_server", "orion_controller"],
    "k8s": ["orion_device_plugin", "orion_elect"],
    ".": ["orion_shm", "scripts"],
}


def c_files() -> list[str]:
    found = []
    for folder in C_FOLDERS:
        found += [
            str(p.relative_to(ROOT))
            for p in (ROOT / folder).rglob("*")
            if p.suffix in (".c", ".h", ".cu", ".cpp")
        ]
    return sorted(name for name in found if "/golden/" not in name)


def run(name: str, command: list[str], folder: Path = ROOT) -> bool:
    environment = {**os.environ, "MYPYPATH": f"{ROOT / 'server'}:{ROOT / 'k8s'}:{ROOT}"}
    finished = subprocess.run(command, cwd=folder, env=environment)
    print(f"lint: {name}: {'ok' if finished.returncode == 0 else 'FAILED'}", flush=True)
    return finished.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fix", action="store_true", help="repair what can be repaired")
    fix = parser.parse_args().fix
    tools = Path(sys.executable).parent
    ruff, mypy, clang_format = (str(tools / name) for name in ("ruff", "mypy", "clang-format"))
    results = [
        run("ruff check", [ruff, "check", "--quiet", *(["--fix"] if fix else []), "."]),
        run(
            "ruff format", [ruff, "format", "--quiet", *([] if fix else ["--check", "--diff"]), "."]
        ),
        run(
            "clang-format",
            [
                clang_format,
                *(["-i"] if fix else ["--dry-run", "-Werror", "--ferror-limit=20"]),
                *c_files(),
            ],
        ),
    ]
    for folder, packages in PYTHON_ROOTS.items():
        present = [name for name in packages if (ROOT / folder / name).is_dir()]
        results.append(
            run(
                f"mypy {' '.join(present)}",
                [mypy, "--config-file", str(ROOT / "pyproject.toml"), *present],
                ROOT / folder,
            )
        )
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
