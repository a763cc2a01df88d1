# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/orion_shm.md and examples/channel_*.py run, and do what they say; its reference is complete."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import orion_shm

ROOT = Path(__file__).resolve().parent.parent.parent
ORION = Path(sys.executable).parent / "orion"
SECONDS = 60
FIRST_SECONDS = 900  # a CUDA program whose kernels have never been compiled, on a busy machine
GUIDE = (ROOT / "docs" / "orion_shm.md").read_text(encoding="utf-8")
PATIENT = f"""
import orion_shm, time
def patient(*args, connect=orion_shm.connect, **options):
    for _ in range({SECONDS} * 100):
        try:
            return connect(*args, **options)
        except ConnectionRefusedError:
            time.sleep(0.01)
orion_shm.connect = patient
"""
BOTH = """
import subprocess, sys
server, client = ([sys.executable, "-c", text] for text in sys.argv[1:])
with subprocess.Popen(server) as other:
    code = subprocess.run(client).returncode
    if code != 0:
        other.kill()
    sys.exit(code or other.wait())
"""
C_FOLDERS = [ROOT / "csrc" / part for part in ("base", "shm", "stream", "channel", "wire")]
C_PROGRAM = """
#include <err.h>
#include <stdio.h>
#include <orion/channel.h>
int main(void)
{
%s
return 0;
}
"""


def blocks_of(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def pairs() -> list[tuple[str, str]]:
    """(server, client) programs, in the order of the guide."""
    blocks = blocks_of("python")
    servers = [block for block in blocks if block.startswith("# server.py")]
    clients = [block for block in blocks if block.startswith("# client.py")]
    assert len(blocks) == len(servers) + len(clients)
    return list(zip(servers, clients, strict=True))


def name_of(pair: tuple[str, str]) -> str:
    found = re.search(r'listen\("([^"]+)"', pair[0])
    assert found
    return found[1]


@pytest.mark.timeout(FIRST_SECONDS + SECONDS)
@pytest.mark.parametrize("pair", pairs(), ids=name_of)
def test_the_guides_examples_run(pair: tuple[str, str], tmp_path: Path) -> None:
    name = name_of(pair)
    unique = f"{name}-{time.monotonic_ns()}"
    if name.startswith("tcp://"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            unique = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    server, client = (text.replace(f'"{name}"', f'"{unique}"') for text in pair)
    under: list[str | Path] = []
    seconds = SECONDS
    if "import cupy" in server:
        if importlib.util.find_spec("cupy") is None:
            pytest.skip("cupy is not installed (pip install 'orion-vgpu[test]')")
        under, seconds = [ORION, "run", "--"], FIRST_SECONDS  # one device for both
        server, client = (text.replace("60)", f"{seconds})") for text in (server, client))
    # elsewhere: what is installed is to be found, not the checkout
    done = subprocess.run(
        [*under, sys.executable, "-c", BOTH, server, PATIENT + client],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=seconds,
        env={name: value for name, value in os.environ.items() if not name.startswith("ORION_")},
    )
    assert done.returncode == 0, done.stderr
    assert under or not done.stderr


def test_the_guides_c_program_compiles_and_runs(tmp_path: Path) -> None:
    (block,) = blocks_of("c")
    name = f"adder-{time.monotonic_ns()}"
    block = block.replace('"adder"', f'"{name}"')
    source, program = tmp_path / "client.c", tmp_path / "client"
    source.write_text(block if "int main" in block else C_PROGRAM % block)
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-D_GNU_SOURCE=", "-Wall", "-Werror"]
    command += ["-fno-strict-aliasing", f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    files = [str(path) for folder in C_FOLDERS for path in sorted(folder.glob("*.c"))]
    subprocess.run([*command, "-o", program, source, *files, "-lpthread", "-ldl"], check=True)
    server = pairs()[0][0].replace('"adder"', f'"{name}"')
    with subprocess.Popen([sys.executable, "-c", server], cwd=tmp_path) as other:
        try:
            end = time.monotonic() + SECONDS / 2
            while True:
                done = subprocess.run([program], capture_output=True, text=True, timeout=SECONDS)
                if done.returncode == 0 or time.monotonic() > end:
                    break  # the server listens, or never will
                time.sleep(0.01)
            assert (done.returncode, done.stdout.strip()) == (0, "5"), done.stderr
            assert other.wait(SECONDS) == 0
        finally:
            other.kill()


def stub() -> list[ast.ClassDef | ast.FunctionDef]:
    tree = ast.parse((ROOT / "orion_shm" / "_channel.pyi").read_text(encoding="utf-8"))
    return [node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))]


def functions(node: ast.ClassDef | ast.FunctionDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    body = node.body if isinstance(node, ast.ClassDef) else [node]
    found = [item for item in body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [item for item in found if not item.name.startswith("_")]


def test_the_reference_has_every_name_and_every_argument() -> None:
    reference = GUIDE.partition("\n## 14. Reference\n")[2]
    for name in orion_shm.__all__:
        assert re.search(rf"`{name}\b", reference), name
    for function in (function for node in stub() for function in functions(node)):
        if function.decorator_list:  # a property
            assert f"| `{function.name}` |" in reference, function.name
            continue
        found = re.search(rf"`(?:await )?{function.name}\(([^`]*)\)`", reference)
        assert found, function.name
        told = [part.partition("=")[0] for part in found[1].split(", ")]
        arguments = [argument.arg for argument in function.args.args if argument.arg != "self"]
        keywords = [argument.arg for argument in function.args.kwonlyargs]
        if function.name == "connect":  # "options as for `listen`"
            keywords = ["..."]
        assert told == ([*arguments, "*", *keywords] if keywords else arguments or [""])


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "examples").glob("channel_*.py")))
def test_the_examples_run(name: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name], capture_output=True, text=True, timeout=SECONDS
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout
