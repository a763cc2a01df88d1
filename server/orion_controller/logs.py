# SPDX-License-Identifier: Apache-2.0
"""The log: one JSON object a line, with an event and the reason for it."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

log = logging.getLogger("orion.controller")


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        if fields is None:  # a library's
            line |= {"event": record.name, "reason": record.getMessage()}
        else:
            line |= {"event": record.getMessage(), **fields}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    log.setLevel(level.upper())


def say(event: str, reason: str, level: int = logging.INFO, **fields: object) -> None:
    """A decision or an incident; fields that say nothing are left out."""
    kept = {k: v for k, v in fields.items() if v not in (None, "", 0, {}, [])}
    log.log(level, event, extra={"fields": {"reason": reason, **kept}})
