# SPDX-License-Identifier: Apache-2.0
"""Programs of checks (python/*_checks.py): each runs once under `orion run`, and each of its checks is a test."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from e2e_support import OrionRun, Result

PYTHON = Path(__file__).parent / "python"
# Compiling everything for the first time; what was compiled before is on disk, and a run takes seconds.
SECONDS = 900.0


def check_names(program: str) -> list[str]:
    """The checks of a program, without running it."""
    source = (PYTHON / f"{program}.py").read_text(encoding="utf-8")
    return re.findall(r"^def check_(\w+)\(", source, re.MULTILINE)


def need(*modules: str) -> None:
    """Skips the tests of a file, naming what is not installed."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ImportError:
            found = False
        if not found:
            pytest.skip(
                f"{module} is not installed (pip install 'orion-vgpu[test]')",
                allow_module_level=True,
            )


class Checks:
    """What the checks of one run said."""

    def __init__(self, done: Result) -> None:
        self.done = done

    def assert_ok(self, name: str) -> None:
        """Fails with the check's own error, or with everything if it did not come to it."""
        failed = re.search(rf"^failed {name} (.*)$", self.done.out, re.MULTILINE)
        assert failed is None, failed[1] if failed else ""
        assert re.search(rf"^ok {name} ", self.done.out, re.MULTILINE), self.done.said()


def run_checks(
    orion_run: OrionRun, program: str, *names: str, options: tuple[str, ...] = (), **variables: str
) -> Checks:
    """Runs a program's checks, all or some; `options` are those of `orion run`."""
    script = PYTHON / f"{program}.py"
    return Checks(
        orion_run(sys.executable, script, *names, options=options, seconds=SECONDS, **variables)
    )
