# SPDX-License-Identifier: Apache-2.0
"""Programs that share a server, through libcuda.so.1 and the commands that users type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_support import ORION, Server, run, running_server, wait_until

ROOT = Path(__file__).resolve().parents[2]
BUSY = ROOT / "examples" / "busy.py"
MIB = 1 << 20
MOUNTED = "/run/orion/orion.sock"


@pytest.fixture
def shared(environment: dict[str, str]) -> Iterator[Server]:
    with running_server(environment, "--share-mode", "fair") as server:
        yield server


@pytest.fixture
def busy(shared: Server) -> Iterator[subprocess.Popen[str]]:
    """A program that has taken 64 MiB and computes on."""
    library = run([ORION, "run", "--print-library-dir"], shared.environment).out.strip()
    process = subprocess.Popen(
        [sys.executable, str(BUSY), "--memory", "256", "--seconds", "600"],
        env={
            **shared.environment,
            "ORION_GMEM": "64",
            "ORION_RATIO": "40",
            "LD_LIBRARY_PATH": library,
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said == {"held": 60 * MIB, "refused": True}
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_running_program_is_seen_limited_and_drained(
    shared: Server, busy: subprocess.Popen[str]
) -> None:
    wait_until(lambda: shared.client_of(busy.pid)["busy_seconds"] > 0.05, "device time", 30)
    row = shared.client_of(busy.pid)
    assert (row["ratio"], row["mode"], row["share"], row["host_pid"]) == (40, "fair", 1, busy.pid)
    assert row["memory_limit"] == 64 * MIB >= row["memory_used"] > 60 * MIB
    assert sum(row["launch_latency"]["buckets"]) >= 1
    session = str(row["session"])
    done = run([ORION, "limit", session, "--gmem", "32M", "--ratio", "70"], shared.environment)
    assert done.code == 0, done.said()
    assert "32.0 MiB, 70 % (fair)" in done.out
    now = shared.client_of(busy.pid)
    assert (now["memory_limit"], now["ratio"]) == (32 * MIB, 70)
    assert busy.poll() is None

    done = run([ORION, "drain", "--timeout", "0.2"], shared.environment)
    assert done.code == 1, done.said()
    refused = run([ORION, "run", "--", sys.executable, str(BUSY)], shared.environment)
    assert refused.code != 0
    assert "being drained" in refused.err
    assert busy.poll() is None
    done = run([ORION, "drain", "--undo"], shared.environment)
    assert done.code == 0, done.said()
    again = run(
        [ORION, "run", "--", sys.executable, str(BUSY), "--seconds", "0"], shared.environment
    )
    assert again.code == 0, again.said()


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here, and goes first")
def test_demo_of_sharing_shows_that_limits_hold(tmp_path: Path) -> None:
    """With a wide tolerance: the strict figures are those of benchmarks/fairness.py."""
    command = [sys.executable, str(ROOT / "scripts" / "demo_sharing.py")]
    done = subprocess.run(
        [*command, "--seconds", "1", "--tolerance", "0.12", "--picture", tmp_path / "page.png"],
        capture_output=True,
        text=True,
        timeout=200,
        env={k: v for k, v in os.environ.items() if not k.startswith("ORION_")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 5
    assert done.stdout.count("refused") == 5
    assert "leased 3 of 4 vGPUs, 576 MiB and 100 % of the time" in done.stdout
    assert (tmp_path / "page.png").exists() or "no picture: " in done.stdout
