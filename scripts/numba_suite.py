# SPDX-License-Identifier: Apache-2.0
"""Numba's own CUDA tests (numba.cuda.tests.cudapy, as numba-cuda brings them) on the CPU device.

    make numba-suite                          all of them, some ten minutes on two processors
    make numba-suite ARGS='--only warp_ops'   the files whose name matches

Each file runs in a process of its own, all at one server. What does not pass is in scripts/numba_suite.json, with its
reason; exit status 0 only if exactly these do not pass. Tests that skip themselves are counted by their own words.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ORION = Path(sys.executable).parent / "orion"
PACKAGE = "numba.cuda.tests.cudapy"
KNOWN = Path(__file__).with_suffix(".json")
FILE_SECONDS = 1200
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
Rows = list[tuple[str, str, str]]  # test, how it ended, why


class Recorder(unittest.TestResult):
    """Writes down how each test ended, at once: what has ended is known even if a later test ends the process."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.worst: tuple[str, str] = (PASSED, "")

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        self.worst = (PASSED, "")
        self.write(test.id(), FAILED, "the process ended in it")

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        self.write(test.id(), *self.worst)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self.worst = (SKIPPED, reason)

    def addFailure(self, test: unittest.TestCase, error: Any) -> None:  # noqa: N802
        super().addFailure(test, error)
        self.fail(test, error)

    def addError(self, test: Any, error: Any) -> None:  # noqa: N802
        super().addError(test, error)
        self.fail(test, error)

    def addSubTest(self, test: unittest.TestCase, subtest: Any, error: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.fail(test, error)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self.worst = (FAILED, "it passes, and was expected not to")

    def fail(self, test: Any, error: Any) -> None:
        """A failure or an error; one outside of a test (a file that does not load) has no start and end."""
        words = " ".join(f"{error[0].__name__}: {error[1]}".split())
        absent = re.search(r"ModuleNotFoundError: (No module named '\w+')", words)
        self.worst = (SKIPPED, absent[1]) if absent else (FAILED, words[:300])
        if not isinstance(test, unittest.TestCase):
            self.write(test.id(), *self.worst)

    def write(self, test: str, ended: str, why: str) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps([test.removeprefix(PACKAGE + "."), ended, why]) + "\n")


def run_here(module: str, file: Path) -> None:
    """Runs the tests of a module in this process."""
    unittest.defaultTestLoader.loadTestsFromName(module).run(Recorder(file))


def run_apart(module: str, address: str, folder: Path) -> Rows:
    """The tests of a module in a process of their own, under `orion run`."""
    file = folder / f"{module}.jsonl"
    file.touch()
    command: list[str | os.PathLike[str]] = [ORION, "run", "-q", "--server", address, "--"]
    command += [sys.executable, __file__, "--here", module, "--results", file]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FILE_SECONDS)
        end, words = done.returncode, done.stderr
    except subprocess.TimeoutExpired:
        end, words = -1, f"no end within {FILE_SECONDS} s"
    found = {test: (ended, why) for test, ended, why in map(json.loads, file.open())}
    if end != 0:
        found[module.removeprefix(PACKAGE + ".")] = (FAILED, " ".join(words.split())[-300:])
    counts = Counter(ended for ended, _ in found.values())
    told = ", ".join(f"{number} {ended}" for ended, number in sorted(counts.items()))
    print(f"{module}: {told or 'no tests'}, {time.monotonic() - began:.0f} s", flush=True)
    return [(test, ended, why) for test, (ended, why) in found.items()]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server on the CPU device for the time of the block; its address."""
    address = f"unix:{folder}/server.sock"
    command = [str(ORION), "up", "--plain", "--device", "cpu", "--listen", address]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (folder / "server.sock").exists():
            time.sleep(0.02)
        yield address
    finally:
        process.terminate()
        process.wait()


def verdict(rows: Rows, known: dict[str, str], whole: bool) -> int:
    """Prints the counts and whatever is not as the list says; 0 when nothing is."""
    counts = Counter(ended for _, ended, _ in rows)
    reasons = Counter(why for _, ended, why in rows if ended == SKIPPED)
    failed = {test: why for test, ended, why in rows if ended == FAILED}
    print(f"\n{len(rows)} tests: {counts[PASSED]} passed, {counts[FAILED]} failed")
    print(f"{counts[SKIPPED]} skipped themselves:")
    for reason, number in reasons.most_common():
        print(f"  {number:4} {reason}")
    for test, why in failed.items():
        print(f"{'known' if test in known else 'FAILED'}: {test}: {known.get(test, why)}")
    wrong = failed.keys() - known.keys()
    passes = {test for test, ended, _ in rows if ended == PASSED} & known.keys()
    gone = known.keys() - {test for test, _, _ in rows} if whole else set()
    for test in sorted(passes | gone):
        what = "passes" if test in passes else "is not there"
        print(f"{test} {what}: take it off {KNOWN.name}")
    return 1 if wrong or passes or gone or not counts[PASSED] else 0


def modules(only: re.Pattern[str]) -> Sequence[str]:
    """The files of the suite whose name matches."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"numba-suite: there is no {PACKAGE}; pip install 'numba-cuda[cu13]'")
    folder = Path(next(iter(spec.submodule_search_locations)))
    names = sorted(path.stem for path in folder.glob("test_*.py") if only.search(path.stem))
    return [f"{PACKAGE}.{name}" for name in names]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=re.compile, default=re.compile(""), metavar="REGEX")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--here", metavar="MODULE", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        run_here(options.here, options.results)
        return 0
    known: dict[str, str] = json.loads(KNOWN.read_text())
    wanted = modules(options.only)
    with tempfile.TemporaryDirectory(prefix="orion-numba-suite-") as name:
        folder = Path(name)
        with server(folder) as address, ThreadPoolExecutor(options.jobs) as pool:
            parts = pool.map(lambda module: run_apart(module, address, folder), wanted)
            rows = [row for part in parts for row in part]
    return verdict(rows, known, whole=not options.only.pattern)


if __name__ == "__main__":
    sys.exit(main())
