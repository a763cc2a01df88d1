# SPDX-License-Identifier: Apache-2.0
"""What `orion run` adds to the start of a CuPy program, step by step, beside the same Python without it.

python benchmarks/startup.py            the least of 9 runs of each, after one that fills the caches
python benchmarks/startup.py --runs 3   quicker

Every process of a run writes down when it came to a step, by the clock that all of them share; the steps of the
command and of the server are read from Python's audit events, so that nothing of Orion is changed for it. Each step's
figure is the least of all runs by itself: on a shared machine the rest is other people's work, and the sum of a
column is less than any whole run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ORION = str(Path(sys.executable).parent / "orion")
# Loaded by every Python that finds it on its path: process, time and name of each step, a line each.
PROBE = """
import os, sys, time
line = os.open(os.environ["STARTUP_STEPS"], os.O_WRONLY | os.O_APPEND)
def note(name):
    os.write(line, f"{os.getpid()} {time.monotonic()} {name}\\n".encode())
def hook(event, arguments):
    if event == "import":
        if arguments[0] in ("orion_shm.cli", "llvmlite"):
            note(arguments[0])
    elif event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "socket.bind"):
        note(event)
try:
    sys.addaudithook(hook)
    note("begin")
except OSError:
    pass
"""
PROGRAM = """
import time; at = [time.monotonic()]
def step(): at.append(time.monotonic())
import cupy; step()
import ctypes
cuda = ctypes.CDLL("libcuda.so.1"); step()
cuda.cuInit(0); step()
context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0); cuda.cuCtxSetCurrent(context)
assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0; step()
cupy.cuda.runtime.getDeviceCount(); cupy.cuda.runtime.memGetInfo(); step()
x = cupy.arange(10); cupy.cuda.Device().synchronize(); step()
y = (x + 1).get(); step()
x.sum().get(); step()
x.sum().get(); step()
print(*at)
"""
INSIDE = (
    "import cupy",
    "libcuda.so.1 is loaded",
    "cuInit: connect and hello",
    "first answer: a worker, context",
    "the CUDA runtime begins",
    "first kernel (arange)",
    "second kernel and copy to the host",
    "sum(): CUB's module of 21 MB of PTX",
    "second sum()",
)
COMMAND = "orion: the command is imported, and asks a running server"
RESULT = "import cupy; (cupy.arange(10) + 1).get()"
Steps = list[tuple[str, float]]


@contextmanager
def running_server(environment: dict[str, str], folder: str) -> Iterator[str]:
    """A server for the time of the block; its address."""
    address = f"unix:{folder}/server.sock"
    server = subprocess.Popen(
        [ORION, "up", "--plain", "--listen", address], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        while not Path(folder, "server.sock").exists():
            time.sleep(0.01)
        yield address
    finally:
        server.terminate()
        server.wait()


def wall(command: Sequence[str], environment: dict[str, str], runs: int) -> float:
    """Fewest milliseconds of the whole command."""
    took = []
    for _ in range(runs + 1):
        began = time.monotonic()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        took.append(1000 * (time.monotonic() - began))
    return min(took[1:])


def one_run(command: Sequence[str], environment: dict[str, str], folder: str) -> Steps:
    """Runs PROGRAM once; the steps of all processes and how many milliseconds each took."""
    file = Path(folder, "steps")
    file.write_text("")
    probed = {**environment, "PYTHONPATH": folder, "STARTUP_STEPS": str(file)}
    began = time.monotonic()
    with subprocess.Popen(command, env=probed, stdout=subprocess.PIPE, text=True) as process:
        told = process.communicate()[0]
        ended = time.monotonic()
    inside = [float(part) for part in told.split()]
    lines = [line.split() for line in file.read_text().splitlines()]
    orion = str(process.pid)

    def when(name: str, wanted: Callable[[str], bool], after: float = 0.0) -> float:
        return next(
            (float(t) for pid, t, n in lines if n == name and wanted(pid) and float(t) > after),
            0.0,
        )

    starts = when("begin", lambda pid: pid == orion)
    popen = when("subprocess.Popen", lambda pid: pid == orion)
    spawned = when("os.posix_spawn", lambda pid: pid == orion)
    steps = [("orion: Python starts", starts - began)]
    if popen:
        server = next(pid for pid, t, n in lines if n == "begin" and float(t) > popen)
        served = when("begin", lambda pid: pid == server)
        llvm = when("llvmlite", lambda pid: pid not in (orion, server))
        zygote = next(pid for pid, _, n in lines if n == "llvmlite" and pid not in (orion, server))
        warm = when("os.fork", lambda pid: pid == zygote, llvm)
        steps += [
            (COMMAND, popen - starts),
            ("server: Python starts", served - popen),
            ("server: imports, forks its zygote, listens", spawned - served),
            ("(beside what follows) zygote: imports, LLVM", warm - spawned),
        ]
    else:
        steps.append((COMMAND, spawned - starts))
    steps.append(("program: Python starts", inside[0] - spawned))
    pairs = zip(INSIDE, inside[:-1], inside[1:], strict=True)
    steps += [(f"program: {name}", end - begin) for name, begin, end in pairs]
    steps.append(("the program ends, and what was started for it", ended - inside[-1]))
    steps.append(("all of it", ended - began))
    return [(name, 1000 * took) for name, took in steps]


def least(runs: int, once: Callable[[], Steps]) -> dict[str, float]:
    """Each step's least figure."""
    rows = [dict(once()) for _ in range(runs)]
    return {name: min(row[name] for row in rows) for name in rows[0]}


