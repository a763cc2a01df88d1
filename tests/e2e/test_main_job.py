# SPDX-License-Identifier: Apache-2.0
"""Unmodified CUDA programs, with every CUDA runtime and every form of image, over shared memory."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from e2e_support import (
    Build,
    OrionRun,
    Server,
    cpu_seconds,
    running_server,
    shared_files,
    wait_until,
)

RUNTIMES = ("static", "shared", "12-static", "12-shared")


@pytest.mark.parametrize("cudart", RUNTIMES)
def test_vector_add_passes_with_every_runtime(
    build: Build, orion_run: OrionRun, cudart: str
) -> None:
    done = orion_run(build("vectorAdd", cudart))
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out
    assert "Orion CPU device" in done.out
    assert "orion: running on Orion CPU device" in done.err


@pytest.mark.parametrize("example", ["matmul", "reduction"])
def test_example_passes(build: Build, orion_run: OrionRun, example: str) -> None:
    done = orion_run(build(example))
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out


@pytest.mark.parametrize("mode", ["none", "size", "balance", "speed"])
def test_compressed_ptx_runs(build: Build, orion_run: OrionRun, mode: str) -> None:
    """nvcc packs PTX not at all, with zstd (size, balance) or with LZ4 (speed)."""
    done = orion_run(build("reduction", arguments=(f"-compress-mode={mode}",)))
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out


def test_ptx_beside_machine_code_is_found(build: Build, orion_run: OrionRun) -> None:
    code = ("-gencode", "arch=compute_90,code=sm_90", "-gencode", "arch=compute_75,code=compute_75")
    done = orion_run(build("vectorAdd", code=code))
    assert done.code == 0, done.said()


def test_report_counts_what_vector_add_does(
    build: Build, orion_run: OrionRun, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    done = orion_run(build("vectorAdd"), options=("--report", str(report)))
    assert done.code == 0, done.said()
    sessions = json.loads(report.read_text())["sessions"]
    assert len(sessions) == 1
    assert sessions[0]["transport"] == "shm"
    assert sessions[0]["kernels"] == 1
    assert sessions[0]["bytes"] == 3 * 50000 * 4
    assert sessions[0]["calls"] >= 8  # 3 allocations, 3 copies, a launch, 3 frees in any grouping
    assert sessions[0]["worker_pid"] != sessions[0]["pid"]


def test_kernels_run_in_the_worker_and_not_in_the_program(build: Build, server: Server) -> None:
    """A kernel that never ends uses the worker's time; the program only waits for it."""
    program = server.start(build("faults"), "long_loop")
    program.expect("ready")
    client = server.client_of(program.pid)
    worker = client["worker_pid"]
    assert worker != program.pid
    assert Path(f"/proc/{worker}/exe").resolve() != Path(f"/proc/{program.pid}/exe").resolve()
    program_before, worker_before = cpu_seconds(program.pid), cpu_seconds(worker)
    wait_until(lambda: cpu_seconds(worker) - worker_before > 0.5, "the worker to compute")
    assert cpu_seconds(program.pid) - program_before < 0.25
    program.process.kill()
    program.finish()
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker", 5.0)


def test_two_programs_share_one_server(build: Build, server: Server) -> None:
    programs = [server.start(build("reduction")) for _ in range(2)]
    for program in programs:
        code, out, error = program.finish()
        assert code == 0, out + error
    assert server.clients() == []


def test_exit_code_of_the_program_is_kept(orion_run: OrionRun) -> None:
    assert orion_run("sh", "-c", "exit 42").code == 42
    assert orion_run("sh", "-c", "kill -TERM $$").code == 128 + 15


@pytest.mark.usefixtures("nothing_left")
def test_program_passes_through_dev_shm(build: Build, environment: dict[str, str]) -> None:
    """The mode for containers that share /dev/shm: hello over TCP, segments as files that are unlinked at once."""
    before = shared_files()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with running_server(environment, "--bind", f"127.0.0.1:{port}") as server:
        wait_until(lambda: server.smi()["servers"][0].get("bind"), "the server to listen")
        variables = {"ORION_SERVER": f"127.0.0.1:{port}", "ORION_TRANSPORT": "devshm"}
        program = server.start(build("faults"), "wait", **variables)
        program.expect("ready")
        assert shared_files() <= before
        program.say("go on")
        code, out, error = program.finish()
        assert code == 0, out + error
        done = server.run(build("vectorAdd"), **variables)
        assert done.code == 0, done.said()
        found = server.run(
            build("vectorAdd"), ORION_SERVER=f"127.0.0.1:{port}"
        )  # without being told
        assert found.code == 0, found.said()
        assert found.err == ""
