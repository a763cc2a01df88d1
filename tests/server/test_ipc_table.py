# SPDX-License-Identifier: Apache-2.0
"""The table of what clients share, against workers that say anything: nothing is given that a lease has not booked."""

from __future__ import annotations

import os
import socket
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis_settings import examples
from orion_server import messages
from orion_server.grants import extent_memfd
from orion_server.ipc import EVENT, MEMORY, MOVE_MOST, MOVE_SECONDS, PARTIES, IpcTable
from orion_server.ledger import Device, open_lease
from orion_server.limits import Limits
from orion_server.messages import Kind, Message, ShareText
from orion_server.session import Session

MIB = 1 << 20
EXTENT = 64 * MIB
HEAP = 0x100800000000
INVALID_VALUE, OUT_OF_MEMORY, INVALID_CONTEXT, INVALID_HANDLE, NOT_SUPPORTED = 1, 2, 201, 400, 801


class Peer:
    """A worker's end of its control line, and the session as the table sees it."""

    def __init__(self, table: IpcTable, device: Device, uid: int = 1000, gmem: int = 256) -> None:
        self.table = table
        ours, self.line = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.session: Any = SimpleNamespace(
            ipc_group=None if uid < 0 else str(uid),
            lease=open_lease(device, Limits(gmem * MIB)),
            extents={},
            range_base=0x100000000000,
            arena_bytes=0x800000000,
            shared={},
            opened={},
            kept=set(),
            worker=SimpleNamespace(control=ours, kill=lambda: None),
        )

    def grant(self, address: int, size: int) -> None:
        assert self.session.lease.grant(address, size) == 0
        self.session.extents[address] = extent_memfd(size, sealed=False)

    def tell(self, kind: Kind, a: int = 0, b: int = 0) -> None:
        assert self.table.serve(self.session, Message(kind, a=a, b=b))

    def ask(self, kind: Kind, text: bytes = b"", a: int = 0) -> tuple[Message, list[int]]:
        assert self.table.serve(self.session, Message(kind, id=7, a=a, text=text))
        received = messages.receive(self.line)
        assert received is not None
        assert received[0].id == 7
        return received

    def share(self, address: int, size: int, kind: int = MEMORY, **rest: int) -> tuple[int, Any]:
        text = ShareText(kind, address=address, bytes=size, asked=rest.pop("asked", size), **rest)
        answer, fds = self.ask(Kind.SHARE, text.pack())
        self.fds = [os.fstat(fd).st_size for fd in fds]
        messages.close_all(fds)
        return answer.result, ShareText.unpack(answer.text) if not answer.result else None

    def open(self, handle: bytes, kind: int = MEMORY) -> tuple[int, Any]:
        answer, fds = self.ask(Kind.OPEN, ShareText(kind, handle=handle).pack())
        messages.close_all(fds)
        return answer.result, ShareText.unpack(answer.text) if not answer.result else None

    def end(self) -> None:
        self.table.forget(self.session)
        for fd in self.session.extents.values():
            os.close(fd)
        self.session.lease.close()
        self.line.close()
        self.session.worker.control.close()


@pytest.fixture
def device() -> Device:
    return Device(0, "cpu", "a device", "", 4096 * MIB, 8)


@pytest.fixture
def peers(device):
    table = IpcTable()
    made: list[Peer] = []

    def make(**changes: int) -> Peer:
        made.append(Peer(table, device, **changes))
        return made[-1]

    before = len(os.listdir("/proc/self/fd"))
    yield make
    for peer in made:
        peer.end()
    table.close()
    assert device.granted == 0
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("address", "size", "asked"),
    [
        (HEAP - 4096, 4096, 1),
        (HEAP + EXTENT, 4096, 1),
        (HEAP + EXTENT - 4096, 8192, 1),  # beyond the extent
        (HEAP, 2 * EXTENT, 1),
        (HEAP + 1, 4096, 1),
        (HEAP, 4095, 1),
        (HEAP, 0, 0),
        (HEAP, 4096, 0),
        (HEAP, 4096, 4097),
        ((1 << 64) - 4096, 4096, 1),
        (0x100000000000, 4096, 1),  # the arena's
    ],
)
def test_only_pages_of_a_heap_extent_can_be_shared(peers, address, size, asked):
    peer = peers()
    peer.grant(HEAP, EXTENT)
    peer.grant(0x100000000000, 2 * MIB)
    before = peer.session.lease.granted
    assert peer.share(address, size, asked=asked)[0] == INVALID_VALUE
    assert peer.session.lease.granted == before


@pytest.mark.parametrize("text", [b"", b"x", bytes(183), bytes(185), bytes(1024)])
@pytest.mark.parametrize("kind", [Kind.SHARE, Kind.OPEN])
def test_text_of_another_length_is_refused(peers, kind, text):
    assert peers().ask(kind, text)[0].result == INVALID_VALUE


