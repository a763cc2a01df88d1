# SPDX-License-Identifier: Apache-2.0
"""Leases, placement and the queue, decision by decision."""

from __future__ import annotations

import dataclasses

import pytest
from controller_fakes import GIB, Clock, FakeServer
from orion_controller.ledger import Ledger, Rules
from orion_controller.model import Client, Decision, Refused, Report, Request, State, Wish

CLIENT = Client("program", 1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def decisions() -> list[Decision]:
    return []


@pytest.fixture
def ledger(clock: Clock, decisions: list[Decision]) -> Ledger:
    return Ledger(clock, Rules(), decisions.append)


def ask(ledger: Ledger, **wish: object) -> Request:
    return ledger.request(Wish(**{"host": "here", "wait": 0.0, **wish}), CLIENT)  # type: ignore[arg-type]


def granted(ledger: Ledger, **wish: object) -> list[tuple[str, int]]:
    request = ask(ledger, **wish)
    assert request.lease is not None, request.refused
    return [(p.server, p.device) for p in request.lease.parts.values()]


def test_a_lease_is_a_share_of_the_device(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock, slots=4).report())
    lease = ask(ledger).lease
    assert lease is not None
    assert lease.parts[0].memory == 2 * GIB
    assert lease.parts[0].state is State.GRANTED


def test_slots_memory_and_time_each_are_a_limit(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock, slots=4).report())
    assert ask(ledger, memory=6 * GIB).lease
    refused = ask(ledger, memory=3 * GIB).refused
    assert refused is not None
    assert "no device has 3072 MiB left; the most that one has is 2048 MiB" in str(refused)
    assert ask(ledger, memory=GIB, ratio=50).lease
    assert "percent of its time left" in str(ask(ledger, memory=GIB, ratio=50).refused)
    assert ask(ledger, memory=GIB // 2, ratio=25).lease is not None
    assert ask(ledger, memory=GIB // 2).refused is not None, "25 + 50 + 25 percent are taken"


def test_what_no_device_can_give_is_refused_at_once(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock).report())
    request = ask(ledger, memory=9 * GIB, wait=None)
    assert request.refused is not None
    assert request.refused.kind == "impossible"
    assert "can never be granted" in str(request.refused)


def test_who_asks_waits_while_containers_have_all_vgpus(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock, slots=4, reserved=4)
    ledger.report(server.report())
    waiting = ask(ledger, wait=None)
    assert not waiting.settled
    assert waiting.reason == "all 4 vGPUs of 1 device are in use"
    server.reserved = 3
    ledger.report(server.report())
    assert waiting.lease is not None
    assert waiting.lease.parts[0].memory == 2 * GIB, (
        "a share is one of four, whoever has the others"
    )


def test_vgpus_of_containers_keep_their_share_of_memory_and_time(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.report(FakeServer("a", clock, slots=4, reserved=2).report())
    assert "the most that one has is 4096 MiB" in str(ask(ledger, memory=5 * GIB).refused)
    assert "percent of its time left; the most is 50" in str(ask(ledger, ratio=75).refused)
    assert ask(ledger, memory=3 * GIB, ratio=25).lease
    assert ask(ledger, memory=GIB).lease
    refused = ask(ledger, memory=GIB).refused
    assert refused is not None
    assert refused.kind == "full"


def test_without_any_server_a_request_waits_for_one(ledger: Ledger, clock: Clock) -> None:
    request = ask(ledger, wait=None)
    assert not request.settled
    assert "no server" in request.reason
    ledger.report(FakeServer("a", clock).report())
    assert request.lease is not None


def test_pack_fills_one_device_and_spread_uses_all(clock: Clock) -> None:
    for policy, expected in (("pack", [0, 0, 1, 1]), ("spread", [0, 1, 0, 1])):
        ledger = Ledger(clock, Rules(policy=policy))
        ledger.report(FakeServer("a", clock, devices=2).report())
        assert [granted(ledger)[0][1] for _ in range(4)] == expected


def test_a_server_on_the_clients_host_comes_first(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock, host="10.0.0.1").report())
    ledger.report(FakeServer("b", clock, host="10.0.0.2").report())
    assert granted(ledger, host="10.0.0.2") == [("b", 0)]


def test_a_server_without_an_address_serves_its_own_host_alone(
    ledger: Ledger, clock: Clock
) -> None:
    ledger.report(FakeServer("a", clock, address="").report())
    assert ask(ledger, host="10.9.9.9").refused
    assert granted(ledger, host="here") == [("a", 0)]


def test_several_vgpus_are_on_different_devices(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock, devices=2).report())
    ledger.report(FakeServer("b", clock, devices=1).report())
    assert sorted(granted(ledger, vgpus=2)) == [("a", 0), ("a", 1)]
    refused = ask(ledger, vgpus=3).refused
    assert refused is not None
    assert "ORION_CROSS_NODE=1" in str(refused)
    assert sorted(granted(ledger, vgpus=3, cross_node=True)) == [("a", 0), ("a", 1), ("b", 0)]


