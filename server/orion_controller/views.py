# SPDX-License-Identifier: Apache-2.0
"""The ledger's state as the API shows it."""

from __future__ import annotations

from typing import Literal

from . import placement, schemas
from .model import MIB, Client, Device, Lease, Part, Report, Request, Server, Totals, Use
from .service import Grant, Service


def lease_id(number: int) -> str:
    return f"{number:016x}"


def server_state(server: Server) -> Literal["starting", "live", "draining", "lost"]:
    if not server.live:
        return "lost"
    if server.draining or server.drained:
        return "draining"
    return "live" if server.keyed else "starting"


def vgpu(part: Part) -> schemas.VgpuView:
    return schemas.VgpuView(
        server=part.server,
        device=part.device,
        state=part.state.value,
        gmem_mib=part.memory // MIB,
        ratio=part.ratio,
    )


def lease(found: Lease, now: float) -> schemas.LeaseView:
    active = any(p.state.value == "active" for p in found.parts.values())
    return schemas.LeaseView(
        id=lease_id(found.id),
        held=found.held,
        state="releasing" if found.releasing else ("active" if active else "granted"),
        reason=found.releasing,
        expires_in=None if found.expires is None else max(0.0, found.expires - now),
        command=found.client.command,
        pid=found.client.pid,
        pod=found.client.pod,
        vgpus=[vgpu(p) for p in found.parts.values()],
    )


def grant(found: Grant, own_host: str) -> schemas.GrantView:
    return schemas.GrantView(
        server=found.part.server,
        device=found.part.device,
        gmem_mib=found.part.memory // MIB,
        ratio=found.part.ratio,
        address=absolute(found.address, own_host),
        local=found.local,
        token=found.token,
    )


def absolute(address: str, own_host: str) -> str:
    """ ":PORT" is a server on the controller's own host: the client has just reached that at own_host."""
    if not address.startswith(":"):
        return address
    return f"[{own_host}]{address}" if ":" in own_host else f"{own_host}{address}"


def server(found: Server, now: float) -> schemas.ServerView:
    return schemas.ServerView(
        id=found.id,
        state=server_state(found),
        address=found.address,
        local=found.local,
        version=found.version,
        heartbeat_age=max(0.0, now - found.seen),
        devices=len(found.devices),
        sessions=len(found.uses),
    )


def servers(service: Service) -> list[schemas.ServerView]:
    now = service.clock()
    return [server(s, now) for s in service.ledger.servers.values()]


def devices(service: Service) -> list[schemas.DeviceView]:
    found = []
    for room in service.ledger.rooms():
        device, slots = room.device, max(room.device.slots, 1)
        whole = placement.empty(room.server, device)
        uses = [u for u in room.server.uses if u.device == device.index]
        found.append(
            schemas.DeviceView(
                server=room.server.id,
                index=device.index,
                name=device.name,
                uuid=device.uuid,
                kind=device.kind,
                state=server_state(room.server),
                memory=device.memory,
                memory_leased=whole.memory - room.memory,
                memory_used=sum(u.memory_used for u in uses),
                vgpus=device.slots,
                vgpus_leased=device.slots - room.slots,
                ratio_leased=100.0 - room.share / slots,
            )
        )
    return found


def clients(service: Service) -> list[schemas.ClientView]:
    return [client(service, s, u) for s in service.ledger.servers.values() for u in s.uses]


def pod_of(service: Service, use: Use) -> str:
    """As its server knows it, or as whoever took its lease has said."""
    lease = service.ledger.leases.get(use.lease)
    return use.client.pod or (lease.client.pod if lease is not None else "")


def client(service: Service, owner: Server, use: Use) -> schemas.ClientView:
    return schemas.ClientView(
        server=owner.id,
        session=use.session,
        device=use.device,
        lease=lease_id(use.lease) if use.lease else None,
        command=use.client.command,
        pid=use.client.pid,
        uid=use.client.uid,
        pod=pod_of(service, use),
        memory_used=use.memory_used,
        memory_limit=use.memory_limit,
        ratio=use.ratio,
        busy=use.busy,
        busy_seconds=use.busy_seconds,
        calls=use.calls,
        copied=use.copied,
        kernels=use.kernels,
        transport=use.transport,
    )


def leases(service: Service) -> list[schemas.LeaseView]:
    now = service.clock()
    return [lease(found, now) for found in service.ledger.leases.values()]


def queue(service: Service) -> list[schemas.WaitingView]:
    now = service.clock()
    return [waiting(r, now) for r in service.ledger.queue]


def waiting(request: Request, now: float) -> schemas.WaitingView:
    return schemas.WaitingView(
        number=request.number,
        waited=max(0.0, now - request.asked),
        command=request.client.command,
        pid=request.client.pid,
        vgpus=request.wish.vgpus,
        gmem_mib=request.wish.memory // MIB,
        ratio=request.wish.ratio,
        reason=request.reason,
    )


def history(service: Service) -> list[schemas.SeriesView]:
    now = service.clock() - service.started
    return [
        schemas.SeriesView(
            server=owner,
            device=index,
            at=[round(at - now, 1) for at in series.at],
            memory=list(series.memory),
            busy=[round(b, 4) for b in series.busy],
            clients=list(series.clients),
        )
        for (owner, index), series in sorted(service.history.devices.items())
    ]


def report(name: str, beat: schemas.Heartbeat, host: str) -> Report:
    """A heartbeat as the ledger wants it. host: where it came from."""
    address = beat.address
    wildcard = next((w for w in ("0.0.0.0:", "[::]:", ":") if address.startswith(w)), None)
    if wildcard is not None:  # reachable where the heartbeat came from
        port = address[len(wildcard) :]
        address = f":{port}" if host == "here" else absolute(f":{port}", host)
    return Report(
        name,
        beat.boot,
        beat.epoch,
        beat.sequence,
        beat.clock,
        host,
        address,
        beat.local,
        beat.version,
        tuple(
            Device(
                d.index,
                d.name,
                d.uuid,
                d.kind,
                d.memory,
                d.vgpus,
                d.threads,
                min(d.reserved, d.vgpus),
                d.memory_reserved,
                d.memory_granted,
                d.memory_promised,
            )
            for d in {d.index: d for d in beat.devices}.values()
        ),
        tuple(use(s) for s in beat.sessions),
        frozenset((int(e.lease, 16), e.part) for e in beat.ended),
        beat.draining,
        totals=Totals(**beat.totals.model_dump()),
    )


def use(session: schemas.SessionReport) -> Use:
    return Use(
        session.session,
        session.device,
        int(session.lease, 16) if session.lease else 0,
        session.part,
        session.memory_limit,
        session.ratio,
        session.memory_used,
        session.memory_held,
        session.busy,
        session.busy_seconds,
        session.calls,
        session.copied,
        session.kernels,
        session.transport,
        session.held,
        session.token_expires,
        session.token_memory,
        session.token_ratio,
        Client(session.command, session.pid, session.uid, session.pod),
        session.memory_promised,
        session.share,
        session.mode,
        tuple(session.launch_latency.buckets),
        session.launch_latency.seconds,
    )
