# SPDX-License-Identifier: Apache-2.0
"""The process beside the supervisor that talks to the controller, and the orders that it carries out."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from orion_raw_client import RawClient, Refused
from orion_server import lease_tokens
from orion_server.agent import Agent, Away, Controller, report_of
from orion_server.errors import OrionServerError
from orion_server.lease_tokens import LeaseTokens, Terms, decode_id, encode_id, make_token
from orion_server.status import query
from orion_server_fixtures import wait_for

KEY = b"k" * 32
MIB = 1 << 20
STATUS: dict[str, Any] = {"server": {"key_id": ""}}


class FakeController:
    """Takes heartbeats, and answers what the test wants it to."""

    def __init__(self) -> None:
        self.beats: list[dict[str, Any]] = []
        self.gone: list[str] = []
        self.answer: dict[str, Any] = {
            "interval": 0.2,
            "key": KEY.hex(),
            "end": [],
            "limits": [],
        }
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                fake.beats.append(json.loads(body))
                self._send(fake.answer)

            def do_DELETE(self) -> None:
                fake.gone.append(self.path)
                self._send({})

            def _send(self, document: Any) -> None:
                data = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def controller() -> Iterator[FakeController]:
    fake = FakeController()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def terms(**changes: Any) -> Terms:
    expires = int(time.monotonic()) + 60
    return Terms(**{"lease": 7, "part": 0, "device": 0, "memory": 32 * MIB, "ratio": 50,
                     "expires": expires, "held": False, **changes})  # fmt: skip


@pytest.fixture
def server(make_server, controller):
    started = make_server(
        "--device",
        "null",
        "--memory",
        "128M",
        "--require-token",
        ORION_CONTROLLER=controller.address,
    )
    wait_for(lambda: len(controller.beats) > 1, 10.0, "heartbeats")
    return started


def test_a_heartbeat_says_everything(server, controller):
    with RawClient(server.socket, token=make_token(KEY, terms())) as client:
        wait_for(lambda: bool(controller.beats[-1]["sessions"]), 5.0, "the session is reported")
        session = controller.beats[-1]["sessions"][0]
        assert (session["lease"], session["memory_limit"]) == (f"{7:016x}", 32 * MIB)
        assert client.welcome.memory_limit == 32 * MIB
    wait_for(lambda: bool(controller.beats[-1]["ended"]), 5.0, "its end is reported")
    assert controller.beats[-1]["ended"] == [{"lease": f"{7:016x}", "part": 0}]
    assert not controller.beats[-1]["sessions"]
    sequences = [b["sequence"] for b in controller.beats]
    assert sequences == sorted(set(sequences))


def test_that_the_key_has_arrived_is_reported_at_once(make_server, controller):
    """Before that no lease may be granted here: its token would be refused."""
    controller.answer["interval"] = 60.0
    make_server("--device", "null", ORION_CONTROLLER=controller.address)
    wait_for(lambda: len(controller.beats) == 2, 10.0, "two heartbeats")
    assert [b["key_id"] for b in controller.beats] == ["", lease_tokens.key_id(KEY)]


def test_a_new_session_is_reported_at_once(server, controller):
    controller.answer["interval"] = 30.0
    wait_for(lambda: controller.beats[-1]["sequence"] > 0, 5.0, "one more heartbeat")
    begun = time.monotonic()
    with RawClient(server.socket, token=make_token(KEY, terms())):
        wait_for(lambda: bool(controller.beats[-1]["sessions"]), 5.0, "the session is reported")
    assert time.monotonic() - begun < 5.0


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"expires": 1}, KEY),
        ({}, b"x" * 32),
        ({"lease": 8}, None),
    ],
)
def test_an_expired_or_forged_token_is_refused(server, changes, key):
    token = make_token(key or KEY, terms(**changes))
    if key is None:  # the secret of one lease with the ID of another
        token = encode_id(terms(memory=64 * MIB)) + "." + token.partition(".")[2]
    with pytest.raises(Refused, match="check ORION_TOKEN"):
        RawClient(server.socket, token=token)


def test_a_token_is_for_one_session(server):
    token = make_token(KEY, terms())
    first = RawClient(server.socket, token=token)
    with pytest.raises(Refused, match="another program uses its lease"):
        RawClient(server.socket, token=token)
    first.close()
    server.wait_idle()
    with pytest.raises(Refused):
        RawClient(server.socket, token=token)
    assert "its lease has ended, or it was used before" in server.text()


def test_a_held_token_is_for_one_session_after_another(server):
    token = make_token(KEY, terms(held=True))
    for _ in range(3):
        RawClient(server.socket, token=token).close()
        server.wait_idle()


def test_an_order_ends_a_session_for_good(server, controller):
    token = make_token(KEY, terms(held=True))
    client = RawClient(server.socket, token=token)
    controller.answer["end"] = [{"lease": f"{7:016x}", "part": 0}]
    assert "taken back by the controller" in str(client.await_end())
    client.close()
    controller.answer["end"] = []
    with pytest.raises(Refused):
        RawClient(server.socket, token=token)


def test_the_agent_comes_back_when_it_dies_and_clients_go_on(server, controller):
    import os
    import signal

    from orion_server_fixtures import processes_of

    with RawClient(server.socket, token=make_token(KEY, terms())) as client:
        agents = [p for p in processes_of(str(server.socket)) if _is_agent(p)]
        assert len(agents) == 1
        os.kill(agents[0], signal.SIGKILL)
        before = len(controller.beats)
        wait_for(lambda: len(controller.beats) > before + 1, 10.0, "a new agent's heartbeats")
        assert controller.beats[-1]["sessions"][0]["lease"] == f"{7:016x}"
        assert client.call("orionDescribe")[0] == 0


def _is_agent(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"orion_server.agent" in file.read()


def test_the_server_says_goodbye(server, controller):
    server.stop()
    wait_for(lambda: bool(controller.gone), 5.0, "its goodbye")
    assert not server.processes()


def test_without_a_controller_a_server_serves_all_the_same(make_server):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    server = make_server(
        "--device", "null", "--memory", "64M", ORION_CONTROLLER=f"127.0.0.1:{port}"
    )
    with RawClient(server.socket) as client:
        assert client.call("orionDescribe")[0] == 0
    wait_for(lambda: "cannot be reached" in server.text(), 10.0, "the log says so")


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "token_key"},
        {"op": "token_key", "key": "zz"},
        {"op": "token_key", "key": "ab" * 31},
        {"op": "revoke"},
        {"op": "revoke", "lease": "xyz", "part": 0},
        {"op": "revoke", "lease": "7", "part": None},
    ],
)
def test_orders_that_are_none_are_refused(null_server, request_):
    with pytest.raises(OrionServerError, match="says:"):
        query(null_server.address, request=request_)


def test_the_ids_of_tokens_survive_and_others_are_none():
    token = terms(lease=(1 << 63) + 5, memory=3 << 40, device=9, part=3, ratio=100, held=True)
    assert decode_id(encode_id(token)) == token
    for wrong in ("", "x" * 28, "me", encode_id(token)[:-1], encode_id(token) + "A", "ä" * 28):
        assert decode_id(wrong) is None


def test_revoked_tokens_stay_worthless_and_expired_ones_are_forgotten():
    now = [100.0]
    tokens = LeaseTokens(lambda: now[0])
    assert tokens.find(encode_id(terms(expires=200))) is None, "no key yet"
    tokens.set_key(KEY)
    token = encode_id(terms(expires=200))
    assert tokens.find(token) is not None
    assert tokens.begin(token) is None
    tokens.finish(token, used=False)
    assert tokens.begin(token) is None, "a try on a transport that did not work does not count"
    tokens.finish(token, used=True)
    assert tokens.ended() == [(7, 0)]
    assert tokens.find(token) is None
    now[0] = 201.0
    assert tokens.ended() == []
    assert tokens.find(token) is None, "it has expired"
    tokens.revoke(9, 1)
    now[0] += lease_tokens.LIFE_MOST - 2
    assert tokens.ended() == [(9, 1)]


@pytest.mark.parametrize("address", ["ftp://x:1", "x:y", "http://", "https://x:1/path"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(OrionServerError):
        Controller(address, "")


def test_what_answers_has_to_be_a_controller():
    def nonsense(listener: socket.socket) -> None:
        with listener.accept()[0] as line:
            line.recv(1000)
            line.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=nonsense, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        with pytest.raises(Away, match="no Orion controller"):
            Controller(f"127.0.0.1:{port}", "").put("/v1/servers/x", {})


def test_counters_that_a_client_has_overwritten_do_no_harm(null_server):
    with RawClient(null_server.socket):
        status = null_server.status()
        status["clients"][0] |= {"calls": 1 << 62, "bytes": 1 << 62, "kernels": 1 << 62}
        found = report_of(status, "boot", 1, "")["sessions"][0]
    assert {found["calls"], found["copied"], found["kernels"]} == {1 << 53}


def test_heartbeat_keeps_containers_apart_from_what_may_be_leased(server, controller):
    """Their vGPUs and memory are not the controller's; their programs are reported with their pod."""
    uuid = server.status()["devices"][0]["uuid"]
    request = {"op": "allocate", "vgpus": {uuid: list(range(32))}}
    row = query(server.address, request=request)["allocation"]
    query(server.address, request={"op": "describe", "allocation": row["id"],
                                   "labels": {"pod": "train-0"}})  # fmt: skip

    def kept() -> tuple[int, int]:
        device: dict[str, Any] = controller.beats[-1]["devices"][0]
        assert (device["vgpus"], device["memory"]) == (64, 128 * MIB)
        return device["reserved"], device["memory_reserved"]

    wait_for(lambda: kept() == (32, 64 * MIB), 5.0, "half of it all is the container's")
    with RawClient(Path(row["directory"], "orion.sock"), gmem_mib=32):
        wait_for(lambda: bool(controller.beats[-1]["sessions"]), 5.0, "the session is reported")
        (session,) = controller.beats[-1]["sessions"]
        assert (session["pod"], session["memory_held"]) == ("train-0", 32 * MIB)
        assert kept() == (31, 32 * MIB), "what is in use is in the session's line"