def test_the_queue_is_first_come_first_served(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock)
    ledger.report(server.report())
    first = [ask(ledger).lease for _ in range(2)]
    assert all(first)
    large = ask(ledger, memory=8 * GIB, wait=None)
    small = ask(ledger, wait=None)
    assert "1 ahead" in small.reason
    ledger.cancel(next(r for r in [Request(0, Wish(), CLIENT, 0, None, lease=first[0])]))
    assert not small.settled, "a free place is kept for the large request that came first"
    assert "kept for programs that have waited longer" in small.reason
    ledger.cancel(large)
    assert small.lease is not None


def test_waiting_for_one_device_does_not_hold_up_another(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock, slots=1).report())
    ledger.report(FakeServer("b", clock, slots=1, memory=GIB).report())
    assert granted(ledger, memory=8 * GIB) == [("a", 0)]
    waits = ask(ledger, memory=8 * GIB, wait=None)
    assert granted(ledger, memory=GIB) == [("b", 0)]
    assert not waits.settled


def test_the_deadline_of_a_request_is_kept(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock, slots=1).report())
    granted(ledger)
    request = ask(ledger, wait=5.0)
    clock.now += 4.9
    ledger.tick()
    assert not request.settled
    clock.now += 0.2
    ledger.tick()
    assert request.refused is not None
    assert "no vGPU became free within 5 s: all 1 vGPUs of 1 device are in use" in str(
        request.refused
    )
    assert not ledger.queue


def test_a_program_that_never_comes_loses_its_lease(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock, slots=1)
    ledger.report(server.report())
    lease = ask(ledger).lease
    assert lease is not None
    token = server.token_ids(lease)[0]
    clock.now += 29
    ledger.report(server.report())
    assert ask(ledger).refused, "its token is still good"
    clock.now += 2
    ledger.tick()
    assert ask(ledger).refused, "the server has not confirmed"
    assert server.attach(token) is None
    ledger.report(server.report())
    assert ask(ledger).lease


def test_a_short_program_between_two_heartbeats_frees_its_lease(
    ledger: Ledger, clock: Clock
) -> None:
    server = FakeServer("a", clock, slots=1)
    ledger.report(server.report())
    lease = ask(ledger).lease
    assert lease is not None
    token = server.token_ids(lease)[0]
    session = server.attach(token)
    assert session is not None
    server.detach(session)
    assert server.attach(token) is None, "a token is for one session"
    ledger.report(server.report())
    assert ask(ledger).lease


def test_a_lease_lives_as_long_as_its_program(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock, slots=1)
    ledger.report(server.report())
    lease = ask(ledger).lease
    assert lease is not None
    session = server.attach(server.token_ids(lease)[0])
    assert session is not None
    for _ in range(10):
        clock.now += 8
        ledger.report(server.report())
        ledger.tick()
        assert lease.parts[0].state is State.ACTIVE
    server.detach(session)
    ledger.report(server.report())
    assert not ledger.leases


