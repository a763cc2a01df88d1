# SPDX-License-Identifier: Apache-2.0
"""The `orion` command as a whole: help, version, usage errors."""

from __future__ import annotations

import pytest

from orion_shm.cli import main
from orion_shm.cli.main import COMMANDS


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_there(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "usage: orion" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("orion ")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--gmem", "abc", "--", "true"]])
def test_usage_errors_are_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "orion" in capsys.readouterr().err
