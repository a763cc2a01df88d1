# SPDX-License-Identifier: Apache-2.0
"""Links PTX texts into one: what one text declares, another defines; names that are private to a text stay apart."""

from __future__ import annotations

import re
from collections import Counter

from .errors import PtxError
from .text import clean

_HEADER = re.compile(r"^[ \t]*\.(?:version|target|address_size)[ \t][^\n]*", re.M)
_LINKS = r"(?P<links>(?:\.(?:visible|extern|weak|common)\s+)*)"
_ATTRIBUTES = r"(?:\.attribute\s*\([^()]*\)\s*)*"
_FUNCTION = re.compile(
    rf"(?:^|(?<=[;}}]))\s*{_LINKS}{_ATTRIBUTES}\.(?:entry|func)\b\s*{_ATTRIBUTES}(?:\([^()]*\)\s*)?(?P<name>[\w$%]+)"
    r"[^;{}]*(?P<end>[;{])"
)
_VARIABLE = re.compile(
    rf"(?:^|(?<=[;}}]))\s*{_LINKS}\.(?:global|const|shared)\b[^;{{}}=]*?(?P<name>[\w$%]+)\s*(?:\[[^;{{}}=]*)?(?P<end>[;=])"
)
_BODY = re.compile(r"[{}]")


def join(texts: list[str]) -> str:
    """One text in the place of several. PtxError when two of them define the same name."""
    if len(texts) == 1:
        return texts[0]
    cleaned = [clean(text) for text in texts]
    symbols = [_symbols(text) for text in cleaned]
    seen = Counter(name for found in symbols for name in found)
    weak: set[str] = set()
    visible: set[str] = set()
    parts = []
    for number, (text, found) in enumerate(zip(cleaned, symbols, strict=True)):
        renamed = {
            name: f"{name}$o{number}"
            for name, (links, _, _) in found.items()
            if seen[name] > 1 and not links
        }
        removed = []
        for name, (links, begin, end) in found.items():
            if not links or "extern" in links:
                continue
            if name in visible and "weak" not in links:
                raise PtxError(f"{name} is defined in two of the texts to link")
            if name in visible or name in weak:
                removed.append((begin, end))
            elif "weak" in links or "common" in links:
                weak.add(name)
            else:
                visible.add(name)
        for begin, end in sorted(removed, reverse=True):
            text = text[:begin] + text[end:]
        parts.append(_rename(text, renamed))
    header = "\n".join(m.group() for m in list(_HEADER.finditer(texts[0]))[:3])
    return header + "\n" + "\n".join(parts)


def _rename(text: str, renamed: dict[str, str]) -> str:
    if not renamed:
        return text
    names = "|".join(re.escape(name) for name in sorted(renamed, key=len, reverse=True))
    return re.sub(rf"(?<![\w$%.])(?:{names})(?![\w$])", lambda m: renamed[m.group()], text)


def _symbols(text: str) -> dict[str, tuple[str, int, int]]:
    """Name -> linkage, where its definition begins and ends. Declarations of what another text defines are left out."""
    found: dict[str, tuple[str, int, int]] = {}
    pos = 0
    top: list[str] = []
    spans: list[tuple[int, int, int]] = []  # position in the joined top level, in the text, length
    while (begin := text.find("{", pos)) >= 0:
        end = _closing(text, begin)
        spans.append((sum(map(len, top)), pos, begin + 1 - pos))
        top.append(text[pos : begin + 1])
        pos = end - 1
    spans.append((sum(map(len, top)), pos, len(text) - pos))
    top.append(text[pos:])
    outline = "".join(top)  # bodies and initialisers are {} here

    def place(at: int) -> int:
        for start, origin, length in reversed(spans):
            if at >= start:
                return origin + min(at - start, length)
        return at

    for pattern in (_FUNCTION, _VARIABLE):
        for match in pattern.finditer(outline):
            links = match["links"] or ""
            if "extern" in links or (pattern is _FUNCTION and match["end"] == ";"):
                continue
            closing = "}" if match["end"] == "{" else ";"
            stop = outline.find(closing, match.end("end") - 1)
            found[match["name"]] = (links, place(match.start("links")), place(stop) + 1)
    return found


def _closing(text: str, begin: int) -> int:
    """The position behind the brace that closes the one at `begin`."""
    depth = 0
    for match in _BODY.finditer(text, begin):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.end()
    raise PtxError("unbalanced {")
