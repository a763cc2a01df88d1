# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the checkout's root, the installed library, and a watchdog over the whole session."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # what tests of several folders import
from no_skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: E402, F401

SESSION_SECONDS = int(os.environ.get("ORION_TEST_SECONDS", "3600"))


@pytest.fixture(scope="session", autouse=True)
def session_watchdog() -> Iterator[None]:
    """A session that hangs beyond every test's own limit ends with all stacks on stderr. 0 turns it off (make soak)."""
    if SESSION_SECONDS == 0 or os.environ.get("ORION_SOAK"):
        yield
        return

    def give_up() -> None:
        sys.__stderr__ and sys.__stderr__.write(
            f"\nno end after {SESSION_SECONDS} s (ORION_TEST_SECONDS)\n"
        )
        faulthandler.dump_traceback(all_threads=True)
        os._exit(3)

    timer = threading.Timer(SESSION_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    yield
    timer.cancel()


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def libcuda() -> Path:
    """The installed libcuda.so.1: the wheel is tested, not the tree."""
    spec = importlib.util.find_spec("orion_shm")
    for folder in spec.submodule_search_locations or [] if spec else []:
        path = Path(folder, "lib", "cuda", "libcuda.so.1")
        if path.exists():
            return path
    pytest.fail("Orion is not installed in this Python: run make test, or pip install . first")


@pytest.fixture
def far_away() -> Iterator[str]:
    """Another host: the name of a network namespace whose 10.77.P.2 sees our 10.77.P.1, P being our pid modulo 250."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs network namespaces: root, and ip of iproute2")
    name = f"orion{os.getpid()}"
    part = os.getpid() % 250
    made = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b"],
        ["ip", "link", "set", f"{name}b", "netns", name],
        ["ip", "addr", "add", f"10.77.{part}.1/24", "dev", f"{name}a"],
        ["ip", "link", "set", f"{name}a", "up"],
        ["ip", "-n", name, "addr", "add", f"10.77.{part}.2/24", "dev", f"{name}b"],
        ["ip", "-n", name, "link", "set", f"{name}b", "up"],
    ]
    try:
        for command in made:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"no network namespaces here: {done.stderr}")
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", f"{name}a"], capture_output=True, check=False)