def test_a_held_lease_serves_one_program_after_another_until_it_expires(
    ledger: Ledger, clock: Clock
) -> None:
    server = FakeServer("a", clock, slots=1)
    ledger.report(server.report())
    lease = ask(ledger, held=True, seconds=100.0).lease
    assert lease is not None
    token = server.token_ids(lease)[0]
    for _ in range(2):
        session = server.attach(token)
        assert session is not None
        assert server.attach(token) is None, "one at a time"
        ledger.report(server.report())
        assert lease.parts[0].state is State.ACTIVE
        server.detach(session)
        ledger.report(server.report())
        assert lease.parts[0].state is State.GRANTED
    ledger.renew(lease.id, 200.0)
    clock.now += 150
    server.obey(ledger.report(server.report()))
    assert lease.id in ledger.leases
    assert server.attach(token) is None, "the old token has expired, the lease has not"
    assert server.attach(server.token_ids(lease)[0]) is not None
    clock.now += 60
    ledger.tick()
    server.obey(ledger.report(server.report()))
    assert not server.sessions, "the server was told to end the session"
    ledger.report(server.report())
    assert not ledger.leases


def test_a_released_lease_counts_until_its_server_has_let_go(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock, slots=1)
    ledger.report(server.report())
    lease = ask(ledger).lease
    assert lease is not None
    token = server.token_ids(lease)[0]
    ledger.release(lease.id, "an administrator said so")
    assert ask(ledger).refused, "its token could still be used"
    server.obey(ledger.report(server.report()))
    assert server.attach(token) is None
    ledger.report(server.report())
    assert ask(ledger).lease


def test_a_shrunk_lease_frees_memory_when_the_server_has_done_it(
    ledger: Ledger, clock: Clock
) -> None:
    server = FakeServer("a", clock)
    ledger.report(server.report())
    lease = ask(ledger, memory=6 * GIB).lease
    assert lease is not None
    server.attach(server.token_ids(lease)[0])
    ledger.report(server.report())
    ledger.resize(lease.id, 2 * GIB, None)
    assert ask(ledger, memory=4 * GIB).refused
    server.obey(ledger.report(server.report()))
    ledger.report(server.report())
    assert ask(ledger, memory=4 * GIB).lease


def test_a_token_that_is_out_counts_with_the_bounds_it_has(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock)
    ledger.report(server.report())
    lease = ask(ledger, memory=6 * GIB, held=True, seconds=100.0).lease
    assert lease is not None
    token = server.token_ids(lease)[0]
    ledger.resize(lease.id, 2 * GIB, None)
    assert ask(ledger, memory=4 * GIB).refused, "somebody may come with the token of 6 GiB"
    session = server.attach(token)
    assert session is not None
    server.obey(ledger.report(server.report()))
    assert server.sessions[session].memory_limit == 2 * GIB
    server.detach(session)
    ledger.renew(lease.id, 500.0)
    clock.now += 101
    ledger.report(server.report())
    assert ask(ledger, memory=4 * GIB).lease, "that token has expired"


def test_a_program_may_have_less_than_its_lease_and_never_more(
    ledger: Ledger, clock: Clock
) -> None:
    """Less by its own wish, or by the server's administrator: the controller has nothing to say before a resize."""
    server = FakeServer("a", clock)
    ledger.report(server.report())
    lease = ask(ledger, memory=6 * GIB, ratio=40, held=True, seconds=100.0).lease
    assert lease is not None
    session = server.attach(server.token_ids(lease)[0])
    assert session is not None

    def orders(memory: int, ratio: int) -> list[tuple[int, int]]:
        use = dataclasses.replace(server.sessions[session], memory_limit=memory, ratio=ratio)
        server.sessions[session] = use
        return [(m, r) for _, _, m, r in ledger.report(server.report()).limits]

    assert orders(6 * GIB, 40) == []
    assert orders(2 * GIB, 20) == []
    assert orders(7 * GIB, 20) == [(6 * GIB, 40)]
    assert orders(2 * GIB, 50) == [(6 * GIB, 40)]
    ledger.resize(lease.id, 4 * GIB, None)
    assert orders(2 * GIB, 20) == [(4 * GIB, 40)]
    assert orders(4 * GIB, 40) == []


