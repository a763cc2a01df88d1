# SPDX-License-Identifier: Apache-2.0
"""The type stub of the compiled module says what the module has: names, arguments, defaults, async or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# What Cython adds to every module, and that our classes have a layout of their own (a word that stubs had no name for
# before typing_extensions 4.15).
ALLOWED = r"""
orion_shm\._channel\.__(reduce_cython|setstate_cython|test)__
orion_shm\._channel\.(Channel|Listener)
"""


def stubtest(folder: Path, *, path: str = "") -> subprocess.CompletedProcess[str]:
    """Elsewhere than in the checkout, whose folder has no compiled module."""
    allowed = folder / "allowed"
    allowed.write_text(ALLOWED)
    command = [sys.executable, "-m", "mypy.stubtest", "orion_shm._channel", "--concise"]
    command += ["--allowlist", str(allowed), "--ignore-unused-allowlist"]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={"MYPYPATH": path, "PATH": ""}
    )


def test_stub_and_module_agree(tmp_path: Path) -> None:
    done = stubtest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_argument_that_the_module_does_not_have_is_found(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("orion_shm", "_channel.pyi").read_text()
    other = tmp_path / "stubs" / "orion_shm"
    other.mkdir(parents=True)
    (other / "__init__.pyi").touch()
    (other / "_channel.pyi").write_text(
        text.replace("def recv(self, ", "def recv(self, more: int, ")
    )
    done = stubtest(tmp_path, path=str(other.parent))
    assert done.returncode == 1
    assert "_channel.Channel.recv" in done.stdout
