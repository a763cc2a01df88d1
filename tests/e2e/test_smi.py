# SPDX-License-Identifier: Apache-2.0
"""`orion smi` sees what runs, and says it in the documented form."""

from __future__ import annotations

import json
from importlib import resources

import jsonschema
import pytest
from e2e_support import ORION, Build, OrionRun, Server, run, wait_until


def schema() -> dict[str, object]:
    """The installed JSON Schema."""
    text = resources.files("orion_shm.cli").joinpath("smi.schema.json").read_text()
    loaded: dict[str, object] = json.loads(text)
    return loaded


def test_smi_names_the_client_while_it_runs(build: Build, server: Server) -> None:
    program = server.start(build("faults"), "wait", ORION_GMEM="256")
    program.expect("ready")
    client = server.client_of(program.pid)
    assert "faults" in client["command"]
    assert client["worker_pid"] not in (program.pid, server.program.pid)
    assert client["memory_used"] >= 1 << 20
    assert client["memory_limit"] == 256 << 20
    assert client["kernels"] == 1
    assert client["calls"] >= 3
    assert client["transport"] == "shm"
    program.say("go on")
    code, out, error = program.finish()
    assert code == 0, out + error
    wait_until(lambda: server.clients() == [], "the client to disappear", 5.0)


def test_json_follows_its_schema(build: Build, server: Server) -> None:
    program = server.start(build("faults"), "wait")
    program.expect("ready")
    answer = server.smi()
    jsonschema.validate(answer, schema())
    assert [device["clients"] for device in answer["devices"]] == [1]
    program.say("go on")
    assert program.finish()[0] == 0
    jsonschema.validate(server.smi(), schema())


def test_table_for_people(build: Build, server: Server) -> None:
    program = server.start(build("faults"), "wait")
    program.expect("ready")
    done = run([ORION, "smi"], server.environment)
    assert done.code == 0, done.said()
    assert "Orion CPU device" in done.out
    assert str(program.pid) in done.out
    program.say("go on")
    assert program.finish()[0] == 0
    assert "No program uses" in run([ORION, "smi"], server.environment).out


def test_private_server_of_orion_run_is_found(
    orion_run: OrionRun, environment: dict[str, str]
) -> None:
    """smi needs no address: it knows where this user's private servers listen."""
    done = orion_run("env", "-u", "ORION_SERVER", ORION, "smi", "--json")
    assert done.code == 0, done.said()
    answer = json.loads(done.out)
    jsonschema.validate(answer, schema())
    assert len(answer["servers"]) >= 1


@pytest.mark.parametrize("command", ["smi", "check"])
def test_names_that_others_know_are_the_same_commands(server: Server, command: str) -> None:
    alias = ORION.with_name(f"orion-{command}")
    one, other = (run([*c], server.environment) for c in ((ORION, command), (alias,)))
    assert one.code == other.code, other.said()

    def kinds(text: str) -> list[str]:
        """What each line is about: numbers may have moved."""
        return [line.split()[0] for line in text.splitlines() if line.strip()]

    assert len(kinds(one.out)) > 2
    assert kinds(one.out) == kinds(other.out)
