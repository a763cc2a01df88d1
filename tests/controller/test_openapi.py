# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface against its own description, with what schemathesis makes up."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from controller_processes import ControllerProcess
from hypothesis import HealthCheck, given
from hypothesis.errors import Unsatisfiable
from hypothesis_settings import examples
from orion_controller.api import describe

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
