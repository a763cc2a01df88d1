# SPDX-License-Identifier: Apache-2.0
"""What an administrator changes in a running server: limits of a session, and whether new clients are served."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .limits import Mode
from .session import Session, State

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger("orion.server")

LIMITS = {"memory": int, "ratio": int, "mode": str}


def limit(supervisor: Supervisor, request: dict[str, Any]) -> dict[str, Any]:
    """{"op": "limit", "session": N, "memory": bytes, "ratio": percent, "mode": name}: what is named is changed."""
    session = session_of(supervisor, request)
    if session is None:
        return {"error": f"no session {request.get('session')!r}: see `orion smi`"}
    changes: dict[str, Any] = {}
    for name, kind in LIMITS.items():
        value = request.get(name)
        if value is None:
            continue
        if not isinstance(value, kind) or isinstance(value, bool):
            return {"error": f"{name} is {value!r}, but must be of type {kind.__name__}"}
        changes[name] = value
    if "mode" in changes:
        try:
            changes["mode"] = Mode(changes["mode"])
        except ValueError:
            known = ", ".join(mode.value for mode in Mode)
            return {"error": f"{changes['mode']!r} is no way to share: choose {known}"}
    lease = session.lease
    try:
        lease.change(replace(lease.limits, **changes))
    except ValueError as e:
        return {"error": str(e)}
    session.worker.lease.set_memory_limit(lease.limit)
    supervisor.shares.change(session.worker, lease.limits)
    log.info(
        "client %d may now have %d MiB and %d %% (%s)",
        session.id,
        lease.limit >> 20,
        lease.limits.ratio,
        lease.limits.mode.value,
    )
    return {
        "session": session.id,
        "memory_limit": lease.limit,
        "ratio": lease.limits.ratio,
        "mode": lease.limits.mode.value,
    }


def drain(supervisor: Supervisor, request: dict[str, Any]) -> dict[str, Any]:
    """{"op": "drain", "undo": false, "stop": false}: no new clients; stop: and end when the last one has gone."""
    undo = request.get("undo") is True
    supervisor.draining = not undo
    supervisor.stop_when_empty = request.get("stop") is True and not undo
    supervisor.control.notify()
    log.info("clients are taken again" if undo else "draining: no new clients are taken")
    left = sum(s.state is not State.ENDED for s in supervisor.sessions)
    supervisor.look_if_empty()
    return {"draining": supervisor.draining, "clients": left}


def session_of(supervisor: Supervisor, request: dict[str, Any]) -> Session | None:
    number = request.get("session")
    return supervisor.sessions.get(number) if isinstance(number, int) else None
