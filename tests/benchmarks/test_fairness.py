# SPDX-License-Identifier: Apache-2.0
"""When a share counts as had back: judged on traces that are known."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fairness


def trace(pause: float, share: float = 0.5) -> list[tuple[float, float]]:
    """Nothing for so much device time, then that part of it."""
    times = [n * 0.002 for n in range(600)]
    return [(max(0.0, at - pause) * share, at) for at in times]


@pytest.mark.parametrize(
    ("pause", "after"), [(0.0, 0.0), (0.05, 0.02), (0.1, 0.07), (0.2, 0.17), (0.3, 0.27)]
)
def test_share_is_had_back_when_the_pause_is_over(pause, after):
    """A window of half a second with 3 points to spare forgives 30 ms."""
    assert fairness.had_back(trace(pause)) == pytest.approx(after, abs=0.005)


def test_longer_pause_than_is_promised_is_a_miss():
    assert fairness.had_back(trace(0.12)) <= fairness.RECLAIM < fairness.had_back(trace(0.15))


def test_smaller_share_is_never_had_back():
    assert fairness.had_back(trace(0.0, share=0.45)) == math.inf
