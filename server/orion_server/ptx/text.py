# SPDX-License-Identifier: Apache-2.0
"""PTX source text: removing what carries no meaning, and finding line numbers for messages."""

from __future__ import annotations

import re
from bisect import bisect_right

from .errors import PtxError

# Nobody writes a module of this size; a limit keeps a hostile one from eating the worker's memory.
MAX_TEXT = 256 << 20

_NOISE = re.compile(
    r'"[^"\n]*"|//[^\n]*|/\*.*?(?:\*/|\Z)|^[ \t]*\.(?:loc|file|version|target|address_size)[ \t][^\n]*',
    re.S | re.M,
)


def _blank(match: re.Match[str]) -> str:
    text = match.group()
    return text if text[0] == '"' else "\n" * text.count("\n") or " "


def clean(text: str) -> str:
    """Removes comments, debug lines and the module's header; keeps every newline."""
    if len(text) > MAX_TEXT:
        raise PtxError(f"PTX text of {len(text)} bytes is too long")
    return _NOISE.sub(_blank, text.rstrip("\0"))


class Lines:
    """Turns positions in the text into line numbers, only when a message needs one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: list[int] = []

    def at(self, pos: int) -> int:
        if not self._starts:
            self._starts = [m.end() for m in re.finditer("\n", self._text)]
        return bisect_right(self._starts, pos) + 1
