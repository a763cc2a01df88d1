# SPDX-License-Identifier: Apache-2.0
"""Who leads: the rules of Kubernetes' own leader election over one Lease.

Nobody compares clocks of two machines. A holder's time is over when *we* have seen no change of the Lease for as long
as it lasts; a leader that could not renew stops well before that. So there is a moment without a leader between two,
and never one with two, as long as clocks run at about the same speed.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from typing import Any

from .api import Api, ApiError, Conflict

log = logging.getLogger("orion.elect")

GIVE_UP = 2 / 3  # of the Lease's duration: a leader that has not renewed within stops


class Election:
    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        identity: str,
        seconds: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._clock = clock
        self._seen: tuple[Any, ...] | None = None
        self._seen_at = 0.0
        self._renewed = float("-inf")
        self._lease: dict[str, Any] = {}
        self.heard = float("-inf")  # when the API server last answered
        self.holder = ""

    @property
    def leads(self) -> bool:
        """Now, and for a while: ask again before that is over."""
        return self._clock() - self._renewed < self._seconds * GIVE_UP

    def turn(self) -> None:
        """Looks at the Lease; takes it if it may, renews it if it has it. Never raises."""
        begun = self._clock()  # what the answer says was true after this
        try:
            lease = self._api.get(self._path, self._name)
            if lease is None:
                metadata = {"name": self._name}
                self._took(self._api.create(self._path, self._record(metadata, None)), begun)
            else:
                self._see(lease)
                if self._may_take(lease):
                    record = self._record(lease["metadata"], lease.get("spec"))
                    self._took(self._api.update(self._path, record), begun)
            self.heard = self._clock()
        except Conflict:
            self.heard = self._clock()  # another one was faster: seen with the next turn
        except (ApiError, AttributeError, KeyError, TypeError) as e:
            log.warning("the Lease %s cannot be had: %s", self._name, e)

    def release(self) -> None:
        """The next one need not wait. Only after everything that leading means has stopped."""
        if self._renewed == float("-inf"):
            return
        self._renewed = float("-inf")
        record = self._record(self._lease["metadata"], self._lease["spec"])
        record["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            self._api.update(self._path, record)
        except ApiError as e:
            log.warning("the Lease %s is not given back: %s", self._name, e)

    def _see(self, lease: dict[str, Any]) -> None:
        spec = lease.get("spec") or {}
        self.holder = spec.get("holderIdentity") or ""
        seen = (self.holder, spec.get("renewTime"), lease["metadata"].get("resourceVersion"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()

    def _may_take(self, lease: dict[str, Any]) -> bool:
        if self.holder in ("", self._identity):
            return True
        lasts = (lease.get("spec") or {}).get("leaseDurationSeconds") or self._seconds
        return self._clock() - self._seen_at > float(lasts)

    def _took(self, lease: dict[str, Any], begun: float) -> None:
        self._lease = lease
        self._see(lease)
        self._renewed = begun

    def _record(self, metadata: dict[str, Any], old: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = old or {}
        same = old.get("holderIdentity") == self._identity
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._seconds)),
                "acquireTime": old.get("acquireTime") if same else now,
                "renewTime": now,
                "leaseTransitions": int(old.get("leaseTransitions") or 0) + (not same),
            },
        }
