# SPDX-License-Identifier: Apache-2.0
"""Programs run on while all around the supervisor is replaced by another release, in whatever order, and while two
releases talk to each other."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from controller_processes import (
    ControllerProcess,
    HoldingProgram,
    live_servers,
    nothing_leased,
    wait_for,
)
from orion_controller.model import Client, Lease, Part
from orion_controller.store import dump_lease, load_lease
from orion_server_fixtures import Server, processes_of

HERE = Path(__file__).parent
MOUNTED = "/run/orion/orion.sock"
HEARTBEAT = HERE / "protocol" / "heartbeat-1.json"
PACKAGES = ("orion_server", "orion_controller")
NEXT = "9.9.9"

# What a later release might do differently, by file: the text as it is, and what it becomes.
CHANGES = {
    "orion_server/control.py": ('return metadata.version("orion-vgpu")', f'return "{NEXT}"'),
    "orion_server/agent.py": (
        '        "sequence": sequence,\n',
        '        "sequence": sequence, "news": {"of": ["a later release"]},\n',
    ),
    "orion_server/metrics.py": (
        "        yield families.is_up((), [((), True)])\n",
        "        yield families.is_up((), [((), True)])\n"
        '        yield families.GaugeMetricFamily("orion_news", "Of a later release", value=1)\n',
    ),
    "orion_server/wire.py": ("\nVERSION = 1\n", "\nVERSION = 2\n"),
}
# and the one after that, which does not know ours any more
LATER = {
    "orion_server/wire.py": (
        "\nVERSION = 1\nVERSION_MIN = 1\n",
        "\nVERSION = 3\nVERSION_MIN = 2\n",
    ),
}


def copy_of_the_code(folder: Path, changes: dict[str, tuple[str, str]]) -> Path:
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        shutil.copytree(
            Path(spec.origin).parent, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name, (before, after) in changes.items():
        text = (folder / name).read_text()
        assert text.count(before) == 1, f"{name} does not say {before!r} any more"
        (folder / name).write_text(text.replace(before, after))
    return folder


class Installation:
    """Where the programs find their code; an upgrade changes it under those that run."""

    def __init__(self, folder: Path) -> None:
        self.releases = {
            "this": copy_of_the_code(folder / "this", {}),
            "next": copy_of_the_code(folder / "next", CHANGES),
        }
        self.path = folder / "installed"
        self.use("this")

    def use(self, release: str) -> None:
        link = self.path.with_suffix(".new")
        link.symlink_to(self.releases[release])
        os.replace(link, self.path)


def kill_all(module: str, server: Server) -> None:
    """Those beside this server that run the module; it starts them anew from what is installed now."""
    found = []
    for pid in processes_of(str(server.socket)):
        if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(pid)
            os.kill(pid, signal.SIGKILL)
    assert len(found) == 1


def metrics_of(server: Server) -> str:
    address = server.status()["server"]["metrics"]
    if address is None:
        return ""
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def version_of(controller: ControllerProcess) -> str:
    return str(controller.ask("GET", "/v1/info")[1]["version"])


def is_served(program: HoldingProgram, controller: ControllerProcess, lease: str) -> bool:
    assert program.do("info")["result"] == 0
    known = [c for c in controller.overview()["clients"] if c["pid"] == program.process.pid]
    return [c["lease"] for c in known] == [lease]


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")
@pytest.mark.parametrize("first", ["servers", "controller"])
def test_a_program_does_not_notice_an_upgrade_and_its_way_back(tmp_path, libcuda, first) -> None:
    installation = Installation(tmp_path)
    path = {"PYTHONPATH": str(installation.path)}
    controller = ControllerProcess(tmp_path / "controller", **path)
    server = Server(
        tmp_path / "server", "--device", "null", "--memory", "256M", "--vgpu", "2",
        "--metrics-port", "0", ORION_CONTROLLER=controller.address, **path,
    )  # fmt: skip
    programs = []
    try:
        wait_for(lambda: live_servers(controller), "the server is known")
        programs.append(HoldingProgram(libcuda, ORION_CONTROLLER=controller.address))
        assert programs[0].ready()["result"] == 0
        wait_for(lambda: controller.overview()["clients"], "the program is known")
        lease = controller.overview()["clients"][0]["lease"]
        session = server.status()["clients"][0]["session"]

        def replace_servers() -> None:
            kill_all("orion_server.agent", server)
            kill_all("orion_server.metrics", server)

        def replace_controller() -> None:
            controller.kill()
            controller.start()

        steps = [replace_servers, replace_controller]
        for release in ("next", "this"):  # and back: a release that disappoints
            installation.use(release)
            for step in steps if first == "servers" else steps[::-1]:
                step()
                wait_for(lambda: live_servers(controller), f"{release}: heartbeats are taken", 30.0)
                wait_for(
                    lambda: is_served(programs[0], controller, lease),
                    f"{release}: the controller knows the program by its lease",
                )
                programs.append(HoldingProgram(libcuda, ORION_CONTROLLER=controller.address))
                assert programs[-1].ready()["result"] == 0, "there is room for one more"
                programs.pop().finish()
            is_next = release == "next"
            wait_for(
                lambda is_next=is_next: (
                    (text := metrics_of(server)) and ("orion_news" in text) == is_next
                ),
                f"{release}: the exporter",
                30.0,
            )
            assert (version_of(controller) == NEXT) == is_next
        (row,) = server.status()["clients"]
        assert row["session"] == session
        assert programs.pop().finish() == "", "nothing was noticed"
        wait_for(lambda: nothing_leased(controller), "all is free")
        assert "the controller at" in server.text()  # it was away, or is there again
        assert f"{controller.address} refused" not in server.text(), "it takes what it is told"
    finally:
        for program in programs:
            program.kill()
        server.stop()
        controller.stop()


def served_by(release: Path, folder: Path, libcuda: Path) -> tuple[dict[str, Any], str]:
    """This release's libcuda.so.1 with another one's controller and server: what the program got, and its stderr."""
    path = {"PYTHONPATH": str(release)}
    controller = ControllerProcess(folder / "controller", **path)
    server = Server(
        folder / "server", "--device", "null", "--memory", "64M",
        ORION_CONTROLLER=controller.address, **path,
    )  # fmt: skip
    try:
        wait_for(lambda: live_servers(controller), "the server is known")
        found = []
        for through in ({"ORION_CONTROLLER": controller.address}, {"ORION_SERVER": server.address}):
            program = HoldingProgram(libcuda, **through)
            found.append((program.ready(), program.finish()))
        assert found[0][0]["result"] == found[1][0]["result"]
        return found[0][0], "".join(said for _, said in found)
    finally:
        server.stop()
        controller.stop()


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")
def test_program_of_this_release_is_served_by_the_next(tmp_path, libcuda) -> None:
    release = copy_of_the_code(tmp_path / "next", CHANGES)
    got, said = served_by(release, tmp_path, libcuda)
    assert (got["result"], said) == (0, "")


@pytest.mark.skipif(os.path.exists(MOUNTED), reason=f"{MOUNTED} exists here")
def test_program_of_this_release_is_told_by_the_one_after_next_what_to_do(
    tmp_path, libcuda
) -> None:
    release = copy_of_the_code(tmp_path / "later", LATER)
    got, said = served_by(release, tmp_path, libcuda)
    assert got["result"] != 0
    assert said.count("speaks protocol version 3, this side 1 to 1; install matching releases") == 2


# --- what servers of other releases say


def told(controller: ControllerProcess, beat: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    return controller.ask("PUT", "/v1/servers/other", beat)


def test_heartbeat_of_version_1_is_understood(controller) -> None:
    """As it was sent when it was committed: never to be changed, only to be joined by the next one."""
    beat = json.loads(HEARTBEAT.read_text())
    status, answer = told(controller, beat)
    assert status == 200, answer
    assert {"interval", "key", "end", "limits"} <= set(answer), "what its agent wants to hear"
    now = controller.overview()
    (server,) = now["servers"]
    assert (server["version"], server["local"]) == (beat["version"], beat["local"])
    (device,) = now["devices"]
    assert (device["uuid"], device["memory"]) == (beat["devices"][0]["uuid"], 256 << 20)
    (client,) = now["clients"]
    assert (client["command"], client["calls"]) == ("python3", beat["sessions"][0]["calls"])
    assert client["lease"] == beat["sessions"][0]["lease"]


def test_heartbeat_of_a_later_release_is_understood(controller) -> None:
    """It has more to say, everywhere."""
    beat = json.loads(HEARTBEAT.read_text())
    news = {"news": [1, {"of": "a later release"}]}
    for part in (beat, *beat["devices"], *beat["sessions"], *beat["ended"]):
        part |= news
    status, answer = told(controller, beat)
    assert status == 200, answer
    assert len(controller.overview()["clients"]) == 1


def test_heartbeat_with_the_least_that_was_ever_wanted_is_understood(controller) -> None:
    beat = json.loads(HEARTBEAT.read_text())
    least = {k: beat[k] for k in ("boot", "epoch", "sequence", "clock")}
    wanted = ("index", "name", "uuid", "kind", "memory", "vgpus")
    least["devices"] = [{k: d[k] for k in wanted} for d in beat["devices"]]
    least["sessions"] = [{"session": s["session"]} for s in beat["sessions"]]
    status, answer = told(controller, least)
    assert status == 200, answer


def test_whole_numbers_may_come_with_a_decimal_point(controller) -> None:
    """As JSON has it, in lists, too."""
    beat = json.loads(HEARTBEAT.read_text())
    beat["devices"][0]["vgpus"] = 4.0
    beat["sessions"][0]["launch_latency"] = {"buckets": [1.0, 2, 0.0]}
    status, answer = told(controller, beat)
    assert status == 200, answer
    beat["sequence"] += 1
    beat["sessions"][0]["launch_latency"] = {"buckets": [1.5]}
    status, answer = told(controller, beat)
    assert (status, answer["kind"]) == (422, "invalid")


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("devices", {"memory": "much"}),
        ("devices", {"vgpus": -1}),
        ("sessions", {"session": None}),
        ("sessions", {"lease": "../../etc"}),
        ("ended", {"part": 256}),
        ("", {"boot": ""}),
        ("", {"epoch": 1.5}),
        ("", {"devices": {}}),
    ],
)
def test_heartbeat_that_is_nonsense_is_refused(controller, where, wrong) -> None:
    beat = json.loads(HEARTBEAT.read_text())
    (beat[where][0] if where else beat).update(wrong)
    status, answer = told(controller, beat)
    assert (status, answer["kind"]) == (422, "invalid")
    assert not controller.overview()["servers"]


def test_what_a_client_asks_for_is_refused_where_it_says_more(controller) -> None:
    """It may be a wish that matters."""
    status, answer = controller.ask("POST", "/v1/leases", {"gmem_mib": 1, "colour": "red"})
    assert (status, answer["kind"]) == (422, "invalid")
    assert "colour" in answer["reason"]


def test_database_of_a_later_release_is_read() -> None:
    """By an earlier one, to which one goes back: what it has no place for is not damage."""
    part = Part(5, 0, "a", 0, 1 << 20, 50, 100.0)
    lease = Lease(5, False, Client("program", 1), {0: part}, granted=10.0)
    document: dict[str, Any] = dump_lease(lease, 10.0)
    for row in (document, document["client"], *document["parts"]):
        row["news"] = "of a later release"
    assert load_lease(document, 10.0) == lease
