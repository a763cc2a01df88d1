# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: routes over the service. Every error is a JSON object with a reason, and is logged with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from orion_server import wire
from orion_server.control import version
from starlette.exceptions import HTTPException

from . import dashboard, views
from . import schemas as s
from .auth import Denied, Role, is_here
from .limits import BodyLimit
from .logs import say
from .metrics import render
from .model import MIB, Client, Lease, Refused, Wish
from .service import Service

RETRY = ("full", "deadline", "unready")  # kinds of refusal that may be over in a moment
ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": s.Problem, "description": text}
    for code, text in {
        400: "what came is no such request",
        401: "a key is needed",
        403: "this key does not allow it",
        404: "there is no such thing",
        405: "not with this method",
        408: "the request did not come in full in time",
        409: "not as things are now: nothing is free, or this can never be granted",
        413: "the request is too large",
        422: "a value is not allowed",
        503: "the controller is not ready",
    }.items()
}
# What can be done with a lease that was just taken: OpenAPI calls these the links of the answer.
LINKS = {
    name: {"operationId": name, "parameters": {"lease_id": "$response.body#/lease/id"}}
    for name in ("look_at_lease", "renew_lease", "resize_lease", "release_lease")
}
LeaseName = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", description="a lease's id")]
ServerName = Annotated[
    str,
    Path(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$", description="a server's name"),
]
bearer = HTTPBearer(auto_error=False, description="a role's key, or a lease's own")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


def host_of(request: Request) -> str:
    """Where the other end is: "here", or its address."""
    peer = request.client.host if request.client else ""
    return "here" if is_here(peer, own_host(request)) else peer


def own_host(request: Request) -> str:
    """The address under which the other end has reached us."""
    server = request.scope.get("server")
    return str(server[0]) if server else ""


def problem(status: int, kind: str, reason: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"reason": reason, "kind": kind}, status, headers)


def role(wanted: Role, of_lease: bool = False) -> Any:
    def check(request: Request, credentials: Credentials) -> None:
        service: Service = request.app.state.service
        lease = 0
        if of_lease:
            text = request.path_params.get("lease_id", "")
            lease = int(text, 16) if len(text) == 16 and text.isalnum() and _is_hex(text) else 0
        key = credentials.credentials if credentials else ""
        service.keys.check(wanted, key, host_of(request) == "here", lease)

    return Depends(check)


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdef" for c in text)


