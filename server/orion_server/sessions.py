# SPDX-License-Identifier: Apache-2.0
"""All sessions of a server: each from its client's good hello to the last trace of it.

No byte of a client is parsed here. Everything that a worker says is bounded, and nothing waits for a peer.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import adoption, errors, introduction, messages, wire
from .allocations import Allocation
from .errors import ProtocolError, Refusal
from .greeter import Guest
from .ledger import Lease, open_lease
from .limits import limits_of_wishes
from .session import Session, State
from .tokens import seal_epitaph
from .workers import Worker

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger("orion.server")

WAIT_SECONDS = 1.0  # between notices to a client whose worker is starting
START_SECONDS = 60.0  # of a worker; a cold zygote imports for a second or two
RECENT_MOST = 256
LOGGED_MOST = 100  # lines of one worker


class Sessions:
    """Those that have not ended, and what is left of the others."""

    def __init__(self, server: Supervisor) -> None:
        self._server = server
        self._live: dict[int, Session] = {}
        self.recent: deque[Session] = deque(maxlen=RECENT_MOST)
        self.totals: dict[str, Any] = {
            "sessions": 0,
            "calls": 0,
            "bytes": 0,
            "kernels": 0,
            "memory_peak": 0,
            "busy_seconds": 0.0,
        }

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Session]:
        """As they are now: any of them may end meanwhile."""
        return iter(list(self._live.values()))

    def get(self, number: int) -> Session | None:
        return self._live.get(number)

    # --- the beginning

    def admit(self, guest: Guest) -> None:
        """A good hello. Where there is no room, and somebody is just leaving, the guest waits for that."""
        self._server.leasing.begin(guest)
        try:
            try:
                self.open(guest)
            except Refusal as refusal:
                if not any(s.state is State.ENDING for s in self):
                    raise
                self._server.waiting.put(guest, refusal)
        except Refusal:
            self._server.leasing.give_back(guest)
            raise

    def _open_lease(self, guest: Guest, allocation: Allocation | None) -> Lease:
        hello, policy = guest.hello, self._server.config.sharing
        if allocation is not None:
            return allocation.open_lease(hello, policy)
        limits = limits_of_wishes(
            hello.gmem_mib, hello.ratio, self._server.device.memory, policy, guest.token
        )
        return open_lease(self._server.device, limits, hello.vgpu)

    def open(self, guest: Guest) -> None:
        """A lease, and a worker that is told whom to serve."""
        hello = guest.hello
        if self._server.draining:
            raise Refusal(
                wire.STATUS_REFUSED,
                errors.DEVICE_UNAVAILABLE,
                "this server is being drained and takes no new clients: use another one, or `orion drain --undo`",
            )
        allocation = guest.allocation or self._server.allocations.of_token(guest.token)
        lease = self._open_lease(guest, allocation)
        try:
            worker = self._server.workers.take()
        except OSError as e:
            lease.close()
            why = f"this server cannot start workers: {e.strerror}"
            raise Refusal(wire.STATUS_REFUSED, errors.SYSTEM_NOT_READY, why) from e
        session = Session(
            worker,
            guest.client,
            hello,
            guest.pid,
            guest.uid,
            lease,
            guest.transport,
            allocation,
        )
        session.client_pidfd = guest.pidfd()
        session.exchange = guest.exchange
        session.tls = guest.tls
        if guest.exchange is not None and (guest.tls or guest.transport == wire.TRANSPORT_UCX):
            session.key = guest.exchange.key()
        session.token_id = guest.token_id
        self.totals["sessions"] += 1
        self._live[session.id] = session
        worker.lease.set_memory_limit(lease.limit)
        self._watch(session)
        try:
            order = messages.Message(messages.Kind.START, text=introduction.order(session))
            fds = [session.client.fileno()] if session.on_socket else None
            messages.send(worker.control, order, fds)
        except OSError as e:
            why = f"the worker does not take its order: {e.strerror}"
            self._reject(session, errors.SYSTEM_NOT_READY, why)

    def _watch(self, session: Session) -> None:
        if session.on_socket:  # the worker reads it
            self._server.loop.watch_end(session.client, lambda: self._on_client_exit(session))
        else:
            self._server.loop.watch(session.client, lambda: self._on_client(session))
        self._server.loop.watch(session.worker.control, lambda: self._on_control(session))
        if session.client_pidfd >= 0:
            self._server.loop.watch(session.client_pidfd, lambda: self._on_client_exit(session))

    def _welcome(self, session: Session, message: messages.Message, fds: list[int]) -> None:
        """The worker is caged and listens: its segments go to the client."""
        by_memfd = session.transport == wire.TRANSPORT_MEMFD
        if session.worker.pid == 0:
            self._server.workers.await_birth(session.worker)
            if session.state is not State.STARTING:  # the zygote, and with it the worker, is gone
                messages.close_all(fds)
                return
        try:
            if len(fds) != (2 if by_memfd else 0):
                raise ProtocolError("it came without its segments")
            welcome = introduction.welcome(session, message)
        except ProtocolError as e:
            messages.close_all(fds)
            self._reject(session, errors.UNKNOWN, f"the worker's announcement is malformed: {e}")
            return
        if by_memfd:
            session.reply_fd = os.dup(fds[1])
        session.state = State.RUNNING
        session.used = session.transport != wire.TRANSPORT_DEVSHM  # there it has to be PROVEN
        self._server.shares.add(session.worker, session.lease.limits)
        self._server.control.notify()
        sent = session.notify(welcome, fds or None)
        messages.close_all(fds)
        if not sent:
            session.client_gone = True
            self.end(session)
            return
        log.info(
            "client %d is here: %s (pid %d, uid %d), %d MiB of %s, worker %d",
            session.id,
            session.hello.command or "?",
            session.pid or session.hello.pid,
            session.uid,
            session.lease.limit >> 20,
            self._server.device.name,
            session.worker.pid,
        )
        self._server.workers.prepare_soon()

    def _reject(self, session: Session, result: int, why: str) -> None:
        """Before the welcome: a refusal instead of an epitaph."""
        refusal = Refusal(wire.STATUS_REFUSED, result, why)
        session.notify(wire.encode_refusal(refusal, session.hello))
        session.error = why
        session.client_gone = True
        log.warning("client %d cannot be served: %s", session.id, why)
        self.end(session)

    def expire(self, now: float) -> None:
        """Those that start are told that they wait, and not for ever."""
        for session in self:
            if session.state is not State.STARTING:
                continue
            if session.since + START_SECONDS <= now:
                why = f"no worker was ready within {START_SECONDS:.0f} seconds"
                self._reject(session, errors.SYSTEM_NOT_READY, why)
            elif session.told_to_wait + WAIT_SECONDS <= now:
                session.told_to_wait = now
                wait = wire.encode_notice(wire.NOTICE_WAIT, message="the worker is starting")
                session.notify(wait)

    # --- its events

    def _on_client(self, session: Session) -> None:
        try:
            data = adoption.listen(session)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            why = "the client wrote to its session's socket after the hello"
            session.blame(errors.UNKNOWN, why)
        else:
            session.client_gone = True
        self.end(session)

    def _on_client_exit(self, session: Session) -> None:
        session.client_gone = True
        self.end(session)

    def _on_control(self, session: Session) -> None:
        for _ in range(64):
            try:
                received = messages.receive(session.worker.control)
            except BlockingIOError:
                return
            except (ProtocolError, OSError) as e:
                session.blame(errors.UNKNOWN, f"the worker misbehaved: {e}")
                self.end(session)
                return
            if received is None:
                self._server.loop.unwatch(session.worker.control)
                self.end(session)
                return
            self._on_message(session, *received)
            if session.state is State.ENDED:
                return

    def _on_message(self, session: Session, message: messages.Message, fds: list[int]) -> None:
        kind = message.kind
        if kind == messages.Kind.READY and session.state is State.STARTING:
            self._welcome(session, message, fds)
            return
        messages.close_all(fds)
        if kind == messages.Kind.FAILED and session.state is State.STARTING:
            self._reject(session, message.result or errors.UNKNOWN, wire.text_of(message.text))
        elif kind == messages.Kind.FAULT:
            session.fault = (message.result or errors.UNKNOWN, wire.text_of(message.text))
        elif kind == messages.Kind.GOODBYE:
            session.goodbye = True
        elif kind == messages.Kind.PROVEN:
            session.used = True
            session.unlink_segments()
        elif kind == messages.Kind.LOG:
            session.logged += 1
            if session.logged <= LOGGED_MOST:
                log.info("client %d: %s", session.id, wire.text_of(message.text))
        elif session.state is State.RUNNING and not self._server.ipc.serve(session, message):
            self._server.grants.serve(session, message)

    # --- the end

    def end(self, session: Session) -> None:
        """Safe to call again and again: the session is over as soon as its worker is reaped."""
        if session.state is State.ENDED:
            return
        session.state = State.ENDING
        if session.client_gone:
            self._server.loop.unwatch(session.client)
            self._server.loop.unwatch(session.client_pidfd)
        session.worker.kill()
        if session.worker.gone or (self._server.stopping and session.worker.pid == 0):
            self.finish(session)

    def finish(self, session: Session) -> None:
        """The worker is no more: epitaph, wake-up call, and everything is free."""
        if session.state is State.ENDED:
            return
        cause = session.cause()
        if cause is not None and not session.client_gone:
            session.error = cause[1]
            notice = wire.encode_notice(wire.NOTICE_EPITAPH, cuda_result=cause[0], message=cause[1])
            if session.on_socket:
                notice = wire.frame_notice(session.worker.epoch, notice)
                if session.key:  # it comes beside what the worker had, TLS or UCX
                    notice = seal_epitaph(session.key, notice)
            session.notify(notice)
            log.warning(
                "client %d lost its worker %d: %s", session.id, session.worker.pid, cause[1]
            )
        elif session.fault is not None and session.error is None:
            session.error = session.fault[1]
        for watched in (
            session.client,
            session.worker.control,
            session.client_pidfd,
            session.worker.pidfd,
        ):
            self._server.loop.unwatch(watched)
        self._server.ipc.forget(session)
        session.busy_seconds = self._server.shares.seconds_of(session.worker)
        self._server.shares.remove(session.worker)
        session.close()
        if session.transport == wire.TRANSPORT_DEVSHM:  # its worker may not have come to tell names
            self._server.sweeper.sweep()
        self._server.leasing.finish(session)
        self._live.pop(session.id, None)
        self.totals["busy_seconds"] += session.busy_seconds
        self._server.control.notify()
        self.recent.append(session)
        counters = session.last
        self.totals["calls"] += counters.calls
        self.totals["bytes"] += counters.bytes
        self.totals["kernels"] += counters.kernels
        self.totals["memory_peak"] = max(self.totals["memory_peak"], counters.memory_peak)
        log.info(
            "client %d has ended after %.1f s: %d calls, %d kernels, %.1f MiB copied",
            session.id,
            session.seconds,
            counters.calls,
            counters.kernels,
            counters.bytes / (1 << 20),
        )
        self._server.look_if_empty()
        self._server.waiting.retry(not any(s.state is State.ENDING for s in self))

    def on_exit(self, worker: Worker) -> None:
        session = self._live.get(worker.id)
        if session is None:
            return
        if session.state is not State.ENDING:
            self._on_control(session)  # its last words came before its end
        if session.state is State.STARTING:
            cause = session.cause() or (0, "the worker ended at once")
            self._reject(session, errors.SYSTEM_NOT_READY, cause[1])
        else:
            self.finish(session)

    def lose_all(self, why: str) -> None:
        """The zygote is gone, and with it all workers: nobody will say how they ended."""
        for session in self:
            session.blame(errors.DEVICE_UNAVAILABLE, why)
            session.worker.kill()
            session.worker.gone = True
            if session.state is State.STARTING:
                refusal = f"this server cannot start workers: {why}"
                self._reject(session, errors.SYSTEM_NOT_READY, refusal)
            self.finish(session)
