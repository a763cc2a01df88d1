# SPDX-License-Identifier: Apache-2.0
"""Runs a CUDA program with Orion's libcuda.so.1 in front of any other.

Uses the server that --server or ORION_SERVER names, else the one at /run/orion/orion.sock, else one
that the controller of ORION_CONTROLLER has a vGPU on; where there is none of them, or --device or
--report asks for it, it starts a private server that lives as long as the program. The program
keeps this terminal, its signals and its exit code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orion_shm
from orion_shm.cli import client_conf, python_programs, servers
from orion_shm.cli.amounts import parse_mebibytes, parse_percent
from orion_shm.cli.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_SIGNAL, CommandError

# Signals that someone may send to `orion run` and means for the program.
FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
)
SI_KERNEL = 0x80  # si_code of a signal that the terminal sent: the program has got it as well


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `orion run`."""
    parser.usage = "orion run [options] -- CMD [ARGUMENTS ...]"
    parser.add_argument(
        "--gmem",
        type=parse_mebibytes,
        metavar="N",
        help="device memory for the program, in MiB or as 512M, 2G; a hard limit",
    )
    parser.add_argument(
        "--ratio",
        type=parse_percent,
        metavar="P",
        help="wish for a share of the device's time, in percent; the server decides",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "null"),
        default=None,
        help="device of the private server: cuda is a GPU, cpu computes without one, null only counts "
        "(default: auto, which is cuda where there is a GPU and else cpu)",
    )
    parser.add_argument("--server", metavar="ADDR", help="use this server: unix:PATH or HOST:PORT")
    parser.add_argument(
        "--transport",
        choices=("auto", "shm", "tcp", "ucx"),
        help="how the program talks to the server (default: ORION_TRANSPORT, else auto: the best that works)",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write what the private server counted to FILE as JSON when the program has ended",
    )
    parser.add_argument(
        "--print-library-dir",
        action="store_true",
        help="print the folder of our libcuda.so.1, for those who set LD_LIBRARY_PATH themselves",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="do not name the device")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="CMD", help="the program")


def execute(options: argparse.Namespace) -> int:
    """Finds or starts the server, runs the program, ends what was started."""
    if options.print_library_dir:
        print(orion_shm.library_directory())
        return 0
    program = options.program[1:] if options.program[:1] == ["--"] else options.program
    if not program:
        raise CommandError("no program named; write: orion run -- CMD ARGUMENTS")
    path = find_program(program[0])
    library = orion_shm.library_directory()
    environment = program_environment(os.environ, library, options.gmem, options.ratio)

    if options.transport is not None:
        environment["ORION_TRANSPORT"] = options.transport
    if environment.get("ORION_TRANSPORT") == "ucx":
        servers.name_ucx(environment)
    over_tcp = environment.get("ORION_TRANSPORT") in ("tcp", "ucx")
    address = servers.configured_address(options.server)
    private = options.device is not None or options.report is not None
    if address is None and not private and not over_tcp:
        address = servers.mounted_address()
    elif address is not None:
        for name in ("device", "report"):
            if getattr(options, name) is not None:
                raise CommandError(f"--{name} is for a private server, but {address} is named")
    if over_tcp and address is not None and address.startswith("unix:"):
        raise CommandError(
            f"transport {environment['ORION_TRANSPORT']} needs a server at HOST:PORT, but {address} is named; "
            "name its --bind address"
        )
    if address is not None:
        status = device_status(address, options.quiet)
        if not options.quiet:
            announce(named_server(address, status))
        environment["ORION_SERVER"] = address
        ptx = python_programs.wants_ptx((status or {}).get("devices", []))
        python_programs.prepare(environment, library, ptx)
        return run_program(path, program, environment)

    controller = client_conf.setting("ORION_CONTROLLER", environment)
    if controller and not private:
        if not options.quiet:
            announce(f"a vGPU that the controller at {controller} chooses")
        python_programs.prepare(environment, library, None)
        return run_program(path, program, environment)

    device = servers.chosen_device(options.device or "auto")
    bind = "127.0.0.1:0" if over_tcp else None
    environment.pop("ORION_TOKEN", None)  # for another server
    if options.gmem is not None:
        del environment["ORION_GMEM"]  # it is all the device has, for all processes of the program
    with servers.start_private(device, options.gmem, bind=bind, own_token=over_tcp) as server:
        if not options.quiet:
            announce(f"{servers.private_devices(server)[0]['name']} of a private server")
        environment["ORION_SERVER"] = servers.bound_address(server) if over_tcp else server.address
        if server.token is not None:
            environment["ORION_TOKEN"] = server.token
        known = servers.private_devices(server) if device == "cuda" else [{"kind": device}]
        python_programs.prepare(environment, library, python_programs.wants_ptx(known))
        code = run_program(path, program, environment)
        report = server.stop()
    if options.report is not None:
        write_report(options.report, report)
    return code


