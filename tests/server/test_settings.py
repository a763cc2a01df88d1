# SPDX-License-Identifier: Apache-2.0
"""Settings of orion-server: where each value comes from, and which files are refused."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from orion_server import addresses
from orion_server.errors import OrionServerError


def explain(*arguments: str, **environment: str) -> dict[str, dict[str, object]]:
    done = check_config("--json", *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)["settings"]}


def check_config(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    names = ("ORION_", "BIND_", "PORT", "VGPU", "LOG_LEVEL", "HOST_IP")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    return subprocess.run(
        [sys.executable, "-m", "orion_server", "--check-config", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**clean, **environment},
    )


def config_file(folder: Path, text: str) -> str:
    path = folder / "server.conf"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


FILE = """
[server]
listen_port = 9970
bind_addr = 127.0.0.1        ; the address the clients reach
enable_shm = "true"
enable_rdma = "false"
enable_kvm = "false"
vgpu_count = 4
[server-nccl]
comm_id = "127.0.0.1:9970"
[server-log]
log_with_time = 1
log_level = DEBUG
[server-shm]
shm_path_base = "/dev/shm/"
shm_buffer_size = 128
[controller]
controller_addr = 127.0.0.1:9123
[authentication]
server-key = a-key-of-this-server
"""


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    path = config_file(tmp_path, FILE)
    rows = explain("--config", path, "--vgpu", "7", PORT="9980", VGPU="5")
    assert (rows["vgpu"]["value"], rows["vgpu"]["origin"]) == (7, "flag --vgpu")
    assert (rows["port"]["value"], rows["port"]["origin"]) == (9980, "environment PORT")
    assert rows["controller"]["value"] == "127.0.0.1:9123"
    assert rows["controller"]["origin"] == f"{path} [controller] controller_addr"
    assert (rows["threads"]["value"], rows["threads"]["origin"]) == (0, "default")
    assert rows["log_level"]["value"] == "debug"


def test_the_table_names_each_setting_and_shows_no_secret(tmp_path):
    done = check_config("--config", config_file(tmp_path, FILE))
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["vgpu"].split()[1] == "4"
    assert "(set)" in lines["server_key"]
    assert "a-key-of-this-server" not in done.stdout


def test_keys_without_effect_are_shown_with_the_reason(tmp_path):
    path = config_file(tmp_path, FILE)
    rows = explain("--config", path)
    assert rows["[server-shm] shm_buffer_size"] == {
        "name": "[server-shm] shm_buffer_size",
        "value": "128",
        "origin": f"{path}, without effect: buffers have the size that the wire format gives them",
        "help": "",
    }
    others = {name for name in rows if name.startswith("[")}
    assert others == {
        "[server] enable_kvm",
        "[server-nccl] comm_id",
        "[server-shm] shm_buffer_size",
    }
    shown = check_config("--config", path).stdout
    assert "NCCL runs in the program, unchanged" in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nvgpu_cuont = 4\n", "did you mean [server] vgpu_count?"),
        ("[server]\nvgpu_count = many\n", "vgpu_count='many'"),
        ("[server]\nenable_rdma = perhaps\n", "neither true nor false"),
        ("[server-shm]\nshm_path_base = /tmp\n", "/dev/shm alone"),
        ("vgpu_count = 4\n", "no section headers"),
        ("[server]\nbind_net = nonet0\n", "no network interface"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, text, words):
    path = config_file(tmp_path, text)
    done = check_config("--config", path)
    assert done.returncode == 2
    assert words in done.stderr
    assert path in done.stderr or "bind_net" in text
    assert "Traceback" not in done.stderr


def test_a_file_with_a_key_is_for_its_owner_alone(tmp_path):
    path = config_file(tmp_path, FILE)
    os.chmod(path, 0o644)
    done = check_config("--config", path)
    assert done.returncode == 2
    assert f"chmod 600 {path}" in done.stderr


def test_a_missing_file_is_an_error_only_when_it_was_named(tmp_path):
    done = check_config("--config", str(tmp_path / "none.conf"))
    assert done.returncode == 2
    assert "none.conf" in done.stderr


def test_an_interface_stands_for_its_address():
    assert addresses.of_net("lo", "BIND_NET") == "127.0.0.1"
    with pytest.raises(OrionServerError, match="lo"):
        addresses.of_net("nonet0", "BIND_NET")


def test_auto_is_the_bridge_or_what_kubernetes_says(monkeypatch):
    names = [(1, "docker0")]
    monkeypatch.setattr(socket, "if_nameindex", lambda: names)
    monkeypatch.setattr(addresses, "of_interface", lambda name: "172.17.0.1")
    assert addresses.automatic({"HOST_IP": "10.1.2.3"}, "BIND_ADDR") == "172.17.0.1"
    names.clear()
    assert addresses.automatic({"HOST_IP": "10.1.2.3"}, "BIND_ADDR") == "10.1.2.3"
    with pytest.raises(OrionServerError, match="HOST_IP"):
        addresses.automatic({}, "BIND_ADDR")


def test_a_private_server_follows_its_flags_alone(tmp_path):
    from orion_server import cli, server_settings

    arguments = cli.parser().parse_args(["--socket", str(tmp_path / "s"), "--device", "null"])
    environment = {"ORION_CONTROLLER": "127.0.0.1:9123", "PORT": "9960", "BIND_ADDR": "0.0.0.0"}
    private, _ = server_settings.read(arguments, environment, private=True)
    assert (private.controller, private.bind) == ("", None)
    shared, _ = server_settings.read(arguments, environment, private=False)
    assert (shared.controller, shared.bind) == ("127.0.0.1:9123", ("0.0.0.0", 9960))


def test_ucx_can_be_switched_off(make_server):
    from orion_server import wire
    from orion_tcp_client import Refused, TcpClient

    server = make_server(
        "--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0", "--enable-rdma", "false"
    )
    with pytest.raises(Refused, match="enable_rdma"):
        TcpClient(server.status()["server"]["bind"], transport=wire.TRANSPORT_UCX)


def test_shared_memory_can_be_switched_off(make_server):
    from orion_raw_client import RawClient, Refused
    from orion_tcp_client import TcpClient

    server = make_server(
        "--device", "null", "--memory", "64M", "--bind", "127.0.0.1:0", "--enable-shm", "false"
    )
    with pytest.raises(Refused, match="enable_shm"):
        RawClient(server.socket)
    with TcpClient(server.status()["server"]["bind"]) as client:
        assert client.call("orionDescribe")[0] == 0
