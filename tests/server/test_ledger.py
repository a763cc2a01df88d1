# SPDX-License-Identifier: Apache-2.0
"""The supervisor's books: whatever clients come, take, give back and leave, promises can be kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis_settings import examples
from orion_server.errors import OUT_OF_MEMORY, Refusal
from orion_server.ledger import GRANULE, PAGE, Device, Lease, open_lease, round_up
from orion_server.limits import Limits, Mode, Policy, limits_of_wishes

MIB = 1 << 20


def device(memory_mib: int = 256, slots: int = 8, overcommit: float = 1.0) -> Device:
    return Device(0, "cpu", "a device", "", memory_mib * MIB, slots, overcommit=overcommit)


def take(lease: Lease) -> int:
    """Grants of one granule until there is no more, and of one page."""
    got = 0
    address = max(lease.extents, default=0) + 64 * GRANULE
    for size in (GRANULE, PAGE):
        while lease.grant(address, size) == 0:
            got += size
            address += GRANULE
    return got


@pytest.mark.parametrize(
    ("gmem", "ratio", "policy", "limits"),
    [
        (0, 0, Policy(), Limits(0, 100, Mode.FAIR)),
        (64, 30, Policy(), Limits(64 * MIB, 30, Mode.FAIR)),
        (1 << 40, 101, Policy(), Limits(256 * MIB, 100, Mode.FAIR)),
        (0, 5, Policy(Mode.CAPPED, 32 * MIB), Limits(32 * MIB, 5, Mode.CAPPED)),
        (64, 0, Policy(Mode.EXCLUSIVE, 32 * MIB), Limits(64 * MIB, 100, Mode.EXCLUSIVE)),
    ],
)
def test_wishes_are_cut_to_what_there_is(gmem, ratio, policy, limits):
    assert limits_of_wishes(gmem, ratio, 256 * MIB, policy) == limits


def test_promise_of_odd_size_can_be_kept():
    """Memory is granted in pages; two odd promises must not eat the last one of each other."""
    d = device(memory_mib=12)
    odd = Limits(5 * MIB + 1)
    one, two = open_lease(d, odd), open_lease(d, odd)
    assert take(one) == take(two) == 5 * MIB + PAGE


def test_second_close_of_a_lease_leaves_the_next_one_of_its_slot_alone():
    """A session that its client's next attempt supersedes is closed at once, and again when it has ended."""
    there = device(slots=2)
    first = open_lease(there, Limits(memory=64 * MIB))
    first.close()
    second = open_lease(there, Limits(memory=64 * MIB))
    assert second.slot == first.slot
    first.close()
    assert there.leases == {second.slot: second}
    assert there.promised() == 64 * MIB
    assert open_lease(there, Limits(memory=64 * MIB)).slot != second.slot


def test_lease_is_granted_its_limit_and_not_a_page_more():
    lease = open_lease(device(), Limits(64 * MIB))
    assert take(lease) == 64 * MIB
    assert lease.grant(1 << 40, PAGE) == OUT_OF_MEMORY


def test_end_of_an_extent_can_go_back_without_the_rest():
    lease = open_lease(device(), Limits(64 * MIB))
    assert lease.grant(GRANULE, 10 * PAGE) == 0
    for address, size in (
        (GRANULE, 9 * PAGE),  # its beginning
        (GRANULE + PAGE, PAGE),  # a hole
        (GRANULE + 9 * PAGE, 2 * PAGE),  # more than there is
        (GRANULE + 10 * PAGE, 0),
        (GRANULE + 10 * PAGE - 1, 1),
        (GRANULE - PAGE, 11 * PAGE),
    ):
        assert not lease.release(address, size)
    assert lease.release(GRANULE + 8 * PAGE, 2 * PAGE)
    assert (lease.granted, lease.extents) == (8 * PAGE, {GRANULE: 8 * PAGE})
    assert lease.release(GRANULE, 8 * PAGE)
    assert (lease.granted, lease.extents) == (0, {})


