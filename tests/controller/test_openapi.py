# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface against its own description, with what schemathesis makes up."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from controller_fakes import FakeServer
from controller_processes import ControllerProcess
from hypothesis import HealthCheck, given
from hypothesis.errors import Unsatisfiable
from hypothesis_settings import examples
from orion_controller.api import describe
from orion_controller.ledger import Orders
from test_api import heartbeat, register

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

KEY = "the-administrators-key"


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerProcess]:
    running = ControllerProcess(
        tmp_path_factory.mktemp("controller"),
        "--wait-most",
        "0.05",
        ORION_CLIENT_KEY="the-clients-key",
        ORION_SERVER_KEY="the-servers-key",
        ORION_ADMINISTRATOR_KEY=KEY,
    )
    yield running
    assert running.is_live()
    assert running.stop() == 0
    assert "Traceback" not in running.text()


@pytest.fixture(scope="module")
def described(controller: ControllerProcess):
    return schemathesis.openapi.from_url(f"http://{controller.address}/openapi.json")


def patterns(node: object) -> Iterator[str]:
    """Every pattern in a description, wherever it stands."""
    if isinstance(node, dict):
        if isinstance(pattern := node.get("pattern"), str):
            yield pattern
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from patterns(child)


def test_every_pattern_means_the_same_in_every_language() -> None:
    """\\s holds U+0085 in Python and Rust, but not in ECMAScript, which OpenAPI names."""
    found = set(patterns(describe()))
    assert len(found) >= 4
    assert not [p for p in found if re.search(r"\\[sSdDwWbBpP]", p)]


OPERATIONS = [(m.upper(), p) for p, methods in describe()["paths"].items() for m in methods]


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[" ".join(o) for o in OPERATIONS])
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_the_interface_is_as_it_is_described(described, method, path, mode) -> None:
    operation = described[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @examples(30, suppress_health_check=list(HealthCheck))
    def call(case) -> None:
        case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"})

    try:
        call()
    except Unsatisfiable:
        assert mode is schemathesis.GenerationMode.NEGATIVE, "nothing to ask for"


@contextmanager
def large_server(controller: ControllerProcess) -> Iterator[None]:
    """Whatever the description allows to be asked for, it has; it obeys within a tenth of a second."""
    server = FakeServer("large", time.monotonic, slots=64, memory=1 << 50, devices=64)
    register(controller, server, KEY)
    enough = threading.Event()

    def beat() -> None:
        while not enough.wait(0.1):
            answer = controller.ask("PUT", "/v1/servers/large", heartbeat(server), KEY)[1]
            parts = [(int(part["lease"], 16), part["part"]) for part in answer.get("end", [])]
            server.obey(Orders(end=parts))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
        assert controller.ask("DELETE", "/v1/servers/large", key=KEY)[0] == 200


DONE = {"look_at_lease": 200, "renew_lease": 200, "resize_lease": 200, "release_lease": 202}


def test_links_lead_from_a_taken_lease_to_all_that_can_be_done_with_it() -> None:
    document = describe()
    links = document["paths"]["/v1/leases"]["post"]["responses"]["201"]["links"]
    of_lease = {
        operation["operationId"]
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if "{lease_id}" in path
    }
    assert {link["operationId"] for link in links.values()} == of_lease == set(DONE)


@pytest.mark.parametrize("name", DONE)
def test_what_is_done_with_a_taken_lease_succeeds_as_it_is_described(
    controller, described, name
) -> None:
    """Made-up leases are never found; here each request is about one that was just taken."""
    operation = described.find_operation_by_id(name)
    seen: Counter[int] = Counter()

    @given(case=operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE))
    @examples(20, suppress_health_check=list(HealthCheck))
    def call(case) -> None:
        status, taken = controller.ask("POST", "/v1/leases", {}, KEY)
        assert status == 201, taken
        lease = f"/v1/leases/{taken['lease']['id']}"
        case.path_parameters = {"lease_id": taken["lease"]["id"]}
        headers = {"Authorization": f"Bearer {taken['lease_key']}"}
        if name == "look_at_lease":  # that is not the holder's alone
            headers = {"Authorization": f"Bearer {KEY}"}
        seen[case.call_and_validate(headers=headers).status_code] += 1
        controller.ask("DELETE", lease, key=KEY)

    with large_server(controller):
        call()
    assert seen[DONE[name]] > 0, seen


def test_what_is_no_key_of_this_lease_is_refused_and_logged(controller) -> None:
    """Made up, another lease's, cut short, of a lease that has ended."""
    with large_server(controller):
        one, two = (controller.ask("POST", "/v1/leases", {}, KEY)[1] for _ in range(2))
        path = f"/v1/leases/{one['lease']['id']}"
        keys = {"0" * 64: 401, two["lease_key"]: 401, one["lease_key"][:-1]: 401, "": 401}
        for key, status in keys.items():
            assert controller.ask("POST", f"{path}/renew", {}, key)[0] == status
        assert controller.ask("DELETE", path, key=one["lease_key"])[0] == 202
        for _ in range(2):  # while it ends
            status, answer = controller.ask("POST", f"{path}/renew", {}, one["lease_key"])
            assert (status, answer["kind"]) in ((409, "stale"), (404, "stale")), answer
    refused = [e for e in controller.events() if e.get("path") == f"{path}/renew"]
    assert len(refused) == len(keys) + 2
    assert all(e["event"] == "request refused" and e["reason"] for e in refused)
    assert not [key for key in (one["lease_key"], two["lease_key"]) if key in controller.text()]
