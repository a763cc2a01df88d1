# SPDX-License-Identifier: Apache-2.0
"""A bound on the body of a request, whatever its headers say of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .logs import say

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class TooLarge(Exception):
    pass


class BodyLimit:
    """ASGI middleware: 413 as soon as it is known that the body is larger than `most` bytes."""

    def __init__(self, app: App, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, begun, refused = 0, False, False

        async def bounded() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most:
                refused = True
                raise TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            if refused and not begun:  # whoever reads the body has made another error of it
                raise TooLarge
            begun = True
            await send(message)

        declared = dict(scope["headers"]).get(b"content-length", b"0")
        try:
            if declared.isdigit() and int(declared) > self._most:
                raise TooLarge
            await self._app(scope, bounded, watched)
        except TooLarge:
            reason = f"the body is larger than {self._most} bytes"
            peer = (scope.get("client") or ("",))[0]
            say(
                "request refused",
                reason,
                logging.WARNING,
                path=scope["path"],
                status=413,
                peer=peer,
            )
            if not begun:
                await _answer(send, reason)


async def _answer(send: Send, reason: str) -> None:
    body = json.dumps({"reason": reason, "kind": "large"}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),  # what else comes of that body is not read
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