def table(title: str, columns: dict[str, dict[str, float]]) -> None:
    """Markdown: a line for each step, a column for each way."""
    print(f"\n| {title} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    longest = max(columns.values(), key=len)
    for name in dict.fromkeys([*longest, *(name for c in columns.values() for name in c)]):
        cells = [f"{column[name]:.1f}" if name in column else "" for column in columns.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def whole_commands(environment: dict[str, str], ways: dict[str, list[str]], runs: int) -> None:
    """Plain Python, and both ways of `orion run`, from the command's start to its end."""
    columns: dict[str, dict[str, float]] = {"plain": {}, **{way: {} for way in ways}}
    for way, prefix in ways.items():
        columns[way]["true"] = wall([*prefix, "true"], environment, runs)
    for program in ("pass", "import numpy", "import cupy", RESULT):
        command = [sys.executable, "-c", program]
        if program != RESULT:  # which would need a GPU
            columns["plain"][program] = wall(command, environment, runs)
        for way, prefix in ways.items():
            columns[way][program] = wall([*prefix, *command], environment, runs)
    table("whole command, ms", columns)


def single_steps(
    environment: dict[str, str], ways: dict[str, list[str]], runs: int, folder: str
) -> None:
    """PROGRAM by both ways with everything compiled before, and by a private server with caches that are empty."""
    command = [sys.executable, "-c", PROGRAM]

    def cold(*variables: str) -> Steps:
        with tempfile.TemporaryDirectory(prefix="orion-startup-cache-") as empty:
            fresh = {**environment, **{name: f"{empty}/{name}" for name in variables}}
            return one_run([*ways["private server"], *command], fresh, folder)

    columns = {
        way: least(runs, lambda prefix=prefix: one_run([*prefix, *command], environment, folder))
        for way, prefix in ways.items()
    }
    few = max(1, runs // 3)
    columns["no host code cached"] = least(few, lambda: cold("ORION_CACHE_DIR"))
    columns["nothing cached"] = least(few, lambda: cold("ORION_CACHE_DIR", "CUPY_CACHE_DIR"))
    table("step, ms", columns)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="orion-startup-") as folder:
        Path(folder, "sitecustomize.py").write_text(PROBE)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ORION_")}
        environment = {**kept, "XDG_RUNTIME_DIR": folder}
        with running_server(environment, folder) as address:
            ways = {
                "private server": [ORION, "run", "-q", "--"],
                "running server": [ORION, "run", "-q", "--server", address, "--"],
            }
            whole_commands(environment, ways, runs)
            single_steps(environment, ways, runs, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