def test_drivers_handles_come_from_drivers_alone(peers):
    peer = peers()
    peer.grant(HEAP, EXTENT)
    assert peer.share(HEAP, 4096, is_opaque=1)[0] == INVALID_VALUE
    assert peer.share(HEAP, 4096, kind=3)[0] == INVALID_VALUE


def test_descriptor_shows_the_allocation_and_nothing_else(peers):
    peer = peers()
    peer.grant(HEAP, EXTENT)
    result, shared = peer.share(HEAP + 8192, 4096, asked=100)
    assert (result, peer.fds) == (0, [4096])
    other = peers()
    _, fds = other.ask(Kind.OPEN, ShareText(MEMORY, handle=shared.handle).pack())
    assert [os.fstat(fd).st_size for fd in fds] == [4096]
    with pytest.raises(PermissionError):
        os.ftruncate(fds[0], 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fds[0], 8192)
    messages.close_all(fds)


def test_place_is_credited_once(peers):
    """Or a worker would be granted memory again and again for one hole."""
    peer = peers()
    peer.grant(HEAP, EXTENT)
    booked = peer.session.lease.granted
    _, shared = peer.share(HEAP, MIB)
    assert peer.session.lease.granted == booked + MIB
    for _ in range(3):
        peer.tell(Kind.MOVED, shared.id)
        assert peer.session.lease.granted == booked
    for address, size in ((HEAP, MIB), (HEAP + 4096, 4096), (HEAP, EXTENT)):
        assert peer.share(address, size)[0] == INVALID_VALUE
    answer, fds = peer.ask(Kind.UNMOVE, a=shared.id)
    assert (answer.result, answer.b, os.fstat(fds[0]).st_size) == (0, 0, EXTENT)
    messages.close_all(fds)
    assert peer.session.lease.granted == booked
    assert peer.ask(Kind.UNMOVE, a=shared.id)[0].result == INVALID_VALUE


def test_moves_that_never_end_are_bounded(peers):
    """A worker that asks for memory and does not say that the old place is free: in bytes, and in time."""
    peer, honest = peers(gmem=128), peers()
    for at in (HEAP, HEAP + EXTENT):
        peer.grant(at, EXTENT)
    honest.grant(HEAP, EXTENT)
    blamed: list[str] = []
    for p in (peer, honest):
        p.session.blame = lambda result, why: blamed.append(why)
        p.session.worker.kill = lambda p=p: blamed.append(p)
    _, moved = honest.share(HEAP, MIB)
    honest.tell(Kind.MOVED, moved.id)
    results = [peer.share(HEAP + i * 16 * MIB, 16 * MIB)[0] for i in range(8)]
    assert results.count(0) == 4
    assert peer.session.lease.granted == 128 * MIB + MOVE_MOST
    assert peer.share(0, 0, kind=EVENT)[0] == OUT_OF_MEMORY
    now = time.monotonic()
    peer.table.expire(now)
    assert blamed == []
    peer.table.expire(now + MOVE_SECONDS)
    assert [x for x in blamed if isinstance(x, Peer)] == [peer] * 4
    assert "did not finish sharing" in blamed[0]


def test_numbers_of_others_do_nothing(peers):
    one, two = peers(), peers()
    one.grant(HEAP, EXTENT)
    _, shared = one.share(HEAP, MIB)
    one.tell(Kind.MOVED, shared.id)
    _, opened = two.open(shared.handle)
    three = peers()
    for peer in (two, three):
        peer.tell(Kind.UNSHARE, shared.id)
        peer.tell(Kind.MOVED, shared.id)
        assert peer.ask(Kind.UNMOVE, a=shared.id)[0].result == INVALID_VALUE
    one.tell(Kind.CLOSE, shared.id, opened.party)
    three.tell(Kind.CLOSE, shared.id, opened.party)
    two.tell(Kind.CLOSE, shared.id, opened.party + 1)
    assert three.open(shared.handle)[0] == 0
    two.tell(Kind.CLOSE, shared.id, opened.party)
    two.tell(Kind.CLOSE, shared.id, opened.party)


def test_other_users_and_nobody_open_nothing(peers):
    one = peers(uid=1000)
    one.grant(HEAP, EXTENT)
    _, shared = one.share(HEAP, MIB)
    assert peers(uid=1001).open(shared.handle)[0] == INVALID_HANDLE
    assert peers(uid=0).open(shared.handle)[0] == INVALID_HANDLE  # root is a user like any other
    nobody = peers(uid=-1)
    assert nobody.open(shared.handle)[0] == INVALID_HANDLE
    nobody.grant(HEAP, EXTENT)
    assert nobody.share(HEAP, MIB)[0] == NOT_SUPPORTED
    assert nobody.ask(Kind.BELL)[0].result == NOT_SUPPORTED
    assert one.open(shared.handle)[0] == INVALID_CONTEXT
    assert peers(uid=1000).open(shared.handle)[0] == 0


