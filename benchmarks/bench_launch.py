# SPDX-License-Identifier: Apache-2.0
"""Launches per second and a waiting call through libcuda.so.1: in-process twin and server."""

from __future__ import annotations

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


@pytest.mark.parametrize("device", ["null", "cpu"])
def test_launch_on_a_server(
    benchmark: Any, native: Callable[..., Figures], libcuda: Path, device: str
) -> None:
    """Two processes and shared memory between them. On the null device only the way there is measured, on the CPU
    device the kernel, which is empty, runs too."""
    from orion_server import embedded

    with embedded.start(device=device) as server:
        benchmark.extra_info["figures"] = benchmark.pedantic(
            native,
            args=("launch", str(libcuda)),
            kwargs={
                "title": f"launch, {device} device on a server",
                "ORION_SERVER": server.address,
            },
            rounds=1,
            iterations=1,
        )
