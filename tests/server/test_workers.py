# SPDX-License-Identifier: Apache-2.0
"""What the supervisor makes of what the zygote says, and when."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator

import pytest
from orion_server import messages, workers, zygote
from orion_server.loop import Loop


class Zygote:
    """Says what a test has it say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zygote, "spawn", lambda config, fds: self.spawn())

    def spawn(self) -> tuple[socket.socket, int]:
        ours, self.line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return ours, os.posix_spawn("/bin/true", ["true"], {})

    def announce(self, session: int) -> None:
        pidfd = os.pidfd_open(os.getpid())
        said = {"forked": session, "pid": os.getpid()}
        messages.send_packet(self.line, json.dumps(said).encode(), [pidfd])
        os.close(pidfd)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[workers.Workers, Zygote]]:
    said = Zygote(monkeypatch)
    made = workers.Workers(
        Loop(), zygote.ZygoteConfig("null", 1 << 20, 1, ()), print, print, lambda: None
    )
    made.open()
    yield made, said
    said.line.close()
    made.close()


def test_birth_that_is_announced_late_is_waited_for(
    scene: tuple[workers.Workers, Zygote],
) -> None:
    made, said = scene
    worker = made.take()
    made.poll()
    assert worker.pid == 0
    late = threading.Timer(0.05, said.announce, [worker.id])
    late.start()
    made.await_birth(worker)
    late.join()
    assert worker.pid == os.getpid()
    made.await_birth(worker)  # at once
    worker.close()


def test_birth_that_is_never_announced_is_not_waited_for_long(
    scene: tuple[workers.Workers, Zygote], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = scene
    monkeypatch.setattr(workers, "BIRTH_SECONDS", 0.02)
    worker = made.take()
    made.await_birth(worker)
    assert worker.pid == 0
    worker.close()


def test_birth_is_not_waited_for_from_a_zygote_that_is_gone(
    scene: tuple[workers.Workers, Zygote],
) -> None:
    made, said = scene
    worker = made.take()
    said.line.close()
    made.await_birth(worker)
    assert worker.pid == 0
    worker.close()
