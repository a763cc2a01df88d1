# SPDX-License-Identifier: Apache-2.0
"""Asking a running server over its administrator's socket."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

from .errors import OrionServerError, RequestRefused
from .paths import control_path, socket_path

ANSWER_MOST = 16 << 20


def query(
    address: str, timeout: float = 2.0, request: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The answer to one request, by default the status; OrionServerError when there is nobody to ask, RequestRefused
    when the answer is an error."""
    path = control_path(socket_path(address))
    received = bytearray()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout)
        try:
            line.connect(os.fspath(path))
            line.sendall(json.dumps(request or {"op": "status"}).encode() + b"\n")
            while not received.endswith(b"\n") and len(received) < ANSWER_MOST:
                data = line.recv(1 << 16)
                if not data:
                    break
                received += data
        except (FileNotFoundError, ConnectionRefusedError):
            raise OrionServerError(
                f"no server answers on {address}: start one with `orion up`"
            ) from None
        except PermissionError:
            raise OrionServerError(
                f"{path} belongs to another user: ask as that user, or as root"
            ) from None
        except (TimeoutError, OSError) as e:
            raise OrionServerError(f"the server on {address} does not answer: {e}") from e
    if not received:
        raise OrionServerError(
            f"the server on {address} refused the question: only its own user and root may ask"
        )
    answer = json.loads(received)
    if not isinstance(answer, dict):
        raise OrionServerError(f"the server on {address} answers nonsense")
    if "error" in answer:
        raise RequestRefused(f"the server on {address} says: {answer['error']}")
    return answer
