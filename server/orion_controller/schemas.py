# SPDX-License-Identifier: Apache-2.0
"""The JSON of the API, as pydantic models, from which OpenAPI derives.

What clients ask for is refused where it says more than these know: it may be a wish that matters. What servers report
may come from a later release or an earlier one, while a cluster is upgraded: fields that nobody here knows are passed
over, and whatever is added here gets a default.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIB_MOST = 1 << 30
COUNT_MOST = 1 << 53  # exact in every JSON reader

Name = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
Text = Annotated[str, Field(max_length=256)]
LeaseId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$", examples=["4a00000000000001"])]
Count = Annotated[int, Field(ge=0, le=COUNT_MOST)]
# What goes into a token has to fit into its fields (lease_tokens.LAYOUT).
Memory = Annotated[int, Field(ge=0, le=MIB_MOST << 20)]  # bytes
Uptime = Annotated[float, Field(ge=0, le=1 << 31, allow_inf_nan=False)]  # seconds
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


def _integer(value: Any) -> Any:
    """In JSON, 15.0 is an integer as well."""
    if isinstance(value, list):
        return [_integer(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _integers(cls, data: Any) -> Any:
        return {k: _integer(v) for k, v in data.items()} if isinstance(data, dict) else data


class Report(Model):
    """A part of what a server says."""

    model_config = ConfigDict(extra="ignore", strict=True)


class Problem(Model):
    """Every error of the API."""

    reason: str
    kind: str = Field(
        description="impossible, full, deadline, stale, unready, denied, invalid, ..."
    )


# --- what clients ask


class LeaseWish(Model):
    """What a client wants. Whoever takes it this way holds the lease: programs use it one after another."""

    vgpus: int = Field(1, ge=1, le=64, description="each on a device of its own")
    gmem_mib: int = Field(
        0, ge=0, le=MIB_MOST, description="memory of each, MiB; 0: the device's / its vGPUs"
    )
    ratio: int = Field(0, ge=0, le=100, description="percent of a device's time; 0: an equal share")
    cross_node: bool = Field(False, description="the vGPUs may come from several servers")
    wait: Seconds = Field(0.0, description="seconds in the queue when nothing is free")
    seconds: float = Field(
        3600.0, ge=1, le=86400, allow_inf_nan=False, description="until it must be renewed"
    )
    server: Name | None = Field(None, description="no other server than this one")
    command: str = Field("", max_length=128, description="for tables and logs")
    pod: str = Field("", max_length=253, description="for tables, logs and metrics")


class Renewal(Model):
    seconds: float = Field(3600.0, ge=1, le=86400, allow_inf_nan=False)


class Resize(Model):
    """New bounds of each vGPU of the lease; what is left out stays."""

    gmem_mib: int | None = Field(None, ge=1, le=MIB_MOST)
    ratio: int | None = Field(None, ge=0, le=100)


class Drain(Model):
    drain: bool = Field(description="true: no new leases there; false: as before")


# --- what clients get


class VgpuView(Model):
    server: str
    device: int
    state: Literal["granted", "active"]
    gmem_mib: int
    ratio: int


class LeaseView(Model):
    id: LeaseId
    held: bool
    state: Literal["granted", "active", "releasing"]
    reason: str = Field("", description="why it is being released")
    expires_in: float | None = Field(None, description="seconds; null: it lives with its program")
    command: str
    pid: int
    pod: str
    vgpus: list[VgpuView]


class GrantView(Model):
    server: str
    device: int
    gmem_mib: int
    ratio: int
    address: str = Field(description="HOST:PORT for ORION_SERVER; empty: see local")
    local: str = Field(description="path of a unix socket on the client's host, or empty")
    token: str = Field(description="for ORION_TOKEN; expires with the lease")


class LeaseGrant(Model):
    lease: LeaseView
    lease_key: str = Field(description="Bearer key to renew, resize and release this lease")
    grants: list[GrantView]


# --- servers


class DeviceReport(Report):
    index: int = Field(ge=0, le=255)
    name: Text
    uuid: Text
    kind: Text
    memory: Memory
    vgpus: int = Field(ge=0, le=4096)
    reserved: int = Field(
        0, ge=0, le=4096, description="vGPUs of containers that do not use theirs now"
    )
    memory_reserved: Memory = Field(0, description="bytes that containers may still ask for")
    memory_granted: Count = Field(0, description="bytes that workers have")
    memory_promised: Count = Field(0, description="bytes that programs may rely on")
    threads: int = Field(1, ge=1, le=1 << 20, description="device seconds in a second")


class LatencyReport(Report):
    """Of every 16th launch, from its acceptance to its first block."""

    buckets: Annotated[list[Count], Field(max_length=64)] = []
    seconds: Seconds = 0.0


class TotalsReport(Report):
    """Since the server began, sessions that have ended as well."""

    sessions: Count = 0
    calls: Count = 0
    bytes: Count = 0
    kernels: Count = 0
    busy_seconds: Seconds = 0.0


class SessionReport(Report):
    session: Count
    device: int = Field(0, ge=0, le=255)
    lease: LeaseId | None = None
    part: int = Field(0, ge=0, le=255)
    held: bool = False
    token_expires: Uptime = 0.0
    token_memory: Memory = Field(0, description="bounds that its token grants, bytes")
    token_ratio: int = Field(0, ge=0, le=100, description="percent; it may have wished for less")
    memory_limit: Count = 0
    memory_held: Count = Field(0, description="bytes that nobody else can have, used or not")
    memory_promised: Count = 0
    memory_used: Count = 0
    ratio: int = Field(0, ge=0, le=100)
    share: float = Field(0.0, ge=0, le=1, description="part that it gets when all compete")
    mode: Annotated[str, Field(max_length=16)] = ""
    busy: float = Field(0.0, ge=0, le=1, description="part of the device that it uses lately")
    busy_seconds: Seconds = 0.0
    calls: Count = 0
    copied: Count = 0
    kernels: Count = 0
    launch_latency: LatencyReport = LatencyReport()
    transport: Annotated[str, Field(max_length=16)] = ""
    command: Text = ""
    pid: Count = 0
    uid: int = Field(-1, ge=-1, le=1 << 32)
    pod: Annotated[str, Field(max_length=253)] = ""


class LeasePart(Report):
    lease: LeaseId
    part: int = Field(ge=0, le=255)


class Heartbeat(Report):
    """All that a server has to say, each time."""

    boot: Annotated[str, Field(min_length=1, max_length=64)]
    epoch: Count = Field(
        description="when its supervisor started, by a clock that only goes forward"
    )
    sequence: Count
    clock: Uptime = Field(description="its monotonic clock now, seconds")
    key_id: Annotated[str, Field(max_length=64)] = Field(
        "", description="which key of tokens it has: until it is this controller's, no new leases"
    )
    address: Annotated[str, Field(max_length=256, pattern=r"^([!-~]*:[0-9]{1,5})?$")] = Field(
        "", description="HOST:PORT for clients; :PORT: on the host that the heartbeat comes from"
    )
    local: Annotated[str, Field(max_length=107, pattern=r"^(/[^\x00]*)?$")] = ""
    version: Annotated[str, Field(max_length=64)] = ""
    draining: bool = False
    devices: Annotated[list[DeviceReport], Field(max_length=256)]
    sessions: Annotated[list[SessionReport], Field(max_length=8192)] = []
    ended: Annotated[list[LeasePart], Field(max_length=65536)] = []
    totals: TotalsReport = TotalsReport()


class LimitsOrder(LeasePart):
    gmem_mib: int
    ratio: int


class HeartbeatAnswer(Model):
    interval: float = Field(description="seconds to the next heartbeat, at most")
    key: str = Field(description="of the tokens that this server takes, in hex")
    end: list[LeasePart] = Field(description="sessions to end, tokens to refuse")
    limits: list[LimitsOrder] = Field(description="bounds that have changed")


class ServerView(Model):
    id: str
    state: Literal["starting", "live", "draining", "lost"]
    address: str
    local: str
    version: str
    heartbeat_age: float = Field(description="seconds")
    devices: int
    sessions: int


class ClientView(Model):
    """A program that uses a vGPU now."""

    server: str
    session: int
    device: int
    lease: LeaseId | None
    command: str
    pid: int
    uid: int
    pod: str
    memory_used: int
    memory_limit: int
    ratio: int
    busy: float = Field(description="part of the device that it uses lately, 0 to 1")
    busy_seconds: float
    calls: int
    copied: int
    kernels: int
    transport: str


class DeviceView(Model):
    server: str
    index: int
    name: str
    uuid: str
    kind: str
    state: Literal["starting", "live", "draining", "lost"]
    memory: int
    memory_leased: int
    memory_used: int
    vgpus: int
    vgpus_leased: int
    ratio_leased: float = Field(description="percent")


class WaitingView(Model):
    number: int
    waited: float
    command: str
    pid: int
    vgpus: int
    gmem_mib: int
    ratio: int
    reason: str


class SeriesView(Model):
    server: str
    device: int
    at: list[float] = Field(description="seconds before now, oldest first")
    memory: list[int]
    busy: list[float]
    clients: list[int]


class Overview(Model):
    """All at once, for the dashboard."""

    version: str
    uptime: float
    servers: list[ServerView]
    devices: list[DeviceView]
    clients: list[ClientView]
    leases: list[LeaseView]
    queue: list[WaitingView]
    history: list[SeriesView]


class Info(Model):
    version: str
    protocol: int = Field(description="of the native hello on the same port")
    uptime: float
    policy: str


class Health(Model):
    ok: bool
    reason: str
