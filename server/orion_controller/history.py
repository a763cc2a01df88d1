# SPDX-License-Identifier: Apache-2.0
"""The last minutes of each device for the dashboard's charts, in memory alone."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .ledger import Ledger

SAMPLE_SECONDS = 2.0
SAMPLES_MOST = 450  # 15 minutes


@dataclass
class Series:
    """Of one device; `busy` is the share of the time since the sample before, 0 to 1."""

    at: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MOST))
    memory: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES_MOST))
    busy: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MOST))
    clients: deque[int] = field(default_factory=lambda: deque(maxlen=SAMPLES_MOST))
    seconds: dict[int, float] = field(default_factory=dict)  # busy seconds of each session


class History:
    def __init__(self) -> None:
        self.devices: dict[tuple[str, int], Series] = {}
        self._next = 0.0

    def sample(self, now: float, ledger: Ledger) -> None:
        """Does nothing before it is time for another one."""
        if now < self._next:
            return
        self._next = now + SAMPLE_SECONDS
        known = {(s.id, d) for s in ledger.servers.values() for d in s.devices}
        for key in [k for k in self.devices if k not in known]:
            del self.devices[key]
        for server_id, index in known:
            series = self.devices.setdefault((server_id, index), Series())
            device = ledger.servers[server_id].devices[index]
            uses = [u for u in ledger.servers[server_id].uses if u.device == index]
            worked = sum(
                max(0.0, u.busy_seconds - series.seconds.get(u.session, 0.0)) for u in uses
            )
            most = (now - series.at[-1]) * device.threads if series.at else 0.0
            series.at.append(now)
            series.memory.append(sum(u.memory_used for u in uses))
            series.clients.append(len(uses))
            series.busy.append(min(1.0, worked / most) if most > 0 else 0.0)
            series.seconds = {u.session: u.busy_seconds for u in uses}