def service_of(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


ServiceOf = Annotated[Service, Depends(service_of)]


def build(service: Service) -> FastAPI:
    """The application of one service, whose life is the application's."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = application(life)
    app.state.service = service
    app.add_middleware(BodyLimit, most=service.config.body_most)
    return app


def describe() -> dict[str, Any]:
    """The OpenAPI document; no controller has to run for it."""
    return application(None).openapi()


def application(life: Any) -> FastAPI:
    app = FastAPI(
        title="Orion controller",
        version=version(),
        description="Servers, devices, leases of vGPUs.",
        lifespan=life,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        responses=ERRORS,
    )
    _handle_errors(app)
    _add_health(app)
    _add_views(app)
    _add_leases(app)
    _add_servers(app)
    dashboard.add(app)
    return app


def _handle_errors(app: FastAPI) -> None:
    def refuse(
        request: Request,
        status: int,
        kind: str,
        reason: str,
        headers: dict[str, str] | None = None,
    ) -> Response:
        level = logging.INFO if status in (404, 405) else logging.WARNING
        peer = request.client.host if request.client else ""
        say(
            "request refused",
            reason,
            level,
            method=request.method,
            path=request.url.path,
            status=status,
            peer=peer,
        )
        return problem(status, kind, reason, headers)

    @app.exception_handler(Refused)
    async def on_refused(request: Request, error: Refused) -> Response:
        status = 503 if error.kind == "unready" else 409
        if str(error).startswith("there is no"):
            status = 404
        headers = {"Retry-After": "1"} if error.kind in RETRY else None
        return refuse(request, status, error.kind, str(error), headers)

    @app.exception_handler(Denied)
    async def on_denied(request: Request, error: Denied) -> Response:
        headers = {"WWW-Authenticate": "Bearer"} if error.unknown else None
        return refuse(request, 401 if error.unknown else 403, "denied", str(error), headers)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        rows = error.errors()
        first = rows[0] if rows else {"loc": ("request",), "msg": "invalid"}
        where = ".".join(str(p) for p in first["loc"])
        return refuse(request, 422, "invalid", f"{where}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers) if error.headers else None
        return refuse(request, error.status_code, "invalid", str(error.detail), headers)


def _add_health(app: FastAPI) -> None:
    @app.get("/livez", tags=["health"], response_model=s.Health)
    async def livez(service: ServiceOf) -> Any:
        """The process turns: leases are being looked after."""
        if service.turns:
            return s.Health(ok=True, reason="")
        return problem(503, "unready", service.problem or "the clock of leases does not run")

    @app.get("/readyz", tags=["health"], response_model=s.Health)
    async def readyz(service: ServiceOf) -> Any:
        """Leases can be granted as far as the controller itself is concerned."""
        if service.turns and not service.problem:
            return s.Health(ok=True, reason="")
        return problem(503, "unready", service.problem or "the clock of leases does not run")

    @app.get(
        "/metrics",
        tags=["health"],
        dependencies=[role(Role.CLIENT)],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics(service: ServiceOf) -> Response:
        """For Prometheus."""
        return Response(render(service), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_views(app: FastAPI) -> None:
    see = [role(Role.CLIENT)]

    @app.get("/v1/info", tags=["views"], dependencies=see)
    async def info(service: ServiceOf) -> s.Info:
        return s.Info(
            version=version(),
            protocol=wire.VERSION,
            uptime=service.clock() - service.started,
            policy=service.config.rules.policy,
        )

    @app.get("/v1/servers", tags=["views"], dependencies=see)
    async def servers(service: ServiceOf) -> list[s.ServerView]:
        return views.servers(service)

    @app.get("/v1/devices", tags=["views"], dependencies=see)
    async def devices(service: ServiceOf) -> list[s.DeviceView]:
        return views.devices(service)

    @app.get("/v1/clients", tags=["views"], dependencies=see)
    async def clients(service: ServiceOf) -> list[s.ClientView]:
        """Programs that use a vGPU now, those that came without the controller, too."""
        return views.clients(service)

    @app.get("/v1/queue", tags=["views"], dependencies=see)
    async def queue(service: ServiceOf) -> list[s.WaitingView]:
        return views.queue(service)

    @app.get("/v1/overview", tags=["views"], dependencies=see)
    async def overview(service: ServiceOf) -> s.Overview:
        return s.Overview(
            version=version(),
            uptime=service.clock() - service.started,
            servers=views.servers(service),
            devices=views.devices(service),
            clients=views.clients(service),
            leases=views.leases(service),
            queue=views.queue(service),
            history=views.history(service),
        )


def _add_leases(app: FastAPI) -> None:
    take, own = [role(Role.CLIENT)], [role(Role.ADMINISTRATOR, of_lease=True)]

    def granted(request: Request, service: Service, lease: Lease) -> s.LeaseGrant:
        host = own_host(request)
        return s.LeaseGrant(
            lease=views.lease(lease, service.clock()),
            lease_key=service.keys.lease_key(lease.id),
            grants=[views.grant(g, host) for g in service.grants(lease, host_of(request))],
        )

    @app.get("/v1/leases", tags=["leases"], dependencies=take)
    async def leases(service: ServiceOf) -> list[s.LeaseView]:
        return views.leases(service)

    @app.post(
        "/v1/leases",
        tags=["leases"],
        dependencies=take,
        status_code=201,
        responses={201: {"links": LINKS}},
    )
    async def take_lease(request: Request, wish: s.LeaseWish, service: ServiceOf) -> s.LeaseGrant:
        """Waits in the queue for as long as the request says; 409 when nothing became free."""
        host = host_of(request)
        asked = service.ask(
            Wish(
                wish.vgpus,
                wish.gmem_mib * MIB,
                wish.ratio,
                wish.cross_node,
                min(wish.wait, service.config.wait_most),
                host,
                wish.server or "",
                True,
                wish.seconds,
            ),
            Client(wish.command, pod=wish.pod, peer=request.client.host if request.client else ""),
        )
        try:
            lease = await _wait_unless_gone(request, service.wait(asked, None))
            if lease is None:
                raise Refused("canceled", "the client left the queue")
            return granted(request, service, lease)
        except BaseException:
            service.leave(asked)
            raise

    @app.get(
        "/v1/leases/{lease_id}", tags=["leases"], dependencies=take, operation_id="look_at_lease"
    )
    async def lease(lease_id: LeaseName, service: ServiceOf) -> s.LeaseView:
        return views.lease(service.ledger.find(int(lease_id, 16)), service.clock())

    @app.post(
        "/v1/leases/{lease_id}/renew",
        tags=["leases"],
        dependencies=own,
        operation_id="renew_lease",
    )
    async def renew(
        request: Request, lease_id: LeaseName, wish: s.Renewal, service: ServiceOf
    ) -> s.LeaseGrant:
        """New tokens come with it; earlier ones stay good until they expire."""
        number = int(lease_id, 16)
        service.change(lambda ledger: ledger.renew(number, wish.seconds))
        return granted(request, service, service.ledger.find(number))

    @app.patch(
        "/v1/leases/{lease_id}", tags=["leases"], dependencies=own, operation_id="resize_lease"
    )
    async def resize(
        request: Request, lease_id: LeaseName, wish: s.Resize, service: ServiceOf
    ) -> s.LeaseView:
        """Takes effect with the servers' next heartbeats, on programs that run as well."""
        number = int(lease_id, 16)
        memory = None if wish.gmem_mib is None else wish.gmem_mib * MIB
        service.change(lambda ledger: ledger.resize(number, memory, wish.ratio))
        return views.lease(service.ledger.find(number), service.clock())

    @app.delete(
        "/v1/leases/{lease_id}",
        tags=["leases"],
        dependencies=own,
        status_code=202,
        operation_id="release_lease",
    )
    async def release(lease_id: LeaseName, service: ServiceOf) -> s.LeaseView:
        """Programs that use it are ended. Its place is free when its servers have confirmed."""
        number = int(lease_id, 16)
        found = service.ledger.find(number)
        service.change(lambda ledger: ledger.release(number, "whoever holds it said so"))
        return views.lease(found, service.clock())


async def _wait_unless_gone(request: Request, waiting: Awaitable[Lease | None]) -> Lease | None:
    """What is waited for, or None when the client hangs up before."""
    task = asyncio.ensure_future(waiting)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_servers(app: FastAPI) -> None:
    @app.put("/v1/servers/{name}", tags=["servers"], dependencies=[role(Role.SERVER)])
    async def heartbeat(
        request: Request, name: ServerName, beat: s.Heartbeat, service: ServiceOf
    ) -> s.HeartbeatAnswer:
        """A server registers with its first heartbeat, and says all with each: nothing else keeps it known."""
        orders, key = service.report(views.report(name, beat, host_of(request)), beat.key_id)
        return s.HeartbeatAnswer(
            interval=service.config.heartbeat_seconds,
            key=key.hex(),
            end=[s.LeasePart(lease=views.lease_id(i), part=part) for i, part in orders.end],
            limits=[
                s.LimitsOrder(
                    lease=views.lease_id(i), part=part, gmem_mib=memory // MIB, ratio=ratio
                )
                for i, part, memory, ratio in orders.limits
            ],
        )

    @app.delete("/v1/servers/{name}", tags=["servers"], dependencies=[role(Role.SERVER)])
    async def goodbye(name: ServerName, service: ServiceOf) -> s.Health:
        """The server has stopped and its sessions are over."""
        service.ledger.remove(name, "it said goodbye")
        service.settle()
        return s.Health(ok=True, reason="")

    @app.post("/v1/servers/{name}/drain", tags=["servers"], dependencies=[role(Role.ADMINISTRATOR)])
    async def drain(name: ServerName, wish: s.Drain, service: ServiceOf) -> s.ServerView:
        """No new programs there; those that run, run on."""
        server = service.ledger.drain(name, wish.drain)
        service.settle()
        return views.server(server, service.clock())
