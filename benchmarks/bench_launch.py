# SPDX-License-Identifier: Apache-2.0
"""Launches per second and a waiting call through libcuda.so.1: in-process twin and server, null device."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Figures = dict[str, dict[str, Any]]


def test_launch_in_the_twin(
    benchmark: Any, native: Callable[..., Figures], libcuda: Path, worker_library: Path
) -> None:
    benchmark.extra_info["figures"] = benchmark.pedantic(
        native,
        args=("launch", str(libcuda)),
        kwargs={"title": "launch, twin", "ORION_SERVER": f"local:{worker_library}?device=null"},
        rounds=1,
        iterations=1,
    )


def test_launch_on_a_server(benchmark: Any, native: Callable[..., Figures], libcuda: Path) -> None:
    """Against a running server that the environment names, whatever its device is."""
    if "ORION_SERVER" not in os.environ:
        pytest.skip("set ORION_SERVER to a server of the null device: orion up --device null")
    benchmark.extra_info["figures"] = benchmark.pedantic(
        native,
        args=("launch", str(libcuda)),
        kwargs={"title": "launch, server"},
        rounds=1,
        iterations=1,
    )
