# SPDX-License-Identifier: Apache-2.0
"""benchmarks/startup.py: the steps of a run are all there, and together they are the run."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "startup.py"


@pytest.fixture(scope="module")
def startup() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("orion_startup", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(startup: ModuleType, tmp_path: Path) -> Path:
    """With the probe that every Python of a run loads."""
    (tmp_path / "sitecustomize.py").write_text(startup.PROBE)
    return tmp_path


@pytest.mark.parametrize("way", ["private server", "running server"])
def test_steps_of_a_run_follow_one_another_without_a_gap(
    startup: ModuleType, folder: Path, way: str
) -> None:
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("cupy is not installed")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ORION_")}
    environment = {**kept, "XDG_RUNTIME_DIR": str(folder)}
    command = [sys.executable, "-c", startup.PROGRAM]
    run = [startup.ORION, "run", "-q"]
    if way == "running server":
        with startup.running_server(environment, str(folder)) as address:
            steps = startup.one_run(
                [*run, "--server", address, "--", *command], environment, str(folder)
            )
    else:
        steps = startup.one_run([*run, "--", *command], environment, str(folder))
    took = dict(steps)
    whole = took.pop("all of it")
    beside = [name for name in took if name.startswith("(beside")]
    assert len(beside) == (way == "private server")
    for name in beside:
        took.pop(name)
    assert all(part > 0 for part in took.values()), took
    assert sum(took.values()) == pytest.approx(whole)
    assert [name for name in took if name.startswith("program: ")][1:] == [
        f"program: {name}" for name in startup.INSIDE
    ]
