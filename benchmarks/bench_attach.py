# SPDX-License-Identifier: Apache-2.0
"""From cuInit to the first answer over the server's unix socket, with a worker that was made ready before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Figures = dict[str, dict[str, Any]]


@pytest.mark.parametrize("device", ["null", "cpu"])
def test_attach(benchmark: Any, native: Callable[..., Figures], libcuda: Path, device: str) -> None:
    from orion_server import embedded

    with embedded.start(device=device) as server:
        benchmark.extra_info["figures"] = benchmark.pedantic(
            native,
            args=("attach", str(libcuda)),
            kwargs={"title": f"attach, {device} device", "ORION_SERVER": server.address},
            rounds=1,
            iterations=1,
        )
