# SPDX-License-Identifier: Apache-2.0
"""Shares of one device thread, as fairness.py measures them: a missed aim fails `make bench`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import fairness

SECONDS = float(os.environ.get("ORION_BENCH_FAIR_SECONDS", "10"))  # of device time, each figure


def test_shares_of_one_device_thread(benchmark: Any, record: Callable[..., None]) -> None:
    figures: list[fairness.Figure] = benchmark.pedantic(
        fairness.measure, args=(SECONDS,), rounds=1, iterations=1
    )
    record(
        "sharing one device thread",
        {f"{f.title} ({f.aim})": {"median": f.value, "unit": f.unit} for f in figures},
    )
    missed = [f"{f.title}: {f.measured}, aim {f.aim}" for f in figures if not f.holds]
    assert not missed, "\n".join(missed)
