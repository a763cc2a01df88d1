# SPDX-License-Identifier: Apache-2.0
"""The supervisor's side of the zygote: workers forked ahead of their clients, births and deaths of all of them."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import messages, zygote
from .lease_page import LeasePage
from .loop import Loop
from .stats import StatsPage

log = logging.getLogger("orion.server")

SPARE_SECONDS = 1.0  # before a spare worker that was killed is replaced
SOON_SECONDS = 0.01
ZYGOTE_SECONDS = 3.0  # for the zygote to end when it is told to
BIRTH_SECONDS = 1.0  # for the zygote to announce a worker that speaks already
MESSAGES_A_TURN = 64


@dataclass
class Worker:
    """A process of the zygote's, forked ahead of its client; its number is the session's."""

    id: int
    control: socket.socket  # our end of its control line
    stats: StatsPage
    lease: LeasePage
    pid: int = 0  # 0: not forked yet
    pidfd: int = -1
    exit_status: int | None = None
    gone: bool = False
    doomed: bool = False  # to be killed as soon as it is born

    @property
    def epoch(self) -> int:
        return self.id & 0xFFFFFFFF or 1

    def kill(self) -> None:
        """The zygote reports its end; nothing else is assumed."""
        self.doomed = True
        if self.pidfd >= 0 and not self.gone:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def halt(self, yes: bool) -> None:
        """Stops the process where it stands, or lets it go on; a killed one dies either way."""
        if self.pidfd >= 0 and not self.gone:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGSTOP if yes else signal.SIGCONT)

    def close(self) -> None:
        """Our side of it: the worker sees its control line hang up."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self.control.close()
        self.stats.close()
        self.lease.close()


