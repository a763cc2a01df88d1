# SPDX-License-Identifier: Apache-2.0
"""Calls, one-way records and bulk copies over the shared-memory transport, against the floors of the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Figures = dict[str, dict[str, Any]]


def _measure(benchmark: Any, native: Callable[..., Figures], name: str) -> Figures:
    figures = benchmark.pedantic(native, args=(name,), rounds=1, iterations=1)
    benchmark.extra_info["figures"] = figures
    return figures


def test_call(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "call")
    assert figures["call_48"]["kept"] > 0, "every sample was dropped: the machine is too busy"


def test_bulk(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "bulk")
    assert figures["staging_in_1024_kib"]["kept"] > 0, "every sample was dropped: too busy"


def test_tcp(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "tcp")
    assert figures["call_48_ratio"]["median"] > 0


def test_channel(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "channel")
    assert figures["call_48"]["kept"] > 0, "every sample was dropped: the machine is too busy"
