# SPDX-License-Identifier: Apache-2.0
"""The main job of Orion, end to end: unmodified CUDA programs on a machine without a GPU.

Compiles the examples with nvcc from PyPI wheels, runs each under `orion run`, then those that use CuPy
and Numba, and ends with a table. Its columns from "device" to "bytes" are what the server counted, not what we expect.
Exit code 0 only if every program passed over shared memory; one whose package is missing has not passed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nvcc import Nvcc, NvccError, find_nvcc

from orion_shm.cli.amounts import format_bytes, format_seconds
from orion_shm.cli.tables import RIGHT, Table

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
RUN_TIMEOUT_SECONDS = 120
PASSED, FAILED = "PASSED", "FAILED"


@dataclass(frozen=True)
class Program:
    """An example and how its CUDA runtime is linked; a Python program names the module that it needs instead, and the
    package of PyPI that has it."""

    source: str
    cudart: str = ""
    module: str = ""
    package: str = ""

    @property
    def name(self) -> str:
        """For people: "vectorAdd (shared cudart)"."""
        return f"{self.source} ({self.cudart} cudart)" if self.cudart else f"{self.source}.py"


PROGRAMS = (
    Program("vectorAdd", "static"),
    Program("vectorAdd", "shared"),
    Program("matmul", "static"),
    Program("reduction", "static"),
)
PYTHON_PROGRAMS = (
    Program("cupy_demo", module="cupy", package="cupy-cuda13x"),
    Program("numba_demo", module="numba.cuda", package="numba-cuda[cu13]"),
)


@dataclass
class Outcome:
    """What became of one program."""

    program: Program
    result: str = FAILED
    seconds: float = 0.0
    why: str = ""
    session: dict[str, Any] = field(default_factory=dict)


def say(text: str) -> None:
    """One line of progress."""
    print(f"demo: {text}", flush=True)


def compile_program(nvcc: Nvcc, program: Program, folder: Path) -> Path:
    """Compiles one example into `folder`."""
    source = EXAMPLES / f"{program.source}.cu"
    began = time.monotonic()
    output = nvcc.compile(source, folder / f"{program.source}-{program.cudart}", program.cudart)
    took = format_seconds(time.monotonic() - began)
    say(f"compiled examples/{source.name}, {program.cudart} cudart, in {took}")
    return output


def run_program(program: Program, arguments: Sequence[str], folder: Path) -> Outcome:
    """Runs one program under `orion run` and judges it by its own words and the server's report."""
    outcome = Outcome(program)
    report = folder / f"{program.source}-{program.cudart}.json"
    command = [orion_command(), "run", "--report", str(report), "--", *arguments]
    say(f"running {program.name}")
    began = time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=demo_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        outcome.why = f"no end after {RUN_TIMEOUT_SECONDS} s"
        return outcome
    outcome.seconds = time.monotonic() - began
    for line in (done.stderr + done.stdout).splitlines():
        print(f"      {line}", flush=True)
    if report.exists():
        sessions = json.loads(report.read_text(encoding="utf-8"))["sessions"]
        outcome.session = sessions[-1] if sessions else {}
    outcome.why = judge(done.returncode, done.stdout, outcome.session)
    outcome.result = FAILED if outcome.why else PASSED
    return outcome


def run_python(program: Program, folder: Path) -> Outcome:
    """Runs a Python program; one whose module is missing has not passed, since `make demo` installs it."""
    if not is_installed(program.module):
        why = (
            f"{program.module} is not installed; pip install '{program.package}', or run make demo"
        )
        return Outcome(program, why=why)
    return run_program(program, [sys.executable, str(EXAMPLES / f"{program.source}.py")], folder)


def is_installed(module: str) -> bool:
    """Whether this Python has the module; it is not imported, since that looks for a GPU."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def orion_command() -> str:
    """The `orion` that is installed beside this Python."""
    return str(Path(sys.executable).parent / "orion")


def demo_environment() -> dict[str, str]:
    """Ours, without a configured server: the demo brings its own."""
    return {name: value for name, value in os.environ.items() if name != "ORION_SERVER"}


def judge(code: int, output: str, session: dict[str, Any]) -> str:
    """Why the program has not passed; empty when it has."""
    if code != 0:
        return f"exit code {code}"
    if "Test PASSED" not in output:
        return "it did not print `Test PASSED`"
    if session.get("transport") != "shm":
        return f"it ran over {session.get('transport', 'nothing')}, not shared memory"
    if session.get("kernels", 0) < 1:
        return "the server counted no kernel"
    return ""


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """The table at the end."""
    table = Table(
        "program",
        "device",
        "transport",
        ("calls", RIGHT),
        ("kernels", RIGHT),
        ("bytes", RIGHT),
        ("time", RIGHT),
        "result",
    )
    for outcome in outcomes:
        session = outcome.session
        copied = format_bytes(session["bytes"]) if "bytes" in session else "-"
        table.add(
            outcome.program.name,
            session.get("device_name", "-"),
            session.get("transport", "-"),
            session.get("calls", "-"),
            session.get("kernels", "-"),
            copied,
            format_seconds(outcome.seconds),
            outcome.result,
        )
    return table


def main() -> int:
    """Compiles, runs, prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the compiled programs here")
    parser.add_argument("--any-nvcc", action="store_true", help="an nvcc from PATH will do, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orion-demo-") as scratch:
        folder = options.keep or Path(scratch)
        outcomes = []
        try:
            nvcc = find_nvcc(allow_path=options.any_nvcc)
            say(f"nvcc {nvcc.version()} from {nvcc.origin}")
            binaries = [compile_program(nvcc, program, folder) for program in PROGRAMS]
        except NvccError as error:
            print(f"demo: {error}", file=sys.stderr)
            return 1
        for program, binary in zip(PROGRAMS, binaries, strict=True):
            outcomes.append(run_program(program, [str(binary)], folder))
        outcomes += [run_python(program, folder) for program in PYTHON_PROGRAMS]
    print()
    outcome_table(outcomes).print()
    print()
    for outcome in outcomes:
        if outcome.why:
            print(f"{outcome.program.name} failed: {outcome.why}", file=sys.stderr)
    return 0 if all(outcome.result == PASSED for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
