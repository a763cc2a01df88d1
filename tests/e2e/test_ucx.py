# SPDX-License-Identifier: Apache-2.0
"""The same programs over UCX, here by its own tcp: what runs, what is said, and how it ends."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_support import Build, OrionRun, Server, running_server, said_once, wait_until
from orion_server import ucx_wheel

pytestmark = pytest.mark.skipif(
    ucx_wheel.library() is None, reason="UCX is not installed: pip install 'orion-vgpu[ucx]'"
)
OVER_UCX = ("--transport", "ucx")
TOKEN = "me.correct-horse-battery-staple"


@pytest.fixture
def ucx_server(environment: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """A server on the CPU device, and what its clients over UCX need."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN + "\n")
    tokens.chmod(0o600)
    with running_server(
        environment, "--bind", "127.0.0.1:0", "--token-file", str(tokens)
    ) as server:
        server.environment |= {
            "ORION_SERVER": server.smi()["servers"][0]["bind"],
            "ORION_TRANSPORT": "ucx",
            "ORION_TOKEN": TOKEN,
            "ORION_LIBUCP": str(ucx_wheel.library()),
        }
        yield server


@pytest.mark.parametrize("example", ["vectorAdd", "matmul"])
def test_example_passes(build: Build, orion_run: OrionRun, example: str) -> None:
    done = orion_run(build(example), options=OVER_UCX)
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out
    assert "transport ucx to 127.0.0.1" in said_once(done.err)


@pytest.mark.parametrize(
    "stop", ["copies", "host_functions", "two_threads_one_stream", "copies_2d"]
)
def test_feature(build: Build, ucx_server: Server, stop: str) -> None:
    done = ucx_server.run(build("tour"), stop)
    assert done.code == 0, done.said()
    assert f"{stop} ok" in done.out


CUPY = "import cupy; a = cupy.arange(1 << 20); print(int((a * 2).sum()) == (1 << 20) * ((1 << 20) - 1))"
NUMBA = """
from numba import cuda
import numpy as np

@cuda.jit
def double(a):
    i = cuda.grid(1)
    if i < a.size:
        a[i] *= 2

a = np.arange(100000, dtype=np.float32)
double[400, 256](a)
print(bool((a == 2 * np.arange(100000)).all()))
"""


@pytest.mark.parametrize(("package", "program"), [("cupy", CUPY), ("numba", NUMBA)])
@pytest.mark.parametrize("transport", ["ucx", "tcp"])
def test_python_program_runs_unmodified(
    orion_run: OrionRun, package: str, program: str, transport: str
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (pip install 'orion-vgpu[test]')")
    done = orion_run(sys.executable, "-c", program, options=("--transport", transport))
    assert done.code == 0, done.said()
    assert done.out.strip() == "True", done.said()


def test_smi_names_it_and_a_killed_worker_leaves_an_epitaph(
    build: Build, ucx_server: Server
) -> None:
    program = ucx_server.start(build("faults"), "wait")
    program.expect("ready")
    row = ucx_server.client_of(program.pid)
    assert row["transport"] == "ucx"
    os.kill(int(row["worker_pid"]), signal.SIGKILL)
    program.say("go on")
    code, out, error = program.finish()
    assert code != 0, out
    assert "SIGKILL" in error


def test_waiting_call_ends_when_the_worker_is_killed(build: Build, ucx_server: Server) -> None:
    program = ucx_server.start(build("faults"), "long_loop")
    program.expect("ready")
    os.kill(int(ucx_server.client_of(program.pid)["worker_pid"]), signal.SIGKILL)
    code, out, error = program.finish(10.0)
    assert code != 0, out + error
    assert "SIGKILL" in error


@pytest.mark.parametrize("mode", ["wait", "long_loop"])
def test_killed_program_leaves_no_worker(build: Build, ucx_server: Server, mode: str) -> None:
    program = ucx_server.start(build("faults"), mode)
    program.expect("ready")
    worker = ucx_server.client_of(program.pid)["worker_pid"]
    program.process.kill()
    program.finish()
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker", 5.0)
    wait_until(lambda: ucx_server.clients() == [], "the lease to return", 5.0)


def test_another_host_is_reached(build: Build, environment: dict[str, str], far_away: str) -> None:
    """Not by `lo`: UCX then looks for a route, which the worker's cage must not hide."""
    address = f"10.77.{os.getpid() % 250}.1:0"
    with running_server(environment, "--bind", address, "--insecure-tcp") as server:
        server.environment |= {
            "ORION_SERVER": server.smi()["servers"][0]["bind"],
            "ORION_TRANSPORT": "ucx",
            "ORION_INSECURE_TCP": "1",
            "ORION_LIBUCP": str(ucx_wheel.library()),
        }
        done = server.run("ip", "netns", "exec", far_away, build("vectorAdd"))
        assert done.code == 0, done.said()
        assert "Test PASSED" in done.out
        assert "transport ucx to 10.77." in said_once(done.err)


def test_missing_ucx_is_one_sentence_with_the_remedy(build: Build, ucx_server: Server) -> None:
    done = ucx_server.run(build("vectorAdd"), ORION_LIBUCP="/nowhere/libucp.so.0")
    if "Test PASSED" in done.out:
        pytest.skip("the system has a UCX of its own")
    assert done.code == 1, done.said()
    lines = [line for line in done.err.splitlines() if line.startswith("orion: ")]
    assert len(lines) == 1, done.said()
    assert "pip install 'orion-vgpu[ucx]'" in lines[0]


def test_encryption_and_ucx_exclude_each_other(build: Build, ucx_server: Server) -> None:
    done = ucx_server.run(build("vectorAdd"), ORION_TLS="required")
    assert done.code == 1, done.said()
    assert "transport ucx does not encrypt" in done.err
