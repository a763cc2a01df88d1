# SPDX-License-Identifier: Apache-2.0
"""The arbiter over a simulated device: shares, caps, latencies, and those who do not obey."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis_settings import examples
from orion_server.arbiter import Arbiter
from orion_server.lease_page import Turn
from orion_server.limits import Mode
from simulated_device import Load, Machine


def machine(threads: int = 1, cores: float | None = None) -> Machine:
    return Machine(Arbiter(threads), cores or float(threads))


@pytest.mark.parametrize(("threads", "cores"), [(1, 1.0), (1, 2.0), (2, 2.0), (8, 8.0), (4, 1.5)])
@pytest.mark.parametrize("ratios", [(50, 50), (20, 30, 50), (10, 90), (100, 100, 100, 100), (1, 2)])
def test_busy_clients_get_their_weights(threads, cores, ratios):
    m = machine(threads, cores)
    for i, ratio in enumerate(ratios):
        m.add(str(i), Load(width=threads), ratio)
    m.run(0.2)
    got = m.shares(10.0)
    for i, ratio in enumerate(ratios):
        assert got[str(i)] == pytest.approx(ratio / sum(ratios), abs=0.01)


def test_lone_client_is_never_looked_at_again():
    m = machine(2)
    load = m.add("a", Load(width=2))
    m.run(10.0)
    assert load.used == pytest.approx(20.0, rel=0.001)
    assert m.judged == 1


def test_client_beside_idle_ones_gets_the_device():
    m = machine(2)
    load = m.add("a", Load(width=2))
    for i in range(20):
        m.add(f"idle {i}", Load(wants=False))
    m.run(10.0)
    assert load.used > 0.98 * 20


def test_heartbeats_of_idle_clients_do_not_count_as_work():
    """Each wakes up now and then for a moment; the one that works is not kept from it."""
    m = machine(1, cores=2.0)
    load = m.add("a", Load())
    for i in range(30):
        m.add(f"idle {i}", Load(width=0.1, wants=False, claims=0))
    began = load.used
    for turn in range(2000):
        beating = [m.loads[f"idle {(turn + i) % 30}"] for i in range(3)]
        for idle in beating:
            idle.wants = True
        m.run(0.001)
        for idle in beating:
            idle.wants = False
        m.run(0.002)
    assert load.used - began > 0.98 * 6


def test_idle_client_gets_its_share_back_within_100_ms():
    m = machine(1)
    m.add("a", Load())
    m.add("b", Load(wants=False))
    m.run(5.0)
    m.loads["b"].wants = True
    assert m.shares(0.1)["b"] > 0.25
    assert m.shares(0.1)["b"] > 0.45


def test_idle_time_is_not_saved_up():
    m = machine(1)
    m.add("a", Load())
    m.add("b", Load(wants=False))
    m.run(60.0)
    m.loads["b"].wants = True
    m.run(0.1)
    assert m.shares(0.5)["a"] == pytest.approx(0.5, abs=0.05)


def test_client_that_comes_later_does_not_get_what_it_missed():
    m = machine(1)
    m.add("a", Load())
    m.run(60.0)
    m.add("b", Load(used=0.5))  # it has used something before anybody looked
    m.run(0.1)
    assert m.shares(0.5)["a"] == pytest.approx(0.5, abs=0.05)


def test_long_blocks_are_charged():
    """One client's blocks last 80 ms, which nothing interrupts; over time it gets no more than the other."""
    m = machine(1)
    m.add("long", Load(block=0.08))
    m.add("short", Load())
    m.run(1.0)
    assert m.shares(20.0)["long"] == pytest.approx(0.5, abs=0.03)


def test_client_that_ignores_its_turns_is_stopped():
    m = machine(1, cores=1.0)
    m.add("deaf", Load(obeys=False))
    m.add("good", Load())
    m.run(1.0)
    assert m.shares(20.0)["good"] == pytest.approx(0.5, abs=0.03)


def test_deaf_client_that_denies_wanting_anything_is_stopped_too():
    m = machine(1, cores=1.0)
    m.add("deaf", Load(obeys=False, claims=0))
    m.add("good", Load())
    m.run(1.0)
    assert m.shares(20.0)["good"] > 0.47


def test_stopped_client_may_answer_now_and_then():
    """A block without end, at a weight of one percent: its calls still get through each second."""
    m = machine(1, cores=1.0)
    m.add("deaf", Load(obeys=False), 1)
    m.add("good", Load(), 100)
    m.run(5.0)
    client = m.arbiter.clients[m.numbers["deaf"]]
    quiet = longest = 0.0
    for _ in range(5000):
        m.run(0.001)
        quiet = quiet + 0.001 if client.stopped else 0.0
        longest = max(longest, quiet)
    assert 0.5 < longest < 1.1
    assert m.shares(20.0)["deaf"] < 0.05


def test_claiming_a_device_without_using_it_keeps_it_from_nobody():
    m = machine(2)
    m.add("liar", Load(width=0.05, claims=1 << 31))
    m.add("good", Load(width=2))
    m.run(1.0)
    before = m.loads["good"].used
    m.run(10.0)
    assert m.loads["good"].used - before > 0.47 * 20


def test_noise_of_the_host_is_nobodys_fault():
    """Others on the host leave a quarter of a processor; the weights hold for what is left."""
    m = machine(1, cores=0.25)
    m.add("a", Load(), 20)
    m.add("b", Load(), 80)
    m.run(1.0)
    assert m.shares(20.0)["a"] == pytest.approx(0.2, abs=0.01)


