# SPDX-License-Identifier: Apache-2.0
"""Who may use how much of a device: leases with a memory limit and a vGPU slot, and the extents granted to each.

The worker charges exact bytes against its limit; what it is *given* is decided here, since a worker is trusted no more
than its client. A lease is never granted more than its limit rounded up to whole extents, plus slack for the heap's
granules; a device never more than it has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .errors import DEVICE_UNAVAILABLE, INVALID_VALUE, OUT_OF_MEMORY, Refusal
from .tokens import Token
from .wire import STATUS_REFUSED

GRANULE = 2 << 20
EXTENT = 64 << 20  # limits are rounded up to this
EXTENTS_MOST = 8192  # of one lease


def round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@dataclass
class Device:
    index: int
    kind: str
    name: str
    uuid: str
    memory: int
    slots: int
    compute_capability: str = "8.0"
    granted: int = 0
    leases: dict[int, Lease] = field(default_factory=dict)
    reserved: set[int] = field(default_factory=set)  # vGPUs of allocations: only theirs


@dataclass
class Lease:
    device: Device
    slot: int
    limit: int
    ratio: int
    extents: dict[int, int] = field(default_factory=dict)  # address -> bytes
    granted: int = 0  # extents, and what book() and carry() have added

    def grant(self, address: int, size: int) -> int:
        """CUresult; on success the extent is booked."""
        if size <= 0 or size % GRANULE or address % GRANULE or address in self.extents:
            return INVALID_VALUE
        if len(self.extents) >= EXTENTS_MOST or not self.book(size):
            return OUT_OF_MEMORY
        self.extents[address] = size
        return 0

    def release(self, address: int, size: int) -> bool:
        if self.extents.get(address) != size:
            return False
        del self.extents[address]
        self.unbook(size)
        return True

    def book(self, size: int, slack: int = 0) -> bool:
        """Memory beside the extents; False: more than there is for this lease, or on the device."""
        if self.granted + size > self._most() + slack:
            return False
        if self.device.granted + size > round_up(self.device.memory, EXTENT) + EXTENT * len(
            self.device.leases
        ):
            return False
        self.carry(size)
        return True

    def carry(self, size: int) -> None:
        """Memory that is there already and that nobody else pays for."""
        self.granted += size
        self.device.granted += size

    def unbook(self, size: int) -> None:
        self.granted -= size
        self.device.granted -= size

    def overdrawn(self) -> bool:
        """It carries more than it could have been granted."""
        return self.granted > self._most()

    def _most(self) -> int:
        return round_up(self.limit, EXTENT) + EXTENT

    def close(self) -> None:
        """Safe to call twice: the lease and everything granted under it is free."""
        self.device.granted -= self.granted
        self.granted = 0
        self.extents.clear()
        self.device.leases.pop(self.slot, None)


def _aside(device: Device) -> str:
    return f", {len(device.reserved)} more are set aside for containers" if device.reserved else ""


def open_lease(
    device: Device,
    gmem_mib: int,
    vgpu: int,
    ratio: int,
    token: Token | None = None,
    among: Collection[int] | None = None,
) -> Lease:
    """Wishes are wishes: the limit is the smallest of wish, device and token. vgpu: how many, 0 is one.
    among: the vGPUs of the client's allocation; None: those that no allocation has."""
    if vgpu > 1:
        raise Refusal(
            STATUS_REFUSED,
            DEVICE_UNAVAILABLE,
            f"ORION_VGPU={vgpu}: a program uses one vGPU so far; unset it",
        )
    if among is None:
        among = [slot for slot in range(device.slots) if slot not in device.reserved]
    slot = next((slot for slot in among if slot not in device.leases), None)
    if slot is None:
        raise Refusal(
            STATUS_REFUSED,
            DEVICE_UNAVAILABLE,
            f"each of the {len(among)} vGPUs is in use{_aside(device)}: wait for a client to end, or start the server "
            "with a larger --vgpu",
        )
    limits = (gmem_mib << 20, device.memory, token.memory_mib << 20 if token else 0)
    ratios = (ratio, 100, token.ratio if token else 0)
    lease = Lease(device, slot, min(filter(None, limits)), min(filter(None, ratios)))
    device.leases[lease.slot] = lease
    return lease
