# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks is named together with the package that brings it; what was done is not done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bootstrap  # noqa: E402


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("CC", "a C compiler (/nowhere/compiler) is missing: apt-get install gcc libc6-dev"),
        ("CXX", "a C++ compiler (/nowhere/compiler) is missing: apt-get install g++"),
    ],
)
def test_missing_compiler_is_named_with_its_package(
    variable: str, sentence: str, tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPTS / "bootstrap.py"), "--venv", str(tmp_path / "venv")]
    environment = {**os.environ, variable: "/nowhere/compiler"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 1
    assert sentence in finished.stderr
    assert "dnf install" in finished.stderr
    assert not (tmp_path / "venv").exists()


def test_missing_headers_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "include_folder", lambda: Path("/nowhere"))
    with pytest.raises(
        bootstrap.Missing,
        match=r"python3\.\d+-dev \(Debian, Ubuntu\) or dnf install python3\.\d+-devel",
    ):
        bootstrap.check_machine()


def test_a_step_runs_once_for_the_same_inputs(tmp_path: Path) -> None:
    steps = bootstrap.Steps(tmp_path)
    done = tmp_path / "done"
    append = [sys.executable, "-c", f"open({str(done)!r}, 'a').write('x')"]
    for state in ("one", "one", "two", "two"):
        steps.run("step", state, "doing it", append)
    assert done.read_text() == "xx"


def test_a_failed_step_is_tried_again(tmp_path: Path) -> None:
    steps = bootstrap.Steps(tmp_path)
    with pytest.raises(bootstrap.Missing, match="exit status 3"):
        steps.run("step", "one", "doing it", [sys.executable, "-c", "raise SystemExit(3)"])
    assert not (tmp_path / ".orion" / "step").exists()


def test_unknown_extra_is_refused() -> None:
    with pytest.raises(bootstrap.Missing, match="no such extra: nonsense"):
        bootstrap.extra_requirements(Path(sys.prefix), ["nonsense"])


def test_extras_unfold_to_requirements_without_our_own_name() -> None:
    wanted = bootstrap.extra_requirements(Path(sys.prefix), ["all"])
    assert any(r.startswith("llvmlite") for r in wanted)
    assert any(r.startswith("numpy") for r in wanted)
    assert not any(r.startswith("orion-vgpu") for r in wanted)
