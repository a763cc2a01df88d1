# SPDX-License-Identifier: Apache-2.0
"""Shares of device time, measured in the processor time of the workers: they hold on a host that has other work."""

from __future__ import annotations

import os
import random
import signal
import struct
import threading
import time

import pytest
from burning import MILLISECOND, Burner, seconds_of, shares_over
from orion_server.status import query
from orion_server_fixtures import Server, wait_for

ENDLESS = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry endless()
{
LOOP:
    bra LOOP;
}
\0"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("llvmlite", reason="the CPU device needs llvmlite")
    server = Server(
        tmp_path_factory.mktemp("shares"), "--device", "cpu", "--memory", "256M", "--threads", "1"
    )
    yield server
    server.stop()
    assert not server.processes()


@pytest.fixture
def burners(server):
    """Makes clients, and lets go of them."""
    made: list[Burner] = []

    def make(*ratios: int) -> list[Burner]:
        made.extend(Burner(server, ratio=ratio) for ratio in ratios)
        return made

    yield make
    for client in made:
        client.close()
    server.wait_idle()


def settle(server, clients, seconds: float = 0.2) -> None:
    """Lets them use so much together: the first turns are not what is measured."""
    shares_over(server, clients, seconds)


@pytest.mark.parametrize("ratios", [(100, 100), (20, 30, 50)])
def test_busy_clients_get_their_weights(server, burners, ratios):
    clients = burners(*ratios)
    for client in clients:
        client.burn_on()
    settle(server, clients)
    got = shares_over(server, clients, 1.0)
    for share, ratio in zip(got, ratios, strict=True):
        assert share == pytest.approx(ratio / sum(ratios), abs=0.05)


def test_many_launches_gain_nothing(server, burners):
    """One asks for a hundred times as many kernels as the other, each a hundredth as long."""
    many, few = burners(100, 100)
    enough = threading.Event()

    def ask() -> None:
        while not enough.is_set():
            many.burn(1, MILLISECOND // 10)

    few.burn_on(10 * MILLISECOND)
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        settle(server, [many, few])
        share = shares_over(server, [many, few], 1.0)[0]
    finally:
        enough.set()
        thread.join()
    assert share == pytest.approx(0.5, abs=0.06)


def test_many_streams_count_as_one_client(server, burners):
    many, few = burners(100, 100)
    for i in range(8):
        stream = 1 << 32 | i
        many.post("cuStreamCreate", struct.pack("<QII", stream, 1, 0))
        cell = struct.pack("<QQ", many.cell, MILLISECOND)
        many.launch(cell, grid=1 << 20, stream=stream)
    few.burn_on()
    settle(server, [many, few])
    assert shares_over(server, [many, few], 1.0)[0] == pytest.approx(0.5, abs=0.06)


def test_block_that_never_ends_gets_no_more_than_its_share(server, burners):
    """It never looks whose turn it is: its worker is stopped from outside, again and again."""
    (good,) = burners(100)
    with Burner(server) as bad:
        assert bad.load(ENDLESS, module=1 << 32 | 1) == 0
        assert bad.function("endless", 1 << 32 | 1, 1 << 32 | 1)[0] == 0
        bad.launch(b"", function=1 << 32 | 1)
        good.burn_on()
        settle(server, [good, bad], 0.6)
        assert shares_over(server, [good, bad], 1.5)[0] == pytest.approx(0.5, abs=0.12)


def test_client_that_was_idle_gets_its_share_back(server, burners):
    busy, idle = burners(100, 100)
    busy.burn_on()
    settle(server, [busy, idle], 0.5)
    idle.burn_on()
    assert shares_over(server, [busy, idle], 0.4)[1] > 0.35


def test_lone_client_has_the_device_without_anybody_looking(server, burners):
    (client,) = burners(10)
    client.burn_on()
    settle(server, [client])
    ticks = os.sysconf("SC_CLK_TCK")

    def supervisor_seconds() -> float:
        with open(f"/proc/{server.process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / ticks

    before = supervisor_seconds()
    shares_over(server, [client], 0.5)
    row = server.status()["clients"][0]
    assert row["share"] == 1.0
    assert supervisor_seconds() - before < 0.2  # it has answered a status every 20 ms


def test_weights_can_change_while_clients_run(server, burners):
    one, two = burners(50, 50)
    one.burn_on()
    two.burn_on()
    settle(server, [one, two])
    query(server.address, request={"op": "limit", "session": one.number, "ratio": 10})
    query(server.address, request={"op": "limit", "session": two.number, "ratio": 90})
    settle(server, [one, two])
    assert shares_over(server, [one, two], 1.0)[0] == pytest.approx(0.1, abs=0.05)


def test_capped_client_stays_below_its_ratio_on_an_idle_device(make_server):
    server = make_server("--memory", "64M", "--threads", "1", "--share-mode", "capped")
    with Burner(server, ratio=20) as client:
        client.burn_on()
        settle(server, [client], 0.1)
        began, before = time.monotonic(), seconds_of(server, [client])[0]
        time.sleep(1.5)  # what is claimed is a rate
        used = seconds_of(server, [client])[0] - before
        assert 0 < used < 0.2 * (time.monotonic() - began) * 1.15 + 0.02


def test_exclusive_clients_share_by_weight_too(make_server):
    server = make_server("--memory", "64M", "--threads", "1", "--share-mode", "exclusive")
    with Burner(server, ratio=25) as one, Burner(server, ratio=75) as two:
        one.burn_on()
        two.burn_on()
        settle(server, [one, two], 0.4)
        assert shares_over(server, [one, two], 1.5)[0] == pytest.approx(0.25, abs=0.07)


def test_call_of_a_client_that_waits_for_its_turn_is_answered(server, burners):
    """Only kernels wait: a client whose turn is over still hears of its memory at once."""
    one, two = burners(1, 99)
    one.burn_on()
    two.burn_on()
    settle(server, [one, two])
    waits = []
    for _ in range(20):
        began = time.monotonic()
        one.info()
        waits.append(time.monotonic() - began)
    assert sorted(waits)[10] < 0.1


def test_reset_of_a_context_does_not_wait_for_a_turn(server, burners):
    one, two = burners(1, 99)
    one.burn_on()
    two.burn_on()
    settle(server, [one, two])
    assert one.call("orionContextReset")[0] == 0


def test_killed_workers_and_clients_leave_the_others_their_turns(server):
    """Ten rounds under load, each ends somebody in some way."""
    dice = random.Random(5)
    with Burner(server) as steady:
        steady.burn_on()
        for turn in range(10):
            victim = Burner(server)
            victim.burn_on()
            settle(server, [steady, victim], 0.02 + 0.1 * dice.random())
            if turn % 2:
                os.kill(victim.welcome.worker_pid, signal.SIGKILL)
                victim.await_end()
            victim.close()
            wait_for(
                lambda: len(server.status()["clients"]) == 1, 3.0, "the victim's lease is free"
            )
        before = seconds_of(server, [steady])[0]
        wait_for(lambda: seconds_of(server, [steady])[0] > before + 0.2, 20.0, "it still runs")
    server.wait_idle()
    assert server.status()["devices"][0]["memory_granted"] == 0
