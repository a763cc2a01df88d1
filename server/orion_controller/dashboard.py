# SPDX-License-Identifier: Apache-2.0
"""The built-in dashboard: one page, its style and its script, all from this package; its data is /v1/overview."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import resources

from fastapi import FastAPI
from fastapi.responses import Response

ASSETS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    # nothing from elsewhere, no page of others around it, no inline script
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def add(app: FastAPI) -> None:
    for path, (name, kind) in ASSETS.items():
        app.add_api_route(path, _sender(name, kind), methods=["GET"], include_in_schema=False)


def _sender(name: str, kind: str) -> Callable[[], Awaitable[Response]]:
    content = (resources.files(__package__) / "assets" / name).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return send
