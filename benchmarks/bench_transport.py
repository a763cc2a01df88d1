# SPDX-License-Identifier: Apache-2.0
"""Bulk copies through the staging chunks both ways and into a channel's arena, and sessions over TCP, against floors of
the same run. Calls and one-way records of sessions and channels are rows of peers/bench_peers.py."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orion_server import ucx_wheel

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


def test_stream(benchmark: Any, native: Callable[..., Figures]) -> None:
    """Plain, TLS and UCX streams beside the bare socket, and what ucx_perftest says of the same in the same minute."""
    library = ucx_wheel.library()
    environment = {"ORION_LIBUCP": library} if library else {}
    figures = benchmark.pedantic(
        native, args=("stream",), kwargs=environment, rounds=1, iterations=1
    )
    benchmark.extra_info["figures"] = figures
    if library is not None:
        benchmark.extra_info["ucx_perftest_ping_64_us"] = perftest(Path(library), 64)
    assert figures["plain_ping_64_ratio"]["median"] > 0


def test_channel_net(benchmark: Any, native: Callable[..., Figures]) -> None:
    """Channels over tcp and ucx beside a bare socket."""
    library = ucx_wheel.library()
    environment = {"ORION_LIBUCP": library} if library else {}
    figures = benchmark.pedantic(
        native, args=("channel_net",), kwargs=environment, rounds=1, iterations=1
    )
    benchmark.extra_info["figures"] = figures
    assert figures["tcp_call_48_ratio"]["median"] > 0


def perftest(library: Path, size: int) -> float | None:
    """Median microseconds of a round trip by the wheel's own ucx_perftest; None where it does not run."""
    program = library.parent.parent / "bin" / "ucx_perftest"
    if not program.exists():
        return None
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(library.parent),
        "UCX_TLS": "tcp",
        "UCX_NET_DEVICES": "lo",
        "UCX_MODULES": "^cuda",
    }
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    with subprocess.Popen(
        [program, "-p", port], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            for _ in range(50):  # until it listens
                done = subprocess.run(
                    [program, "127.0.0.1", "-p", port, "-t", "stream_lat", "-s", str(size), "-n", "2000", "-f"],
                    env=environment, capture_output=True, text=True, timeout=60,
                )  # fmt: skip
                found = re.search(r"^\s+2000\s+([\d.]+)", done.stdout, re.MULTILINE)
                if found:
                    return 2 * float(found[1])  # it counts one way
                threading.Event().wait(0.1)
            return None
        finally:
            server.kill()


def test_arena(benchmark: Any, native: Callable[..., Figures]) -> None:
    figures = _measure(benchmark, native, "arena")
    assert figures["one_copy_1024_kib"]["kept"] > 0, "every sample was dropped: too busy"
