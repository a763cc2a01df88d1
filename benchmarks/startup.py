# SPDX-License-Identifier: Apache-2.0
"""What `orion run` adds to the start of a CuPy program, step by step, beside the same Python without it.

python benchmarks/startup.py            the fastest of 9 runs each, after one that fills the caches
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

ORION = str(Path(sys.executable).parent / "orion")
FIRST = (
    "import time; t0 = time.perf_counter()\n"
    "import cupy; t1 = time.perf_counter()\n"
    "cupy.cuda.runtime.getDeviceCount(); t2 = time.perf_counter()\n"
    "x = cupy.arange(10); cupy.cuda.Device().synchronize(); t3 = time.perf_counter()\n"
    "y = (x + 1).get(); t4 = time.perf_counter()\n"
    "x.sum().get(); t5 = time.perf_counter()\n"
    "print(*(1000 * t for t in (t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4)))"
)
STEPS = (
    "import cupy",
    "connect: first call of the CUDA runtime",
    "context, first allocation, first kernel (arange)",
    "second kernel and copy to the host (x + 1)",
    "sum() by CUB: a module of 21 MB of PTX",
)


def wall(command: Sequence[str], environment: dict[str, str], runs: int) -> float:
    """Fewest milliseconds of the whole command; on a shared machine the rest is other people's work."""
    took = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        took.append(1000 * (time.perf_counter() - began))
    return min(took[1:])


def inside(command: Sequence[str], environment: dict[str, str], runs: int) -> list[float]:
    """Fewest milliseconds of each step of FIRST."""
    rows = []
    for _ in range(runs + 1):
        done = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        rows.append([float(part) for part in done.stdout.split()])
    return [min(column) for column in zip(*rows[1:], strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="orion-startup-"))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ORION_")}
        environment["XDG_RUNTIME_DIR"] = folder
        address = f"unix:{folder}/server.sock"
        server = subprocess.Popen(
            [ORION, "up", "--plain", "--listen", address],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        stack.callback(server.wait)
        stack.callback(server.terminate)
        while not Path(folder, "server.sock").exists():
            time.sleep(0.01)
        python = [sys.executable, "-c"]
        private, shared = (
            [ORION, "run", "-q", "--"],
            [ORION, "run", "-q", "--server", address, "--"],
        )
        rows = {
            "python -c pass": [*python, "pass"],
            "python -c 'import numpy'": [*python, "import numpy"],
            "python -c 'import cupy'": [*python, "import cupy"],
            "orion run, private server: true": [*private, "true"],
            "orion run, running server: true": [*shared, "true"],
            "orion run, private server: import cupy": [*private, *python, "import cupy"],
            "orion run, running server: import cupy": [*shared, *python, "import cupy"],
            "orion run, private server: first result": [
                *private,
                *python,
                "import cupy; (cupy.arange(10) + 1).get()",
            ],
            "orion run, running server: first result": [
                *shared,
                *python,
                "import cupy; (cupy.arange(10) + 1).get()",
            ],
        }
        for name, command in rows.items():
            print(f"{wall(command, environment, runs):8.1f} ms  {name}", flush=True)
        print("inside the program, running server:")
        for name, took in zip(
            STEPS, inside([*shared, *python, FIRST], environment, runs), strict=True
        ):
            print(f"{took:8.1f} ms  {name}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
