# SPDX-License-Identifier: Apache-2.0
"""Orion builds, imports and opens a session with every supported CPython that this machine has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from pythons import SUPPORTED, others  # noqa: E402

FOUND = others()


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("version", SUPPORTED)
def test_python(version: str) -> None:
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"the other tests run with CPython {version}")
    if version not in FOUND:
        pytest.skip(f"no CPython {version} with headers and venv is installed here")
    command = [sys.executable, str(SCRIPTS / "pythons.py"), version]
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert finished.returncode == 0, (finished.stdout + finished.stderr)[-6000:]
