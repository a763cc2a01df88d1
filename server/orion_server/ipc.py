# SPDX-License-Identifier: Apache-2.0
"""What clients show each other: allocations and events, by handles that nobody can guess and only this table knows.

A handle is a capability for clients of one user. Memory that is shared has a descriptor which shows nothing else. It
is paid for by the lease of the client that has shared it, and once that is gone by that of a client that has opened it.

Memory that moves to a descriptor of its own is there twice until its worker says that it has moved. MOVE_MOST of that
may lie beyond the lease's limit: all of it may be in use. A worker that does not finish a move is ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
import time
from dataclasses import dataclass, field

from . import errors, futex, messages
from .grants import extent_memfd
from .ledger import PAGE, Lease
from .messages import Kind, Message
from .session import Session

MEMORY, EVENT = 1, 2
MOVE_MOST = 64 << 20  # the largest extent of which a part can be shared: ORION_HEAP_EXTENT
MOVE_SECONDS = 30.0  # a worker may have to wait for its turn meanwhile
SHARED_MOST = 4096  # things that one client has shared, and that one client has opened
BELL_BYTES = 4096
# server/devices/board.h
BOARD_BYTES = 16384
PARTIES = 63
PARTY_AT, PARTY_BYTES = 256, 256
LIFE_BITS = 40  # a party's records are numbered; the next user of its place begins above
WORD = struct.Struct("<Q")


@dataclass(eq=False)
class Share:
    id: int
    kind: int
    handle: bytes
    group: str
    owner: Session | None  # None: it has gone, or has freed the memory: nobody can open it any more
    address: int
    size: int  # bytes of the descriptor, whole pages
    asked: int
    fd: int = -1  # -1: opaque
    opaque: bytes = b""
    hole: bool = False  # the memory has left its extent, whose pages there are free and not booked
    whole: bool = (
        False  # the extent itself: its lease has it in its books as long as the owner has it
    )
    payer: Lease | None = None
    since: float = 0.0  # monotonic: that it moves
    users: dict[int, Session] = field(default_factory=dict)  # by party; the owner is party 0
    lives: list[int] = field(default_factory=lambda: [0] * PARTIES)

    def first(self, party: int) -> int:
        return self.lives[party] << LIFE_BITS

    def free_party(self) -> int:
        most = PARTIES if self.kind == EVENT else SHARED_MOST
        return next((p for p in range(1, most) if p not in self.users), 0)


@dataclass(eq=False)
class Bell:
    """What the group's workers wait at for each other's events, as long as one of them is there."""

    fd: int
    users: list[Session] = field(default_factory=list)


class IpcTable:
    def __init__(self) -> None:
        self._by_id: dict[int, Share] = {}
        self._by_handle: dict[bytes, Share] = {}
        self._moving: dict[int, Share] = {}  # in the order in which they began
        self._bells: dict[str, Bell] = {}  # by group
        self._next = 1

    def serve(self, session: Session, message: Message) -> bool:
        """False: the message is about something else."""
        kind = message.kind
        if kind in (Kind.SHARE, Kind.OPEN):
            try:
                question = messages.ShareText.unpack(message.text)
            except struct.error:
                self._answer(session, message, errors.INVALID_VALUE)
                return True
            (self._share if kind == Kind.SHARE else self._open)(session, message, question)
        elif kind == Kind.MOVED:
            self._moved(session, message.a)
        elif kind == Kind.UNMOVE:
            self._unmove(session, message)
        elif kind == Kind.UNSHARE:
            share = self._by_id.get(message.a)
            if share is not None and share.owner is session:
                self._disown(share)
        elif kind == Kind.CLOSE:
            share = self._by_id.get(message.a)
            if share is not None and share.users.get(message.b) is session:
                self._leave(share, message.b)
        elif kind == Kind.BELL:
            self._bell(session, message)
        else:
            return False
        return True

    # --- the side that shares

    def _share(self, session: Session, message: Message, question: messages.ShareText) -> None:
        if session.ipc_group is None:  # nobody vouches for this client
            self._answer(session, message, errors.NOT_SUPPORTED)
            return
        if len(session.shared) >= SHARED_MOST:
            self._answer(session, message, errors.OUT_OF_MEMORY)
            return
        share = Share(
            id=self._next,
            kind=question.kind,
            handle=secrets.token_bytes(64),
            group=session.ipc_group,
            owner=session,
            address=question.address,
            size=question.bytes,
            asked=question.asked,
        )
        opaque = session.lease.device.kind == "cuda"
        result = errors.INVALID_VALUE
        if question.kind in (MEMORY, EVENT) and bool(question.is_opaque) == opaque:
            if opaque:
                share.opaque = question.opaque
                result = errors.SUCCESS
            elif question.kind == MEMORY:
                result = self._cut(session, share)
            else:
                result = self._own(session, share, BOARD_BYTES, 0)
        if result:
            self._answer(session, message, result)
            return
        self._next += 1
        self._by_id[share.id] = self._by_handle[share.handle] = share
        session.shared[share.id] = None
        moves = share.kind == EVENT or not share.whole
        if share.kind == MEMORY and not share.whole and not opaque:
            share.since = time.monotonic()
            self._moving[share.id] = share
        self._answer(session, message, 0, self._text(share, 0), share.fd if moves else -1)

    def _cut(self, session: Session, share: Share) -> int:
        """Memory of its own for a part of an extent; a whole extent stays what it is. CUresult."""
        extents = session.lease.extents
        inside = self._extent_of(session, share.address, share.size)
        if inside is None or not 0 < share.asked <= share.size or self._overlaps(session, share):
            return errors.INVALID_VALUE
        if share.size != extents[inside]:
            return self._own(session, share, share.size, MOVE_MOST)
        try:
            fd = os.dup(session.extents[inside])
        except OSError:
            return errors.OUT_OF_MEMORY
        # whoever opens it must not be able to cut it off
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        share.fd, share.whole = fd, True
        return errors.SUCCESS

    def _own(self, session: Session, share: Share, size: int, beyond: int) -> int:
        if not session.lease.book(size, beyond):
            return errors.OUT_OF_MEMORY
        try:
            share.fd = extent_memfd(size, sealed=True)
        except OSError:
            session.lease.unbook(size)
            return errors.OUT_OF_MEMORY
        share.size, share.payer = size, session.lease
        return errors.SUCCESS

    def _overlaps(self, session: Session, share: Share) -> bool:
        """A place is left once."""
        return any(
            other.kind == MEMORY
            and other.address < share.address + share.size
            and share.address < other.address + other.size
            for other in map(self._by_id.__getitem__, session.shared)
        )

    @staticmethod
    def _extent_of(session: Session, address: int, size: int) -> int | None:
        if size <= 0 or size % PAGE or address % PAGE:
            return None
        for base, length in session.lease.extents.items():
            if base <= address and address + size <= base + length:
                # the arena's are mapped by the client as they are
                in_arena = base - session.range_base < session.arena_bytes
                return None if session.range_base and in_arena else base
        return None

    def _moved(self, session: Session, number: int) -> None:
        """The place that the memory has left gives its pages back."""
        share = self._by_id.get(number)
        if share is None or share.owner is not session or share.payer is None or share.hole:
            return
        base = self._extent_of(session, share.address, share.size)
        if base is not None and share.kind == MEMORY:
            futex.drop_pages(session.extents[base], share.size, share.address - base)
            share.hole = True
            self._moving.pop(share.id, None)
            session.lease.unbook(share.size)

    def _unmove(self, session: Session, message: Message) -> None:
        share = self._by_id.get(message.a)
        base = None
        if share is not None and share.owner is session and not share.whole:
            base = self._extent_of(session, share.address, share.size)
        if share is None or base is None:
            self._answer(session, message, errors.INVALID_VALUE)
            return
        offset = share.address - base
        self._answer(session, message, 0, b"", session.extents[base], offset)
        self._disown(share)

    def expire(self, now: float) -> None:
        """Ends those who do not finish a move."""
        while self._moving:
            share = next(iter(self._moving.values()))
            if now < share.since + MOVE_SECONDS:
                return
            del self._moving[share.id]
            if share.owner is not None:
                why = "the worker did not finish sharing memory: its client held what was in two places"
                share.owner.blame(errors.UNKNOWN, why)
                share.owner.worker.kill()

    def release(self, session: Session, address: int, size: int) -> None:
        """An extent goes back, or its end: nothing in it can be opened any more. Called before it goes."""
        if session.lease.extent_that_ends(address, size) is None:
            return
        for number in list(session.shared):
            share = self._by_id[number]
            there = share.address < address + size and address < share.address + share.size
            if share.kind != MEMORY or share.fd < 0 or not there:
                continue
            if share.whole and share.users:
                session.kept.add(share.address)
            self._disown(share)

    def _disown(self, share: Share) -> None:
        """The owner is done with it; who has opened it keeps it."""
        owner, share.owner = share.owner, None
        self._moving.pop(share.id, None)
        del self._by_handle[share.handle]
        if owner is not None:
            owner.shared.pop(share.id, None)
            if share.hole:
                owner.lease.carry(share.size)
                share.hole = False
            if share.whole and share.users:
                share.payer = owner.lease
                share.payer.carry(share.size)
            if share.kind == EVENT:
                self._silence(share, 0)
        self._end_if_unused(share)

    # --- the side that opens

    def _open(self, session: Session, message: Message, question: messages.ShareText) -> None:
        share = self._by_handle.get(question.handle)
        party = share.free_party() if share is not None else 0
        if share is None or share.kind != question.kind or share.group != session.ipc_group:
            result = errors.INVALID_HANDLE  # one answer: it says nothing about what others have
        elif share.owner is session:
            result = errors.INVALID_CONTEXT
        elif not party or len(session.opened) >= SHARED_MOST or session.lease.overdrawn():
            result = errors.OUT_OF_MEMORY
        else:
            share.users[party] = session
            session.opened[share.id, party] = None
            self._answer(session, message, 0, self._text(share, party), share.fd)
            return
        self._answer(session, message, result)

    def _leave(self, share: Share, party: int) -> None:
        session = share.users.pop(party)
        session.opened.pop((share.id, party), None)
        if share.kind == EVENT:
            self._silence(share, party)
        if share.payer is session.lease and share.owner is None and share.fd >= 0:
            self._pass_on(share)
        self._end_if_unused(share)

    def _pass_on(self, share: Share) -> None:
        """Somebody has to pay: the next one who has it, even beyond its limit, and then it gets nothing more."""
        if share.payer is not None:
            share.payer.unbook(share.size)
        share.payer = next((user.lease for user in share.users.values()), None)
        if share.payer is not None:
            share.payer.carry(share.size)

    def _end_if_unused(self, share: Share) -> None:
        if share.owner is not None or share.users:
            return
        del self._by_id[share.id]
        if share.payer is not None:
            share.payer.unbook(share.size)
        if share.fd >= 0:
            futex.drop_pages(share.fd, share.size)  # a worker may lie about having unmapped it
            os.close(share.fd)

    # --- both

    def _silence(self, share: Share, party: int) -> None:
        """Records of a party that has left will not be reported any more: they count as having happened."""
        if share.fd < 0:
            return
        share.lives[party] += 1
        with contextlib.suppress(OSError):
            at = PARTY_AT + party * PARTY_BYTES
            os.pwrite(share.fd, WORD.pack(share.first(party)), at)
        if share.group in self._bells:
            futex.ring(self._bells[share.group].fd)

    def _bell(self, session: Session, message: Message) -> None:
        if session.ipc_group is None:
            self._answer(session, message, errors.NOT_SUPPORTED)
            return
        bell = self._bells.get(session.ipc_group)
        if bell is None:
            try:
                bell = Bell(extent_memfd(BELL_BYTES, sealed=True))
            except OSError:
                self._answer(session, message, errors.OUT_OF_MEMORY)
                return
            self._bells[session.ipc_group] = bell
        if all(user is not session for user in bell.users):
            bell.users.append(session)
        self._answer(session, message, 0, b"", bell.fd)

    def _leave_bell(self, session: Session) -> None:
        group = session.ipc_group
        if group is None or group not in self._bells:
            return
        bell = self._bells[group]
        bell.users = [user for user in bell.users if user is not session]
        if not bell.users:
            os.close(self._bells.pop(group).fd)

    def forget(self, session: Session) -> None:
        """The session ends: what it has opened is closed, what it has shared stays with those who have opened it."""
        for number, party in list(session.opened):
            self._leave(self._by_id[number], party)
        for address, size in list(session.lease.extents.items()):
            self.release(session, address, size)
        for number in list(session.shared):
            self._disown(self._by_id[number])
        for share in self._by_id.values():
            if share.payer is session.lease:
                self._pass_on(share)
        self._leave_bell(session)

    def close(self) -> None:
        for bell in self._bells.values():
            os.close(bell.fd)
        self._bells.clear()

    @staticmethod
    def _text(share: Share, party: int) -> bytes:
        return messages.ShareText(
            kind=share.kind,
            is_opaque=share.fd < 0,
            id=share.id,
            address=0,
            bytes=share.size,
            asked=share.asked,
            first=share.first(party) if share.kind == EVENT else 0,
            party=party,
            handle=share.handle,
            opaque=share.opaque if party else b"",
        ).pack()

    @staticmethod
    def _answer(
        session: Session,
        question: Message,
        result: int,
        text: bytes = b"",
        fd: int = -1,
        b: int = 0,
    ) -> None:
        """As session.answer(), with a text."""
        reply = Message(question.kind, question.id, result, question.a, b, 0, text)
        try:
            messages.send(session.worker.control, reply, [fd] if fd >= 0 else None)
        except OSError:
            session.worker.kill()