def device_status(address: str, quiet: bool) -> servers.Status | None:
    """The status of a configured server. One at HOST:PORT answers programs only, so its devices are not known yet."""
    if not address.startswith("unix:"):
        return None
    try:
        return servers.ask_status(address)
    except CommandError:
        if quiet:
            return None  # the program's own connection will say what is wrong
        raise


def named_server(address: str, status: servers.Status | None) -> str:
    """What to say of a configured server, whose devices are known if it has given its status."""
    if status is None:
        return f"the server at {address}"
    return f"{servers.device_names(status)} of the server at {address}"


def announce(where: str) -> None:
    """The one line on stderr that says where the program computes."""
    print(f"orion: running on {where}", file=sys.stderr, flush=True)


def find_program(name: str) -> str:
    """The path to execute; CommandError with the shell's exit code when there is none."""
    found = shutil.which(name)
    if found is not None:
        return found
    candidate = Path(name)
    if "/" in name and candidate.exists():
        what = "is a directory" if candidate.is_dir() else "is not executable (chmod +x)"
        raise CommandError(f"{name} {what}", EXIT_NOT_EXECUTABLE)
    raise CommandError(f"{name}: no such program; give its path or put it on PATH", EXIT_NOT_FOUND)


def program_environment(
    base: Mapping[str, str], library: Path, gmem_mib: int | None, ratio: int | None = None
) -> dict[str, str]:
    """The environment of the program: our library first, the wishes if there are any."""
    if not (library / "libcuda.so.1").exists():
        raise CommandError(
            f"Orion's libcuda.so.1 is not in {library}; install the package (pip install .), "
            "or name a build's folder in ORION_LIBRARY_DIR"
        )
    environment = dict(base)
    others = [
        part
        for part in environment.get("LD_LIBRARY_PATH", "").split(":")
        if part and part != str(library)
    ]
    environment["LD_LIBRARY_PATH"] = ":".join([str(library), *others])
    if gmem_mib is not None:
        environment["ORION_GMEM"] = str(gmem_mib)
    if ratio is not None:
        environment["ORION_RATIO"] = str(ratio)
    return environment


def run_program(path: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs the program in this terminal, forwards signals, returns its exit code."""
    watched = {*FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # Python ignores these two, and an ignored signal stays ignored through exec.
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)
    try:
        try:
            child = os.posix_spawn(
                path, list(arguments), dict(environment), setsigmask=before, setsigdef=defaults
            )
        except OSError as error:
            raise CommandError(
                f"{path} could not be executed: {error.strerror}", EXIT_NOT_EXECUTABLE
            ) from None
        return wait_forwarding(child, watched)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def wait_forwarding(child: int, watched: set[signal.Signals]) -> int:
    """Waits for the program; each signal that someone sends to us goes on to it."""
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else EXIT_SIGNAL - code
        info = signal.sigwaitinfo(watched)
        if info.si_signo != signal.SIGCHLD and info.si_code != SI_KERNEL:
            os.kill(child, info.si_signo)


def write_report(file: Path, report: Mapping[str, Any]) -> None:
    """Writes the server's counters; a report that cannot be written is an error of the command."""
    try:
        file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the report {file} could not be written: {error.strerror}") from None