def test_an_order_for_limits_is_carried_out_once_it_differs():
    asked: list[dict[str, Any]] = []
    row = {"session": 3, "device": 0, "token": encode_id(terms()), "memory_limit": 1, "ratio": 1}

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {}

    agent = Agent("unix:/x", Controller("127.0.0.1:1", ""), "me", "", ask)
    orders = {"interval": 1, "key": "", "end": [],
              "limits": [{"lease": f"{7:016x}", "part": 0, "gmem_mib": 64, "ratio": 25}]}  # fmt: skip
    agent._obey(orders, STATUS | {"clients": [row]})
    assert {"op": "limit", "session": 3, "memory": 64 * MIB, "ratio": 25} in asked


def test_an_order_that_cannot_be_carried_out_is_said_once(caplog):
    row = {"session": 3, "device": 0, "token": encode_id(terms()), "memory_limit": 1, "ratio": 1}

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        raise OrionServerError("64 MiB cannot be promised")

    agent = Agent("unix:/x", Controller("127.0.0.1:1", ""), "me", "", ask)
    orders = {"interval": 1, "key": "", "end": [],
              "limits": [{"lease": f"{7:016x}", "part": 0, "gmem_mib": 64, "ratio": 25}]}  # fmt: skip
    for _ in range(3):
        agent._obey(orders, STATUS | {"clients": [row]})
    agent._obey({**orders, "limits": []}, STATUS | {"clients": [row]})
    assert [r.message.count("64 MiB cannot be promised") for r in caplog.records] == [1]
    agent._obey(orders, STATUS | {"clients": [row]})
    assert len(caplog.records) == 2, "it is news again"
