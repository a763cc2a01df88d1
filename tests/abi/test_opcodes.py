# SPDX-License-Identifier: Apache-2.0
"""Opcodes are for ever: what was locked once stays as it was, and the lock only grows."""

from __future__ import annotations

import os
from pathlib import Path

from codegen.load import load_opcodes

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "opcodes.golden"
LOCK = HERE.parents[1] / "csrc" / "spec" / "opcodes.toml"


def rows(opcodes: dict[str, int]) -> list[str]:
    return [f"{number} {name}" for name, number in opcodes.items()]


def test_locked_numbers_never_change() -> None:
    current = rows(load_opcodes(LOCK)[0])
    golden = GOLDEN.read_text().split("\n")[:-1]
    assert current[: len(golden)] == golden, "an opcode changed, moved or vanished: append instead"


def test_new_numbers_are_recorded() -> None:
    current = rows(load_opcodes(LOCK)[0])
    if os.environ.get("ORION_UPDATE_GOLDEN"):
        GOLDEN.write_text("\n".join(current) + "\n")
    golden = GOLDEN.read_text().split("\n")[:-1]
    assert golden == current, (
        "opcodes were appended: record them with ORION_UPDATE_GOLDEN=1 pytest tests/abi"
    )
