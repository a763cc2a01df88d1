# SPDX-License-Identifier: Apache-2.0
"""The API server, as far as a Lease and an EndpointSlice need it: get, create, update, and what each can come to."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 5.0
ANSWER_MOST = 1 << 20


class ApiError(Exception):
    """It does not answer, or refuses; the text says what and why."""


class Conflict(ApiError):
    """Somebody else was faster."""


class Api:
    def __init__(self, url: str, account: Path) -> None:
        self._url = url
        self._account = account
        authority = account / "ca.crt"
        self._tls = (
            ssl.create_default_context(cafile=os.fspath(authority))
            if url.startswith("https:")
            else None
        )

    def get(self, path: str, name: str) -> dict[str, Any] | None:
        """None when there is no such object."""
        return self._ask("GET", f"{path}/{name}", None)

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        made = self._ask("POST", path, body)
        if made is None:
            raise ApiError(f"there is no {path} at the API server")
        return made

    def update(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Over the version that `body` has. Conflict: it is not the newest."""
        made = self._ask("PUT", f"{path}/{body['metadata']['name']}", body)
        if made is None:
            raise Conflict(f"{path} has gone")
        return made

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
        request = urllib.request.Request(
            f"{self._url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        try:
            # it is rotated: read each time
            token = (self._account / "token").read_text(encoding="ascii").strip()
            request.add_header("Authorization", f"Bearer {token}")
            with urllib.request.urlopen(request, timeout=SECONDS, context=self._tls) as answer:
                found = json.loads(answer.read(ANSWER_MOST))
        except urllib.error.HTTPError as e:
            if e.code == 404:
                return None
            text = f"{method} {path}: {e.code} {_reason(e)}"
            raise (Conflict(text) if e.code == 409 else ApiError(text)) from e
        except (OSError, ValueError) as e:
            raise ApiError(f"{method} {path}: {e}") from e
        if not isinstance(found, dict):
            raise ApiError(f"{method} {path}: the answer is no object")
        return found


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(ANSWER_MOST))["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return str(error.reason)


def in_cluster() -> str:
    """The API server's URL as every pod is told it. KeyError outside a cluster."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
