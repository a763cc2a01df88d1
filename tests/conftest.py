# SPDX-License-Identifier: Apache-2.0
"""What all tests share: the checkout's root, the installed library, and a watchdog over the whole session."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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
