# SPDX-License-Identifier: Apache-2.0
"""Table of contents: load -> check -> emit.

python -m codegen --spec csrc/spec --output build/csrc/orion_generated
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from .check import check
from .emit_client import emit_calls_c, emit_calls_h, emit_hand_h, emit_stubs_c, emit_unserved_c
from .emit_docs import emit_support
from .emit_proc import emit_proc_c, emit_proc_h
from .emit_server import emit_dispatch_c, emit_serve_h
from .emit_tests import emit_shapes_h, emit_wire_test
from .emit_types import emit_cdef, emit_header, emit_map
from .emit_wire import emit_blobs_h, emit_opcodes_c, emit_opcodes_h, emit_wire_h
from .load import load
from .model import Spec, SpecError
from .text import pretty

OUTPUTS: dict[str, Callable[[Spec], str]] = {
    "orion_cuda.h": emit_header,
    "opcodes.h": emit_opcodes_h,
    "opcodes.c": emit_opcodes_c,
    "blobs.h": emit_blobs_h,
    "wire.h": emit_wire_h,
    "calls.h": emit_calls_h,
    "calls.c": emit_calls_c,
    "hand.h": emit_hand_h,
    "stubs.c": emit_stubs_c,
    "unserved.c": emit_unserved_c,
    "proc.h": emit_proc_h,
    "proc.c": emit_proc_c,
    "serve.h": emit_serve_h,
    "dispatch.c": emit_dispatch_c,
    "wire_test.c": emit_wire_test,
    "shapes.h": emit_shapes_h,
    "libcuda.map": emit_map,
    "orion_cdef.txt": emit_cdef,
    "api-support.md": emit_support,
}


def read_spec(folder: Path) -> Spec:
    spec, opcodes, lock = load(folder)
    check(spec, opcodes, lock)
    return spec


def generate(spec: Spec) -> dict[str, str]:
    """Every output file by name."""
    texts = {name: emit(spec) for name, emit in OUTPUTS.items()}
    return {
        name: pretty(text) if name.endswith((".c", ".h")) else text for name, text in texts.items()
    }


def write(path: Path, text: str) -> None:
    """Leaves an unchanged file alone, so that nothing is rebuilt for it."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="codegen", description="Generates C from Orion's spec.")
    parser.add_argument("--spec", type=Path, required=True, help="folder with the chapters")
    parser.add_argument("--output", type=Path, required=True, help="folder that receives the files")
    options = parser.parse_args()
    try:
        spec = read_spec(options.spec)
    except SpecError as error:
        print(error, file=sys.stderr)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in generate(spec).items():
        write(options.output / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
