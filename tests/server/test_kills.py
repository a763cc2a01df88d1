# SPDX-License-Identifier: Apache-2.0
"""Whoever is killed: the others hear of it, and nothing is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from orion_raw_client import RawClient, SessionLost
from orion_server_fixtures import processes_of, wait_for
from witness import witnessed


def test_killed_worker_leaves_an_epitaph_and_a_free_lease(null_server):
    client = RawClient(null_server.socket)
    client.alloc(1 << 20)
    with witnessed(null_server.process.pid, os.getpid()) as stretch:
        os.kill(client.welcome.worker_pid, signal.SIGKILL)
        lost = client.await_end()
    stretch.check("the client's error")
    assert "SIGKILL" in str(lost)
    assert lost.result != 0
    null_server.wait_idle()
    assert null_server.status()["devices"][0]["memory_granted"] == 0
    assert null_server.report()["sessions"][-1]["error"] == str(lost)


@pytest.mark.parametrize(
    ("number", "result"), [(signal.SIGSEGV, 700), (signal.SIGABRT, 719), (signal.SIGFPE, 719)]
)
def test_fault_is_reported_as_the_cuda_error_it_is(null_server, number, result):
    client = RawClient(null_server.socket)
    os.kill(client.welcome.worker_pid, number)
    lost = client.await_end()
    assert lost.result == result
    null_server.wait_idle()


def test_killed_client_frees_worker_and_lease(null_server, tmp_path):
    script = tmp_path / "client.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from orion_raw_client import RawClient\n"
        f"c = RawClient({str(null_server.socket)!r})\n"
        "c.alloc(32 << 20)\n"
        "print(c.welcome.worker_pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    with witnessed(null_server.process.pid, worker, os.getpid()) as stretch:
        process.kill()
        wait_for(lambda: not Path(f"/proc/{worker}").exists(), 10.0, "worker gone")
        null_server.wait_idle(10.0)
    stretch.check("the end of worker and lease")
    assert null_server.status()["devices"][0]["memory_granted"] == 0
    process.communicate()


def test_forked_child_that_keeps_the_socket_does_not_keep_the_session(null_server, tmp_path):
    script = tmp_path / "forker.py"
    script.write_text(
        "import os, sys, time\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "from orion_raw_client import RawClient\n"
        f"c = RawClient({str(null_server.socket)!r})\n"
        "if os.fork() == 0:\n"
        "    time.sleep(5)\n"
        "    os._exit(0)\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=20)
    null_server.wait_idle(3.0)


def test_killed_supervisor_leaves_nothing(make_server):
    server = make_server("--device", "null", "--memory", "64M")
    client = RawClient(server.socket)
    client.alloc(1 << 20)
    assert len(server.processes()) >= 3
    server.process.kill()
    client.await_end()
    wait_for(lambda: not server.processes(), 3.0, "all processes gone")
    wait_for(lambda: not list(server.folder.glob("s.sock*")), 3.0, "socket files gone")


def test_killed_zygote_is_replaced(make_server):
    server = make_server("--device", "null", "--memory", "64M")
    client = RawClient(server.socket)
    worker = client.welcome.worker_pid
    parent = int(Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    client.await_end()
    wait_for(server.answers, 20.0, "a new zygote")
    with RawClient(server.socket) as again:
        assert again.call("orionDescribe")[0] == 0
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), 3.0, "the old worker is reaped")


def test_stopped_server_says_goodbye(make_server):
    server = make_server("--device", "null", "--memory", "64M")
    client = RawClient(server.socket)
    server.process.send_signal(signal.SIGTERM)
    assert "stopped" in str(client.await_end())
    assert server.process.wait(5) == 0
    assert not server.processes()
    assert not list(server.folder.glob("s.sock*"))


def test_stale_socket_is_replaced_and_a_live_one_is_not(make_server, tmp_path):
    server = make_server("--device", "null", "--memory", "64M")
    second = subprocess.run(
        [sys.executable, "-m", "orion_server", "--socket", str(server.socket), "--device", "null"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 2
    assert "another server listens" in second.stderr
    for pid in server.processes():
        os.kill(pid, signal.SIGSTOP)  # nobody cleans up
    for pid in server.processes():
        os.kill(pid, signal.SIGKILL)
    server.process.wait(5)
    assert server.socket.exists()
    again = type(server)(server.folder, "--device", "null", "--memory", "64M")
    RawClient(again.socket).close()
    again.stop()


def test_two_hundred_random_kills_leave_nothing(null_server):
    """Either side, at any moment: before, during and after calls."""
    dice = random.Random(7)
    before = descriptors(null_server.process.pid)
    for turn in range(200):
        try:
            client = RawClient(null_server.socket, timeout=10)
        except SessionLost:
            continue
        try:
            for _ in range(dice.randrange(4)):
                client.alloc(dice.choice([512, 4096, 1 << 20, 8 << 20]))
            if dice.random() < 0.5:
                os.kill(client.welcome.worker_pid, signal.SIGKILL)
                for _ in range(dice.randrange(3)):
                    client.post("cuMemGetInfo_v2", b"", 1, turn + 1)
                if dice.random() < 0.7:
                    client.await_end()
        except (SessionLost, MemoryError):
            pass
        finally:
            client.close()
    null_server.wait_idle()
    status = null_server.status()
    assert status["devices"][0]["memory_granted"] == 0
    wait_for(
        lambda: len(null_server.processes()) <= 3, 3.0, "supervisor, zygote and the spare worker"
    )
    assert descriptors(null_server.process.pid) <= before + 8
    with RawClient(null_server.socket) as client:
        assert client.call("orionDescribe")[0] == 0


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_private_server_dies_with_its_parent(tmp_path):
    marker = tmp_path / "private.sock"
    script = (
        "import sys, time\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from orion_server import embedded\n"
        f"e = embedded.start('null', gmem_mib=64, address='unix:{marker}')\n"
        "print(e.devices[0]['kind'], flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "null"
    assert processes_of(f"--socket\0{marker}")
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_of(f"--socket\0{marker}"), 5.0, "private server gone")
    wait_for(lambda: not list(tmp_path.glob("private.sock*")), 3.0, "its sockets gone")
