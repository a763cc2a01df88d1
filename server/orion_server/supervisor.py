# SPDX-License-Identifier: Apache-2.0
"""The supervisor: a session for each client, from its hello to the last trace of it.

One thread, one loop, the standard library alone. No byte of a client is parsed here beyond its fixed-size hello, no
image and no kernel; data never passes through. Everything a peer sends is bounded and nothing waits for a peer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from . import adoption, errors, futex, messages, wire, zygote
from .allocations import Allocation, Allocations
from .cache import ObjectCache
from .config import Config, default_memory
from .control import ControlPort, answer
from .errors import ProtocolError, Refusal
from .exporter import Exporter
from .grants import Grants
from .greeter import Greeter, Guest
from .ipc import IpcTable
from .lease_tokens import TokensOf
from .leasing import Leasing
from .ledger import Device, Lease, open_lease
from .limits import limits_of_wishes
from .loop import Loop
from .paths import allocations_path, control_path, identity_of, listen
from .session import Session, State
from .shares import Shares
from .tokens import TokenFile, Tokens, seal_epitaph
from .waiting_room import WaitingRoom
from .workers import Worker, Workers

log = logging.getLogger("orion.server")

WAIT_SECONDS = 1.0  # between notices to a client whose worker is starting
START_SECONDS = 60.0  # of a worker; a cold zygote imports for a second or two
STOP_SECONDS = 2.0
RECENT_MOST = 256
LOGGED_MOST = 100  # lines of one worker


class Supervisor:
    def __init__(self, config: Config) -> None:
        self.config = config
        # a GPU's memory is known when its driver has been asked
        self.memory = config.memory or (1 << 50 if config.device == "cuda" else default_memory())
        self.started = time.time()
        self.loop = Loop()
        self.sessions: dict[int, Session] = {}
        self.recent: deque[Session] = deque(maxlen=RECENT_MOST)
        self.device = Device(
            0,
            config.device,
            f"Orion {config.device} device",
            "",
            self.memory,
            config.vgpu,
            overcommit=config.sharing.overcommit,
        )
        self.shares = Shares(config.device)
        self.draining = self.stop_when_empty = False
        self.totals: dict[str, Any] = {
            "sessions": 0,
            "calls": 0,
            "bytes": 0,
            "kernels": 0,
            "memory_peak": 0,
            "busy_seconds": 0.0,
        }
        self.caches: dict[str, ObjectCache] = {}
        self.ipc = IpcTable()
        self.grants = Grants(self._cache_of, self.ipc.release)
        self.stopping = False
        self.leasing = Leasing(self, config)
        self.allocations = Allocations(
            allocations_path(config.socket),
            self.device,
            lambda listener, allocation: self.greeter.listen(listener, allocation=allocation),
            lambda listener: self.greeter.stop_listening(listener),
            self._end_allocation,
            self._count_allocation,
            lambda: self.endpoint,
        )
        self.tokens = self._issuers()
        self.waiting = WaitingRoom(self.loop, self._open, self.leasing.give_back)
        address = f"unix:{config.socket}"
        self.exporter = Exporter(self.loop, address, config.metrics) if config.metrics else None
        self.greeter = Greeter(self.loop, config, self.tokens, self._admit)
        paths = (config.socket, control_path(config.socket))
        self.workers = Workers(
            self.loop,
            zygote.ZygoteConfig(
                config.device, self.memory, config.threads, tuple(map(os.fspath, paths))
            ),
            self._on_warm,
            self._on_exit,
            self._on_zygote_lost,
        )

    def _issuers(self) -> Tokens:
        """Of the tokens that clients may come with."""
        issuers: list[Tokens] = [self.allocations]
        if self.config.controller:
            issuers.append(self.leasing.tokens)
        if self.config.token_file is not None:
            issuers.append(TokenFile(self.config.token_file))
        return TokensOf(*issuers)

    # --- start and stop

    def open(self) -> None:
        """Sockets are ready when this returns; the zygote may still be importing."""
        path = self.config.socket
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.greeter.listen(listen(path, self.config.mode))
        self.control = ControlPort(
            listen(control_path(path), 0o600), self.loop, lambda request: answer(self, request)
        )
        self.bound = {p: identity_of(p) for p in (path, control_path(path))}
        if self.config.bind is not None:
            self.greeter.listen_tcp(*self.config.bind)
        self.workers.open()
        if self.exporter is not None:
            self.exporter.open()

    def run(self) -> None:
        """Until stop(). Every turn is short: no handler waits for anybody."""
        while not self.stopping:
            due = min(
                self.greeter.next_deadline(),
                self.waiting.next_deadline(),
                self.workers.next_deadline(),
                self.shares.due,
            )
            self.loop.turn(max(0.0, min(1.0, due - time.monotonic())))
            self.shares.turn(time.monotonic())
            self._expire()

    def stop(self) -> None:
        self.stopping = True

    def close(self) -> None:
        """Clients get an epitaph, workers die, sockets and their files go. Bounded by a few seconds."""
        self.stopping = True
        self.allocations.close()
        self.greeter.close()
        self.waiting.close()
        for session in list(self.sessions.values()):
            session.fault = session.fault or (errors.DEVICE_UNAVAILABLE, "the server was stopped")
            self.end(session)
        deadline = time.monotonic() + STOP_SECONDS
        while self.sessions and time.monotonic() < deadline:
            self.loop.turn(0.05)
        for session in list(self.sessions.values()):
            self._finish(session)
        if self.exporter is not None:
            self.exporter.close()
        self.control.close()
        self.leasing.close()
        for path, identity in self.bound.items():
            with contextlib.suppress(OSError):
                # somebody may have removed it, and another server bound it anew
                if identity_of(path) == identity:
                    path.unlink()
        self.workers.close()
        self.ipc.close()
        self.shares.close()
        self.loop.close()

    def _expire(self) -> None:
        now = time.monotonic()
        self.greeter.expire(now)
        self.waiting.expire(now)
        if self.exporter is not None:
            self.exporter.expire(now)
        self.workers.expire(now)
        self.leasing.turn(now)
        self.shares.note_all(now)
        for session in [s for s in self.sessions.values() if s.state is State.STARTING]:
            if session.since + START_SECONDS <= now:
                why = f"no worker was ready within {START_SECONDS:.0f} seconds"
                self._reject(session, errors.SYSTEM_NOT_READY, why)
            elif session.told_to_wait + WAIT_SECONDS <= now:
                session.told_to_wait = now
                wait = wire.encode_notice(wire.NOTICE_WAIT, message="the worker is starting")
                session.notify(wait)

    def look_if_empty(self) -> None:
        """A drained server may be meant to end with its last client."""
        if self.stop_when_empty and not self.sessions:
            log.info("the last client has gone; this server was drained and ends")
            self.stop()

    # --- the beginning

    def _admit(self, guest: Guest) -> None:
        """A good hello. Where there is no room, and somebody is just leaving, the guest waits for that."""
        self.leasing.begin(guest)
        try:
            try:
                self._open(guest)
            except Refusal as refusal:
                if not any(s.state is State.ENDING for s in self.sessions.values()):
                    raise
                self.waiting.put(guest, refusal)
        except Refusal:
            self.leasing.give_back(guest)
            raise

    def _open_lease(self, guest: Guest, allocation: Allocation | None) -> Lease:
        hello, policy = guest.hello, self.config.sharing
        if allocation is not None:
            return allocation.open_lease(hello, policy)
        limits = limits_of_wishes(
            hello.gmem_mib, hello.ratio, self.device.memory, policy, guest.token
        )
        return open_lease(self.device, limits, hello.vgpu)

    def _open(self, guest: Guest) -> None:
        """A lease, and a worker that is told whom to serve."""
        hello = guest.hello
        if self.draining:
            raise Refusal(
                wire.STATUS_REFUSED,
                errors.DEVICE_UNAVAILABLE,
                "this server is being drained and takes no new clients: use another one, or `orion drain --undo`",
            )
        allocation = guest.allocation or self.allocations.of_token(guest.token)
        lease = self._open_lease(guest, allocation)
        try:
            worker = self.workers.take()
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
        self.sessions[session.id] = session
        worker.lease.set_memory_limit(lease.limit)
        self._watch(session)
        try:
            order = messages.Message(messages.Kind.START, text=self._order(session))
            fds = [session.client.fileno()] if session.on_socket else None
            messages.send(worker.control, order, fds)
        except OSError as e:
            why = f"the worker does not take its order: {e.strerror}"
            self._reject(session, errors.SYSTEM_NOT_READY, why)

    def _order(self, session: Session) -> bytes:
        hello = session.hello
        return messages.ORDER.pack(
            session.lease.limit,
            hello.range_bytes,
            *(*hello.candidates, *([0] * 8))[:8],
            hello.flags,
            session.transport == wire.TRANSPORT_DEVSHM,
            max(session.uid, 0),
            _stream_of(session),
            bool(session.key),
            0,
            session.key,
        )

    def _watch(self, session: Session) -> None:
        if session.on_socket:  # the worker reads it
            self.loop.watch_end(session.client, lambda: self._on_client_exit(session))
        else:
            self.loop.watch(session.client, lambda: self._on_client(session))
        self.loop.watch(session.worker.control, lambda: self._on_control(session))
        if session.client_pidfd >= 0:
            self.loop.watch(session.client_pidfd, lambda: self._on_client_exit(session))

    # --- a session's events

    def _on_client(self, session: Session) -> None:
        try:
            data = adoption.listen(session)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            session.fault = (
                errors.UNKNOWN,
                "the client wrote to its session's socket after the hello",
            )
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
                session.fault = session.fault or (errors.UNKNOWN, f"the worker misbehaved: {e}")
                self.end(session)
                return
            if received is None:
                self.loop.unwatch(session.worker.control)
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
        elif session.state is State.RUNNING and not self.ipc.serve(session, message):
            self.grants.serve(session, message)

    def _welcome(self, session: Session, message: messages.Message, fds: list[int]) -> None:
        """The worker is caged and listens: its segments go to the client."""
        by_memfd = session.transport == wire.TRANSPORT_MEMFD
        if session.worker.pid == 0:
            self.workers.await_birth(session.worker)
            if session.state is not State.STARTING:  # the zygote, and with it the worker, is gone
                messages.close_all(fds)
                return
        try:
            nonce, flags, slots, device, command_name, reply_name = messages.READY.unpack(
                message.text
            )
            if len(fds) != (2 if by_memfd else 0):
                raise ProtocolError("it came without its segments")
        except (struct.error, ProtocolError) as e:
            messages.close_all(fds)
            self._reject(session, errors.UNKNOWN, f"the worker's announcement is malformed: {e}")
            return
        session.range_base, session.arena_bytes = message.a, message.b
        names = (wire.text_of(command_name), wire.text_of(reply_name))
        welcome = wire.encode_welcome(
            wire.Welcome(
                session_id=session.id,
                epoch=session.worker.epoch,
                flags=flags | (wire.FLAG_TLS if session.tls else 0),
                range_base=message.a,
                arena_bytes=message.b,
                heap_bytes=message.c,
                memory_limit=session.lease.limit,
                worker_pid=session.worker.pid,
                slots=slots,
                nonce=nonce,
                command_name=names[0],
                reply_name=names[1],
                device=wire.text_of(device),
            )
        )
        if session.exchange is not None:
            welcome = session.exchange.seal(welcome)
        if by_memfd:
            session.reply_fd = os.dup(fds[1])
        session.devshm_names = tuple(n for n in names if n)
        session.state = State.RUNNING
        session.used = session.transport != wire.TRANSPORT_DEVSHM  # there it has to be PROVEN
        self.shares.add(session.worker, session.lease.limits)
        self.control.notify()
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
            self.device.name,
            session.worker.pid,
        )
        self.workers.prepare_soon()

    def _reject(self, session: Session, result: int, why: str) -> None:
        """Before the welcome: a refusal instead of an epitaph."""
        session.notify(
            wire.encode_welcome(
                wire.Welcome(status=wire.STATUS_REFUSED, cuda_result=result, message=why)
            )
        )
        session.error = why
        session.client_gone = True
        log.warning("client %d cannot be served: %s", session.id, why)
        self.end(session)

    # --- the end

    def end(self, session: Session) -> None:
        """Safe to call again and again: the session is over as soon as its worker is reaped."""
        if session.state is State.ENDED:
            return
        session.state = State.ENDING
        if session.client_gone:
            self.loop.unwatch(session.client)
            self.loop.unwatch(session.client_pidfd)
        session.worker.kill()
        if session.worker.gone or (self.stopping and session.worker.pid == 0):
            self._finish(session)

    def _finish(self, session: Session) -> None:
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
            self.loop.unwatch(watched)
        self.ipc.forget(session)
        session.busy_seconds = self.shares.seconds_of(session.worker)
        self.shares.remove(session.worker)
        session.close()
        self.leasing.finish(session)
        self.sessions.pop(session.id, None)
        self.totals["busy_seconds"] += session.busy_seconds
        self.control.notify()
        self.recent.append(session)
        counters = session.last
        self.totals["calls"] += counters.calls
        self.totals["bytes"] += counters.bytes
        self.totals["kernels"] += counters.kernels
        self.totals["memory_peak"] = max(self.totals["memory_peak"], counters.memory_peak)
        log.info(
            "client %d has ended after %.1f s: %d calls, %d kernels, %.1f MiB copied",
            session.id,
            session.ended - session.connected,
            counters.calls,
            counters.kernels,
            counters.bytes / (1 << 20),
        )
        self.look_if_empty()
        self.waiting.retry(not any(s.state is State.ENDING for s in self.sessions.values()))

    # --- the workers

    def _on_warm(self, info: dict[str, Any]) -> None:
        self.device.name = info["name"]
        self.device.uuid = info["uuid"]
        self.device.compute_capability = info["compute_capability"]
        # a GPU runs one client at a time
        self.device.threads = 1 if self.config.device == "cuda" else info["multiprocessors"]
        self.shares.set_threads(self.device.threads)
        self.memory = self.device.memory = min(self.memory, info["memory"])
        self.allocations.restore()
        log.info(
            "ready: %s, %d MiB, %d vGPUs", self.device.name, self.memory >> 20, self.device.slots
        )

    def _on_exit(self, worker: Worker) -> None:
        session = self.sessions.get(worker.id)
        if session is None:
            return
        if session.state is not State.ENDING:
            self._on_control(session)  # its last words came before its end
        if session.state is State.STARTING:
            cause = session.cause() or (0, "the worker ended at once")
            self._reject(session, errors.SYSTEM_NOT_READY, cause[1])
        else:
            self._finish(session)

    def _on_zygote_lost(self) -> None:
        for session in list(self.sessions.values()):
            why = self.workers.problem or "the server's zygote was killed"
            session.fault = session.fault or (errors.DEVICE_UNAVAILABLE, why)
            session.worker.kill()
            session.worker.gone = True
            if session.state is State.STARTING:
                why = f"this server cannot start workers: {why}"
                self._reject(session, errors.SYSTEM_NOT_READY, why)
            self._finish(session)

    def _cache_of(self, session: Session) -> ObjectCache | None:
        """The object cache of its tenant; None: it shares none with anybody."""
        tenant = session.tenant
        if tenant is None:
            return None
        if tenant not in self.caches:
            self.caches[tenant] = ObjectCache(
                self.config.state_dir, tenant, self.config.cache_bytes
            )
        return self.caches[tenant]

    # --- containers

    def _end_allocation(self, allocation: Allocation, why: str) -> None:
        for session in [s for s in self.sessions.values() if s.allocation is allocation]:
            session.fault = session.fault or (errors.DEVICE_UNAVAILABLE, why)
            session.worker.kill()

    def _count_allocation(self, allocation: Allocation) -> int:
        return sum(s.allocation is allocation for s in self.sessions.values())

    @property
    def endpoint(self) -> str | None:
        """ADDR:PORT of the TCP socket; None without one."""
        bind = self.config.bind
        return f"{bind[0]}:{self.greeter.tcp_port}" if bind else None


def _stream_of(session: Session) -> int:
    if not session.on_socket:
        return messages.ORDER_NONE
    if session.transport == wire.TRANSPORT_UCX:
        return messages.ORDER_UCX
    return messages.ORDER_TLS if session.tls else messages.ORDER_TCP


def run(config: Config, ready: Callable[[Supervisor], None] | None = None) -> None:
    """A supervisor in this process until SIGTERM or SIGINT."""
    supervisor = Supervisor(config)
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    supervisor.loop.watch(wake, supervisor.stop)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    raise_file_limit()
    futex.adopt_orphans()
    supervisor.open()
    try:
        if ready is not None:
            ready(supervisor)
        supervisor.run()
    finally:
        supervisor.close()


def raise_file_limit() -> None:
    """Each extent of each client is a descriptor."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
