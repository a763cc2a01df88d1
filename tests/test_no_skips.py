# SPDX-License-Identifier: Apache-2.0
"""ORION_NO_SKIP=1: a lost test is a failed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CONFTEST = f"""
import sys
sys.path.append({str(HERE)!r})
from no_skips import pytest_make_collect_report, pytest_runtest_makereport
"""
TESTS = """
import pytest
def test_runs(): pass
def test_tool(): pytest.skip("no baker here: apt-get install baker")
@pytest.mark.skipif(True, reason="needs a GPU")
def test_gpu(): pass
@pytest.mark.xfail
def test_known(): assert False
@pytest.fixture
def oven(): pytest.skip("no oven")
def test_oven(oven): pass
"""
MODULE = "import pytest; pytest.importorskip('no_such_package', reason='no package')\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_some.py").write_text(TESTS)
    return tmp_path


def run(folder: Path, value: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(folder)],
        env={"ORION_NO_SKIP": value},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout


def test_skips_are_skips_unless_it_is_set(folder: Path) -> None:
    (folder / "test_module.py").write_text(MODULE)
    status, out = run(folder, "")
    assert status == 0
    assert "1 passed, 4 skipped, 1 xfailed" in out


def test_lost_test_fails_with_its_reason(folder: Path) -> None:
    status, out = run(folder, "1")
    assert status == 1
    assert "1 failed, 1 passed, 1 skipped, 1 xfailed, 1 error" in out
    assert (
        "no baker here: apt-get install baker (ORION_NO_SKIP=1: nothing may be skipped here)" in out
    )
    assert "no oven (ORION_NO_SKIP=1" in out


def test_lost_module_fails_as_well(folder: Path) -> None:
    (folder / "test_module.py").write_text(MODULE)
    status, out = run(folder, "1")
    assert status != 0
    assert "no package (ORION_NO_SKIP=1" in out
