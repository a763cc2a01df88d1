# SPDX-License-Identifier: Apache-2.0
"""Two servers, one behind the other: the first one's device is cuda, its driver our own libcuda.so.1, which is a
client of the second one with the CPU device. So everything that a GPU's driver is asked to do is done without a GPU.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_support import (
    ERROR_SECONDS,
    ORION,
    Build,
    OrionRun,
    Server,
    children_of,
    is_alive,
    run,
    running_server,
    start,
    wait_until,
)
from ipc_pairs import exchange
from kernels_numpy import CHECKS

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
BUILD = Path(os.environ.get("ORION_BUILD", REPOSITORY / "build" / "venv"))
STOPS = re.findall(
    r'^    \{"(\w+)", \w+\},$', (HERE / "programs" / "tour.cu").read_text(), re.MULTILINE
)


@pytest.mark.parametrize("example", ["vectorAdd", "matmul", "reduction"])
def test_example_passes(build: Build, cascade_run: OrionRun, example: str) -> None:
    done = cascade_run(build(example))
    assert done.code == 0, done.said()
    assert "Test PASSED" in done.out
    assert "orion: running on Orion CPU device" in done.err  # named as the driver names it


@pytest.mark.parametrize("stop", STOPS)
def test_feature(build: Build, cascade_run: OrionRun, stop: str) -> None:
    done = cascade_run(build("tour"), stop)
    assert done.code == 0, done.said()
    assert f"{stop} ok" in done.out


@pytest.mark.parametrize("cudart", ["static", "shared", "12-static", "12-shared"])
def test_all_features_in_one_process(build: Build, cascade_run: OrionRun, cudart: str) -> None:
    done = cascade_run(build("tour", cudart))
    assert done.code == 0, done.said()
    assert [line.removesuffix(" ok") for line in done.out.splitlines()] == STOPS


def test_default_stream_for_each_thread(build: Build, cascade_run: OrionRun) -> None:
    done = cascade_run(build("tour", arguments=("--default-stream", "per-thread")))
    assert done.code == 0, done.said()


@pytest.mark.parametrize("count", [10, 1_000_000])
def test_two_processes_work_on_the_same_memory(
    build: Build, cascade: dict[str, str], count: int
) -> None:
    """Both are clients of the first server, whose workers are clients of the second one."""
    with running_server(cascade, "--device", "cuda") as outer:
        exchange(outer.start, build("ipc"), count)
        assert outer.run(build("ipc"), "misuse").code == 0


@pytest.mark.parametrize("name", CHECKS)
def test_kernel_agrees_with_numpy(build: Build, cascade_run: OrionRun, name: str) -> None:
    library = build("kernels", arguments=("-shared", "-Xcompiler", "-fPIC"))
    done = cascade_run(sys.executable, HERE / "kernels_numpy.py", library, name)
    assert done.code == 0, done.said()
    assert "agrees with NumPy" in done.out


def test_text_of_kernels_comes_out_in_order(build: Build, cascade_run: OrionRun) -> None:
    done = cascade_run(build("prints"))
    assert done.code == 0, done.said()
    expected = [
        line for i in range(20) for line in (f"kernel {i} says hello {0.5 * i:.2f}", f"host {i}")
    ]
    assert done.out.splitlines() == expected


def test_memory_limit_of_the_first_server_holds(build: Build, cascade_run: OrionRun) -> None:
    done = cascade_run(build("faults"), "hog", "512", options=("--gmem", "64M"))
    assert "cudaErrorMemoryAllocation" in done.out, done.said()
    assert re.search(r"\b(4[0-9]|5[0-9]|6[0-4])\b", done.out), done.said()


def test_fault_of_a_kernel_is_an_error_of_that_program(build: Build, cascade_run: OrionRun) -> None:
    done = cascade_run(build("faults"), "null_write")
    assert done.code != 0, done.said()
    assert "synchronize: cudaErrorIllegalAddress" in done.out, done.said()
    again = cascade_run(build("vectorAdd"))
    assert again.code == 0, again.said()


def test_killed_program_leaves_nothing_in_either_server(
    build: Build, cascade: dict[str, str], inner: Server
) -> None:
    outer = start([ORION, "run", "--device", "cuda", "--", build("faults"), "wait"], cascade)
    outer.expect("ready")
    wait_until(inner.clients, "a client of the second server", ERROR_SECONDS)
    processes = children_of(outer.pid)
    outer.process.kill()
    outer.finish()
    wait_until(lambda: inner.clients() == [], "the end of the second session", ERROR_SECONDS)
    assert all(not is_alive(pid) for pid in processes if pid != outer.pid) or wait_until(
        lambda: not any("orion_server" in command_of(pid) for pid in processes),
        "the end of the first server",
        ERROR_SECONDS,
    )
    for pid in processes:
        if is_alive(pid) and "faults" in command_of(pid):
            os.kill(pid, 9)


def command_of(pid: int) -> str:
    """A process's command line, or nothing."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("way", ["cpu", "tcp", "cascade"])