def test_claiming_while_idle_costs_the_others_nothing():
    m = machine(2)
    m.add("liar", Load(wants=False, claims=2))
    load = m.add("good", Load(width=2))
    m.run(10.0)
    assert load.used > 0.98 * 20


def test_narrow_client_leaves_the_rest_to_others():
    m = machine(4)
    m.add("narrow", Load(width=1))
    m.add("wide", Load(width=3))
    before = sum(load.used for load in m.loads.values())
    m.run(10.0)
    assert sum(load.used for load in m.loads.values()) - before > 0.97 * 40


def test_what_a_narrow_client_left_is_not_owed_to_it():
    m = machine(4)
    m.add("a", Load(width=1))
    m.add("b", Load(width=3))
    m.run(60.0)
    m.loads["a"].width = m.loads["b"].width = 4
    m.run(0.1)
    assert m.shares(0.5)["b"] == pytest.approx(0.5, abs=0.06)


def test_capped_client_stays_below_its_ratio_on_an_idle_device():
    m = machine(2)
    load = m.add("a", Load(width=2), 25, Mode.CAPPED)
    m.run(1.0)
    before = load.used
    m.run(20.0)
    assert load.used - before == pytest.approx(0.25 * 40, rel=0.02)


def test_capped_client_that_is_deaf_stays_below_its_ratio():
    m = machine(1)
    load = m.add("a", Load(obeys=False, claims=0), 25, Mode.CAPPED)
    m.run(1.0)
    before = load.used
    m.run(20.0)
    assert load.used - before == pytest.approx(0.25 * 20, rel=0.05)


def test_capped_beside_fair():
    m = machine(1)
    m.add("capped", Load(), 20, Mode.CAPPED)
    m.add("fair", Load(), 20)
    m.run(1.0)
    assert m.shares(20.0)["capped"] == pytest.approx(0.2, abs=0.02)


def test_exclusive_clients_never_run_together():
    m = machine(4)
    m.add("a", Load(width=1), 100, Mode.EXCLUSIVE)
    m.add("b", Load(width=1), 100, Mode.EXCLUSIVE)
    m.run(0.2)
    together = 0
    for _ in range(5000):
        m.run(0.001)
        together += m.runs("a") and m.runs("b")
    assert together == 0
    assert m.shares(10.0)["a"] == pytest.approx(0.5, abs=0.02)


def test_short_burst_after_a_pause_does_not_wait():
    """An interactive client that works 3 ms in each 100 ms is let in at once, beside three busy ones."""
    m = machine(1, cores=4.0)
    for i in range(3):
        m.add(f"busy {i}", Load())
    interactive = m.add("interactive", Load(wants=False))
    m.run(1.0)
    waits = []
    for _ in range(50):
        began, target = m.now, interactive.used + 0.003
        interactive.wants = True
        while interactive.used < target:
            m.run(0.001)
        interactive.wants = False
        waits.append(m.now - began)
        m.run(0.1)
    assert sorted(waits)[45] < 0.01
    assert max(waits) < 0.03


class Sharing(RuleBasedStateMachine):
    """Whatever clients come, go, work and pause."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = machine(2)
        self.names = 0

    @rule(
        ratio=st.integers(1, 100),
        mode=st.sampled_from(Mode),
        width=st.sampled_from([0.05, 0.5, 1.0, 2.0]),
        obeys=st.booleans(),
        claims=st.sampled_from([None, None, 0, 2, 1 << 31]),
    )
    @precondition(lambda self: len(self.machine.loads) < 12)
    def come(self, ratio, mode, width, obeys, claims):
        self.names += 1
        load = Load(width=width, obeys=obeys, claims=claims)
        self.machine.add(str(self.names), load, ratio, mode)
        self.machine.run(0.001)

    @rule(data=st.data())
    @precondition(lambda self: self.machine.loads)
    def go(self, data):
        self.machine.remove(data.draw(st.sampled_from(sorted(self.machine.loads))))
        self.machine.run(0.001)

    @rule(data=st.data())
    @precondition(lambda self: self.machine.loads)
    def change_mind(self, data):
        load = self.machine.loads[data.draw(st.sampled_from(sorted(self.machine.loads)))]
        load.wants = not load.wants

    @rule(seconds=st.sampled_from([0.002, 0.02, 0.15]))
    def work(self, seconds):
        self.machine.run(seconds)

    @invariant()
    def nobody_is_forgotten(self):
        numbers = {self.machine.numbers[name] for name in self.machine.loads}
        assert set(self.machine.arbiter.clients) == numbers

    @invariant()
    def device_is_not_left_idle(self):
        """Right after a judgement: if somebody works who may, somebody has the turn."""
        clients = self.machine.arbiter.clients.values()
        allowed = [c for c in clients if c.active and not (c.capped and c.credit <= 0)]
        if allowed:
            assert any(c.turn is not Turn.OVER for c in allowed)
            assert any(c.turn is not Turn.OVER and not c.stopped for c in allowed)

    @invariant()
    def only_who_waits_is_stopped(self):
        for client in self.machine.arbiter.clients.values():
            assert not client.stopped or client.turn is Turn.OVER

    @invariant()
    def nobody_starves(self):
        """Those who may work and have waited are never far behind the one that runs first."""
        arbiter = self.machine.arbiter
        waiting = [
            c.virtual
            for c in arbiter.clients.values()
            if c.active and c.turn is Turn.OVER and not c.capped
        ]
        if waiting and arbiter.runners:
            assert arbiter.runners[0].virtual <= min(waiting) + 1e-9


Sharing.TestCase.settings = examples(40, stateful_step_count=25)
TestSharing = Sharing.TestCase
