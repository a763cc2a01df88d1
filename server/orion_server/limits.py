# SPDX-License-Identifier: Apache-2.0
"""What one lease may have: the wishes of a client, cut to what this server allows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .tokens import Token

RATIO_MOST = 100


class Mode(Enum):
    """How device time is shared; docs/sharing.md."""

    FAIR = "fair"  # by weight, what nobody uses goes to the others
    CAPPED = "capped"  # never above its ratio, even when the device is idle
    EXCLUSIVE = "exclusive"  # nobody else runs during its time slices


@dataclass(frozen=True)
class Limits:
    """Whoever grants a lease fills this in: from wishes here, from a token or a controller elsewhere."""

    memory: int  # bytes, promised; 0: whatever is not promised to others
    ratio: int = (
        RATIO_MOST  # percent of the device's time, 1..100: the weight, and the cap in mode CAPPED
    )
    mode: Mode = Mode.FAIR


@dataclass(frozen=True)
class Policy:
    """What the configuration says about leases that nobody else has decided about."""

    mode: Mode = Mode.FAIR
    lease_memory: int = 0  # of a client without a wish; 0: as in Limits
    overcommit: float = 1.0  # promises may sum up to that many times the device's memory


def limits_of_wishes(
    gmem_mib: int, ratio: int, device_memory: int, policy: Policy, token: Token | None = None
) -> Limits:
    """Wishes never raise anything above what there is, or what the token grants; an absurd one is not an error."""
    granted = token.memory_mib << 20 if token else 0
    memory = min(filter(None, (gmem_mib << 20, granted)), default=policy.lease_memory)
    ratios = (ratio, RATIO_MOST, token.ratio if token else 0)
    return Limits(
        memory=min(memory, device_memory),
        ratio=min(r for r in ratios if r > 0),
        mode=policy.mode,
    )
