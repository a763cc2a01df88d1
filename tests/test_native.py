# SPDX-License-Identifier: Apache-2.0
"""Runs each C test of the meson build as one pytest item; exit status 77 means skipped."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path(os.environ.get("ORION_BUILD", ROOT / "build" / "venv"))
SKIPPED = 77


def native_tests() -> list[dict[str, Any]]:
    path = BUILD / "meson-info" / "intro-tests.json"
    return json.loads(path.read_text()) if path.exists() else []


def name_of(test: dict[str, Any]) -> str:
    suite = test["suite"][0].split(":")[-1] if test["suite"] else "native"
    return f"{suite}-{test['name']}"


def test_build_folder_exists() -> None:
    assert native_tests(), (
        f"no C tests in {BUILD}: run make test, or set ORION_BUILD to a meson build folder"
    )


def libucp() -> dict[str, str]:
    """UCX as it is now; it may have come after the build was configured (`make demo`, then `make test`)."""
    spec = importlib.util.find_spec("libucx")
    if spec is None or not spec.submodule_search_locations:
        return {}
    return {"ORION_LIBUCP": str(Path(spec.submodule_search_locations[0]) / "lib" / "libucp.so.0")}


@pytest.mark.parametrize("test", native_tests(), ids=name_of)
def test_native(test: dict[str, Any]) -> None:
    command = [str(part) for part in test["cmd"]]
    if not Path(command[0]).exists():
        target = Path(command[0]).relative_to(BUILD)
        subprocess.run(
            [str(Path(sys.executable).with_name("ninja")), "-C", str(BUILD), str(target)],
            check=True,
        )
    environment = {**libucp(), **os.environ, **test["env"]}
    seconds = min(float(test.get("timeout") or 30) * 4, 280)
    finished = subprocess.run(
        command,
        cwd=test["workdir"],
        env=environment,
        timeout=seconds,
        capture_output=True,
        text=True,
        errors="replace",
    )
    output = finished.stdout + finished.stderr
    if finished.returncode == SKIPPED:
        pytest.skip(output.strip().split("\n")[-1] or "the test said so (exit status 77)")
    assert finished.returncode == 0, (
        f"{' '.join(command)} ended with {finished.returncode}\n{output[-8000:]}"
    )
