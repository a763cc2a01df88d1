# SPDX-License-Identifier: Apache-2.0
"""The ledger in a running process: what it decides is stored, logged, counted and told to those who wait.

All of it happens on the event loop's thread; nothing that is asked of the ledger waits for IO but the write to the
database, which is a few pages of a file in the page cache.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from orion_server.lease_tokens import Terms, derive_key, key_id, make_token

from .auth import Keys
from .config import Config
from .history import History
from .ledger import Ledger, Orders
from .logs import say
from .model import Client, Decision, Lease, Part, Refused, Report, Request, Server, Wish
from .store import Store

TICK_SECONDS = 0.5
WARNINGS = ("lost", "forgotten")


@dataclass(frozen=True)
class Grant:
    """Where one vGPU of a lease is, and the token for it."""

    part: Part
    address: str  # HOST:PORT, or ":PORT" on the controller's own host; empty: there is none
    local: str  # path of a unix socket on the client's host; empty: on another one
    token: str


class Service:
    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.clock = clock
        self.started = clock()
        self.store = Store(config.state_dir / "controller.sqlite", clock)
        self._secret = self.store.secret("tokens")
        self.keys = Keys(config, self.store.secret("leases"))
        self.decisions: Counter[tuple[str, str]] = Counter()  # kind, what kind of refusal
        self.history = History()
        self.ledger = Ledger(clock, config.rules, self._decided)
        self.store.load(self.ledger)
        self.problem = ""  # why the state cannot be written
        self._waiting: dict[int, tuple[Request, asyncio.Event]] = {}
        self._ticking: asyncio.Task[None] | None = None

    # --- life

    def start(self) -> None:
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        self._ticking.add_done_callback(self._ticking_ended)

    def _ticking_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.problem = f"the clock of leases stopped: {task.exception()!r}"
            say("broken", self.problem, logging.ERROR)

    async def stop(self) -> None:
        """Who waits is refused; the state stays for the next controller."""
        for request, _ in list(self._waiting.values()):
            if not request.settled:
                request.refused = Refused("canceled", "the controller is being stopped")
        self._wake()
        if self._ticking is not None:
            self._ticking.cancel()
        self._save()
        self.store.close()

    @property
    def turns(self) -> bool:
        """Leases are being looked after."""
        return self._ticking is not None and not self._ticking.done()

    async def _tick(self) -> None:
        while True:
            self.ledger.tick()
            self.settle()
            self.history.sample(self.clock() - self.started, self.ledger)
            await asyncio.sleep(TICK_SECONDS)

    # --- decisions

    def _decided(self, decision: Decision) -> None:
        refused = str(decision.detail.pop("refused", ""))
        self.decisions[decision.kind, refused] += 1
        lease = f"{decision.lease:016x}" if decision.lease else ""
        level = logging.WARNING if decision.kind in WARNINGS else logging.INFO
        fields = {**decision.detail, "lease": lease, "server": decision.server}
        say(decision.kind, decision.reason, level, **fields)

    def settle(self) -> None:
        """Stores what has changed, then tells it. Nothing is told that is not stored."""
        if self._save():
            self._wake()
            return
        for request, event in list(self._waiting.values()):
            if request.lease is not None:
                self.ledger.cancel(request)
                request.lease = None
                request.refused = Refused("unready", self.problem)
            if request.settled:
                event.set()

    def _save(self) -> bool:
        try:
            self.store.save(self.ledger)
        except sqlite3.Error as e:
            if not self.problem:
                say("broken", f"cannot write the state: {e}", logging.ERROR)
            self.problem = f"the controller cannot write its state: {e}"
            return False
        if self.problem:
            say("mended", "the state can be written again")
        self.problem = ""
        return True

    def _wake(self) -> None:
        for request, event in self._waiting.values():
            if request.settled:
                event.set()

    # --- leases

    def ask(self, wish: Wish, client: Client) -> Request:
        """A request that settle() answers, now or later; see wait() and leave()."""
        request = self.ledger.request(wish, client)
        self._waiting[request.number] = (request, asyncio.Event())
        self.settle()
        return request

    async def wait(self, request: Request, seconds: float | None) -> Lease | None:
        """The lease; None when the seconds are over. Refused says why there is none."""
        entry = self._waiting.get(request.number)
        if entry is not None:
            try:
                await asyncio.wait_for(entry[1].wait(), seconds)
            except asyncio.TimeoutError:
                return None
            del self._waiting[request.number]
        if request.refused is not None:
            raise request.refused
        return request.lease

    def leave(self, request: Request) -> None:
        """Whoever asked is gone, or gets no answer for another reason."""
        if self._waiting.pop(request.number, None) is not None:
            self.ledger.cancel(request)
            self.settle()

    def grants(self, lease: Lease, host: str) -> list[Grant]:
        """Addresses and tokens of a lease for a client on that host."""
        found = []
        for part in lease.parts.values():
            server = self.ledger.servers.get(part.server)
            if server is None:
                raise Refused("stale", f"the server {part.server} has gone")
            terms = Terms(
                lease.id,
                part.number,
                part.device,
                part.memory,
                self.ledger.ratio_of(part),
                int(part.token_expires),
                lease.held,
            )
            token = make_token(self.key_of(server), terms)
            local = server.local if server.host == host else ""
            found.append(Grant(part, server.address, local, token))
        return found

    def key_of(self, server: Server) -> bytes:
        return derive_key(self._secret, server.id, server.boot, server.epoch)

    def change(self, act: Callable[[Ledger], object]) -> None:
        """A renewal, a resize, a release; Refused when it cannot be stored either."""
        act(self.ledger)
        self.settle()
        if self.problem:
            raise Refused("unready", self.problem)

    # --- servers

    def report(self, report: Report, has_key: str) -> tuple[Orders, bytes]:
        """What the server shall do, and the key of the tokens that it takes. has_key: the ID of the one it has."""
        key = derive_key(self._secret, report.server, report.boot, report.epoch)
        orders = self.ledger.report(replace(report, keyed=has_key == key_id(key)))
        self.settle()
        return orders, key
