# SPDX-License-Identifier: Apache-2.0
"""The `orion-server` command: options, environment, and sentences instead of tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from orion_server.config import parse_bind, parse_size
from orion_server.errors import OrionServerError


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orion_server", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_check_prints_what_would_be_served():
    done = run("--check", "--device", "null", "--memory", "1G", VGPU="5", BIND_ADDR="127.0.0.2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["memory"], found["vgpu"], found["bind"]) == (1 << 30, 5, "127.0.0.2:9960")


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--memory", "lots"], {}, "no memory size"),
        (["--memory", "0"], {}, "no memory size"),
        ([], {"VGPU": "0"}, "VGPU='0'"),
        ([], {"VGPU": "abc"}, "VGPU='abc'"),
        ([], {"PORT": "70000"}, "PORT='70000'"),
        ([], {"ORION_DEVICE": "tpu"}, "choose auto, cpu, cuda or null"),
        (["--mode", "999"], {}, "octal"),
        (["--socket", "/tmp/" + "x" * 120], {}, "too long"),
    ],
)
def test_wrong_setting_is_named(arguments, environment, words):
    done = run("--check", *arguments, **{"ORION_DEVICE": "null", **environment})
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_port_that_is_taken_is_named(make_server):
    server = make_server("--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0")
    taken = server.status()["server"]["bind"]
    done = run("--device", "null", "--socket", str(server.folder / "t.sock"), "--bind", taken)
    assert done.returncode == 2
    assert taken in done.stderr


def test_sizes_and_addresses():
    assert parse_size("2G", "x") == parse_size("2048", "x") == parse_size("2GiB", "x") == 2 << 30
    assert parse_bind("0.0.0.0:1234", "x") == ("0.0.0.0", 1234)
    assert parse_bind("0.0.0.0", "x") == ("0.0.0.0", 9960)
    assert parse_bind("[::1]:80", "x") == ("::1", 80)
    with pytest.raises(OrionServerError):
        parse_bind("host:port", "x")


def test_supervisor_imports_the_standard_library_only():
    code = (
        "import sys; import orion_server.supervisor; heavy = "
        "('llvmlite', 'numpy', 'zstandard', 'lz4', 'orion_server._worker', 'asyncio'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr
