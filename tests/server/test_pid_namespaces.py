# SPDX-License-Identifier: Apache-2.0
"""A program in a PID namespace of its own, as in a container: it is known by its own number and by the host's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from orion_server_fixtures import Server, wait_for

CLIENT = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from orion_raw_client import RawClient
client = RawClient(sys.argv[1])
print(os.getpid(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def inside(null_server: Server) -> Iterator[subprocess.Popen[str]]:
    """`unshare`, whose child is the program."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None:
        pytest.skip("needs PID namespaces: root, and unshare of util-linux")
    if subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("no PID namespaces here")
    command = [unshare, "--pid", "--fork", "--kill-child", sys.executable, "-c", CLIENT]
    process = subprocess.Popen(
        [*command, str(null_server.socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def test_both_numbers_are_shown_and_its_end_is_seen(null_server: Server, inside) -> None:
    assert inside.stdout.readline() == "1\n"
    children = Path(f"/proc/{inside.pid}/task/{inside.pid}/children").read_text().split()
    (row,) = null_server.status()["clients"]
    assert row["pid"] == 1, "as the program sees itself"
    assert [str(row["host_pid"])] == children, "as this host does"
    os.kill(row["host_pid"], signal.SIGKILL)
    wait_for(lambda: not null_server.status()["clients"], 10.0, "its session has ended")