class Workers:
    def __init__(
        self,
        loop: Loop,
        config: zygote.ZygoteConfig,
        on_warm: Callable[[dict[str, Any]], None],
        on_exit: Callable[[Worker], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._config = config
        self._on_warm = on_warm
        self._on_exit = on_exit  # a worker that was taken is gone; exit_status says how
        self._on_lost = on_lost  # the zygote is gone, and with it all workers
        self._line: socket.socket | None = None
        self._pid = 0
        self._live: dict[int, Worker] = {}
        self._spare: Worker | None = None
        self._spare_due = 0.0  # monotonic: one that dies at once is not forked without end
        self._orphans = False
        self._next = 1
        self.warm = False
        self.problem: str | None = None  # why there will be no workers

    def open(self) -> None:
        self.warm = False
        self._line, self._pid = zygote.spawn(self._config, self._loop.descriptors())
        self._loop.watch(self._line, self.poll)

    def take(self) -> Worker:
        """The spare one, or one that is forked now. OSError says why there is none."""
        # the next spare one would be in the way of this one's start
        self._spare_due = time.monotonic() + SPARE_SECONDS
        worker = self._spare or self._order()
        if worker is self._spare:
            self._spare = None
        return worker

    def prepare(self) -> None:
        """The next client finds a worker that is forked and has its segments: it waits for the cage only."""
        if self._spare is None and self.warm:
            with contextlib.suppress(OSError):
                self._spare = self._order()

    def prepare_soon(self) -> None:
        """A client is served now: its first calls go before the preparation for the next one."""
        self._spare_due = min(self._spare_due, time.monotonic() + SOON_SECONDS)

    def next_deadline(self) -> float:
        return self._spare_due if self._spare is None and self.warm else math.inf

    def expire(self, now: float) -> None:
        self._reap_orphans()
        if self._spare is None and now >= self._spare_due:
            self._spare_due = now + SPARE_SECONDS
            self.prepare()

    def close(self) -> None:
        """Ends the zygote, and with it every worker that is left."""
        if self._spare is not None:
            self._spare.kill()
            self._spare.close()
            self._spare = None
        if self._line is not None:
            self._loop.unwatch(self._line)
            self._line.close()
            self._line = None
            self._end_zygote()

    def _order(self) -> Worker:
        """Has one forked; it prepares itself and waits for its order."""
        if self._line is None:
            raise OSError(errno.ESRCH, self.problem or "its zygote is gone")
        ours, theirs = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
        )
        worker: Worker | None = None
        try:
            worker = Worker(self._next, ours, StatsPage(), LeasePage())
            request = {"session": worker.id, "epoch": worker.epoch}
            fds = [theirs.fileno(), worker.stats.fd, worker.lease.fd]
            messages.send_packet(self._line, json.dumps(request).encode(), fds)
        except OSError:
            if worker is not None:
                worker.close()
            ours.close()
            raise
        finally:
            theirs.close()
        worker.stats.close_fd()
        worker.lease.close_fd()
        self._live[worker.id] = worker
        self._next += 1
        return worker

    def poll(self) -> None:
        """Reads what the zygote has said."""
        for _ in range(MESSAGES_A_TURN):
            if self._line is None:
                return
            try:
                packet, fds = messages.receive_packet(
                    self._line, zygote.PACKET_MOST, 1, socket.MSG_DONTWAIT
                )
            except BlockingIOError:
                return
            except OSError:
                packet, fds = b"", []
            if not packet:
                self._lost()
                return
            self._hear(json.loads(packet), fds)

    def await_birth(self, worker: Worker) -> None:
        """Of a worker that speaks already. The zygote announces it on another socket, and may not have had a processor
        since it forked; it is not waited for longer than BIRTH_SECONDS."""
        deadline = time.monotonic() + BIRTH_SECONDS
        self.poll()
        while worker.pid == 0 and worker.id in self._live and self._line is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._line], [], [], left)[0]:
                return
            self.poll()

    def _hear(self, message: dict[str, Any], fds: list[int]) -> None:
        if "forked" in message:
            self._born(self._live.get(message["forked"]), message["pid"], fds)
            return
        messages.close_all(fds)
        if "exited" in message:
            self._ended(self._live.pop(message["exited"], None), message["status"])
        elif "failed" in message:
            log.error("the zygote cannot fork: %s", message["why"])
            self._ended(self._live.pop(message["failed"], None), None)
        elif "warm" in message:
            self.warm = True
            self._on_warm(message["warm"])
            self.prepare()
        elif "dead" in message:
            self.problem = message["dead"]
            log.error("the zygote cannot go on: %s", self.problem)

    def _born(self, worker: Worker | None, pid: int, fds: list[int]) -> None:
        if worker is None or len(fds) != 1:
            messages.close_all(fds)
            return
        worker.pid, worker.pidfd = pid, fds[0]
        if worker.doomed:
            worker.kill()

    def _ended(self, worker: Worker | None, status: int | None) -> None:
        if worker is None:
            return
        worker.exit_status = status
        worker.gone = True
        if worker is self._spare:
            self._spare = None
            self._spare_due = time.monotonic() + SPARE_SECONDS
            worker.close()
            return
        self._on_exit(worker)

    def _lost(self) -> None:
        """Its workers die with it. A new zygote serves the next clients, unless the old one could not start."""
        if self._line is not None:
            self._loop.unwatch(self._line)
            self._line.close()
            self._line = None
        self._end_zygote()
        if self._spare is not None:
            self._spare.close()
            self._spare = None
        self._live.clear()
        self._orphans = True
        self._on_lost()
        if self.problem is None:
            log.error("the zygote is gone; starting another")
            self.open()

    def _end_zygote(self) -> None:
        """It ends by itself when its line does; if not in time, it is stuck."""
        deadline = time.monotonic() + ZYGOTE_SECONDS
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                if time.monotonic() > deadline:
                    os.kill(self._pid, signal.SIGKILL)
                    os.waitpid(self._pid, 0)
                    return
                time.sleep(0.002)

    def _reap_orphans(self) -> None:
        """Workers whose zygote was killed are our children; the zygote itself is waited for by name."""
        while self._orphans:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                pid = 0
                self._orphans = False
            if pid == 0 or pid == self._pid:
                return