def test_device_code_of_two_files_is_linked(
    build: Build, orion_run: OrionRun, cascade_run: OrionRun, way: str
) -> None:
    """nvcc leaves PTX to be linked by the driver, and the runtime hands all of it over."""
    program = build("linked", arguments=("-rdc=true", str(HERE / "programs" / "linked_part.cu")))
    options = ("--transport", "tcp") if way == "tcp" else ()
    done = (cascade_run if way == "cascade" else orion_run)(program, options=options)
    assert done.code == 0, done.said()
    assert "linked ok" in done.out


def test_device_suite_runs_before_a_server(cascade: dict[str, str], inner: Server) -> None:
    """tests/devices/cuda_test.c, with kernels that run."""
    program = BUILD / "tests" / "devices" / "cuda_test"
    if not program.exists():
        pytest.skip(f"{program} is not built; `make test` does it, or set ORION_BUILD")
    done = subprocess.run(
        [program],
        env={**cascade, "ORION_SERVER": inner.address},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def maps_driver(pid: int) -> bool:
    """Whether the process has loaded a libcuda.so.1."""
    return "libcuda.so.1" in Path(f"/proc/{pid}/maps").read_text()


def test_driver_is_ready_in_a_waiting_worker_before_any_client_comes(
    build: Build, cascade: dict[str, str], inner: Server
) -> None:
    with running_server(cascade, "--device", "cuda") as outer:
        waiting = wait_until(inner.clients, "a worker that has called cuInit")[0]["pid"]
        assert outer.clients() == []
        assert maps_driver(waiting)
        zygote = int(Path(f"/proc/{waiting}/stat").read_text().rpartition(")")[2].split()[1])
        assert not maps_driver(zygote)  # what it forks could not use it
        program = outer.start(build("faults"), "wait")
        program.expect("ready")
        assert outer.client_of(program.pid)["worker_pid"] == waiting
        program.say("go on")
        code, out, error = program.finish()
        assert code == 0, out + error
    wait_until(lambda: inner.clients() == [], "the second server to be left alone", ERROR_SECONDS)


def test_worker_with_a_driver_is_caged(
    build: Build, cascade: dict[str, str], inner: Server
) -> None:
    outer = start([ORION, "run", "--device", "cuda", "--", build("faults"), "wait"], cascade)
    outer.expect("ready")
    worker = inner.clients()[0]["pid"]  # the second server's client is the first one's worker
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{worker}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    if os.geteuid() == 0:
        assert status["Uid"].split() == ["65534"] * 4
        names = [
            entry.split("=")[0]
            for entry in Path(f"/proc/{worker}/environ").read_bytes().decode().split("\0")
        ]
        assert (
            names
        )  # what the zygote was started with; the worker's own environment is not to be seen
    outer.say("")
    code, out, error = outer.finish()
    assert code == 0, out + error


@pytest.mark.skipif(
    any(os.path.exists(node) for node in ("/dev/nvidiactl", "/dev/dxg")), reason="there is a GPU"
)
def test_no_driver_is_one_sentence(orion_run: OrionRun) -> None:
    done = orion_run("true", options=("--device", "cuda"))
    assert done.code != 0
    assert "there is no libcuda.so.1 here" in done.err or "no driver" in done.err, done.said()
    assert done.seconds < ERROR_SECONDS


def test_own_library_is_no_driver_unless_named(
    orion_run: OrionRun, inner: Server, environment: dict[str, str]
) -> None:
    if any(os.path.exists(node) for node in ("/dev/nvidiactl", "/dev/dxg")):
        pytest.skip("there is a GPU")
    done = run(
        [ORION, "run", "--device", "cuda", "--", "true"],
        {**environment, "LD_LIBRARY_PATH": inner.environment["LD_LIBRARY_PATH"]},
    )
    assert done.code != 0
    assert "Orion's own, which would call itself" in done.err, done.said()


def test_driver_that_does_not_load_is_named(orion_run: OrionRun, tmp_path: Path) -> None:
    bad = tmp_path / "libcuda.so.1"
    bad.write_bytes(b"no library")
    done = orion_run("true", options=("--device", "cuda"), ORION_DRIVER=str(bad))
    assert done.code != 0
    assert f"ORION_DRIVER={bad} cannot be loaded" in done.err, done.said()


def test_second_server_that_is_not_there_is_named(cascade: dict[str, str], tmp_path: Path) -> None:
    nowhere = f"unix:{tmp_path}/nobody.sock"
    done = run(
        [ORION, "run", "--device", "cuda", "--", "true"],
        {**cascade, "ORION_DRIVER_SERVER": nowhere},
    )
    assert done.code != 0
    assert "nobody.sock" in done.err, done.said()
    assert done.seconds < ERROR_SECONDS