@pytest.mark.parametrize(
    ("container", "uid", "group"),
    [
        (None, 1000, "1000"),
        (None, -1, None),
        ("c7", 1000, "container-c7"),
        ("c7", -1, "container-c7"),
    ],
)
def test_containers_share_within_themselves_whatever_the_user(container, uid, group):
    allocation = SimpleNamespace(id=container) if container else None
    session: Any = SimpleNamespace(uid=uid, allocation=allocation)
    assert Session.ipc_group.__get__(session) == group


def test_bell_is_one_for_each_user(peers):
    def inode(peer: Peer) -> int:
        answer, fds = peer.ask(Kind.BELL)
        assert answer.result == 0
        number = os.fstat(fds[0]).st_ino
        messages.close_all(fds)
        return number

    assert inode(peers(uid=1)) == inode(peers(uid=1)) != inode(peers(uid=2))


def test_bell_goes_with_the_last_who_has_asked_for_it(peers):
    def ask(peer: Peer) -> None:
        messages.close_all(peer.ask(Kind.BELL)[1])

    one, two = peers(), peers()
    for peer in (one, one, two):
        ask(peer)
    (bell,) = one.table._bells.values()
    one.table.forget(one.session)
    assert os.fstat(bell.fd)
    two.table.forget(two.session)
    assert not two.table._bells
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(bell.fd)


def test_payment_passes_on_and_ends(peers, device):
    one, two, three = peers(), peers(), peers()
    one.grant(HEAP, EXTENT)
    one.grant(HEAP + EXTENT, 2 * EXTENT)
    _, part = one.share(HEAP, MIB)
    one.tell(Kind.MOVED, part.id)
    _, whole = one.share(HEAP + EXTENT, 2 * EXTENT)
    assert one.fds == []
    for peer in (two, three):
        assert peer.open(part.handle)[0] == peer.open(whole.handle)[0] == 0
    everything = device.granted
    assert everything == 3 * EXTENT
    one.table.forget(one.session)
    one.session.lease.close()
    assert one.session.kept == {HEAP + EXTENT}
    for payer in (two, three):
        leases = [peer.session.lease.granted for peer in (two, three)]
        assert sum(leases) == device.granted == 2 * EXTENT + MIB
        payer.table.forget(payer.session)
    assert device.granted == 0


def test_events_have_a_bounded_number_of_places(peers):
    one, two = peers(), peers()
    _, shared = one.share(0, 0, kind=EVENT)
    parties = [two.open(shared.handle, EVENT) for _ in range(PARTIES + 5)]
    assert [result for result, _ in parties] == [0] * (PARTIES - 1) + [OUT_OF_MEMORY] * 6
    assert {text.party for _, text in parties[: PARTIES - 1]} == set(range(1, PARTIES))
    two.tell(Kind.CLOSE, shared.id, 5)
    result, again = two.open(shared.handle, EVENT)
    assert (result, again.party) == (0, 5)
    assert again.first > 0  # numbers of the one before mean nothing any more


@examples(200)
@given(st.data())
def test_random_messages_never_unbalance_the_books(data):
    device = Device(0, "cpu", "a device", "", 4096 * MIB, 8)
    table = IpcTable()
    pair = [Peer(table, device), Peer(table, device, gmem=64)]
    for peer in pair:
        peer.grant(HEAP, EXTENT)
    try:
        act(data, pair)
    finally:  # hypothesis may end an example at any draw
        for peer in pair:
            peer.end()
        table.close()
    assert device.granted == 0


def act(data: st.DataObject, pair: list[Peer]) -> None:
    device = pair[0].session.lease.device
    handles = [bytes(64)]
    numbers = st.one_of(st.integers(0, 8), st.integers(0, (1 << 64) - 1))
    pages = st.integers(0, 6).map(lambda n: HEAP + n * 4096)
    for _ in range(data.draw(st.integers(1, 25))):
        peer = data.draw(st.sampled_from(pair))
        kind = data.draw(
            st.sampled_from(
                [Kind.SHARE, Kind.MOVED, Kind.UNMOVE, Kind.UNSHARE, Kind.OPEN, Kind.CLOSE]
            )
        )
        if kind == Kind.SHARE:
            address = data.draw(st.one_of(pages, numbers))
            size = data.draw(st.sampled_from([0, 4096, 8192, EXTENT, 1 << 63]))
            _, text = peer.share(address, size, kind=data.draw(st.sampled_from([0, 1, 2])))
            handles += [text.handle] if text else []
        elif kind == Kind.OPEN:
            peer.open(data.draw(st.sampled_from(handles)), data.draw(st.sampled_from([1, 2])))
        elif kind == Kind.UNMOVE:
            messages.close_all(peer.ask(kind, a=data.draw(numbers))[1])
        else:
            peer.tell(kind, data.draw(numbers), data.draw(numbers))
        assert device.granted == sum(p.session.lease.granted for p in pair)
        assert all(p.session.lease.granted >= 0 for p in pair)
        assert pair[1].session.lease.granted <= 3 * EXTENT + EXTENT  # what it carries for the other
