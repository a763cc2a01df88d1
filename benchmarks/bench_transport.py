# SPDX-License-Identifier: Apache-2.0
"""Bulk copies through the staging chunks both ways, and sessions over TCP, against the floors of the same run. Calls
and one-way records of a session are a row of peers/bench_peers.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Figures = dict[str, dict[str, Any]]


def _measure(benchmark: Any, native: Callable[..., Figures], name: str) -> Figures:
    figures = benchmark.pedantic(native, args=(name,), rounds=1, iterations=1)
    benchmark.extra_info["figures"] = figures
    return figures


def test_bulk(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "bulk")
    assert figures["staging_in_1024_kib"]["kept"] > 0, "every sample was dropped: too busy"


def test_tcp(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "tcp")
    assert figures["call_48_ratio"]["median"] > 0
