# SPDX-License-Identifier: Apache-2.0
"""Where servers of this host put their sockets, and how a stale socket is told from a live one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import OrionServerError

SOCKET_NAME = "orion.sock"
PATH_MOST = 107  # bytes of sun_path without the NUL


def runtime_directory() -> Path:
    if os.geteuid() == 0:
        return Path("/run/orion")
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "orion" if base else Path(tempfile.gettempdir()) / f"orion-{os.geteuid()}"


def default_socket() -> Path:
    return runtime_directory() / SOCKET_NAME


def default_address() -> str:
    return f"unix:{default_socket()}"


def private_directory() -> Path:
    """A directory of our own (0700) for the sockets of private servers."""
    base = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() else None
    directory = (
        Path(base) / "orion" if base else Path(tempfile.gettempdir()) / f"orion-{os.geteuid()}"
    )
    own_directory(directory)
    return directory


def own_directory(directory: Path) -> None:
    """Makes it, or refuses one that another user could have prepared."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise OrionServerError(
            f"{directory} is not a directory that only this user can write: remove it, or set XDG_RUNTIME_DIR"
        )


def socket_path(address: str) -> Path:
    """The path in "unix:PATH"; a bare path is one too."""
    path = Path(address.removeprefix("unix:"))
    if len(os.fsencode(path)) > PATH_MOST - len(".ctl"):
        raise OrionServerError(
            f"{path} is too long for a unix socket: choose a path of at most 103 bytes"
        )
    return path


def control_path(path: Path) -> Path:
    return path.with_name(path.name + ".ctl")


def allocations_path(path: Path) -> Path:
    """Where the doors of containers are, see allocations.py."""
    return path.with_name(path.name + ".d")


def answers(path: Path, timeout: float = 0.5) -> bool:
    """Somebody listens on that socket. A full backlog is somebody too."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(timeout)
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (TimeoutError, BlockingIOError, PermissionError):
            return True
        return True


def identity_of(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Two servers that start at once must not remove each other's socket; the lock leaves no file behind."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def listen(path: Path, mode: int, backlog: int = 1024) -> socket.socket:
    """A listening socket at `path`; one that a dead server left there is replaced."""
    if len(os.fsencode(path)) > PATH_MOST:
        raise OrionServerError(
            f"{path} is too long for a unix socket ({PATH_MOST} bytes): choose a shorter --socket"
        )
    with directory_lock(path.parent):
        try:
            found = path.lstat()
        except FileNotFoundError:
            found = None
        if found is not None:
            if not stat.S_ISSOCK(found.st_mode):
                raise OrionServerError(
                    f"{path} exists and is no socket: remove it or choose another --socket"
                )
            if answers(path):
                raise OrionServerError(
                    f"another server listens on {path}: stop it or choose another --socket"
                )
            path.unlink()
        listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            before = os.umask(0o777 & ~mode)
            try:
                listener.bind(os.fspath(path))
            finally:
                os.umask(before)
            listener.listen(backlog)
        except OSError as e:
            listener.close()
            raise OrionServerError(
                f"cannot listen on {path}: {e.strerror}; choose another --socket"
            ) from e
    return listener


def running_addresses() -> list[str]:
    """The default server and this user's private ones, as far as they answer; stale sockets go."""
    found = []
    candidates = [default_socket()]
    with contextlib.suppress(OSError, OrionServerError):
        candidates += sorted(private_directory().glob("private-*.sock"))
    for path in candidates:
        if not path.exists():
            continue
        if answers(control_path(path)):
            found.append(f"unix:{path}")
        elif not answers(path):
            for stale in (path, control_path(path)):
                with contextlib.suppress(OSError):
                    stale.unlink()
    return found
