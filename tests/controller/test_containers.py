# SPDX-License-Identifier: Apache-2.0
"""docs/containers.md with real containers: private namespaces, another user, no capabilities."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from controller_processes import ControllerProcess, wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from orion_server_fixtures import Server

PROGRAM = "import ctypes; print('cuInit', ctypes.CDLL('libcuda.so.1').cuInit(0))"
PYTHON = "/usr/bin/python3"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def container(tmp_path: Path, libcuda: Path) -> Run:
    """Runs the program in a container made of the host's /usr."""
    for needed in ("podman", "runc", "iptables"):
        if shutil.which(needed) is None:
            pytest.skip(f"no {needed} here: apt-get install podman runc netavark iptables")
    if os.geteuid() != 0 or not os.path.exists(PYTHON):
        pytest.skip(f"needs root and {PYTHON}")
    root = tmp_path / "rootfs"
    for folder in ("usr", "tmp", "run/orion", "opt/orion/cuda", "etc", "proc", "sys", "dev"):
        (root / folder).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    fixed = ["podman", "--runtime", "runc", "run", "--rm", "--ipc", "private"]
    # hard limits above the host's cannot be set everywhere
    fixed += ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096"]
    fixed += ["-v", "/usr:/usr:ro", "-v", f"{libcuda.parent}:/opt/orion/cuda:ro"]
    fixed += ["-e", "LD_LIBRARY_PATH=/opt/orion/cuda"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [*fixed, *options, "--rootfs", f"{root}:O", PYTHON, "-c", PROGRAM]
        return subprocess.run(command, capture_output=True, text=True, timeout=100)

    if run("--network", "none", "-e", "ORION_SERVER=nonsense").stdout != "cuInit 100\n":
        pytest.skip("podman cannot run containers here")
    return run


def gateway() -> str:
    """This host's address on podman's own bridge."""
    done = subprocess.run(
        ["podman", "network", "inspect", "podman"], capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.skip(f"podman has no bridge here: {done.stderr}")
    return str(json.loads(done.stdout)[0]["subnets"][0]["gateway"])


def test_a_mounted_folder_is_all_that_a_container_needs(container: Run, tmp_path: Path) -> None:
    server = Server(tmp_path / "run", "--device", "null", "--memory", "64M", "--mode", "666")
    try:
        (server.folder / "orion.sock").symlink_to("s.sock")
        done = container(
            "--network", "none", "--user", "1000", "--cap-drop", "ALL", "-v", f"{server.folder}:/run/orion"
        )  # fmt: skip
        assert done.stdout == "cuInit 0\n", done.stderr
        assert done.stderr == "", "shared memory, about which nothing is said"
    finally:
        server.stop()


def test_a_container_gets_a_vgpu_with_the_client_key(container: Run, tmp_path: Path) -> None:
    key = "correct-horse-battery"
    controller = ControllerProcess(
        tmp_path / "controller", "--bind", "0.0.0.0", ORION_CLIENT_KEY=key
    )
    server = Server(
        tmp_path / "server", "--device", "null", "--memory", "64M", "--bind", "0.0.0.0:0",
        ORION_CONTROLLER=controller.address,
    )  # fmt: skip
    try:
        wait_for(
            lambda: "registered" in [e["event"] for e in controller.events()],
            "the server registers",
        )
        there = ("-e", f"ORION_CONTROLLER={gateway()}:{controller.port}")
        done = container(*there, "-e", f"ORION_TOKEN=client.{key}")
        assert done.stdout == "cuInit 0\n", done.stderr
        assert "transport tcp" in done.stderr
        wait_for(lambda: "freed" in [e["event"] for e in controller.events()], "its lease is free")
        bare = container(*there)
        assert bare.stdout == "cuInit 100\n"
        assert "would travel unencrypted" in bare.stderr
        wrong = container(*there, "-e", "ORION_TOKEN=client.incorrect-horse-battery")
        assert wrong.stdout == "cuInit 800\n"
    finally:
        server.stop()
        controller.stop()
