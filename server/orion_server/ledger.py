# SPDX-License-Identifier: Apache-2.0
"""Who may use how much of a device: leases with a memory limit and a vGPU slot, and the extents granted to each.

The worker charges exact bytes against its limit; what it is *given* is decided here, since a worker is trusted no more
than its client. Memory that is promised to a lease is kept free for it, used or not; a lease without a promise takes
what is left. A lease is never granted more than its limit, and all together never more than the device. Beyond the
limit is only what sharing costs for a moment (ipc.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .errors import DEVICE_UNAVAILABLE, INVALID_VALUE, OUT_OF_MEMORY, Refusal
from .limits import RATIO_MOST, Limits
from .wire import STATUS_AGAIN, STATUS_REFUSED

GRANULE = 2 << 20  # extents begin on multiples
PAGE = 4096  # and have whole ones
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
    threads: int = 1  # that run at the same time: device seconds in a second
    overcommit: float = 1.0
    granted: int = 0
    leases: dict[int, Lease] = field(default_factory=dict)
    reserved: set[int] = field(default_factory=set)  # vGPUs of allocations: only theirs

    @property
    def room(self) -> int:
        """What can be granted: whole pages."""
        return round_up(self.memory, PAGE)

    def promised(self, but: Lease | None = None) -> int:
        """Bytes that are granted, or kept for their leases."""
        return sum(lease.holds for lease in self.leases.values() if lease is not but)

    def unpromised(self, but: Lease | None = None) -> int:
        """Bytes that a lease can still be promised, or be granted without a promise."""
        return max(0, self.room - self.promised(but))

    def backing(self, memory: int) -> int:
        """Bytes that have to be kept for a promise. Overcommitted ones are backed in part only."""
        return round_up(int(memory / self.overcommit), PAGE)


@dataclass
class Lease:
    device: Device
    slot: int
    limits: Limits
    allocated: bool = False  # of a container: the slot is one of its own
    extents: dict[int, int] = field(default_factory=dict)  # address -> bytes
    granted: int = 0  # extents, and what book() and carry() have added

    @property
    def limit(self) -> int:
        return self.limits.memory or self.device.memory

    @property
    def holds(self) -> int:
        """Bytes that nobody else can have."""
        return max(self.granted, self.device.backing(self.limits.memory))

    def grant(self, address: int, size: int) -> int:
        """CUresult; on success the extent is booked."""
        if size <= 0 or size % PAGE or address % GRANULE or address in self.extents:
            return INVALID_VALUE
        if len(self.extents) >= EXTENTS_MOST or not self.book(size):
            return OUT_OF_MEMORY
        self.extents[address] = size
        return 0

    def release(self, address: int, size: int) -> bool:
        """An extent, or the end of one, is free; False: it is neither."""
        base = self.extent_that_ends(address, size)
        if base is None:
            return False
        if base == address:
            del self.extents[base]
        else:
            self.extents[base] -= size
        self.unbook(size)
        return True

    def extent_that_ends(self, address: int, size: int) -> int | None:
        """Where the extent begins whose end, or all, that range is."""
        if self.extents.get(address) == size:
            return address
        if size <= 0 or size % PAGE or address % PAGE:
            return None
        end = address + size
        return next((b for b, n in self.extents.items() if b < address and b + n == end), None)

    def book(self, size: int, beyond: int = 0) -> bool:
        """Memory beside the extents. False: more than there is on the device, or for this lease and so much beyond."""
        after = self.granted + size
        if after > self._most() + beyond or self.device.granted + size > self.device.room:
            return False
        if after > self.holds and self.device.promised(but=self) + after > self.device.room:
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
        return round_up(self.limit, PAGE)

    def change(self, limits: Limits) -> None:
        """Other limits from now on. What is in use stays: under a lower limit nothing new is granted until it fits.
        ValueError: so much cannot be promised."""
        if not 0 < limits.ratio <= RATIO_MOST:
            raise ValueError(f"a ratio of {limits.ratio} % is none: choose 1 to {RATIO_MOST}")
        if limits.memory < 0 or limits.memory > self.device.memory:
            raise ValueError(
                f"{limits.memory >> 20} MiB are more than device {self.device.index} has "
                f"({self.device.memory >> 20} MiB)"
            )
        if limits.memory > self.limits.memory:
            left = self.device.unpromised(but=self)
            if self.device.backing(limits.memory) > left:
                raise ValueError(
                    f"{limits.memory >> 20} MiB cannot be promised: other leases leave {left >> 20} MiB of "
                    f"{self.device.memory >> 20}"
                )
        self.limits = limits

    def close(self) -> None:
        """Safe to call twice: the lease and everything granted under it is free."""
        self.device.granted -= self.granted
        self.granted = 0
        self.extents.clear()
        if self.device.leases.get(self.slot) is self:  # by the second time it may be another's
            del self.device.leases[self.slot]


def _aside(device: Device) -> str:
    return f", {len(device.reserved)} more are set aside for containers" if device.reserved else ""


def several(vgpus: int) -> str:
    """What a program is told that wants several."""
    return (
        f"ORION_VGPU={vgpus}: a program has one device here, and so uses one vGPU; unset it, and start a program "
        "for each vGPU"
    )


def open_lease(
    device: Device, limits: Limits, vgpu: int = 0, among: Collection[int] | None = None
) -> Lease:
    """A lease with these limits; Refusal says what is not there. vgpu: how many, 0 is one.
    among: the vGPUs of the client's allocation; None: those that no allocation has."""
    if vgpu > 1:
        raise Refusal(
            STATUS_REFUSED,
            DEVICE_UNAVAILABLE,
            several(vgpu),
        )
    allocated = among is not None
    if among is None:
        among = [slot for slot in range(device.slots) if slot not in device.reserved]
    slot = next((slot for slot in among if slot not in device.leases), None)
    if slot is None:
        raise Refusal(
            STATUS_AGAIN,
            DEVICE_UNAVAILABLE,
            f"each of the {len(among)} vGPUs is in use{_aside(device)}: wait for a client to end, or start the server "
            "with a larger --vgpu",
        )
    left = device.unpromised()
    if device.backing(limits.memory) > left:
        raise Refusal(
            STATUS_AGAIN,
            OUT_OF_MEMORY,
            f"{limits.memory >> 20} MiB cannot be promised: other clients leave {left >> 20} MiB of "
            f"{device.memory >> 20}; ask for less with ORION_GMEM, or wait for a client to end",
        )
    lease = Lease(device, slot, limits, allocated)
    device.leases[lease.slot] = lease
    return lease


def reserve(device: Device, slots: Collection[int]) -> None:
    """The slots are a container's from now on. Who had one of them from elsewhere takes another: slots are but numbers.
    Where none is free it stays, and the container has to wait for its end."""
    device.reserved |= set(slots)
    for slot in device.leases.keys() & set(slots):
        lease = device.leases[slot]
        taken = device.reserved | device.leases.keys()
        free = next((s for s in range(device.slots) if s not in taken), None)
        if free is not None and not lease.allocated:
            del device.leases[slot]
            lease.slot = free
            device.leases[free] = lease
