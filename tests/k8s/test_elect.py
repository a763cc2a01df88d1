# SPDX-License-Identifier: Apache-2.0
"""One leader at a time, always one after a while: the rules under a made-up clock, and real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_settings import examples
from orion_elect import endpoint
from orion_elect.api import Api, ApiError, Conflict
from orion_elect.election import Election
from orion_server_fixtures import wait_for

LEASES = "/apis/coordination.k8s.io/v1/namespaces/ns/leases"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices"


class Objects:
    """What an API server keeps, with its rule that an update names the newest version."""

    def __init__(self) -> None:
        self.all: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.down = False
        self.lock = threading.Lock()

    def get(self, path: str, name: str) -> dict[str, Any] | None:
        self._check()
        return deepcopy(self.all.get(f"{path}/{name}"))

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._check()
        with self.lock:
            key = f"{path}/{body['metadata']['name']}"
            if key in self.all:
                raise Conflict("already exists")
            return self._keep(key, body)

    def update(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._check()
        with self.lock:
            key = f"{path}/{body['metadata']['name']}"
            newest = self.all[key]["metadata"]["resourceVersion"]
            if body["metadata"].get("resourceVersion") != newest:
                raise Conflict("the object has been modified")
            return self._keep(key, body)

    def _keep(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        body = deepcopy(body)
        body["metadata"]["resourceVersion"] = str(self.version)
        self.all[key] = body
        return deepcopy(body)

    def _check(self) -> None:
        if self.down:
            raise ApiError("no answer")


class Candidate:
    def __init__(self, objects: Objects, name: str, offset: float, now: list[float]) -> None:
        self.api = Reach(objects)
        clock = lambda: now[0] + offset  # noqa: E731 - each machine counts from another zero
        self.election = Election(self.api, "ns", "it", name, 15.0, clock)  # type: ignore[arg-type]


class Reach:
    """One candidate's way to the objects, which may be cut."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.cut = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self.cut:
                raise ApiError("cut off")
            return getattr(self.objects, name)(*arguments)

        return call


events = st.lists(
    st.tuples(
        st.sampled_from(["turn", "turn", "turn", "cut", "mend", "wait", "release"]),
        st.integers(0, 2),
        st.floats(0.01, 6.0),
    ),
    max_size=120,
)


@examples(150)
@given(events)
def test_there_are_never_two_leaders(happenings: list[tuple[str, int, float]]) -> None:
    now, objects = [1000.0], Objects()
    all_ = [Candidate(objects, f"c{i}", i * 1e6, now) for i in range(3)]
    for what, who, seconds in happenings:
        one = all_[who]
        if what == "turn":
            one.election.turn()
        elif what == "wait":
            now[0] += seconds
        elif what == "release":
            one.election.release()
        else:
            one.api.cut = what == "cut"
        assert sum(c.election.leads for c in all_) <= 1


def test_another_one_leads_after_the_lease_has_run_out() -> None:
    now, objects = [0.0], Objects()
    first, second = (Candidate(objects, name, 0.0, now) for name in ("a", "b"))
    first.election.turn()
    second.election.turn()
    assert (first.election.leads, second.election.leads) == (True, False)
    first.api.cut = True
    for _ in range(10):
        now[0] += 2.0
        second.election.turn()
    assert (first.election.leads, second.election.leads) == (False, True)
    assert objects.all[f"{LEASES}/it"]["spec"]["leaseTransitions"] == 2


def test_lease_that_is_given_back_is_taken_at_once() -> None:
    now, objects = [0.0], Objects()
    first, second = (Candidate(objects, name, 0.0, now) for name in ("a", "b"))
    first.election.turn()
    second.election.turn()
    first.election.release()
    second.election.turn()
    assert (first.election.leads, second.election.leads) == (False, True)


@pytest.mark.parametrize(
    "lease", [{}, {"metadata": {}}, {"spec": None, "metadata": {}}, {"spec": []}]
)
def test_strange_lease_makes_nobody_leader(lease: dict[str, Any]) -> None:
    objects = Objects()
    objects.all[f"{LEASES}/it"] = lease
    one = Candidate(objects, "a", 0.0, [0.0])
    one.election.turn()
    assert not one.election.leads


# --- real processes before an API server over HTTP


