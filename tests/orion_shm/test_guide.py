# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/orion_shm.md and examples/channel_*.py run, and do what they say."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 60
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pairs() -> list[tuple[str, str]]:
    """(server, client) programs, in the order of the guide."""
    blocks = BLOCK.findall((ROOT / "docs" / "orion_shm.md").read_text(encoding="utf-8"))
    servers = [block for block in blocks if block.startswith("# server.py")]
    clients = [block for block in blocks if block.startswith("# client.py")]
    assert len(blocks) == len(servers) + len(clients)
    return list(zip(servers, clients, strict=True))


def name_of(pair: tuple[str, str]) -> str:
    found = re.search(r'listen\("([^"]+)"', pair[0])
    assert found
    return found[1]


@pytest.mark.parametrize("pair", pairs(), ids=name_of)
def test_the_guides_examples_run(pair: tuple[str, str], tmp_path: Path) -> None:
    name = name_of(pair)
    unique = f"{name}-{time.monotonic_ns()}"
    if name.startswith("tcp://"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            unique = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    server, client = (text.replace(f'"{name}"', f'"{unique}"') for text in pair)
    wait = (
        "import orion_shm, time\n"
        "def patient(*args, connect=orion_shm.connect, **options):\n"
        f"    for _ in range({SECONDS} * 100):\n"
        "        try:\n"
        "            return connect(*args, **options)\n"
        "        except ConnectionRefusedError:\n"
        "            time.sleep(0.01)\n"
        "orion_shm.connect = patient\n"
    )
    # elsewhere: what is installed is to be found, not the checkout
    other = subprocess.Popen(
        [sys.executable, "-c", server], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    command = [sys.executable, "-c", wait + client]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    said = other.communicate(timeout=SECONDS)[1]
    assert (done.returncode, done.stderr) == (0, "")
    assert (other.returncode, said) == (0, "")


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "examples").glob("channel_*.py")))
def test_the_examples_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name], capture_output=True, text=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
