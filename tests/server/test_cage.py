# SPDX-License-Identifier: Apache-2.0
"""What a worker can still do once it is caged: a probe runs in a process locked up the same way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from orion_server_fixtures import wait_for

PROBE = """
import ctypes, errno, fcntl, mmap, os, resource, signal, socket, sys, threading, time
sys.path[:0] = {path!r}
from orion_server import _worker
import encodings.latin_1
libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
results = {{}}
_worker.enter_cage(65534, 65534, 1 << 30, 64, {driver})

def attempt(name, action):
    try:
        results[name] = ("ok", action())
    except OSError as e:
        results[name] = (errno.errorcode.get(e.errno, str(e.errno)), None)
    except Exception as e:
        results[name] = (type(e).__name__, None)

def call(*arguments):
    value = libc.syscall(*(ctypes.c_long(a) for a in arguments))
    if value < 0:
        raise OSError(ctypes.get_errno(), "syscall")
    return value

{body}
os.write(1, repr(results).encode())
os._exit(0)
"""


def probe(body: str, driver: bool = False) -> dict[str, tuple[str, object]]:
    code = PROBE.format(path=sys.path, body=body, driver=driver)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode == 0, (done.returncode, done.stderr.decode())
    return eval(done.stdout)


FORBIDDEN = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "create a file": "os.open('/tmp/orion-cage-probe', os.O_CREAT | os.O_WRONLY)",
    "list a folder": "os.listdir('/')",
    "remove a file": "os.unlink('/tmp/x')",
    "make a socket": "socket.socket(socket.AF_INET)",
    "make a unix socket": "socket.socket(socket.AF_UNIX)",
    "kill its parent": "os.kill(parent, 0)",
    "signal everybody": "os.kill(-1, 0)",
    "signal by pidfd": "call(424, 3, 9, 0, 0)",
    "trace": "call(101, 16, parent, 0, 0)",
    "read others' memory": "call(310, parent, 0, 0, 0, 0, 0)",
    "write others' memory": "call(311, parent, 0, 0, 0, 0, 0)",
    "run a program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "new namespace": "call(272, 0x10000000)",
    "make a memfd": "os.memfd_create('x')",
    "mount": "call(165, 0, 0, 0, 0, 0)",
    "load bpf": "call(321, 0, 0, 0)",
    "userfaultfd": "call(323, 0)",
    "io_uring": "call(425, 8, 0)",
    "ioctl": "call(16, 1, 0x5401, 0)",
    "be dumpable again": "call(157, 4, 1, 0, 0, 0)",
    "be root again": "os.setuid(0)",
    # lower ones, which the kernel alone would allow
    "set limits": "call(302, 0, 7, ctypes.addressof((ctypes.c_uint64 * 2)(32, 32)), 0)",
    "cut a file": "os.ftruncate(1, 0)",
    "direct a descriptor's signals": "fcntl.fcntl(1, fcntl.F_SETOWN, parent)",
    "choose a descriptor's signal": "fcntl.fcntl(1, fcntl.F_SETSIG, 9)",
    "ask for signals": "fcntl.fcntl(1, fcntl.F_SETFL, os.O_ASYNC)",
    "take a lease": "fcntl.fcntl(1, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "watch a folder": "fcntl.fcntl(0, fcntl.F_NOTIFY, 1)",
    "move its parent": "os.sched_setaffinity(parent, {0})",
    "see its parent's processors": "os.sched_getaffinity(parent)",
    "send to an address": "call(44, 1, 0, 0, 0, 1 << 32, 16)",
}

ALLOWED = {
    "anonymous memory": "len(mmap.mmap(-1, 1 << 20))",
    "code": "len(mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))",
    "threads": "(lambda t: (t.start(), t.join(), t.is_alive())[2])(threading.Thread(target=time.sleep, args=(0.01,)))",
    "clock": "time.monotonic() > 0",
    "sleep": "time.sleep(0.001)",
    "yield": "os.sched_yield()",
    "its own processors": "os.sched_setaffinity(0, os.sched_getaffinity(os.getpid()))",
    "a copy of a descriptor": "fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 0) > 0",
    "descriptor flags": "fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_NONBLOCK)",
    "who am I": "os.getuid() == 65534 or os.getuid()",
}


# With a vendor's driver in it: the same as above, and what it does by other ways.
FORBIDDEN_WITH_DRIVER = {
    **{
        name: FORBIDDEN[name]
        for name in (
            "make a socket",
            "kill its parent",
            "signal everybody",
            "signal by pidfd",
            "trace",
            "read others' memory",
            "write others' memory",
            "run a program",
            "fork",
            "new namespace",
            "load bpf",
            "io_uring",
            "be dumpable again",
            "be root again",
            "direct a descriptor's signals",
            "choose a descriptor's signal",
        )
    },
    "direct a socket's signals": "call(16, 1, 0x8901, 0)",
    "direct a socket's signals by the other name": "call(16, 1, 0x8902, 0)",
    # nobody has that number: without the cage's word it would be ESRCH
    "set limits of others": "resource.prlimit(4194303, 7)",
}
ALLOWED_WITH_DRIVER = {
    "open a file": "os.close(os.open('/etc/passwd', os.O_RDONLY))",
    "a unix socket": "socket.socket(socket.AF_UNIX).close()",
    "its own limits": "resource.getrlimit(7)",
    "threads": "(lambda t: (t.start(), t.join(), t.is_alive())[2])(threading.Thread(target=time.sleep, args=(0.01,)))",
    "descriptor flags": "fcntl.fcntl(1, fcntl.F_GETFL)",
}
X86_64 = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="the probe's system call numbers are x86-64's"
)


@X86_64
def test_cage_with_a_driver_leaves_others_alone():
    actions = {**FORBIDDEN_WITH_DRIVER, **ALLOWED_WITH_DRIVER}
    body = "\n".join(f"attempt({name!r}, lambda: {action})" for name, action in actions.items())
    words = {name: word for name, (word, _) in probe(body, driver=True).items()}
    assert words == {
        **dict.fromkeys(FORBIDDEN_WITH_DRIVER, "EPERM"),
        **dict.fromkeys(ALLOWED_WITH_DRIVER, "ok"),
    }


@X86_64
def test_cage_forbids_what_a_worker_never_needs():
    body = "\n".join(f"attempt({name!r}, lambda: {action})" for name, action in FORBIDDEN.items())
    results = probe(body)
    assert {name: word for name, (word, _) in results.items()} == dict.fromkeys(FORBIDDEN, "EPERM")


def test_cage_leaves_what_the_compiler_needs():
    body = "\n".join(f"attempt({name!r}, lambda: {action})" for name, action in ALLOWED.items())
    results = probe(body)
    assert {name: word for name, (word, _) in results.items()} == dict.fromkeys(ALLOWED, "ok")
    if os.getuid() == 0:
        assert results["who am I"][1] is True


def test_cage_limits_private_memory():
    results = probe("attempt('two gigabytes', lambda: len(bytearray(2 << 30)))")
    assert results["two gigabytes"][0] == "MemoryError"


def test_abort_still_ends_the_process():
    code = PROBE.format(path=sys.path, body="os.abort()", driver=False)
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == -6


def test_running_worker_is_caged_undumpable_and_not_root(null_server):
    from orion_raw_client import RawClient

    with RawClient(null_server.socket) as client:
        pid = client.welcome.worker_pid
        text = Path(f"/proc/{pid}/status").read_text()
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == "1"
        if os.getuid() == 0:
            assert status["Uid"].split() == ["65534"] * 4
            assert int(status["CapEff"], 16) == 0
        for task in os.listdir(f"/proc/{pid}/task"):
            assert "Seccomp:\t2" in Path(f"/proc/{pid}/task/{task}/status").read_text()
        # the standard three and the control line; the segments' descriptors go once they are sent
        wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= 4, 2.0, "descriptors closed")
