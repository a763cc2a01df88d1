# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads: the documented names, the numbers of the status, and no trouble for anybody else."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from orion_raw_client import RawClient
from orion_server.status import query
from orion_server_fixtures import wait_for

parser = pytest.importorskip("prometheus_client.parser", reason="metrics need prometheus-client")

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


def scrape(server) -> dict[str, list[object]]:
    wait_for(lambda: server.status()["server"]["metrics"] is not None, 20.0, "metrics")
    address = server.status()["server"]["metrics"]
    text = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read().decode()
    samples: dict[str, list[object]] = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples


def exporters_of(marker: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if marker in command and "orion_server.metrics" in command:
            found.append(int(entry.name))
    return found


@pytest.fixture
def server(make_server):
    return make_server("--device", "null", "--memory", "64M", "--metrics-port", "0")


def test_metrics_say_what_the_status_says(server):
    with RawClient(server.socket, gmem_mib=16, ratio=25, command='odd "name"\n') as client:
        client.copy_in(client.alloc(3 << 20), bytes(1000))
        client.info()
        got = scrape(server)
        row = server.status()["clients"][0]
        device = server.status()["devices"][0]
    labels = {"device": device["uuid"], "session": str(row["session"]), "lease": "", "pod": ""}
    labels |= {"command": row["command"], "transport": "shm", "mode": "fair"}
    for name, value in (
        ("orion_vgpu_memory_bytes", 3 << 20),
        ("orion_vgpu_memory_limit_bytes", 16 << 20),
        ("orion_vgpu_memory_promised_bytes", 16 << 20),
        ("orion_vgpu_share_ratio", 1),
        ("orion_vgpu_copied_bytes_total", 1000),
        ("orion_vgpu_calls_total", row["calls"]),
    ):
        (sample,) = got[name]
        assert sample.labels == labels
        assert sample.value == value, name
    assert 0 < got["orion_vgpu_busy_seconds_total"][0].value <= row["busy_seconds"]
    assert got["orion_device_memory_used_bytes"][0].value == 3 << 20
    assert got["orion_device_memory_bytes"][0].value == 64 << 20
    assert got["orion_server_up"][0].value == 1
    buckets = got["orion_vgpu_launch_latency_seconds_bucket"]
    assert buckets[-1].labels["le"] == "+Inf"
    assert [s.value for s in buckets] == sorted(s.value for s in buckets)


def test_series_of_a_container_carry_its_pod(server):
    uuid = server.status()["devices"][0]["uuid"]
    request = {"op": "allocate", "vgpus": {uuid: [3]}}
    row = query(server.address, request=request)["allocation"]
    labels = {"namespace": "ml", "pod": "train-0", "container": "main"}
    query(server.address, request={"op": "describe", "allocation": row["id"], "labels": labels})
    with RawClient(Path(row["directory"], "orion.sock")), RawClient(server.socket):
        got = scrape(server)
    for name in (
        "orion_vgpu_memory_bytes",
        "orion_vgpu_busy_seconds_total",
        "orion_vgpu_calls_total",
    ):
        assert sorted(s.labels["pod"] for s in got[name]) == ["", "train-0"]


def test_every_name_is_documented(server):
    with RawClient(server.socket):
        names = set(scrape(server))
    both = DOCS.read_text(encoding="utf-8").partition("The controller alone knows:")[0]
    documented = set(re.findall(r"`(orion_\w+)`", both))
    plain = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in names}
    assert plain == documented


def test_series_go_with_their_client(server):
    with RawClient(server.socket):
        assert len(scrape(server)["orion_vgpu_memory_bytes"]) == 1
    server.wait_idle()
    got = scrape(server)
    assert "orion_vgpu_memory_bytes" not in got
    assert got["orion_server_sessions_total"][0].value == 1


def test_metrics_process_that_is_killed_disturbs_nobody(server):
    scrape(server)
    with RawClient(server.socket) as client:
        (exporter,) = exporters_of(str(server.socket))
        os.kill(exporter, signal.SIGKILL)
        wait_for(lambda: server.status()["server"]["metrics"] is None, 5.0, "the loss is seen")
        assert client.call("orionDescribe")[0] == 0
    assert scrape(server)["orion_server_up"][0].value == 1  # there is another


def test_port_in_use_is_said_and_the_server_serves(make_server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = make_server("--device", "null", "--memory", "64M", "--metrics-port", str(port))
        wait_for(lambda: f"cannot listen on 127.0.0.1:{port}" in server.text(), 20.0, "a sentence")
        with RawClient(server.socket) as client:
            assert client.call("orionDescribe")[0] == 0


@pytest.mark.parametrize("port", ["70000", "much", "127.0.0.1:"])
def test_port_that_is_none_is_refused(port):
    done = subprocess.run(
        [sys.executable, "-m", "orion_server", "--metrics-port", port, "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "no whole number from 0 to 65535" in done.stderr
