# SPDX-License-Identifier: Apache-2.0
"""Files in /dev/shm: those of a session go by name, those of the dead are swept.

A worker that is killed before its client has opened its two files leaves them, and their memory, until somebody
removes them. Its server does if it knows their names; else a sweep does, of this server or of another one that shares
the folder. A live creator holds a shared flock (csrc/shm/segment.c): where an exclusive one can be had, nobody is
behind the file.

Everybody can write to that folder. Who gives a file of his such a name loses it; who locks it keeps what he could keep
anyway. A file is opened and removed with its owner's rights, so that no trick with names reaches anybody else's, and
only if it is a regular one. No step waits, not for a lock and not for a lease (O_NONBLOCK; to write, which conflicts
with every kind of lease). All of it happens in a process of its own, within SWEEP_SECONDS: to free what somebody has
filled takes time.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import re
import select
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

from .loop import Loop

log = logging.getLogger("orion.server")

FOLDER = Path("/dev/shm")
NAME = re.compile(r"orion-[0-9a-f]{32}")
ENTRIES_MOST = 4096  # of the folder that one sweep looks at
SWEEP_SECONDS = 10


def unlink(names: Iterable[str]) -> None:
    for name in names:
        if NAME.fullmatch(name):
            with contextlib.suppress(OSError):
                (FOLDER / name).unlink()


def candidates(folder: Path = FOLDER) -> Iterator[tuple[str, int]]:
    """Path and owner of each regular file there with a name of ours, if we may remove it at all."""
    us = os.geteuid()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in itertools.islice(entries, ENTRIES_MOST):
            if not NAME.fullmatch(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and us in (0, found.st_uid):
                    yield entry.path, found.st_uid


def sweep(folder: Path = FOLDER) -> int:
    """How many files of the dead it has removed."""
    return sum(_remove(path, owner) for path, owner in list(candidates(folder)))


def _remove(path: str, owner: int) -> bool:
    us = os.geteuid()
    try:
        if owner != us:
            os.seteuid(owner)  # root in a container may lack CAP_DAC_OVERRIDE, but not CAP_SETUID
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return False
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        finally:
            os.close(fd)
    except OSError:  # somebody is behind it, it is gone, or we may not
        return False
    finally:
        if owner != us:
            os.seteuid(us)
    return True


class Sweeper:
    """Sweeps, one at a time, each in a process of its own. Forks only where there is something to look at."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pid = 0
        self._pidfd = -1
        self._again = False

    def sweep(self) -> None:
        if self._pidfd >= 0:
            self._again = True
            return
        if next(candidates(), None) is None:
            return
        try:
            pid = os.fork()
        except OSError:
            return  # the next one will do
        if pid == 0:
            _child(self._loop.descriptors())
        self._pid, self._pidfd = pid, os.pidfd_open(pid)
        self._loop.watch(self._pidfd, self._on_exit)

    def _on_exit(self) -> None:
        self._loop.unwatch(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        if self._again:
            self._again = False
            self.sweep()

    def close(self, seconds: float) -> None:
        """Waits for what is on its way, but not for ever."""
        deadline = time.monotonic() + seconds
        while self._pidfd >= 0:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._pidfd], [], [], left)[0]:
                self._again = False
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._on_exit()


def _child(close: list[int]) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(SWEEP_SECONDS)
        for fd in close:  # a socket that the server closes meanwhile is to hang up
            with contextlib.suppress(OSError):
                os.close(fd)
        removed = sweep()
        if removed:
            log.info("removed %d files of dead sessions from %s", removed, FOLDER)
    finally:
        os._exit(0)
