# SPDX-License-Identifier: Apache-2.0
"""The zygote: a process that has imported everything a worker needs and forks one for each session.

It has one thread, opens no device and sees no client. It learns of the supervisor's death from its socket; then it
removes the sockets' files and exits, and its workers die with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from .messages import receive_packet, send_packet

PACKET_MOST = 65536
STDERR = 2


@dataclass(frozen=True)
class ZygoteConfig:
    device: str
    memory: int
    threads: int
    unlink: tuple[str, ...]  # what a dead supervisor leaves behind


def run(line: socket.socket, config: ZygoteConfig) -> NoReturn:
    """The zygote's process from here on; `line` is its end of a SOCK_SEQPACKET pair."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends with the supervisor, not before
        _serve(line, config)
        status = 0
    except (BrokenPipeError, ConnectionResetError):
        status = 0
    except BaseException as e:  # the last chance to say anything
        with contextlib.suppress(OSError):
            _send(line, {"dead": f"{type(e).__name__}: {e}"[:1000]})
    finally:
        _remove(config.unlink)
        os._exit(status)


def _serve(line: socket.socket, config: ZygoteConfig) -> None:
    from . import worker

    info = worker.warm_up(config.device, config.memory, config.threads)
    _send(line, {"warm": info})
    gc.collect()
    gc.disable()
    gc.freeze()  # children share these pages as long as nobody counts references in them
    children: dict[int, tuple[int, int]] = {}  # pidfd -> (pid, session)
    poll = select.poll()
    poll.register(line.fileno(), select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd != line.fileno():
                pid, session = children.pop(fd)
                poll.unregister(fd)
                os.close(fd)
                _, status = os.waitpid(pid, 0)
                _send(line, {"exited": session, "status": status})
                continue
            packet, fds = receive_packet(line, PACKET_MOST, 4)
            if not packet:
                return
            request = json.loads(packet)
            forked = _fork(line, config, request, fds)
            if forked is not None:
                pidfd, pid = forked
                children[pidfd] = (pid, request["session"])
                poll.register(pidfd, select.POLLIN)


def _send(line: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    send_packet(line, json.dumps(message).encode(), fds)


def _fork(
    line: socket.socket, config: ZygoteConfig, request: dict[str, Any], fds: list[int]
) -> tuple[int, int] | None:
    session = request["session"]
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as e:
        _close(fds)
        _send(line, {"failed": session, "why": f"cannot start a worker: {e.strerror}"})
        return None
    if pid == 0:
        _child(config, request, fds, parent)
    _close(fds)
    pidfd = os.pidfd_open(pid)
    _send(line, {"forked": session, "pid": pid}, [pidfd])
    return pidfd, pid


def _child(config: ZygoteConfig, request: dict[str, Any], fds: list[int], parent: int) -> NoReturn:
    status = 1
    try:
        control, stats, lease = fds
        keep = sorted({STDERR, control, stats, lease})
        _close_others(keep)
        from . import worker

        status = worker.run(
            config.device, config.threads, request["epoch"], control, stats, lease, parent
        )
    except BaseException as e:
        with contextlib.suppress(Exception):
            os.write(STDERR, f"orion worker: {type(e).__name__}: {e}\n".encode())
    finally:
        os._exit(status)


def _close_others(keep: list[int]) -> None:
    """Every descriptor of the zygote but these: other workers' among them. 0 and 1 become /dev/null."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    low = STDERR + 1
    for fd in keep:
        if fd > low:
            os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _remove(paths: tuple[str, ...]) -> None:
    """Only sockets nobody listens on any more: a new server may have taken the place already."""
    from pathlib import Path

    from .paths import answers

    for text in paths:
        path = Path(text)
        with contextlib.suppress(OSError):
            if path.is_socket() and not answers(path):
                path.unlink()


def spawn(config: ZygoteConfig, close: list[int]) -> tuple[socket.socket, int]:
    """Forks the zygote from the supervisor, which must have one thread. `close`: what the child must not keep."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        ours.close()
        for fd in close:
            with contextlib.suppress(OSError):
                os.close(fd)
        run(theirs, config)
    theirs.close()
    ours.setblocking(False)
    return ours, pid
