# SPDX-License-Identifier: Apache-2.0
"""The HTTP interface of a running controller: who may do what, and what is refused."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller_fakes import Clock, FakeServer
from controller_processes import ControllerProcess, clean_environment, wait_for
from orion_server.lease_tokens import key_id

KEYS = {
    "ORION_CLIENT_KEY": "the-clients-key",
    "ORION_SERVER_KEY": "the-servers-key",
    "ORION_ADMINISTRATOR_KEY": "the-administrators-key",
}
CLIENT, SERVER, ADMINISTRATOR = KEYS.values()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path, "--wait-most", "0.5", "--request-seconds", "1")
    yield running
    assert running.stop() == 0


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[ControllerProcess]:
    running = ControllerProcess(tmp_path, **KEYS)
    yield running
    assert running.stop() == 0


def heartbeat(server: FakeServer) -> dict[str, Any]:
    report = server.report()
    return {
        "boot": report.boot,
        "epoch": report.epoch,
        "sequence": report.sequence,
        "clock": report.clock,
        "key_id": server.key_id,
        "address": report.address,
        "version": report.version,
        "devices": [
            {
                "index": d.index,
                "name": d.name,
                "uuid": d.uuid,
                "kind": d.kind,
                "memory": d.memory,
                "vgpus": d.slots,
            }
            for d in report.devices
        ],
        "sessions": [
            {
                "session": u.session,
                "device": u.device,
                "memory_limit": u.memory_limit,
                "memory_used": u.memory_used,
                "ratio": u.ratio,
                "busy_seconds": u.busy_seconds,
                "transport": u.transport,
                "held": u.held,
                "token_expires": u.token_expires,
                "lease": f"{u.lease:016x}" if u.lease else None,
                "part": u.part,
                "command": u.client.command,
                "pid": u.client.pid,
            }
            for u in report.uses
        ],
        "ended": [{"lease": f"{lease:016x}", "part": part} for lease, part in report.ended],
    }


def register(controller: ControllerProcess, server: FakeServer, key: str = "") -> dict[str, Any]:
    """Two heartbeats: only the second one can say that it has the key which came with the first."""
    for _ in range(2):
        status, answer = controller.ask("PUT", f"/v1/servers/{server.name}", heartbeat(server), key)
        assert status == 200, answer
        server.key_id = key_id(bytes.fromhex(answer["key"]))
    return answer


@pytest.mark.parametrize("wrong", [{"memory": 1 << 51}, {"clock": float(1 << 32)}])
def test_what_no_token_could_carry_is_no_report(
    controller: ControllerProcess, wrong: dict[str, Any]
) -> None:
    report = heartbeat(FakeServer("a", Clock()))
    if "memory" in wrong:
        report["devices"][0] |= wrong
    else:
        report |= wrong
    status, answer = controller.ask("PUT", "/v1/servers/a", report)
    assert (status, answer["kind"]) == (422, "invalid"), answer


def test_each_role_has_its_key(keyed: ControllerProcess) -> None:
    server = FakeServer("a", Clock())
    put = ("PUT", "/v1/servers/a", heartbeat(server))
    drain = ("POST", "/v1/servers/a/drain", {"drain": True})
    look = ("GET", "/v1/overview", None)
    for request, allowed in (
        (put, {SERVER, ADMINISTRATOR}),
        (look, {CLIENT, ADMINISTRATOR}),
        (drain, {ADMINISTRATOR}),
    ):
        for key in (*KEYS.values(), "", "no-such-key"):
            status, answer = keyed.ask(*request, key)
            if key in allowed:
                assert status in (200, 409), answer  # 409: the second time it is overtaken
            else:
                assert status == (403 if key in KEYS.values() else 401), answer
                assert answer["kind"] == "denied"
    assert "key" not in " ".join(str(e.get("headers", "")) for e in keyed.events())
    assert not [k for k in KEYS.values() if k in keyed.text()]


def test_without_an_administrators_key_one_is_made_for_the_owner(
    controller: ControllerProcess,
) -> None:
    register(controller, FakeServer("a", Clock()))
    path = controller.folder / "state" / "administrator.key"
    assert path.stat().st_mode & 0o777 == 0o600
    drain = ("POST", "/v1/servers/a/drain", {"drain": True})
    assert controller.ask(*drain)[0] == 401
    assert controller.ask(*drain, controller.administrator_key())[1]["state"] == "draining"


def test_other_hosts_need_keys(tmp_path: Path) -> None:
    """Addresses of one host that differ stand for two hosts: 127.x is loopback, so another one is needed."""
    from orion_controller.auth import Denied, Keys, Role
    from orion_controller.config import Config

    for insecure in (False, True):
        keys = Keys(Config(state_dir=tmp_path, insecure=insecure), b"secret")
        keys.check(Role.CLIENT, "", here=True)
        if insecure:
            keys.check(Role.CLIENT, "", here=False)
        else:
            with pytest.raises(Denied, match=r"client-key in controller\.conf"):
                keys.check(Role.CLIENT, "", here=False)


def test_a_lease_is_its_holders(controller: ControllerProcess) -> None:
    register(controller, FakeServer("a", Clock()))
    one, two = (
        controller.ask("POST", "/v1/leases", {"gmem_mib": 100, "command": name})[1]
        for name in ("one", "two")
    )
    path = f"/v1/leases/{one['lease']['id']}"
    for request in (
        ("DELETE", path, None),
        ("PATCH", path, {"gmem_mib": 50}),
        ("POST", f"{path}/renew", {}),
    ):
        assert controller.ask(*request)[0] == 401
        assert controller.ask(*request, key=two["lease_key"])[0] == 401
    assert controller.ask("PATCH", path, {"gmem_mib": 50}, one["lease_key"])[0] == 200
    renewed = controller.ask("POST", f"{path}/renew", {"seconds": 7200.0}, one["lease_key"])[1]
    assert renewed["lease"]["expires_in"] > 7000
    assert renewed["grants"][0]["token"] != one["grants"][0]["token"]
    assert renewed["grants"][0]["gmem_mib"] == 50


def test_a_request_waits_and_is_refused_with_the_reason(controller: ControllerProcess) -> None:
    register(controller, FakeServer("a", Clock(), slots=1))
    assert controller.ask("POST", "/v1/leases", {})[0] == 201
    status, answer = controller.ask("POST", "/v1/leases", {"wait": 0.5})
    assert (status, answer["kind"]) == (409, "deadline")
    assert "all 1 vGPUs of 1 device are in use" in answer["reason"]
    status, answer = controller.ask("POST", "/v1/leases", {"gmem_mib": 1 << 20})
    assert (status, answer["kind"]) == (409, "impossible")


def test_a_client_that_hangs_up_leaves_the_queue(tmp_path: Path) -> None:
    controller = ControllerProcess(tmp_path)
    try:
        register(controller, FakeServer("a", Clock(), slots=1))
        assert controller.ask("POST", "/v1/leases", {})[0] == 201
        body = b'{"wait": 600}'
        with socket.create_connection(("127.0.0.1", controller.port)) as line:
            line.sendall(
                b"POST /v1/leases HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%s" % (len(body), body)
            )
            wait_for(lambda: controller.overview()["queue"], "it waits")
        wait_for(lambda: not controller.overview()["queue"], "it has left")
    finally:
        controller.stop()


@pytest.mark.parametrize("chunked", [False, True])
def test_an_oversized_request_is_refused_and_logged(
    controller: ControllerProcess, chunked: bool
) -> None:
    with socket.create_connection(("127.0.0.1", controller.port)) as line:
        head = b"PUT /v1/servers/a HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        if chunked:
            line.sendall(head + b"transfer-encoding: chunked\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                for _ in range(20):
                    line.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        else:
            line.sendall(head + b"content-length: 99999999\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")
    wait_for(lambda: any(e.get("status") == 413 for e in controller.events()), "the log says so")
    assert controller.is_live()


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET /livez HT",
        b"POST /v1/leases HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{",
        b"OrHe",
        b"OrHello1" + (1).to_bytes(4, "little") + (312).to_bytes(4, "little"),
    ],
)
def test_a_slow_request_is_refused_and_logged(controller: ControllerProcess, begin: bytes) -> None:
    with socket.create_connection(("127.0.0.1", controller.port), timeout=20) as line:
        line.sendall(begin)
        received = b""
        while data := line.recv(1000):
            received += data
    assert b"within 1 s" in received
    refused = [e["reason"] for e in controller.events() if e["event"].endswith("refused")]
    assert [reason for reason in refused if "within 1 s" in reason]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"OrHello1" + (99).to_bytes(4, "little") + bytes(4), b"version"),
        (b"OrHello1" + (1).to_bytes(4, "little") + (9999).to_bytes(4, "little"), b"9999 bytes"),
        (
            b"OrHello1" + (1).to_bytes(4, "little") + (312).to_bytes(4, "little") + b"\xff" * 296,
            b"",
        ),
    ],
)
def test_a_wrong_hello_is_refused_and_logged(
    controller: ControllerProcess, message: bytes, words: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", controller.port), timeout=20) as line:
        line.sendall(message)
        received = b""
        while data := line.recv(1000):
            received += data
    assert received.startswith(b"OrWelco1")
    assert words in received
    assert controller.events()[-1]["event"] == "hello refused"


def test_every_line_of_the_log_is_json_with_a_reason(controller: ControllerProcess) -> None:
    register(controller, FakeServer("a", Clock(), slots=1))
    controller.ask("POST", "/v1/leases", {})
    controller.ask("POST", "/v1/leases", {})
    controller.ask("GET", "/v1/leases/0000000000000000")
    events = controller.events()
    assert {"listening", "registered", "granted", "refused"} <= {e["event"] for e in events}
    assert all(e["reason"] for e in events)


def test_metrics_have_the_names_that_dashboards_use(controller: ControllerProcess) -> None:
    import urllib.request

    server = FakeServer("a", Clock())
    register(controller, server)
    got = controller.ask("POST", "/v1/leases", {})[1]
    token = got["grants"][0]["token"].partition(".")[0]
    session = server.next_session
    from orion_controller.model import Use
    from orion_server.lease_tokens import decode_id

    terms = decode_id(token)
    assert terms is not None
    server.sessions[session] = Use(session, 0, terms.lease, 0, terms.memory, terms.ratio)
    register(controller, server)
    with urllib.request.urlopen(f"http://{controller.address}/metrics") as answer:
        text = answer.read().decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    lease = got["lease"]["id"]
    mine = [k for k in values if f'lease="{lease}"' in k]
    for name in ("memory_bytes", "memory_limit_bytes", "busy_seconds_total", "calls_total"):
        assert [k for k in mine if k.startswith(f"orion_vgpu_{name}{{")], name
    assert values['orion_controller_decisions_total{decision="granted",refused=""}'] == "1.0"
    assert values['orion_controller_leases{state="active"}'] == "1.0"


def test_two_hundred_clients_get_what_there_is_and_no_more(tmp_path: Path) -> None:
    controller = ControllerProcess(tmp_path)
    try:
        register(controller, FakeServer("a", Clock(), slots=150))
        answers: list[int] = []

        def ask() -> None:
            answers.append(controller.ask("POST", "/v1/leases", {"wait": 0})[0])

        threads = [threading.Thread(target=ask) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert (answers.count(201), answers.count(409)) == (150, 50)
        assert controller.overview()["devices"][0]["vgpus_leased"] == 150
    finally:
        controller.stop()


def test_a_second_controller_on_the_same_state_is_told_so(controller: ControllerProcess) -> None:
    done = run_controller("--port", "0", "--state-dir", str(controller.folder / "state"))
    assert done.returncode == 2
    assert "another controller uses it" in done.stderr


def test_a_taken_port_is_named(controller: ControllerProcess, tmp_path: Path) -> None:
    done = run_controller("--port", str(controller.port), "--state-dir", str(tmp_path / "other"))
    assert done.returncode == 2
    assert f"127.0.0.1:{controller.port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_each_setting_says_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "controller.conf"
    path.write_text("[controller]\nlisten_port = 9999\npolicy = spread\n")
    done = run_controller("--check-config", "--config", str(path), "--policy", "pack", BIND="::1")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in done.stdout.splitlines()}
    assert rows["port"] == ["9999", f"{path} [controller] listen_port"]
    assert rows["policy"] == ["pack", "flag --policy"]
    assert rows["bind"] == ["::1", "environment BIND"]


def test_https_has_a_port_of_its_own(tmp_path: Path) -> None:
    import ssl
    import urllib.request

    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")],
        capture_output=True,
    )  # fmt: skip
    if made.returncode != 0:
        pytest.skip("openssl cannot make a certificate here")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = ControllerProcess(
        tmp_path, "--tls-port", str(port), "--certificate", str(tmp_path / "cert.pem"),
        "--certificate-key", str(tmp_path / "key.pem"),
    )  # fmt: skip
    try:
        context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        url = f"https://127.0.0.1:{port}/livez"
        assert wait_for(lambda: _status(url, context) == 200, "https answers")
        assert controller.is_live()
    finally:
        assert controller.stop() == 0
    _ = urllib.request


def _status(url: str, context: Any) -> int:
    import urllib.request

    try:
        with urllib.request.urlopen(url, context=context) as answer:
            return int(answer.status)
    except OSError:
        return 0


def run_controller(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orion_controller", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean_environment(**environment),
    )
