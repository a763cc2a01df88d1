# SPDX-License-Identifier: Apache-2.0
"""Servers and controller say the same by the same names, and Grafana asks for what is there."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from controller_processes import HoldingProgram, wait_for
from orion_raw_client import RawClient

parser = pytest.importorskip("prometheus_client.parser", reason="metrics need prometheus-client")

Samples = dict[str, list[Any]]  # by the name of the series
ONLY_CONTROLLER = ("orion_controller_", "orion_server_heartbeat_")
MOVING = ("_busy_seconds_total", "_calls_total", "_created", "_uptime_seconds")


def scrape(address: str) -> tuple[Samples, set[str]]:
    """Samples, and the names of the families."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    samples: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples, set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def plain(labels: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in labels.items() if k != "server"}


@pytest.fixture
def both(controller, make_server, libcuda):
    """A program with a lease and one without, seen by the server's exporter and by the controller."""
    server = make_server(controller, "--metrics-port", "0")
    program = HoldingProgram(libcuda, ORION_CONTROLLER=controller.address)
    assert program.ready()["result"] == 0, program.finish()
    assert program.do("alloc 4194304")["result"] == 0
    with RawClient(server.socket, command="raw") as client:
        client.alloc(1 << 20)

        def known() -> bool:
            clients = controller.overview()["clients"]
            return sorted(c["memory_used"] for c in clients) == [1 << 20, 4 << 20]

        wait_for(known, "both programs are reported with their memory")
        wait_for(lambda: server.status()["server"]["metrics"], "the exporter listens")
        yield scrape(server.status()["server"]["metrics"]), scrape(controller.address)
    program.finish()


def test_controller_says_what_the_servers_say_by_the_same_names(both) -> None:
    (at_server, server_families), (at_controller, controller_families) = both
    assert server_families <= controller_families
    own = {f for f in controller_families - server_families if not f.startswith(ONLY_CONTROLLER)}
    assert own == {
        "orion_device_memory_leased_bytes",
        "orion_device_vgpus_leased",
        "orion_device_ratio_leased_percent",
    }, "leases are the controller's"
    for name, samples in at_server.items():
        here = {json.dumps(plain(s.labels), sort_keys=True): s.value for s in samples}
        there = {json.dumps(plain(s.labels), sort_keys=True): s.value for s in at_controller[name]}
        assert here.keys() == there.keys(), name
        assert all("server" in s.labels for s in at_controller[name]), name
        if not name.endswith(MOVING):
            assert here == there, name


def test_series_tell_leased_programs_from_others(both) -> None:
    for samples, _ in both:
        rows = {s.labels["command"]: s for s in samples["orion_vgpu_memory_bytes"]}
        assert rows["raw"].labels["lease"] == ""
        (leased,) = (rows[command] for command in rows.keys() - {"raw"})
        assert re.fullmatch("[0-9a-f]{16}", leased.labels["lease"])
        assert leased.labels["transport"] == "shm"
        assert leased.value == 4 << 20
        assert "orion_vgpu_launch_latency_seconds_bucket" in samples


def test_every_name_of_the_controller_is_documented(both, root: Path) -> None:
    text = (root / "docs/metrics.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(orion_\w+)`", text))
    (_, _), (samples, families) = both
    counters = {f for f in families if f"{f}_total" in documented}
    assert families - counters <= documented
    series = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in samples}
    assert series <= documented
    unknown = documented - series - families
    assert unknown == set(), "all that is documented is there"


def test_the_grafana_dashboard_asks_for_series_that_exist(both, root: Path) -> None:
    (_, _), (samples, families) = both
    board = json.loads((root / "packaging/grafana/orion.json").read_text())
    queries = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    queries += [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    asked = {name for query in queries for name in re.findall(r"\borion_\w+", query)}
    assert len(asked) > 10
    assert asked <= set(samples) | families, "a family without a sample has no series yet"
    labels = {name: set().union(*(s.labels for s in found)) for name, found in samples.items()}
    for query in queries:
        for name in re.findall(r"\borion_\w+", query):
            for group in re.findall(r"by \(([^)]*)\)", query):
                wanted = {label.strip() for label in group.split(",")}
                assert name not in labels or wanted <= labels[name], query
