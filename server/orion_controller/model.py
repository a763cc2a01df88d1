# SPDX-License-Identifier: Apache-2.0
"""What the controller knows: servers, their devices and sessions, leases and the vGPUs in them, and requests.

A lease has one part for each vGPU. Sizes are bytes, ratios percent of one device (0: an equal share), instants are
seconds of a monotonic clock: the controller's own, or, where a name says so, the server's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

MIB = 1 << 20


class Refused(Exception):
    """The answer is no; the text says why and what would help."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind  # impossible, full, deadline, canceled, stale: a label of the metrics


@dataclass(frozen=True)
class Client:
    """Who asked, as far as it is known; for logs and tables alone."""

    command: str = ""
    pid: int = 0
    uid: int = -1
    pod: str = ""
    peer: str = ""


@dataclass(frozen=True)
class Wish:
    vgpus: int = 1
    memory: int = 0  # of each vGPU; 0: the device's, divided by its slots
    ratio: int = 0
    cross_node: bool = False
    wait: float | None = None  # seconds in the queue; 0: answer at once, None: no limit
    host: str = (
        ""  # where the client is: a server that has only a unix socket serves its own host alone
    )
    server: str = ""  # no other server than this one
    held: bool = (
        False  # lives until it expires or is released, whatever programs use it one after another
    )
    seconds: float = 0.0  # of a held lease, until it is renewed


@dataclass(frozen=True)
class Device:
    index: int
    name: str
    uuid: str
    kind: str
    memory: int
    slots: int
    threads: int = 1  # device seconds in a second
    reserved: int = 0  # slots of containers that do not use theirs now: no lease gets them
    memory_reserved: int = 0  # bytes that containers may still ask for
    memory_granted: int = field(default=0, compare=False)  # bytes that workers have
    memory_promised: int = field(default=0, compare=False)  # bytes that programs may rely on


@dataclass(frozen=True)
class Use:
    """A session that a server reports. lease 0: it came without the controller."""

    session: int
    device: int
    lease: int = 0
    part: int = 0
    memory_limit: int = 0
    ratio: int = 0
    memory_used: int = 0
    memory_held: int = 0  # nobody else can have it, used or not
    busy: float = 0.0  # part of the device, lately
    busy_seconds: float = 0.0
    calls: int = 0
    copied: int = 0
    kernels: int = 0
    transport: str = ""
    held: bool = False  # of its token, as is when that expires by the server's clock
    token_expires: float = 0.0
    token_memory: int = 0  # what it grants; the program may have wished for less
    token_ratio: int = 0
    client: Client = field(default_factory=Client)
    # for the metrics alone
    memory_promised: int = 0
    share: float = 0.0  # part of the device that it gets when all compete
    mode: str = ""
    latency: tuple[int, ...] = ()  # of launches, as families.latencies() counts them
    latency_seconds: float = 0.0


@dataclass(frozen=True)
class Totals:
    """Of a server since it began, sessions that have ended as well; for the metrics alone."""

    sessions: int = 0
    calls: int = 0
    bytes: int = 0
    kernels: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """A heartbeat: all that a server has to say, each time."""

    server: str
    boot: str  # of its host; with it, epochs can be compared
    epoch: int  # when its supervisor started: no session of an earlier one lives
    sequence: int  # within the epoch; a report that was overtaken is not listened to
    clock: float  # the server's monotonic clock when the report was made
    host: str
    address: str = ""  # HOST:PORT; empty: it has a unix socket alone
    local: str = ""  # path of that socket
    version: str = ""
    devices: tuple[Device, ...] = ()
    uses: tuple[Use, ...] = ()
    ended: frozenset[tuple[int, int]] = (
        frozenset()
    )  # (lease, part) whose tokens are worth nothing any more
    draining: bool = False
    keyed: bool = True  # it has the key of the tokens that it would be sent
    totals: Totals = field(default_factory=Totals)


class State(Enum):
    GRANTED = "granted"  # a token is out, or may be; nobody uses it
    ACTIVE = "active"  # the server reports a session


@dataclass
class Part:
    """One vGPU of a lease. It counts against its device until the server can't let anybody use it."""

    lease: int
    number: int
    server: str
    device: int
    memory: int  # what is wanted; the server may not have heard of it
    ratio: int
    token_expires: float  # of the latest token, by the server's clock
    state: State = State.GRANTED
    memory_reported: int = 0  # of its session, its limit
    memory_held: int = 0  # by its session; a fragmented one may hold more than its limit
    ratio_reported: int = 0
    token_memory: int = 0  # what its session's token grants
    token_ratio: int = 0
    earlier: list[tuple[float, int, int]] = field(
        default_factory=list
    )  # tokens with other bounds: when they expire, memory, ratio

    @property
    def key(self) -> tuple[int, int]:
        return self.lease, self.number

    def bounds(self) -> list[tuple[int, int]]:
        """(memory, ratio) as wanted, as in force, and as somebody could still come with: the largest counts."""
        memory = max(self.memory_reported, self.memory_held)
        reported = [(memory, self.ratio_reported)] * (self.state is State.ACTIVE)
        return [(self.memory, self.ratio), *reported, *((m, r) for _, m, r in self.earlier)]

    def is_within(self, memory: int, ratio: int) -> bool:
        """Its session has these bounds, or less by its own wish: it came with a token that grants them."""
        if (self.memory_reported, self.ratio_reported) == (memory, ratio):
            return True
        wished = (self.token_memory, self.token_ratio) == (memory, ratio)
        return wished and self.memory_reported <= memory and self.ratio_reported <= ratio

    def replace_token(self, expires: float, memory: int, ratio: int) -> None:
        """A token with new bounds; the one before it stays good until it expires."""
        self.earlier.append((self.token_expires, self.memory, self.ratio))
        self.token_expires, self.memory, self.ratio = expires, memory, ratio

    def usable_until(self) -> float:
        return max([self.token_expires, *(expires for expires, _, _ in self.earlier)])


@dataclass
class Lease:
    id: int
    held: bool
    client: Client
    parts: dict[int, Part]
    granted: float
    expires: float | None = None  # held leases alone
    releasing: str = ""  # why it shall end; the servers have not all confirmed


@dataclass
class Server:
    id: str
    boot: str
    epoch: int
    host: str
    clock: float
    seen: float
    sequence: int = -1
    address: str = ""
    local: str = ""
    version: str = ""
    devices: dict[int, Device] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    totals: Totals = field(default_factory=Totals)
    live: bool = False  # has reported to this controller, lately
    keyed: bool = False  # it can tell our tokens from others
    draining: bool = False  # by the server's own word
    drained: bool = False  # by an administrator's
    retired: list[str] = field(default_factory=list)  # boots that are over

    def clock_at(self, now: float) -> float:
        """The server's clock can't show less than this by now."""
        return self.clock + max(0.0, now - self.seen)


@dataclass
class Request:
    """A place in the queue."""

    number: int
    wish: Wish
    client: Client
    asked: float
    deadline: float | None
    reason: str = ""  # why it waits
    lease: Lease | None = None
    refused: Refused | None = None

    @property
    def settled(self) -> bool:
        return self.lease is not None or self.refused is not None


@dataclass(frozen=True)
class Decision:
    """What was decided and why: a line of the log, and a count."""

    kind: str
    reason: str
    lease: int = 0
    server: str = ""
    detail: dict[str, object] = field(default_factory=dict)
