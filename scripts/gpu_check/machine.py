# SPDX-License-Identifier: Apache-2.0
"""The machine and its GPU, and running programs on it within the time that there is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
GPU_SECONDS = 570.0  # for all of it, so that ten minutes hold with the end of what still runs
BUILD_SECONDS = 300.0  # of these at most; the rest is for the checks
# A machine without a GPU compiles every kernel for its processor, the first time, and may install everything before.
CASCADE_SECONDS = 1800.0
# Where container runtimes put a driver that the loader does not always look for (server/devices/cuda/driver.c).
DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib")
DEVICE_NODES = ("/dev/nvidiactl", "/dev/dxg")  # Linux, WSL
PROBE = """
import ctypes, json, sys
cuda = ctypes.CDLL("libcuda.so.1")
if hasattr(cuda, "orion_shim_marker"):
    sys.exit("the libcuda.so.1 found first is Orion's own")
count, version, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
result = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
if result or not count.value:
    sys.exit(f"the driver finds no GPU (CUDA error {result})")
major, minor = ctypes.c_int(), ctypes.c_int()
cuda.cuDeviceGetName(name, 128, 0)
cuda.cuDriverGetVersion(ctypes.byref(version))
cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, 0)
cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, 0)
print(json.dumps({"name": name.value.decode(), "cuda": version.value, "sm": major.value * 10 + minor.value}))
"""


@dataclass(frozen=True)
class Gpu:
    """What the driver says of the first GPU."""

    name: str
    cuda: int  # 12080: CUDA 12.8, what the driver can do
    sm: int  # 90: compute capability 9.0

    @property
    def cuda_text(self) -> str:
        """As people write it."""
        return f"{self.cuda // 1000}.{self.cuda % 1000 // 10}"


class Clock:
    """The time that is left for all that follows."""

    def __init__(self, seconds: float) -> None:
        self.end = 0.0
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """So long from now on."""
        self.end = time.monotonic() + seconds

    def left(self, most: float) -> float:
        """Seconds for the next step; 0 when it is too late for one."""
        return max(0.0, min(most, self.end - time.monotonic()))


@dataclass(frozen=True)
class Done:
    """How a program ended."""

    good: bool
    out: str
    error: str
    began: bool = True  # False: there was no time left for it

    @property
    def words(self) -> str:
        """All that it said."""
        return f"{self.out}\n{self.error}".strip()


CLOCK = Clock(GPU_SECONDS)


def say(text: str) -> None:
    """A line of progress."""
    print(f"gpu-check: {text}", flush=True)


def run(
    command: Sequence[str | os.PathLike[str]], environment: Mapping[str, str], seconds: float
) -> Done:
    """Runs a program to its end, or to the end of its time; then nothing that it started is left."""
    left = CLOCK.left(seconds)
    if left <= 0:
        return Done(False, "", "no time was left", began=False)
    try:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd="/",  # nothing of the checkout is imported by chance
            start_new_session=True,
        )
    except OSError as error:
        return Done(False, "", str(error))
    try:
        out, error_text = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error_text = process.communicate()
        return Done(False, out, f"{error_text}\nno end within {left:.0f} s")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode < 0:
        error_text += f"\nended by signal {-process.returncode}"
    return Done(process.returncode == 0, out, error_text)


def is_ours(folder: str) -> bool:
    """Whether the libcuda.so.1 of a folder is Orion's."""
    try:
        return b"orion_shim_marker" in Path(folder, "libcuda.so.1").read_bytes()
    except OSError:
        return False


def native_environment() -> dict[str, str]:
    """Without anything of Orion's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ORION_")}
    parts = kept.pop("LD_LIBRARY_PATH", "").split(":")
    parts += [f for f in DRIVER_FOLDERS if f not in parts and Path(f, "libcuda.so.1").exists()]
    if others := [part for part in parts if part and not is_ours(part)]:
        kept["LD_LIBRARY_PATH"] = ":".join(others)
    preloaded = [p for p in kept.pop("LD_PRELOAD", "").split(":") if p and "liborion_" not in p]
    if preloaded:
        kept["LD_PRELOAD"] = ":".join(preloaded)
    return kept


def find_gpu() -> Gpu | str:
    """The first GPU, or why there is none."""
    if not any(os.path.exists(node) for node in DEVICE_NODES):
        return f"no {' and no '.join(DEVICE_NODES)}"
    done = run([sys.executable, "-c", PROBE], native_environment(), 120)
    lines = [line for line in done.out.splitlines() if line.startswith("{")]
    if not done.good or not lines:
        return done.words.splitlines()[-1] if done.words else "the driver does not load"
    return Gpu(**json.loads(lines[-1]))