def test_a_lease_cannot_grow_beyond_its_device(ledger: Ledger, clock: Clock) -> None:
    ledger.report(FakeServer("a", clock).report())
    lease, other = ask(ledger, memory=6 * GIB).lease, ask(ledger, memory=GIB).lease
    assert lease is not None
    assert other is not None
    with pytest.raises(Refused, match="1024 MiB left"):
        ledger.resize(lease.id, 8 * GIB, None)
    ledger.resize(lease.id, 7 * GIB, None)


def test_a_program_without_the_controller_takes_its_place(ledger: Ledger, clock: Clock) -> None:
    from orion_controller.model import Use

    server = FakeServer("a", clock)
    server.sessions[1] = Use(1, 0, memory_limit=8 * GIB, memory_held=7 * GIB)
    ledger.report(server.report())
    assert ask(ledger, memory=2 * GIB).refused
    assert ask(ledger, memory=GIB).lease
    assert ask(ledger, memory=1 << 20).refused, "both vGPUs are in use"


def test_a_drained_server_gets_no_new_programs(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock)
    ledger.report(server.report())
    lease = ask(ledger).lease
    assert lease is not None
    ledger.drain("a", True)
    assert ask(ledger).refused
    assert server.attach(server.token_ids(lease)[0]), "who has a lease may come"
    ledger.drain("a", False)
    assert ask(ledger).lease
    server.draining = True
    ledger.report(server.report())
    assert ask(ledger).refused


def test_a_silent_server_gets_nothing_and_then_loses_its_leases(
    ledger: Ledger, clock: Clock, decisions: list[Decision]
) -> None:
    server = FakeServer("a", clock)
    ledger.report(server.report())
    lease = ask(ledger).lease
    assert lease is not None
    clock.now += 11
    ledger.tick()
    assert ask(ledger).refused
    assert [d.kind for d in decisions if d.server == "a"] == ["registered", "lost"]
    clock.now += 60
    ledger.tick()
    assert not ledger.leases
    assert not ledger.servers


def test_a_restarted_server_has_none_of_its_former_sessions(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock)
    ledger.report(server.report())
    assert granted(ledger)
    assert granted(ledger)
    old = server.report()
    server.restart()
    ledger.report(server.report())
    assert not ledger.leases
    with pytest.raises(Refused, match="newer server"):
        ledger.report(dataclasses.replace(old, sequence=99))


def test_a_late_report_of_a_former_life_does_not_shut_the_server_out(
    ledger: Ledger, clock: Clock
) -> None:
    server = FakeServer("a", clock)
    late = server.report()
    server.restart()
    ledger.report(server.report())
    with pytest.raises(Refused, match="newer server"):
        ledger.report(late)
    rebooted = dataclasses.replace(server.report(), boot="another", epoch=0)
    ledger.report(rebooted)
    with pytest.raises(Refused, match="newer server"):
        ledger.report(server.report())


def test_an_overtaken_report_is_not_listened_to(ledger: Ledger, clock: Clock) -> None:
    server = FakeServer("a", clock)
    early: Report = server.report()
    ledger.report(server.report())
    with pytest.raises(Refused, match="overtaken"):
        ledger.report(early)


def test_every_decision_has_a_reason(
    ledger: Ledger, clock: Clock, decisions: list[Decision]
) -> None:
    server = FakeServer("a", clock, slots=1)
    ledger.report(server.report())
    assert ask(ledger).lease
    assert ask(ledger).refused
    waits = ask(ledger, wait=3.0)
    ledger.cancel(waits)
    assert [d.kind for d in decisions] == [
        "registered",
        "granted",
        "refused",
        "queued",
        "canceled",
    ]
    assert all(d.reason for d in decisions)
