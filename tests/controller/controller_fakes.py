# SPDX-License-Identifier: Apache-2.0
"""A server as the controller sees it, without one: it takes tokens, runs sessions, and reports."""

from __future__ import annotations

from dataclasses import dataclass, field

from orion_controller.model import Client, Device, Lease, Report, Use
from orion_server.lease_tokens import LeaseTokens, Terms, decode_id, derive_key, encode_id

GIB = 1 << 30
SECRET = b"k" * 32


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeServer:
    """Its clock differs from the controller's, as another host's does."""

    name: str
    clock: Clock
    slots: int = 2
    memory: int = 8 * GIB
    devices: int = 1
    skew: float = 5000.0
    host: str = "here"
    address: str = "10.0.0.1:9960"
    boot: str = "boot"
    epoch: int = 1
    sequence: int = 0
    next_session: int = 1
    sessions: dict[int, Use] = field(default_factory=dict)
    held_ids: dict[int, str] = field(default_factory=dict)  # session -> token id
    draining: bool = False
    reserved: int = 0  # vGPUs of containers on each device
    key_id: str = ""  # as in the heartbeats of test_api.py

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.sequence, self.sessions, self.held_ids, self.key_id = 0, {}, {}, ""
        self.tokens = LeaseTokens(lambda: self.clock() + self.skew)
        self.tokens.set_key(derive_key(SECRET, self.name, self.boot, self.epoch))

    def restart(self) -> None:
        self.epoch += 1
        self.start()

    def token_ids(self, lease: Lease) -> list[str]:
        """The IDs of the tokens for this server, as the controller would make them."""
        found = []
        for part in lease.parts.values():
            if part.server == self.name:
                terms = Terms(
                    lease.id,
                    part.number,
                    part.device,
                    part.memory,
                    part.ratio or max(1, 100 // self.slots),
                    int(part.token_expires),
                    lease.held,
                )
                found.append(encode_id(terms))
        return found

    def attach(self, token_id: str, client: Client | None = None) -> int | None:
        """A program comes with a token; None: it is refused."""
        terms = decode_id(token_id)
        assert terms is not None
        if self.tokens.find(token_id) is None or self.tokens.begin(token_id) is not None:
            return None
        session = self.next_session
        self.next_session += 1
        self.held_ids[session] = token_id
        self.sessions[session] = Use(
            session,
            terms.device,
            terms.lease,
            terms.part,
            terms.memory,
            terms.ratio,
            held=terms.held,
            token_expires=terms.expires,
            token_memory=terms.memory,
            token_ratio=terms.ratio,
            client=client or Client("program", 1),
        )
        return session

    def detach(self, session: int) -> None:
        del self.sessions[session]
        self.tokens.finish(self.held_ids.pop(session), True)

    def report(self) -> Report:
        self.sequence += 1
        return Report(
            self.name,
            self.boot,
            self.epoch,
            self.sequence,
            self.clock() + self.skew,
            self.host,
            self.address,
            "/run/orion/orion.sock",
            "0.1.0",
            tuple(
                Device(
                    i,
                    f"device {i}",
                    f"GPU-{self.name}-{i}",
                    "null",
                    self.memory,
                    self.slots,
                    reserved=self.reserved,
                    memory_reserved=self.memory // self.slots * self.reserved,
                )
                for i in range(self.devices)
            ),
            tuple(self.sessions.values()),
            frozenset(self.tokens.ended()),
            self.draining,
        )

    def obey(self, orders: object) -> None:
        """What the agent does with the answer to a heartbeat."""
        for lease, part in orders.end:  # type: ignore[attr-defined]
            self.tokens.revoke(lease, part)
            for session in [
                s for s, u in self.sessions.items() if (u.lease, u.part) == (lease, part)
            ]:
                self.detach(session)
        for lease, part, memory, ratio in orders.limits:  # type: ignore[attr-defined]
            for session, use in list(self.sessions.items()):
                if (use.lease, use.part) == (lease, part):
                    self.sessions[session] = Use(
                        **{**use.__dict__, "memory_limit": memory, "ratio": ratio}
                    )
