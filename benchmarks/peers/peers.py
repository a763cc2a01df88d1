# SPDX-License-Identifier: Apache-2.0
"""Every way of passing messages that `make bench` measures, and the settings it runs with: what is not said here is
the package's default. Kinds: "polls" takes a processor while it waits, "blocks" sleeps in the kernel, "both" looks for
a while and then sleeps."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Missing(Exception):
    """This peer cannot run here; the text says why."""


@dataclass(frozen=True)
class Peer:
    name: str
    language: str  # "C" or "Python"
    kind: str
    program: str  # native/PROGRAM.c, or a wire of python/wires.py
    ours: bool = False
    core: bool = False  # needs all of csrc, not csrc/base alone
    rows: tuple[str, ...] = ()  # () = all
    environment: dict[str, str] = field(default_factory=dict)
    flags: Callable[[], list[str]] = list  # of the compiler; raises Missing
    launcher: Callable[[], list[str]] = list  # before the program; raises Missing
    late: Callable[[], dict[str, str]] = (
        dict  # environment that depends on what is installed; raises Missing
    )


def package_folder(module: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise Missing(f"{requirement} is not installed in this Python")
    return Path(next(iter(spec.submodule_search_locations)))


def ucx_flags() -> list[str]:
    folder = package_folder("libucx", "libucx-cu13")
    library = folder / "lib"
    return [f"-isystem{folder}/include", f"-L{library}", "-lucp", "-lucs", f"-Wl,-rpath,{library}"]


def mpi_folder() -> Path:
    folder = Path(sys.prefix)
    if not (folder / "bin" / "mpirun").exists():
        raise Missing("openmpi is not installed in this Python")
    return folder


def mpi_flags() -> list[str]:
    folder = mpi_folder()
    return [f"-isystem{folder}/include", f"-L{folder}/lib", "-lmpi", f"-Wl,-rpath,{folder}/lib"]


def mpi_launcher() -> list[str]:
    """The programs pin themselves; sm is what the documentation recommends within a node."""
    run = [str(mpi_folder() / "bin" / "mpirun"), "-n", "2", "--bind-to", "none", "--oversubscribe"]
    run += ["--mca", "pml", "ob1", "--mca", "btl", "self,sm"]
    return [*run, "--allow-run-as-root"] if os.getuid() == 0 else run


def zmq_library() -> dict[str, str]:
    folder = package_folder("zmq", "pyzmq").parent / "pyzmq.libs"
    for library in sorted(folder.glob("libzmq*.so*")):
        return {"ORION_BENCH_ZMQ": str(library), "LD_LIBRARY_PATH": str(folder)}
    raise Missing("this pyzmq brings no libzmq of its own")


def needs(module: str, requirement: str) -> Callable[[], dict[str, str]]:
    def check() -> dict[str, str]:
        if importlib.util.find_spec(module) is None:
            raise Missing(f"{requirement} is not installed in this Python")
        return {}

    return check


UCX = {"UCX_TLS": "posix,self"}
PEERS: Sequence[Peer] = (
    Peer("orion session", "C", "both", "session", ours=True, core=True),
    Peer("orion channel", "C", "both", "channel", ours=True, core=True),
    Peer("ucx", "C", "polls", "ucx", environment=UCX, flags=ucx_flags),
    # one copy by the kernel for what is large; it needs ptrace permission between the two processes
    Peer(
        "ucx + cma", "C", "polls", "ucx", rows=("bulk",), flags=ucx_flags,
        environment={"UCX_TLS": "posix,cma,self"},
    ),
    Peer(
        "ucx, sleeping", "C", "blocks", "ucx", flags=ucx_flags,
        rows=("call", "asleep", "one_core", "idle"),
        environment={**UCX, "ORION_BENCH_UCX_SLEEP": "1"},
    ),
    Peer("open mpi", "C", "polls", "openmpi", flags=mpi_flags, launcher=mpi_launcher),
    Peer("futex", "C", "blocks", "futex"),
    Peer("unix socket", "C", "blocks", "unix"),
    Peer("zeromq", "C", "blocks", "zeromq", late=zmq_library),
    Peer("orion_shm", "Python", "both", "orion", ours=True),
    Peer("cloudtoid", "Python", "polls", "cloudtoid",
         late=needs("cloudtoid_interprocess", "cloudtoid-interprocess")),
    Peer("iceoryx2", "Python", "polls", "iceoryx2", late=needs("iceoryx2", "iceoryx2")),
    Peer("cloudtoid, receive()", "Python", "blocks", "cloudtoid-waits",
         late=needs("cloudtoid_interprocess", "cloudtoid-interprocess")),
    Peer("unix socket", "Python", "blocks", "unix"),
    Peer("mp.Pipe", "Python", "blocks", "pipe"),
    Peer("mp.Queue", "Python", "blocks", "mp-queue"),
    Peer("faster-fifo", "Python", "blocks", "faster-fifo", late=needs("faster_fifo", "faster-fifo")),
    Peer("pyzmq", "Python", "blocks", "pyzmq", late=needs("zmq", "pyzmq")),
)  # fmt: skip


@contextmanager
def folder() -> Iterator[Path]:
    """For what a peer makes in the file system. Some leave semaphores and segments in /dev/shm when their processes
    end, or are killed: those whose names hold the folder's name go as well."""
    with tempfile.TemporaryDirectory(prefix="wire-") as name:
        try:
            yield Path(name)
        finally:
            for left in Path("/dev/shm").glob(f"*{Path(name).name}*"):
                left.unlink(missing_ok=True)
