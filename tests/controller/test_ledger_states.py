# SPDX-License-Identifier: Apache-2.0
"""Leases under any order of requests, deaths, delays, restarts and clock readings, by hypothesis."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis.strategies as st
from controller_fakes import GIB, Clock, FakeServer
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from hypothesis_settings import examples
from orion_controller import placement
from orion_controller.ledger import Ledger, Rules
from orion_controller.model import Client, Refused, Report, Request, Wish
from orion_controller.store import Store
from orion_server.lease_tokens import decode_id

CLIENT = Client("program", 1)
SERVERS = {"a": (2, 1), "b": (3, 2)}  # slots, devices


class Leases(RuleBasedStateMachine):
    """The truth is in the fake servers: what they hold, and what somebody could still attach with."""

    requests: Bundle[Request] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "state.sqlite"
        self.store = Store(self.path, self.clock)
        self.numbers = itertools.count(1)
        self.ledger = self.fresh()
        self.servers = {
            name: FakeServer(name, self.clock, slots, devices=devices, skew=777.0 * (i + 1))
            for i, (name, (slots, devices)) in enumerate(SERVERS.items())
        }
        self.in_flight: dict[str, deque[Report]] = {name: deque() for name in SERVERS}
        self.issued: set[tuple[str, int, str]] = set()  # server, its epoch, token ID
        self.waiting: list[Request] = []

    def teardown(self) -> None:
        try:
            self.everybody_is_served_in_the_end()
            self.everything_is_free_in_the_end()
        finally:
            self.store.close()
            self.folder.cleanup()

    def fresh(self) -> Ledger:
        return Ledger(self.clock, Rules(policy="spread"), new_id=lambda: next(self.numbers))

    def saved(self, act: Callable[[], object]) -> object:
        """As the service does: written before anybody hears of it; a refusal changes what it changes."""
        try:
            return act()
        except Refused:
            return None
        finally:
            self.store.save(self.ledger)
            self.hand_out()

    def hand_out(self) -> None:
        """Whoever waited is told; so are those who ask for their lease's newest tokens."""
        self.waiting = [r for r in self.waiting if not r.settled]
        for server in self.servers.values():
            for lease in self.ledger.leases.values():
                for token in server.token_ids(lease):
                    # the key that it is made with is of the life that the controller knows
                    known = self.ledger.servers[server.name].epoch
                    self.issued.add((server.name, known, token))

    # --- what clients do

    @rule(
        target=requests,
        vgpus=st.integers(1, 2),
        memory=st.sampled_from([0, GIB, 4 * GIB, 8 * GIB]),
        ratio=st.sampled_from([0, 30, 100]),
        wait=st.sampled_from([0.0, 20.0, None]),
        cross=st.booleans(),
        held=st.booleans(),
    )
    def ask(
        self, vgpus: int, memory: int, ratio: int, wait: float | None, cross: bool, held: bool
    ) -> Request:
        wish = Wish(vgpus, memory, ratio, cross, wait, "here", held=held, seconds=40.0)
        request = self.ledger.request(wish, CLIENT)
        self.waiting.append(request)
        self.saved(lambda: None)
        return request

    @rule(held=st.booleans())
    def crowd(self, held: bool) -> None:
        """More than there is: the rest waits for who is first to go."""
        for _ in range(4):
            self.ask(1, 8 * GIB, 0, None, False, held)

    @rule(request=consumes(requests))
    def leave_the_queue(self, request: Request) -> None:
        if request in self.waiting:
            self.waiting.remove(request)
            self.saved(lambda: self.ledger.cancel(request))

    @rule(data=st.data())
    def attach(self, data: st.DataObject) -> None:
        if self.issued:
            name, epoch, token = data.draw(st.sampled_from(sorted(self.issued)))
            if epoch == self.servers[name].epoch:  # else its key has changed
                self.servers[name].attach(token)

    @rule(data=st.data(), name=st.sampled_from(sorted(SERVERS)))
    def program_dies(self, data: st.DataObject, name: str) -> None:
        server = self.servers[name]
        if server.sessions:
            server.detach(data.draw(st.sampled_from(sorted(server.sessions))))

    @rule(data=st.data(), what=st.sampled_from(["release", "renew", "grow", "shrink"]))
    def change_a_lease(self, data: st.DataObject, what: str) -> None:
        if not self.ledger.leases:
            return
        number = data.draw(st.sampled_from(sorted(self.ledger.leases)))
        self.saved(
            {
                "release": lambda: self.ledger.release(number, "told to"),
                "renew": lambda: self.ledger.renew(number, 40.0),
                "grow": lambda: self.ledger.resize(number, 6 * GIB, 60),
                "shrink": lambda: self.ledger.resize(number, GIB, 10),
            }[what]
        )

    # --- what servers do

    @rule(name=st.sampled_from(sorted(SERVERS)))
    def send_a_report(self, name: str) -> None:
        self.in_flight[name].append(self.servers[name].report())

    @rule(name=st.sampled_from(sorted(SERVERS)), last=st.booleans())
    def a_report_arrives(self, name: str, last: bool) -> None:
        """Early or late, or never: a report may overtake another."""
        flight = self.in_flight[name]
        if not flight:
            return
        report = flight.pop() if last else flight.popleft()
        orders = self.saved(lambda: self.ledger.report(report))
        server = self.servers[name]
        if orders is not None and report.epoch == server.epoch:
            server.obey(orders)

    @rule(name=st.sampled_from(sorted(SERVERS)))
    def heartbeat(self, name: str) -> None:
        self.send_a_report(name)
        self.a_report_arrives(name, True)

    @rule(name=st.sampled_from(sorted(SERVERS)))
    def server_restarts(self, name: str) -> None:
        self.servers[name].restart()

    @rule(name=st.sampled_from(sorted(SERVERS)), drained=st.booleans())
    def drain(self, name: str, drained: bool) -> None:
        self.saved(lambda: self.ledger.drain(name, drained))

    # --- what time and the controller's own death do

    @rule(seconds=st.sampled_from([0.5, 3.0, 12.0, 35.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.saved(self.ledger.tick)

    @rule(jump=st.sampled_from([0.0, 1e6]))
    def controller_restarts(self, jump: float) -> None:
        """Perhaps on another host, whose monotonic clock has nothing to do with ours."""
        self.store.close()
        self.clock.now += jump
        for server in self.servers.values():
            server.skew -= jump
        self.store = Store(self.path, self.clock)
        self.ledger = self.fresh()
        self.store.load(self.ledger)
        self.waiting.clear()

    # --- what must hold

    @invariant()
    def no_device_is_over_allocated(self) -> None:
        """Neither in the books, nor by what runs and what could come with a token that is out."""
        for server in self.servers.values():
            most: dict[tuple[int, int, int], tuple[int, int]] = {}  # device, lease, part -> bounds

            def count(device: int, key: tuple[int, int], memory: int, ratio: int) -> None:
                equal = ratio in (0, 100 // server.slots)  # noqa: B023 - called in this turn
                share = 100 if equal else ratio * server.slots  # noqa: B023
                before = most.get((device, *key), (0, 0))  # noqa: B023
                most[(device, *key)] = (max(memory, before[0]), max(share, before[1]))  # noqa: B023

            for use in server.sessions.values():
                count(use.device, (use.lease, use.part), use.memory_limit, use.ratio)
            for name, epoch, token in self.issued:
                if (name, epoch) != (server.name, server.epoch):
                    continue
                terms = decode_id(token)
                assert terms is not None
                spent = not terms.held and token in server.held_ids.values()
                if server.tokens.find(token) is not None and not spent:
                    count(terms.device, terms.key, terms.memory, terms.ratio)
            for device in range(server.devices):
                rows = [v for k, v in most.items() if k[0] == device]
                assert len(rows) <= server.slots
                assert sum(memory for memory, _ in rows) <= server.memory
                assert sum(share for _, share in rows) <= 100 * server.slots
        for room in self.ledger.rooms():
            assert room.slots >= 0
            assert room.memory >= 0
            assert room.share >= 0

    @invariant()
    def a_lease_has_parts_and_a_request_one_answer(self) -> None:
        assert all(lease.parts for lease in self.ledger.leases.values())
        assert all(not r.settled for r in self.ledger.queue)
        assert not [r for r in self.waiting if r.lease is not None and r.refused is not None]

    @invariant()
    def nobody_waits_for_what_is_free(self) -> None:
        """Unless who has waited longer could use that device, too."""
        kept: set[tuple[str, int]] = set()
        for request in self.ledger.queue:
            wish = request.wish
            rooms = [
                room
                for room in self.ledger.rooms()
                if room.server.live and room.server.keyed
                if not room.server.drained and not room.server.draining
            ]
            free = [r.server.id for r in rooms if r.key not in kept and placement.fits(wish, r)]
            most = len(free) if wish.cross_node else max(map(free.count, free), default=0)
            assert most < wish.vgpus, (request, rooms)
            whole = (placement.empty(r.server, r.device) for r in rooms)
            kept |= {r.key for r in whole if placement.fits(wish, r)}

    def everybody_is_served_in_the_end(self) -> None:
        """Servers are open and programs end: each time that happens, whoever waits has come closer."""
        for name in SERVERS:
            self.drain(name, False)
        self.nothing_is_used_any_more()
        while self.ledger.queue:
            before = len(self.ledger.queue)
            self.nothing_is_used_any_more()
            assert len(self.ledger.queue) < before
            self.nobody_waits_for_what_is_free()

    @rule()
    def everything_is_free_in_the_end(self) -> None:
        """Waiters leave, too: nothing is left."""
        for request in self.waiting:
            self.ledger.cancel(request)
        self.waiting.clear()
        self.nothing_is_used_any_more()
        assert not self.ledger.leases
        assert not self.ledger.queue
        for room in self.ledger.rooms():
            assert (room.slots, room.memory) == (room.device.slots, room.device.memory)
            assert room.share == 100 * room.device.slots

    def nothing_is_used_any_more(self) -> None:
        """Programs end, leases are released, and there are two rounds of heartbeats."""
        for server in self.servers.values():
            for session in list(server.sessions):
                server.detach(session)
        for number in list(self.ledger.leases):
            self.ledger.release(number, "the end")
        for flight in self.in_flight.values():
            flight.clear()
        for _ in range(2):
            for server in self.servers.values():
                server.obey(self.ledger.report(server.report()))
        self.saved(lambda: None)


TestLeases = Leases.TestCase
TestLeases.settings = examples(100, stateful_step_count=40)
