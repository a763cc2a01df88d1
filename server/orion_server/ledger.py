# SPDX-License-Identifier: Apache-2.0
"""Who may use how much of a device: leases with a memory limit and a vGPU slot, and the extents granted to each.

The worker charges exact bytes against its limit; what it is *given* is decided here, since a worker is trusted no more
than its client. A lease is never granted more than its limit rounded up to whole extents, plus slack for the heap's
granules; a device never more than it has.
"""

from __future__ import annotations

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


def open_lease(
    device: Device, gmem_mib: int, vgpu: int, ratio: int, token: Token | None = None
) -> Lease:
    """Wishes are wishes: the limit is the smallest of wish, device and token. vgpu 0: any, else number + 1."""
    if vgpu > device.slots:
        raise Refusal(
            STATUS_REFUSED,
            DEVICE_UNAVAILABLE,
            f"vGPU {vgpu - 1} does not exist: device {device.index} has {device.slots} (see --vgpu)",
        )
    free = [slot for slot in range(device.slots) if slot not in device.leases]
    wanted = [vgpu - 1] if vgpu else free[:1]
    if not wanted or wanted[0] not in free:
        which = (
            f"vGPU {vgpu - 1} of device {device.index}"
            if vgpu
            else f"each of the {device.slots} vGPUs"
        )
        raise Refusal(
            STATUS_REFUSED,
            DEVICE_UNAVAILABLE,
            f"{which} is in use: wait for a client to end, or start the server with a larger --vgpu",
        )
    limits = (gmem_mib << 20, device.memory, token.memory_mib << 20 if token else 0)
    ratios = (ratio, 100, token.ratio if token else 0)
    lease = Lease(device, wanted[0], min(filter(None, limits)), min(filter(None, ratios)))
    device.leases[lease.slot] = lease
    return lease
