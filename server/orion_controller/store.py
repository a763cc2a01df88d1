# SPDX-License-Identifier: Apache-2.0
"""What outlives the controller: leases and the servers that they are on, in SQLite (WAL, one writer: this process).

It is written before a client hears of its lease. After a crash of this process nothing is missing; after a power cut
the last leases may be, and then the servers report those that are used. Truth about running programs is in the servers
alone: what is read here only keeps places until they have reported.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from .ledger import Ledger
from .model import Client, Lease, Part, Server, State

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS lease (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS server (id TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""


class StoreError(Exception):
    """The database cannot be used; the text names it and the remedy."""


class Store:
    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._base = sqlite3.connect(path, timeout=1.0, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            # the lock is kept: a second controller on the same state is told so at once
            self._base.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._base.execute("BEGIN EXCLUSIVE")
            found = int(self._base.execute("PRAGMA user_version").fetchone()[0])
            if found > VERSION:
                self._base.execute("ROLLBACK")
                raise StoreError(
                    f"{path} was written by a newer controller (version {found}, this one knows {VERSION}): "
                    "upgrade, or choose another --state-dir"
                )
            for statement in filter(str.strip, TABLES.split(";")):
                self._base.execute(statement)
            self._base.execute(f"PRAGMA user_version={VERSION}")
            self._base.execute("COMMIT")
        except (OSError, sqlite3.Error) as e:
            busy = "locked" in str(e)
            remedy = "another controller uses it" if busy else "choose another --state-dir"
            raise StoreError(f"cannot use {path}: {e}; {remedy}") from e

    def secret(self, name: str) -> bytes:
        """32 random bytes, made once."""
        row = self._base.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        if row is not None:
            return bytes(row[0])
        value = secrets.token_bytes(32)
        self._base.execute("INSERT INTO secret VALUES (?, ?)", (name, value))
        return value

    def save(self, ledger: Ledger) -> None:
        """What has changed since the last save, in one transaction."""
        if not ledger.changed_leases and not ledger.changed_servers:
            return
        now = self._clock()
        self._base.execute("BEGIN IMMEDIATE")
        for number in ledger.changed_leases:
            lease = ledger.leases.get(number)
            self._put("lease", f"{number:016x}", None if lease is None else dump_lease(lease, now))
        for name in ledger.changed_servers:
            server = ledger.servers.get(name)
            self._put("server", name, None if server is None else dump_server(server))
        self._base.execute("COMMIT")
        ledger.changed_leases.clear()
        ledger.changed_servers.clear()

    def _put(self, table: str, key: str, document: dict[str, object] | None) -> None:
        if document is None:
            self._base.execute(f"DELETE FROM {table} WHERE id = ?", (key,))
        else:
            self._base.execute(
                f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                (key, json.dumps(document)),
            )

    def load(self, ledger: Ledger) -> None:
        now = self._clock()
        try:
            rows = {
                table: [
                    json.loads(r[0]) for r in self._base.execute(f"SELECT document FROM {table}")
                ]
                for table in ("server", "lease")
            }
            ledger.restore(
                [load_server(d, now) for d in rows["server"]],
                [load_lease(d, now) for d in rows["lease"]],
            )
        except (ValueError, KeyError, TypeError, sqlite3.Error) as e:
            raise StoreError(
                f"{self._path} is damaged ({e}): move it away; the servers report what runs"
            ) from e

    def close(self) -> None:
        self._base.close()


def dump_lease(lease: Lease, now: float) -> dict[str, object]:
    """Our own clock means nothing to a later controller: what remains is kept instead of an instant."""
    return {
        "id": lease.id,
        "held": lease.held,
        "client": asdict(lease.client),
        "remains": None if lease.expires is None else max(0.0, lease.expires - now),
        "releasing": lease.releasing,
        "parts": [{**asdict(p), "state": p.state.value} for p in lease.parts.values()],
    }


def load_lease(document: dict[str, object], now: float) -> Lease:
    rows: list[dict[str, object]] = document["parts"]  # type: ignore[assignment]
    parts = [load_part(row) for row in rows]
    remains = document["remains"]
    return Lease(
        int(document["id"]),  # type: ignore[call-overload]
        bool(document["held"]),
        Client(**known(Client, document["client"])),  # type: ignore[arg-type]
        {p.number: p for p in parts},
        now,
        None if remains is None else now + float(remains),  # type: ignore[arg-type]
        str(document["releasing"]),
    )


def load_part(row: dict[str, object]) -> Part:
    earlier: list[list[float]] = row["earlier"]  # type: ignore[assignment]
    tokens = [(float(e), int(m), int(r)) for e, m, r in earlier]
    row = {**known(Part, row), "state": State(row["state"]), "earlier": tokens}
    return Part(**row)  # type: ignore[arg-type]


def known(kind: type, row: object) -> dict[str, object]:
    """What this release has a place for: a later one, from which one went back, may have written more."""
    names = {field.name for field in fields(kind)}
    return {key: value for key, value in dict(row).items() if key in names}  # type: ignore[call-overload]


def dump_server(server: Server) -> dict[str, object]:
    return {
        "id": server.id,
        "boot": server.boot,
        "epoch": server.epoch,
        "host": server.host,
        "clock": server.clock,
        "drained": server.drained,
        "retired": server.retired,
    }


def load_server(document: dict[str, object], now: float) -> Server:
    """Its devices and sessions are not kept: it has to report them anyway."""
    return Server(
        id=str(document["id"]),
        boot=str(document["boot"]),
        epoch=int(document["epoch"]),  # type: ignore[call-overload]
        host=str(document["host"]),
        clock=float(document["clock"]),  # type: ignore[arg-type]
        seen=now,
        drained=bool(document["drained"]),
        retired=[str(b) for b in document["retired"]],  # type: ignore[attr-defined]
    )
