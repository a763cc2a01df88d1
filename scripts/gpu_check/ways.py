# SPDX-License-Identifier: Apache-2.0
"""The ways to run a program: natively, and under Orion over shared memory and over tcp, all at one server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .kit import Kit
from .machine import CLOCK, run

READY_SECONDS = 90.0  # a machine with eight GPUs takes its time to open the first
NATIVE, SHM, TCP = "native", "shm", "tcp"


@dataclass(frozen=True)
class Way:
    """What stands before a program's command line, and its environment."""

    name: str
    prefix: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Setting:
    """The ways, natively first, and the environment of a program that is itself to use the driver as a worker does."""

    ways: list[Way]
    driver: dict[str, str]


@contextmanager
def server(
    kit: Kit, environment: Mapping[str, str], device: str, *options: str
) -> Iterator[tuple[str, str]]:
    """A server for the time of the block: its unix address and its HOST:PORT."""
    with tempfile.TemporaryDirectory(prefix="orion-gpu-check-") as folder, ExitStack() as stack:
        address = f"unix:{folder}/server.sock"
        log = stack.enter_context(open(Path(folder, "log"), "w+"))
        process = subprocess.Popen(
            [*kit.orion, "up", "--plain", "--device", device, "--listen", address, *options],
            env={**environment, "XDG_RUNTIME_DIR": folder},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
        try:
            yield address, ready(kit, address, process, Path(folder, "log"))
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def ready(kit: Kit, address: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """Waits until the server has its device; its HOST:PORT. SystemExit with its own words when it does not come."""
    end = time.monotonic() + CLOCK.left(READY_SECONDS)
    while process.poll() is None and time.monotonic() < end:
        if Path(address.removeprefix("unix:")).exists():
            asked = run(
                [*kit.orion, "smi", "--json", "--server", address], kit.environment, READY_SECONDS
            )
            known = json.loads(asked.out) if asked.good else {"devices": []}
            if known["devices"]:
                return str(known["servers"][0]["bind"] or "")
        time.sleep(0.05)
    words = " ".join(log.read_text(errors="replace").split())
    raise SystemExit(f"gpu-check: the server does not serve: {words[-600:] or 'it says nothing'}")


@contextmanager
def on_gpu(kit: Kit) -> Iterator[Setting]:
    """Natively on the driver; under Orion in front of the same driver."""
    # The GPU runs machine code: nothing has to be found out, and CuPy's usual cache is right.
    under = {**kit.environment, "ORION_PTX": "0"}
    with server(kit, kit.environment, "cuda", "--bind", "127.0.0.1:0") as (address, bound):
        yield Setting(ways(kit, under, address, bound), kit.native)


@contextmanager
def in_cascade(kit: Kit) -> Iterator[Setting]:
    """Without a GPU: the driver is Orion's own library, at a second server with the CPU device. `Natively` means at
    that server."""
    asked = run([*kit.orion, "run", "--print-library-dir"], kit.environment, 60)
    library = asked.out.strip()
    with server(kit, kit.environment, "cpu", "--gmem", "2G") as (inner, _):
        driver = {**kit.environment, "ORION_DRIVER": f"{library}/libcuda.so.1"}
        outer = {**driver, "ORION_DRIVER_SERVER": inner}
        with server(kit, outer, "cuda", "--bind", "127.0.0.1:0") as (address, bound):
            prefix = [*kit.orion, "run", "-q", "--server", inner, "--"]
            native = Way(NATIVE, prefix, kit.environment)
            under = ways(kit, kit.environment, address, bound)[1:]
            yield Setting([native, *under], {**driver, "ORION_SERVER": inner})


def ways(kit: Kit, environment: dict[str, str], address: str, bound: str) -> list[Way]:
    """All three."""
    begin = [*kit.orion, "run", "-q", "--server"]
    return [
        Way(NATIVE, [], kit.native),
        Way(SHM, [*begin, address, "--"], environment),
        Way(TCP, [*begin, bound, "--transport", "tcp", "--"], environment),
    ]
