# SPDX-License-Identifier: Apache-2.0
"""What a running worker asks of the supervisor: memory in extents, and the object cache of its tenant."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace

from . import adoption, errors, wire
from .cache import OBJECT_MOST, ObjectCache
from .messages import CACHE_KEY, Kind, Message
from .session import Session, answer


def extent_memfd(size: int, sealed: bool) -> int:
    """Zeroed memory of a fixed size. The arena's is sealed, for the client could shrink it under the worker."""
    fd = os.memfd_create("orion-extent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        seals = fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals if sealed else fcntl.F_SEAL_GROW)
    except OSError:
        os.close(fd)
        raise
    return fd


class Grants:
    def __init__(
        self,
        cache_of: Callable[[Session], ObjectCache | None],
        release: Callable[[Session, int, int], None],
    ) -> None:
        self._cache_of = cache_of
        self._release = release  # told before an extent goes back

    def serve(self, session: Session, message: Message) -> None:
        if message.kind == Kind.GRANT:
            self._grant(session, message)
        elif message.kind == Kind.RELEASE:
            self._release(session, message.a, message.b)
            session.release_extent(message.a, message.b)
        elif message.kind == Kind.EXPOSE:
            self._expose(session, message)
        elif message.kind == Kind.ADOPT:
            adoption.serve(session, message)
        elif message.kind == Kind.CACHE_GET:
            self._cache_get(session, message)
        elif message.kind == Kind.CACHE_SLOT:
            self._cache_slot(session, message)
        elif message.kind == Kind.CACHE_PUT:
            self._cache_put(session, message)

    def _grant(self, session: Session, message: Message) -> None:
        address, size, arena = message.a, message.b, message.c == 1
        offset = address - session.range_base
        if arena and not (
            session.range_base and offset >= 0 and offset + size <= session.arena_bytes
        ):
            answer(session, message, errors.INVALID_VALUE)
            return
        result = session.lease.grant(address, size)
        if result:
            answer(session, message, result)
            return
        try:
            fd = extent_memfd(size, sealed=arena)
        except OSError:
            session.lease.release(address, size)
            answer(session, message, errors.OUT_OF_MEMORY)
            return
        session.extents[address] = fd
        # the client has the descriptor before the worker answers its call
        if arena and not session.notify(wire.encode_notice(wire.NOTICE_EXTENT, offset, size), [fd]):
            session.release_extent(address, size)
            answer(session, message, errors.OUT_OF_MEMORY)
            return
        answer(session, message, errors.SUCCESS, size, fd)

    def _expose(self, session: Session, message: Message) -> None:
        """Shows the client a heap extent: a variable that both sides use lies in it."""
        for address, size in session.lease.extents.items():
            if address <= message.a < address + size:
                break
        else:
            answer(session, message, errors.INVALID_VALUE)
            return
        fd = session.extents[address]
        offset = address - session.range_base
        shown = address in session.exposed  # it is mapped already: nothing to do for the client
        if not shown:
            fcntl.fcntl(
                fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK
            )  # the client must not be able to cut it off
            if not session.notify(wire.encode_notice(wire.NOTICE_EXTENT, offset, size), [fd]):
                answer(session, message, errors.OUT_OF_MEMORY)
                return
            session.exposed.add(address)
        answer(session, replace(message, a=address), errors.SUCCESS, 0 if shown else size)

    def _cache_get(self, session: Session, message: Message) -> None:
        cache = self._cache_of(session)
        found = cache.open(message.text) if cache and len(message.text) == CACHE_KEY else None
        if found is None:
            answer(session, message, errors.NOT_FOUND)
            return
        fd, size = found
        answer(session, message, errors.SUCCESS, size, fd)
        os.close(fd)

    def _cache_slot(self, session: Session, message: Message) -> None:
        """Memory for an object on its way into the cache; one at a time, the next one replaces it."""
        if session.slot_fd >= 0:
            os.close(session.slot_fd)
            session.slot_fd = -1
        if self._cache_of(session) is None:
            answer(session, message, errors.NOT_FOUND)
            return
        if not 0 < message.b <= OBJECT_MOST:
            answer(session, message, errors.INVALID_VALUE)
            return
        try:
            session.slot_fd = extent_memfd(message.b, sealed=True)
        except OSError:
            answer(session, message, errors.OUT_OF_MEMORY)
            return
        session.slot_bytes = message.b
        answer(session, message, errors.SUCCESS, message.b, session.slot_fd)

    def _cache_put(self, session: Session, message: Message) -> None:
        if session.slot_fd < 0 or len(message.text) != CACHE_KEY:
            return
        cache = self._cache_of(session)
        if cache is not None:
            cache.put(message.text, session.slot_fd, session.slot_bytes)
        os.close(session.slot_fd)
        session.slot_fd = -1
