# SPDX-License-Identifier: Apache-2.0
"""Leases, placement and the queue as one state machine without IO: every method is told, decides, and returns.

Two rules hold whatever the order of requests, deaths, restarts and delays:

* Nothing is over-allocated. A vGPU counts against its device from the moment it is granted until its server has said,
  in a report made later than that, that nobody uses it and nobody can: its session ended, its token expired by the
  server's own clock, or the server revoked it. A server that has not reported to this controller gets no leases.
* Nothing is leaked. What a server does not confirm is dropped when the server is taken for dead.

Time is monotonic and comes from outside; nothing here reads a calendar.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from . import placement
from .model import (
    MIB,
    Client,
    Decision,
    Lease,
    Part,
    Refused,
    Report,
    Request,
    Server,
    State,
    Use,
    Wish,
)

RETIRED_MOST = 16


@dataclass(frozen=True)
class Rules:
    policy: str = "pack"
    token_seconds: float = 30.0  # in which a granted vGPU must be used for the first time
    lost_seconds: float = 10.0  # without a heartbeat: no new leases there
    forget_seconds: float = 60.0  # then its leases are dropped
    held_seconds_most: float = 86400.0
    queue_most: int = 10000


@dataclass
class Orders:
    """The answer to a heartbeat: what the server shall do. It is repeated until a report shows that it is done."""

    end: list[tuple[int, int]] = field(default_factory=list)  # end the session, refuse the token
    limits: list[tuple[int, int, int, int]] = field(
        default_factory=list
    )  # lease, part, memory, ratio


class Ledger:
    def __init__(
        self,
        clock: Callable[[], float],
        rules: Rules | None = None,
        decided: Callable[[Decision], None] = lambda _: None,
        new_id: Callable[[], int] = lambda: secrets.randbits(62) | 1 << 62,
    ) -> None:
        self._clock = clock
        self.rules = rules or Rules()
        self._decided = decided
        self._new_id = new_id
        self.servers: dict[str, Server] = {}
        self.leases: dict[int, Lease] = {}
        self.queue: list[Request] = []  # in the order of arrival
        self._numbers = 0
        self.changed_leases: set[int] = set()  # since the store last took them
        self.changed_servers: set[str] = set()

    # --- what is left

    def parts(self) -> Iterable[Part]:
        for lease in self.leases.values():
            yield from lease.parts.values()

    def rooms(self) -> list[placement.Room]:
        """What each device has left."""
        taken: dict[tuple[str, int], list[int]] = {}

        def take(server: str, index: int, memory: int, ratio: int) -> None:
            entry = taken.setdefault((server, index), [0, 0, 0])
            device = self.servers[server].devices.get(index)
            entry[0] += 1
            entry[1] += placement.kept_for(memory)
            entry[2] += placement.share_of(ratio, device) if device else 0

        for part in self.parts():
            if part.server in self.servers:
                take(part.server, part.device, *self._counted(part))
        for server in self.servers.values():
            for use in server.uses:
                if not self._is_ours(server, use):
                    take(server.id, use.device, use.memory_held, use.ratio)
        found = []
        for server in self.servers.values():
            for device in server.devices.values():
                slots, memory, share = taken.get((server.id, device.index), (0, 0, 0))
                whole = placement.unreserved(server, device)
                found.append(
                    replace(
                        whole,
                        slots=whole.slots - slots,
                        memory=whole.memory - memory,
                        share=whole.share - share,
                    )
                )
        return found

    def _counted(self, part: Part) -> tuple[int, int]:
        """Memory and ratio that the part may be using. Ratio 0 is an equal share, not the smallest."""
        device = self.servers[part.server].devices.get(part.device)
        bounds = part.bounds()
        memory = max(memory for memory, _ in bounds)
        if device is None:
            return memory, part.ratio
        return memory, max((r for _, r in bounds), key=lambda r: placement.share_of(r, device))

    def ratio_of(self, part: Part) -> int:
        """In percent, an equal share too."""
        device = self.servers[part.server].devices.get(part.device)
        return part.ratio or (placement.equal_ratio(device) if device else 1)

    def _is_ours(self, server: Server, use: Use) -> bool:
        """Counted as a part of a lease, not by itself."""
        lease = self.leases.get(use.lease)
        part = lease.parts.get(use.part) if lease else None
        return part is not None and part.server == server.id

    def _is_open(self, server: Server) -> bool:
        return server.live and server.keyed and not server.draining and not server.drained

    # --- requests

    def request(self, wish: Wish, client: Client) -> Request:
        """A request that is granted, refused, or waits in the queue."""
        now = self._clock()
        self._numbers += 1
        deadline = None if wish.wait is None else now + wish.wait
        request = Request(self._numbers, wish, client, now, deadline)
        self.queue.append(request)
        impossible = self._impossible(wish)
        if impossible:
            self._refuse(request, "impossible", impossible)
        elif len(self.queue) > self.rules.queue_most:
            self._refuse(
                request, "full", f"{self.rules.queue_most} programs wait for a vGPU already"
            )
        self._place()
        if not request.settled and wish.wait is not None and wish.wait <= 0:
            self._refuse(request, "full", f"{request.reason} (and this request does not wait)")
        if not request.settled:
            self._say("queued", request.reason, request=request)
        return request

    def cancel(self, request: Request) -> None:
        """Whoever waited has gone. A lease that it got and nobody will hear of is released."""
        if request.lease is not None:  # its token has never left this process
            for part in list(request.lease.parts.values()):
                self._drop_part(part, "the client left before it was told")
            self._place()
        elif request.refused is None:
            self._refuse(request, "canceled", "the client left the queue")
            self._place()

    def _impossible(self, wish: Wish) -> str:
        """Why no server that is known could ever grant this; empty when one could, or none is known."""
        known = [s for s in self.servers.values() if placement.reaches(wish, s) and s.devices]
        rooms = [placement.empty(s, d) for s in known for d in s.devices.values()]
        if wish.server and wish.server not in self.servers:
            return f"there is no server {wish.server!r}"
        if not known or placement.choose(wish, rooms, self.rules.policy):
            return ""
        return f"this can never be granted: {placement.shortfall(wish, rooms)}"

    def _place(self) -> None:
        """Whatever can be granted now, first come, first served on each device: who waits keeps later ones off the
        devices that it could use, so that a large request is not starved by small ones."""
        kept: set[tuple[str, int]] = set()
        ahead = 0
        rooms = self.rooms() if self.queue else []
        for request in list(self.queue):
            wish = request.wish
            reachable = [
                r for r in rooms if self._is_open(r.server) and placement.reaches(wish, r.server)
            ]
            free = [r for r in reachable if r.key not in kept]
            chosen = placement.choose(wish, free, self.rules.policy)
            if chosen:
                self._grant(request, chosen)
                rooms = self.rooms()
                continue
            reason = placement.shortfall(wish, reachable)
            if len(free) < len(reachable) and placement.choose(wish, reachable, self.rules.policy):
                reason = "what is free is kept for programs that have waited longer"
            request.reason = f"{reason}; {ahead} ahead" if ahead else reason
            ahead += 1
            kept |= {
                r.key
                for r in reachable
                if placement.fits(wish, placement.empty(r.server, r.device))
            }
        self.queue = [r for r in self.queue if not r.settled]

    def _grant(self, request: Request, rooms: list[placement.Room]) -> None:
        now = self._clock()
        wish = request.wish
        seconds = min(wish.seconds, self.rules.held_seconds_most)
        lease = Lease(
            self._new_id(),
            wish.held,
            request.client,
            {},
            now,
            now + seconds if wish.held else None,
        )
        life = seconds if wish.held else self.rules.token_seconds
        for number, room in enumerate(rooms):
            lease.parts[number] = Part(
                lease.id,
                number,
                room.server.id,
                room.device.index,
                placement.memory_of(wish, room.device),
                wish.ratio,
                room.server.clock_at(now) + life,
            )
        self.leases[lease.id] = lease
        self.changed_leases.add(lease.id)
        request.lease = lease
        where = ", ".join(f"{r.server.id}/{r.device.index}" for r in rooms)
        how = "the fullest device with room" if self.rules.policy == "pack" else "the emptiest"
        self._say(
            "granted",
            f"{where}: {how}, after {now - request.asked:.1f} s",
            lease=lease.id,
            request=request,
        )

    def _refuse(self, request: Request, kind: str, reason: str) -> None:
        request.refused = Refused(kind, reason)
        self.queue = [r for r in self.queue if r is not request]
        say = kind if kind == "canceled" else "refused"
        self._say(say, reason, request=request, refused=kind)

    # --- leases

    def find(self, lease_id: int) -> Lease:
        lease = self.leases.get(lease_id)
        if lease is None:
            raise Refused("stale", f"there is no lease {lease_id:016x}: it has ended")
        return lease

    def release(self, lease_id: int, why: str) -> None:
        """The lease shall end. What its servers must confirm first stays counted until they have."""
        lease = self.find(lease_id)
        if lease.releasing:
            return
        lease.releasing = why
        self.changed_leases.add(lease.id)
        self._say("releasing", why, lease=lease.id)

    def renew(self, lease_id: int, seconds: float) -> Lease:
        """A held lease lives for so long from now; its next tokens do, too."""
        lease = self.find(lease_id)
        if not lease.held:
            raise Refused("stale", "this lease lives with its program and is not to be renewed")
        if lease.releasing:
            raise Refused("stale", f"this lease is ending: {lease.releasing}")
        now = self._clock()
        lease.expires = now + min(seconds, self.rules.held_seconds_most)
        for part in lease.parts.values():
            server = self.servers.get(part.server)
            if server is not None:
                end = server.clock_at(now) + lease.expires - now
                part.token_expires = max(part.token_expires, end)
        self.changed_leases.add(lease.id)
        self._say("renewed", f"for {seconds:.0f} s", lease=lease.id)
        return lease

    def resize(self, lease_id: int, memory: int | None, ratio: int | None) -> Lease:
        """New bounds of each vGPU in the lease; the servers get them with their next heartbeats."""
        lease = self.find(lease_id)
        if lease.releasing:
            raise Refused("stale", f"this lease is ending: {lease.releasing}")
        rooms = {r.key: r for r in self.rooms()}
        for part in lease.parts.values():
            room = rooms.get((part.server, part.device))
            if room is None:
                raise Refused("stale", f"the server {part.server} has not reported its devices yet")
            counted, held_ratio = self._counted(part)
            wanted_memory = part.memory if memory is None else memory
            more = placement.kept_for(wanted_memory) - placement.kept_for(counted)
            if more > room.memory:
                raise Refused(
                    "full",
                    f"{part.server}/{part.device} has {max(room.memory, 0) // MIB} MiB left, and this needs "
                    f"{more // MIB} MiB more",
                )
            wanted = placement.share_of(part.ratio if ratio is None else ratio, room.device)
            held = placement.share_of(held_ratio, room.device)
            if wanted - held > room.share:
                left = max(room.share, 0) // max(room.device.slots, 1)
                raise Refused(
                    "full", f"{part.server}/{part.device} has {left} percent of its time left"
                )
        for part in lease.parts.values():
            bounds = (
                part.memory if memory is None else memory,
                part.ratio if ratio is None else ratio,
            )
            if part.state is State.ACTIVE and not lease.held:  # its token is spent
                part.memory, part.ratio = bounds
            else:
                part.replace_token(part.token_expires, *bounds)
        self.changed_leases.add(lease.id)
        self._say("resized", "there is room", lease=lease.id, memory=memory, ratio=ratio)
        self._place()
        return lease

    def _drop_part(self, part: Part, why: str) -> None:
        lease = self.leases[part.lease]
        del lease.parts[part.number]
        self.changed_leases.add(lease.id)
        self._say(
            "freed", why, lease=lease.id, server=part.server, part=part.number, device=part.device
        )
        if not lease.parts:
            del self.leases[lease.id]

    # --- servers

    def report(self, report: Report) -> Orders:
        """A heartbeat. Refused: it was overtaken by a later one, or comes from a server's former life."""
        now = self._clock()
        server = self.servers.get(report.server)
        if server is not None:
            self._refuse_stale(server, report)
        if server is None:
            server = Server(
                report.server, report.boot, report.epoch, report.host, report.clock, now
            )
            self.servers[server.id] = server
            self._say("registered", "its first heartbeat", server=server.id)
        elif (server.boot, server.epoch) != (report.boot, report.epoch):
            self._restart(server, report)
        elif not server.live:
            self._say("registered", "its heartbeats are back", server=server.id)
        server.sequence, server.host = report.sequence, report.host
        server.clock, server.seen, server.live = report.clock, now, True
        server.keyed = report.keyed
        server.address, server.local, server.version = (
            report.address,
            report.local,
            report.version,
        )
        if report.draining != server.draining:
            server.draining = report.draining
            self._say("draining" if report.draining else "open", "it says so", server=server.id)
        devices = {d.index: d for d in report.devices}
        changed, server.devices = devices != server.devices, devices
        server.uses, server.totals = report.uses, report.totals
        self.changed_servers.add(server.id)
        self._reconcile(server, report)
        if changed:
            self._refuse_impossible()
        self._place()
        return self._orders(server)

    def _refuse_stale(self, server: Server, report: Report) -> None:
        same_boot = report.boot == server.boot
        if report.boot in server.retired or (same_boot and report.epoch < server.epoch):
            why = f"a newer server has taken the name {report.server}: give each server its own"
            raise Refused("stale", why)
        same_life = same_boot and report.epoch == server.epoch
        if same_life and report.sequence <= server.sequence:
            raise Refused("stale", f"report {report.sequence} was overtaken by {server.sequence}")

    def _restart(self, server: Server, report: Report) -> None:
        if report.boot != server.boot:
            server.retired = [*server.retired, server.boot][-RETIRED_MOST:]
        server.boot, server.epoch = report.boot, report.epoch
        for part in [p for p in self.parts() if p.server == server.id]:
            self._drop_part(part, "its server was started anew")
        self._say("registered", "it was started anew", server=server.id)

    def _reconcile(self, server: Server, report: Report) -> None:
        """Our view of this server's parts becomes the server's own."""
        ours = {p.key: p for p in self.parts() if p.server == server.id}
        used = set()
        for use in report.uses:
            key = (use.lease, use.part)
            if not use.lease or key in used:
                continue
            part = ours.get(key) or self._adopt(server, use)
            if part is None:
                continue
            used.add(key)
            if part.state is not State.ACTIVE:
                part.state = State.ACTIVE
                self.changed_leases.add(part.lease)
                self._say(
                    "active", "a program uses it", lease=part.lease, server=server.id, part=use.part
                )
            part.device = use.device  # the server knows best
            part.memory_reported, part.ratio_reported = use.memory_limit, use.ratio
            part.memory_held = use.memory_held
            part.token_memory, part.token_ratio = use.token_memory, use.token_ratio
        for key, part in ours.items():
            lease = self.leases[part.lease]
            if key in used and not lease.held:
                part.earlier.clear()  # a token is for one session
            part.earlier = [e for e in part.earlier if e[0] >= report.clock]
            if key in used:
                continue
            if key in report.ended:
                self._drop_part(part, lease.releasing or "its program has ended")
            elif part.state is State.ACTIVE and not lease.held:
                self._drop_part(part, "its program has ended")
            elif report.clock > part.usable_until():
                self._drop_part(
                    part,
                    lease.releasing
                    or ("it has expired" if lease.held else "its token expired unused"),
                )
            elif part.state is State.ACTIVE:  # held: the next program may come
                part.state = State.GRANTED
                self.changed_leases.add(part.lease)

    def _adopt(self, server: Server, use: Use) -> Part | None:
        """A session under a lease that this controller, or the one before it, has forgotten."""
        lease = self.leases.get(use.lease)
        if use.device not in server.devices or (lease is not None and use.part in lease.parts):
            return None  # the part is another server's: this use counts by itself
        now = self._clock()
        if lease is None:
            expires = now + max(0.0, use.token_expires - server.clock) if use.held else None
            lease = Lease(use.lease, use.held, use.client, {}, now, expires)
            self.leases[lease.id] = lease
        part = Part(
            lease.id,
            use.part,
            server.id,
            use.device,
            use.memory_limit,
            use.ratio,
            use.token_expires,
            State.ACTIVE,
        )
        lease.parts[part.number] = part
        self.changed_leases.add(lease.id)
        self._say("adopted", "its server reports it", lease=lease.id, server=server.id)
        return part

    def _orders(self, server: Server) -> Orders:
        orders = Orders()
        for part in self.parts():
            if part.server != server.id:
                continue
            if self.leases[part.lease].releasing:
                orders.end.append(part.key)
            elif part.state is State.ACTIVE:
                wanted = (part.memory, self.ratio_of(part))
                if not part.is_within(*wanted):
                    orders.limits.append((*part.key, *wanted))
        return orders

    def drain(self, server_id: str, drained: bool) -> Server:
        """No new leases there; programs that run, run on."""
        server = self.servers.get(server_id)
        if server is None:
            raise Refused("stale", f"there is no server {server_id!r}")
        server.drained = drained
        self.changed_servers.add(server.id)
        self._say("draining" if drained else "open", "an administrator said so", server=server.id)
        self._place()
        return server

    def remove(self, server_id: str, why: str) -> None:
        """The server has ended in order: its sessions are over."""
        server = self.servers.get(server_id)
        if server is None:
            raise Refused("stale", f"there is no server {server_id!r}")
        server.live, server.uses = False, ()
        for part in [p for p in self.parts() if p.server == server_id]:
            self._drop_part(part, why)
        self._forget(server, why)

    def _forget(self, server: Server, why: str) -> None:
        del self.servers[server.id]
        self.changed_servers.add(server.id)
        self._say("forgotten", why, server=server.id)

    # --- time

    def tick(self) -> None:
        """Deadlines, expiries, servers that have fallen silent. To be called every second or so."""
        now = self._clock()
        for request in [r for r in self.queue if r.deadline is not None and r.deadline <= now]:
            waited = now - request.asked
            self._refuse(
                request, "deadline", f"no vGPU became free within {waited:.0f} s: {request.reason}"
            )
        for lease in list(self.leases.values()):
            if lease.expires is not None and lease.expires <= now and not lease.releasing:
                self.release(lease.id, "it has expired")
        for server in list(self.servers.values()):
            silent = now - server.seen
            if server.live and silent > self.rules.lost_seconds:
                server.live = False
                self._say("lost", f"no heartbeat for {silent:.0f} s", server=server.id)
            if silent > self.rules.forget_seconds:
                self._give_up(server, now, silent)
        for part in [p for p in self.parts() if p.server not in self.servers]:
            self._drop_part(part, "its server is not known any more")
        self._place()

    def _give_up(self, server: Server, now: float, silent: float) -> None:
        """Its sessions would be reported anew if it came back; a token that it would still take is waited for."""
        for part in [p for p in self.parts() if p.server == server.id]:
            lease = self.leases[part.lease]
            spent = part.state is State.ACTIVE and not lease.held
            if spent or server.clock_at(now) > part.usable_until():
                self._drop_part(part, f"its server has been silent for {silent:.0f} s")
        if not any(p.server == server.id for p in self.parts()):
            self._forget(server, f"silent for {silent:.0f} s")

    def _refuse_impossible(self) -> None:
        for request in list(self.queue):
            impossible = self._impossible(request.wish)
            if impossible:
                self._refuse(request, "impossible", impossible)

    def _say(
        self,
        kind: str,
        reason: str,
        lease: int = 0,
        server: str = "",
        request: Request | None = None,
        **detail: object,
    ) -> None:
        if request is not None:
            client = request.client
            detail = {
                "request": request.number,
                "command": client.command,
                "pid": client.pid,
                "peer": client.peer,
                "vgpus": request.wish.vgpus,
                "memory": request.wish.memory,
                "ratio": request.wish.ratio,
                **detail,
            }
        self._decided(Decision(kind, reason, lease, server, detail))

    # --- for those who restart or look

    def restore(self, servers: Iterable[Server], leases: Iterable[Lease]) -> None:
        """What a former controller left: counted, but its servers get nothing new before they report."""
        now = self._clock()
        for server in servers:
            server.live, server.seen = False, now
            self.servers[server.id] = server
        for lease in leases:
            lease.granted = now
            self.leases[lease.id] = lease
