# SPDX-License-Identifier: Apache-2.0
"""PTX source text: removing what carries no meaning, and finding line numbers for messages."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

from .errors import PtxError

# Nobody writes a module of this size; a limit keeps a hostile one from eating the worker's memory.
MAX_TEXT = 256 << 20

_NOISE = re.compile(
    r'"[^"\n]*"|//[^\n]*|/\*.*?(?:\*/|\Z)|^[ \t]*\.(?:loc|file|version|target|address_size)[ \t][^\n]*',
    re.S | re.M,
)


# The same for text without /* */, debug lines and quoted slashes, which is nearly all: three to four times as fast.
_QUOTED_SLASH = re.compile(r'"[^"\n]*/')
_COMMENT = re.compile(r"//[^\n]*")
_HEADER = tuple(
    re.compile(rf"\.{word}[ \t][^\n]*") for word in ("version", "target", "address_size")
)


def _is_plain(text: str) -> bool:
    debug = any(f".{word}{blank}" in text for word in ("loc", "file") for blank in " \t")
    return not debug and "/*" not in text and _QUOTED_SLASH.search(text) is None


def _blank_header(match: re.Match[str]) -> str:
    begin = match.string.rfind("\n", 0, match.start()) + 1
    return match.group() if match.string[begin : match.start()].strip(" \t") else " "


def _blank(match: re.Match[str]) -> str:
    text = match.group()
    return text if text[0] == '"' else "\n" * text.count("\n") or " "


def clean(text: str) -> str:
    """Removes comments, debug lines and the module's header; keeps every newline."""
    if len(text) > MAX_TEXT:
        raise PtxError(f"PTX text of {len(text)} bytes is too long")
    text = text.rstrip("\0")
    if not _is_plain(text):
        return _NOISE.sub(_blank, text)
    text = _COMMENT.sub(" ", text)
    for header in _HEADER:
        text = header.sub(_blank_header, text)
    return text


class Lines:
    """Turns positions in the text into line numbers, only when a message needs one."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: list[int] = []
        self._last = (
            0,
            1,
        )  # a position and its line: whoever reads from front to back needs no table

    def at(self, pos: int) -> int:
        last, line = self._last
        if pos >= last and not self._starts:
            line += self._text.count("\n", last, pos)
            self._last = (pos, line)
            return line
        if not self._starts:
            self._starts = list(accumulate(len(line) + 1 for line in self._text.split("\n")))
        return bisect_right(self._starts, pos) + 1
