# SPDX-License-Identifier: Apache-2.0
"""Where vGPUs go: pure functions over what each device has left.

`pack` fills the device that is fullest, `spread` takes the emptiest. Either way a server on the client's own host comes
first, since memory can be shared with it, and several vGPUs come from one server where one has them all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from orion_server.ledger import GRANULE, PAGE, round_up

from .model import MIB, Device, Server, Wish

POLICIES = ("pack", "spread")


@dataclass(frozen=True)
class Room:
    """A device and what nobody holds of it. Shares are in slots-ths of a percent, so that equal shares are whole."""

    server: Server
    device: Device
    slots: int
    memory: int
    share: int

    @property
    def key(self) -> tuple[str, int]:
        return self.server.id, self.device.index


def equal_ratio(device: Device) -> int:
    """The percentage that stands for an equal share; a device of more than 100 vGPUs has none that is small enough."""
    return max(1, 100 // max(device.slots, 1))


def share_of(ratio: int, device: Device) -> int:
    """What a ratio takes of the 100 * slots that a device has; without one, an equal share."""
    return 100 if ratio in (0, equal_ratio(device)) else ratio * device.slots


def memory_of(wish: Wish, device: Device) -> int:
    """Bytes; without a wish an equal share."""
    return wish.memory or max(device.memory // max(device.slots, 1) // GRANULE * GRANULE, MIB)


def kept_for(memory: int) -> int:
    """What a server sets aside for a promise of so much."""
    return round_up(memory, PAGE)


def empty(server: Server, device: Device) -> Room:
    """All of it, as it is when nobody has anything."""
    return Room(server, device, device.slots, kept_for(device.memory), 100 * device.slots)


def unreserved(server: Server, device: Device) -> Room:
    """All but what is kept for containers."""
    whole = empty(server, device)
    slots = device.slots - device.reserved
    memory = max(0, whole.memory - kept_for(device.memory_reserved))
    return replace(whole, slots=slots, memory=memory, share=100 * slots)


def reaches(wish: Wish, server: Server) -> bool:
    if wish.server and server.id != wish.server:
        return False
    return bool(server.address) or (bool(server.local) and server.host == wish.host)


def fits(wish: Wish, room: Room) -> bool:
    return (
        room.slots > 0
        and kept_for(memory_of(wish, room.device)) <= room.memory
        and share_of(wish.ratio, room.device) <= room.share
    )


def _order(room: Room, wish: Wish, policy: str) -> tuple[object, ...]:
    used = 1 - room.slots / max(room.device.slots, 1)
    used_memory = 1 - room.memory / max(room.device.memory, 1)
    fullness = (-used, -used_memory) if policy == "pack" else (used, used_memory)
    return (room.server.host != wish.host, *fullness, room.key)


def choose(wish: Wish, rooms: Iterable[Room], policy: str) -> list[Room]:
    """A device for each vGPU, all different; none when they are not to be had now."""
    fitting = sorted((r for r in rooms if fits(wish, r)), key=lambda r: _order(r, wish, policy))
    of_server: dict[str, list[Room]] = {}
    for room in fitting:
        of_server.setdefault(room.server.id, []).append(room)
    for same in of_server.values():
        if len(same) >= wish.vgpus:
            return same[: wish.vgpus]
    if wish.cross_node and len(fitting) >= wish.vgpus:
        return fitting[: wish.vgpus]
    return []


def shortfall(wish: Wish, rooms: list[Room]) -> str:
    """Why choose() found nothing, in one clause."""
    if not rooms:
        return "no server that this client could use has registered"
    free = [r for r in rooms if r.slots > 0]
    devices = f"{len(rooms)} device{'s' if len(rooms) > 1 else ''}"
    if not free:
        return f"all {sum(r.device.slots for r in rooms)} vGPUs of {devices} are in use"
    with_memory = [r for r in free if kept_for(memory_of(wish, r.device)) <= r.memory]
    if not with_memory:
        wanted = memory_of(wish, free[0].device) // MIB
        most = max(r.memory for r in free) // MIB
        return f"no device has {wanted} MiB left; the most that one has is {most} MiB"
    enough = [r for r in with_memory if fits(wish, r)]
    if not enough:
        most = max(r.share // max(r.device.slots, 1) for r in with_memory)
        return f"no device has {wish.ratio or 'an equal share'} percent of its time left; the most is {most}"
    where = "together" if wish.cross_node else "on one server (ORION_CROSS_NODE=1 allows several)"
    return f"{wish.vgpus} vGPUs on different devices are not free {where}"
