# SPDX-License-Identifier: Apache-2.0
"""scripts/numba_suite.py without Numba: what it writes down of tests, and when it calls a run as expected."""

from __future__ import annotations

import json
import sys
import unittest
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # last: what is tested besides is what is installed

from scripts import numba_suite  # noqa: E402


class Suite(unittest.TestCase):
    """Tests of every end, for the recorder and not for pytest."""

    __test__ = False

    def test_passes(self) -> None:
        pass

    def test_fails(self) -> None:
        raise ValueError("one\nand two")

    def test_part_fails(self) -> None:
        for part in range(3):
            with self.subTest(part=part):
                self.check(part)

    def check(self, part: int) -> None:
        if part == 1:
            raise ValueError("part 1")

    @unittest.skip("no second GPU")
    def test_skips(self) -> None:
        raise AssertionError

    @unittest.expectedFailure
    def test_fails_as_expected(self) -> None:
        raise ValueError("one\nand two")

    def test_lacks(self) -> None:
        raise ImportError("\nModuleNotFoundError: No module named 'other'")

    @unittest.expectedFailure
    def test_passes_unexpectedly(self) -> None:
        pass


def test_each_test_is_written_down_as_it_ended(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    unittest.defaultTestLoader.loadTestsFromTestCase(Suite).run(numba_suite.Recorder(file))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    ends = {name.rpartition(".")[2]: (ended, why) for name, ended, why in rows}
    assert len(rows) == 2 * len(ends)  # the first line of each is for a process that ends in it
    assert {why for _, _, why in rows[::2]} == {"the process ended in it"}
    assert ends["test_passes"] == ends["test_fails_as_expected"] == ("passed", "")
    assert ends["test_fails"] == ("failed", "ValueError: one and two")
    assert ends["test_part_fails"] == ("failed", "ValueError: part 1")
    assert ends["test_skips"] == ("skipped", "no second GPU")
    assert ends["test_lacks"] == ("skipped", "No module named 'other'")
    assert ends["test_passes_unexpectedly"][0] == "failed"


GOOD, BAD, LEFT = ("a", "passed", ""), ("b", "failed", "because"), ("c", "skipped", "no GPU")


@pytest.mark.parametrize(
    ("rows", "known", "whole", "code", "says"),
    [
        ([GOOD, LEFT], {}, True, 0, "2 tests: 1 passed, 0 failed"),
        ([GOOD, LEFT], {}, True, 0, "   1 no GPU"),
        ([GOOD, BAD], {}, True, 1, "FAILED: b: because"),
        ([GOOD, BAD], {"b": "mbarrier"}, True, 0, "known: b: mbarrier"),
        ([GOOD], {"a": "mbarrier"}, True, 1, "a passes: take it off"),
        ([GOOD], {"b": "mbarrier"}, True, 1, "b is not there: take it off"),
        ([GOOD], {"b": "mbarrier"}, False, 0, "1 tests"),
        ([LEFT], {}, True, 1, "1 tests: 0 passed"),
        ([], {}, True, 1, "0 tests"),
    ],
)
def test_run_is_as_expected_only_if_exactly_the_known_tests_fail(
    rows: list[tuple[str, str, str]],
    known: dict[str, str],
    whole: bool,
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert numba_suite.verdict(rows, known, whole) == code
    assert says in capsys.readouterr().out


def test_every_known_failure_has_its_reason() -> None:
    known = json.loads(numba_suite.KNOWN.read_text())
    assert all(name.startswith("test_") and len(why) > 10 for name, why in known.items())
