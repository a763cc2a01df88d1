# SPDX-License-Identifier: Apache-2.0
"""The demo's verdicts and its table; the programs themselves run in tests/e2e (test_main_job.py, test_demos.py)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent.parent / "scripts"


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    """scripts/demo.py as a module."""
    sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("orion_demo", SCRIPTS / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["orion_demo"] = module
    spec.loader.exec_module(module)
    sys.path.remove(str(SCRIPTS))
    return module


GOOD = {
    "transport": "shm",
    "kernels": 1,
    "calls": 12,
    "bytes": 600000,
    "device_name": "Orion CPU device",
}


@pytest.mark.parametrize(
    ("code", "output", "session", "why"),
    [
        (0, "Test PASSED\n", GOOD, ""),
        (1, "Test PASSED\n", GOOD, "exit code 1"),
        (0, "done\n", GOOD, "did not print"),
        (0, "Test PASSED\n", {**GOOD, "transport": "tcp"}, "over tcp"),
        (0, "Test PASSED\n", {**GOOD, "kernels": 0}, "no kernel"),
        (0, "Test PASSED\n", {}, "over nothing"),
    ],
)
def test_only_a_program_that_computed_over_shm_has_passed(
    demo: ModuleType, code: int, output: str, session: dict[str, object], why: str
) -> None:
    verdict = demo.judge(code, output, session)
    assert bool(verdict) == bool(why)
    assert why in verdict


def test_table_shows_what_the_server_counted(demo: ModuleType) -> None:
    outcomes = [
        demo.Outcome(demo.PROGRAMS[0], demo.PASSED, 0.5, "", GOOD),
        demo.Outcome(demo.PROGRAMS[1], demo.FAILED, 0.1, "exit code 1"),
    ]
    lines = demo.outcome_table(outcomes).plain().splitlines()
    assert lines[0].split() == [
        "program",
        "device",
        "transport",
        "calls",
        "kernels",
        "bytes",
        "time",
        "result",
    ]
    assert lines[2].split("  ")[0] == "vectorAdd (static cudart)"
    assert "586 KiB" in lines[2]
    assert lines[3].endswith("FAILED")


def test_program_whose_package_is_missing_makes_the_demo_fail(
    demo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def passed(program: object, *_: object) -> object:
        return demo.Outcome(program, demo.PASSED, 0.5, "", GOOD)

    monkeypatch.setattr(sys, "argv", ["demo.py", "--keep", str(tmp_path)])
    monkeypatch.setattr(
        demo, "find_nvcc", lambda **_: demo.Nvcc(Path("/bin/true"), "PATH", tmp_path)
    )
    monkeypatch.setattr(demo, "compile_program", lambda *_: tmp_path / "program")
    monkeypatch.setattr(demo, "run_program", passed)
    monkeypatch.setattr(demo, "is_installed", lambda module: True)
    assert demo.main() == 0
    monkeypatch.setattr(demo, "is_installed", lambda module: module != "cupy")
    assert demo.main() == 1
    said = capsys.readouterr().err
    assert "cupy_demo.py failed: cupy is not installed; pip install 'cupy-cuda13x'" in said
    assert "numba" not in said
