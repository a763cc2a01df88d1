# SPDX-License-Identifier: Apache-2.0
"""The generator's output for a small spec, byte by byte.

After a wanted change: ORION_UPDATE_GOLDEN=1 pytest tests/codegen
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from codegen.__main__ import OUTPUTS, generate, read_spec

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
ROOT = HERE.parent.parent


@pytest.mark.parametrize("name", OUTPUTS)
def test_output_is_golden(name: str) -> None:
    text = generate(read_spec(HERE / "small"))[name]
    path = GOLDEN / name
    if os.environ.get("ORION_UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), (
        f"{name} changed; if that is wanted, run with ORION_UPDATE_GOLDEN=1 and read the diff"
    )


def test_golden_has_no_stray_files() -> None:
    assert {p.name for p in GOLDEN.iterdir()} == set(OUTPUTS)


def test_small_wire_test_passes(tmp_path: Path) -> None:
    folder = tmp_path / "orion_generated"
    folder.mkdir()
    for name, text in generate(read_spec(HERE / "small")).items():
        (folder / name).write_text(text)
    program = tmp_path / "wire_test"
    command = [
        "cc",
        "-std=gnu11",
        "-Wall",
        "-Werror",
        f"-I{tmp_path}",
        f"-I{ROOT / 'csrc'}",
        "-o",
        str(program),
    ]
    subprocess.run([*command, str(folder / "wire_test.c")], check=True)
    finished = subprocess.run([str(program)], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout
    assert finished.stdout == "7 operations, 0 failures\n"


def test_unchanged_output_is_left_alone(tmp_path: Path) -> None:
    """Otherwise every configure would rebuild the whole tree."""
    from codegen.__main__ import write

    path = tmp_path / "x.h"
    write(path, "text")
    os.utime(path, ns=(1, 1))
    write(path, "text")
    assert path.stat().st_mtime_ns == 1