class Books(RuleBasedStateMachine):
    """Leases of one device."""

    @initialize(overcommit=st.sampled_from([1.0, 1.0, 1.5, 4.0]), memory=st.integers(8, 300))
    def begin(self, overcommit, memory):
        self.device = device(memory, 6, overcommit)
        self.next = 1

    def leases(self) -> list[Lease]:
        return list(self.device.leases.values())

    @rule(mib=st.one_of(st.just(0), st.integers(1, 400)), odd=st.integers(0, 4096))
    def come(self, mib, odd):
        memory = min(mib * MIB + (odd if mib else 0), self.device.memory)
        before = self.device.promised()
        try:
            open_lease(self.device, Limits(memory), 0)
        except Refusal:
            assert (
                len(self.device.leases) == self.device.slots
                or before + self.device.backing(memory) > self.device.room
            )

    @rule(data=st.data(), pages=st.one_of(st.integers(1, 5), st.integers(1, 30_000)))
    @precondition(lambda self: self.device.leases)
    def grow(self, data, pages):
        """Refused only where the limit, the device or others' promises are in the way."""
        lease = data.draw(st.sampled_from(self.leases()))
        before, size = lease.granted, pages * PAGE
        others = sum(x.holds for x in self.leases() if x is not lease)
        result = lease.grant(self.next * (1 << 30), size)
        self.next += 1
        after = before + size
        kept = after <= self.device.backing(lease.limits.memory)
        fits = after <= round_up(lease.limit, PAGE) and (kept or others + after <= self.device.room)
        if self.device.overcommit == 1.0:
            assert (result == 0) == fits
        assert result in (0, OUT_OF_MEMORY)
        assert lease.granted == (before if result else after)
        if result == 0:
            assert lease.granted <= round_up(lease.limit, PAGE)

    @rule(data=st.data(), pages=st.integers(1, 100))
    @precondition(lambda self: any(lease.extents for lease in self.leases()))
    def give_back_the_end(self, data, pages):
        lease = data.draw(st.sampled_from([x for x in self.leases() if x.extents]))
        address, size = data.draw(st.sampled_from(sorted(lease.extents.items())))
        before, part = lease.granted, pages * PAGE
        done = lease.release(address + size - part, part)
        assert done == (part <= size)
        assert lease.granted == before - (part if done else 0)

    @rule(data=st.data())
    @precondition(lambda self: any(lease.extents for lease in self.leases()))
    def give_back(self, data):
        lease = data.draw(st.sampled_from([x for x in self.leases() if x.extents]))
        address, size = data.draw(st.sampled_from(sorted(lease.extents.items())))
        assert not lease.release(address, size + PAGE)
        assert lease.release(address, size)
        assert not lease.release(address, size)

    @rule(data=st.data(), mib=st.integers(0, 400))
    @precondition(lambda self: self.device.leases)
    def change(self, data, mib):
        lease = data.draw(st.sampled_from(self.leases()))
        before = lease.limits
        try:
            lease.change(replace(before, memory=mib * MIB))
        except ValueError:
            assert lease.limits == before

    @rule(data=st.data())
    @precondition(lambda self: self.device.leases)
    def leave(self, data):
        lease = data.draw(st.sampled_from(self.leases()))
        lease.close()
        lease.close()
        assert lease.granted == 0

    @invariant()
    def books_agree(self):
        if not hasattr(self, "device"):
            return
        granted = [sum(lease.extents.values()) for lease in self.leases()]
        assert [lease.granted for lease in self.leases()] == granted
        assert self.device.granted == sum(granted)

    @invariant()
    def device_is_never_exceeded(self):
        if hasattr(self, "device"):
            assert self.device.granted <= self.device.room

    @invariant()
    def promises_can_be_kept(self):
        """All at once: what is granted, and for everybody else the rest of what he was promised."""
        if not hasattr(self, "device"):
            return
        if self.device.overcommit == 1.0:
            kept = [max(x.granted, round_up(x.limits.memory, PAGE)) for x in self.leases()]
            assert sum(kept) <= self.device.room

    def teardown(self):
        if hasattr(self, "device"):
            for lease in self.leases():
                lease.close()
            assert self.device.granted == 0


Books.TestCase.settings = examples(150, stateful_step_count=30)
TestBooks = Books.TestCase
