# SPDX-License-Identifier: Apache-2.0
"""What the plugin offers: vGPUs as the kubelet's devices, and which of them belong together best.

A vGPU's id is its device's UUID and its number there: GPU-3f0c6a52-...::7. It stays the same whoever is restarted, so
the kubelet's record of who has which vGPU stays true. Memory, where it is offered as a second resource, has ids that
mean nothing but an amount.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GMEM_UNIT = 256 << 20  # bytes behind one device of the memory resource
ID = re.compile(
    r"GPU-([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})::([0-9]{1,6})"
)


@dataclass(frozen=True)
class Card:
    """One device of the server."""

    uuid: str  # 32 hex digits, as the server says it
    vgpus: int
    memory: int  # bytes


def cards_of(status: Mapping[str, Any]) -> tuple[Card, ...]:
    """The devices in a server's status. A device without its UUID is not ready: there are none then."""
    cards = tuple(
        Card(str(d["uuid"]), int(d["vgpus"]), int(d["memory_total"])) for d in status["devices"]
    )
    return cards if all(len(card.uuid) == 32 for card in cards) else ()


def vgpu_id(uuid: str, number: int) -> str:
    parts = (uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:])
    return f"GPU-{'-'.join(parts)}::{number}"


def vgpu_ids(vgpus: Mapping[str, Iterable[int]]) -> frozenset[str]:
    """The ids of what a server calls {UUID: [number, ...]}."""
    return frozenset(vgpu_id(uuid, n) for uuid, numbers in vgpus.items() for n in numbers)


def vgpus_of(ids: Iterable[str]) -> dict[str, list[int]]:
    """The other way round. ValueError names an id that no plugin of ours has made."""
    found: dict[str, list[int]] = {}
    for text in ids:
        match = ID.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no vGPU")
        found.setdefault("".join(match.groups()[:5]), []).append(int(match[6]))
    return {uuid: sorted(numbers) for uuid, numbers in found.items()}


def all_vgpus(cards: Iterable[Card]) -> list[str]:
    return [vgpu_id(card.uuid, n) for card in cards for n in range(card.vgpus)]


def all_gmem(cards: Iterable[Card]) -> list[str]:
    units = sum(card.memory // GMEM_UNIT for card in cards)
    return [f"gmem-{n}" for n in range(units)]


def prefer(
    available: Sequence[str], required: Sequence[str], size: int, spread: bool = False
) -> list[str]:
    """`size` of the available vGPUs with all required ones, on as few cards as possible.

    Among cards that could take the container, `pack` takes the one with least room, so that large requests still find
    a card later; `spread` the one with most, so that containers share with few others.
    """
    chosen = list(required)[:size]
    left = [text for text in available if text not in set(chosen)]
    room = Counter(_card(text) for text in left)
    begun = {_card(text) for text in chosen}

    def rank(card: str) -> tuple[bool, bool, int, str]:
        fits = room[card] >= size - len(chosen)
        return card not in begun, not fits, room[card] * (-1 if spread or not fits else 1), card

    order = {card: place for place, card in enumerate(sorted(room, key=rank))}
    left.sort(key=lambda text: (order[_card(text)], _number(text), text))
    return chosen + left[: size - len(chosen)]


def _card(text: str) -> str:
    return text.partition("::")[0]


def _number(text: str) -> int:
    number = text.rpartition("::")[2]
    return int(number) if number.isdigit() else 0


def gmem_bytes(ids: Collection[str]) -> int:
    return len(ids) * GMEM_UNIT
