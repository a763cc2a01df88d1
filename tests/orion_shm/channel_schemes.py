# SPDX-License-Identifier: Apache-2.0
"""What carries the messages of a channel, for tests that hold for all of it."""

from __future__ import annotations

import ctypes.util
import os
import time

import pytest
from orion_server import ucx_wheel

without_ucx = pytest.mark.skipif(
    ucx_wheel.library() is None and ctypes.util.find_library("ucp") is None,
    reason="UCX is not installed: pip install 'orion-vgpu[ucx]'",
)
SCHEMES = ["shm", "tcp", pytest.param("ucx", marks=without_ucx)]
only_shm = pytest.mark.parametrize("scheme", ["shm"], indirect=True)


def address_of(scheme: str) -> str:
    """To listen at; for a port that is free the listener tells which."""
    if scheme == "shm":
        return f"test-{os.getpid()}-{time.monotonic_ns()}"
    return f"{scheme}://127.0.0.1:0"