class Handler(BaseHTTPRequestHandler):
    objects: Objects
    forbid = False

    def _serve(self) -> None:
        path, _, name = self.path.rpartition("/")
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else {}
        status, answer = 200, {}
        try:
            if self.headers["Authorization"] != "Bearer secret":
                status, answer = 401, {"message": "who are you?"}
            elif Handler.forbid:
                status, answer = 403, {"message": "leases is forbidden"}
            elif self.command == "GET":
                found = self.objects.get(path, name)
                status, answer = (200, found) if found is not None else (404, {})
            elif self.command == "POST":
                answer = self.objects.create(self.path, body)
            else:
                answer = self.objects.update(path, body)
        except Conflict as e:
            status, answer = 409, {"message": str(e)}
        except ApiError:
            return  # hangs up without an answer
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - the names of http.server

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def objects() -> Iterator[tuple[Objects, str]]:
    Handler.objects, Handler.forbid = Objects(), False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Handler.objects, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Pod:
    """orion-elect with a program that listens, at an address of its own."""

    PROGRAM = (
        "import socket, sys, time\n"
        "s = socket.create_server((sys.argv[1], int(sys.argv[2])))\n"
        "time.sleep(600)\n"
    )

    def __init__(self, number: int, url: str, folder: Path) -> None:
        (folder / "token").write_text("secret\n")
        self.name, self.address = f"pod-{number}", f"127.0.0.{10 + number}"
        with socket.create_server((self.address, 0)) as probe:
            self.port = probe.getsockname()[1]
        self.log = folder / f"{self.name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [
                    Path(sys.executable).with_name("orion-elect"),
                    *("--lease", "it", "--service", "svc", "--port", str(self.port)),
                    *("--api", url, "--account", str(folder), "--seconds", "3"),
                    *("--", sys.executable, "-c", self.PROGRAM, self.address, str(self.port)),
                ],
                env={
                    **os.environ,
                    "POD_NAME": self.name,
                    "POD_IP": self.address,
                    "POD_NAMESPACE": "ns",
                },
                stderr=log,
            )

    def listens(self) -> bool:
        try:
            socket.create_connection((self.address, self.port), 0.2).close()
        except OSError:
            return False
        return True

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


@pytest.fixture
def pods(objects: tuple[Objects, str], tmp_path: Path) -> Iterator[list[Pod]]:
    made: list[Pod] = []
    made.append(Pod(0, objects[1], tmp_path))
    wait_for(lambda: serving(objects[0]) == made[0].address, 20.0, "the first to lead")
    made.append(Pod(1, objects[1], tmp_path))
    yield made
    for pod in made:
        pod.end()


def serving(objects: Objects) -> str | None:
    """Where the Service leads."""
    found = objects.all.get(f"{SLICES}/svc")
    return None if found is None else str(found["endpoints"][0]["addresses"][0])


def test_service_leads_to_the_one_that_runs_the_program(
    objects: tuple[Objects, str], pods: list[Pod]
) -> None:
    first, second = pods
    assert first.listens()
    assert not second.listens()
    slice_ = objects[0].all[f"{SLICES}/svc"]
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == "svc"
    assert slice_["ports"] == [{"name": "http", "port": first.port, "protocol": "TCP"}]


def test_orderly_end_hands_over_at_once(objects: tuple[Objects, str], pods: list[Pod]) -> None:
    first, second = pods
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(10) == 0
    assert not first.listens()
    wait_for(lambda: serving(objects[0]) == second.address, 10.0, "the second to serve")
    assert second.listens()


def test_killed_leader_is_followed(objects: tuple[Objects, str], pods: list[Pod]) -> None:
    first, second = pods
    first.process.kill()
    first.process.wait()
    wait_for(lambda: not first.listens(), 5.0, "the end of its program")
    wait_for(lambda: serving(objects[0]) == second.address, 20.0, "the second to serve")


def test_leader_without_an_api_server_stops_its_program(
    objects: tuple[Objects, str], pods: list[Pod]
) -> None:
    objects[0].down = True
    assert pods[0].process.wait(15) == 1
    assert not pods[0].listens()
    assert "could not be renewed" in pods[0].log.read_text()
    assert pods[1].process.poll() is None


def test_missing_rights_are_said(objects: tuple[Objects, str], tmp_path: Path) -> None:
    Handler.forbid = True
    pod = Pod(3, objects[1], tmp_path)
    try:
        wait_for(lambda: "leases is forbidden" in pod.log.read_text(), 10.0, "the complaint")
        assert not pod.listens()
    finally:
        pod.end()


def test_endpoint_of_ipv6_is_one(objects: tuple[Objects, str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    endpoint.point(Api(objects[1], tmp_path), "ns", "six", "fd00::7", 9123)
    assert objects[0].all[f"{SLICES}/six"]["addressType"] == "IPv6"
