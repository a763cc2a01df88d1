# SPDX-License-Identifier: Apache-2.0
"""Time that passes, whatever becomes of the calendar: what is measured is measured with these.

The calendar's clock is set by people and by NTP, forwards and backwards. It is for people to read and for nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def since_boot() -> float:
    """Seconds since this host started, those of a suspend included. Means nothing on another host or after a reboot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Of this life of the host's kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class Instant:
    """A moment that a later process on this host may ask about."""

    boot: str
    seconds: float

    @classmethod
    def now(cls) -> Instant:
        return cls(boot_id(), since_boot())

    @classmethod
    def read(cls, document: Any) -> Instant:
        """What record() made. Of another life of this host, or by a server that kept none: now. Whatever waits for an
        age waits anew then, instead of believing that it is over."""
        now = cls.now()
        if not isinstance(document, dict) or document.get("boot") != now.boot:
            return now
        seconds = document.get("seconds")
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= now.seconds:
            return now
        return cls(now.boot, float(seconds))

    def record(self) -> dict[str, Any]:
        return {"boot": self.boot, "seconds": self.seconds}

    def age(self) -> float:
        return since_boot() - self.seconds
