# SPDX-License-Identifier: Apache-2.0
"""Declarations: parameters and variables of every state space."""

from __future__ import annotations

import re

from .errors import PtxError
from .model import BITS, Param, Variable

MAX_BYTES = 1 << 32

_PARAM = re.compile(
    r"^\s*\.(?P<space>param|reg)\s+(?:\.align\s+(?P<align1>\d+)\s+)?\.(?P<type>\w+)"
    r"(?:\s+\.ptr(?:\s*\.(?:global|const|local|shared))?(?:\s*\.align\s+\d+)?)?"
    r"(?:\s+\.align\s+(?P<align2>\d+))?\s*(?P<name>[\w$%]+)?\s*(?P<dims>(?:\[\s*\d*\s*\]\s*)*)$"
)
_VARIABLE = re.compile(
    r"^\s*(?P<link>(?:\.(?:visible|extern|weak|common)\s+)*)\.(?P<space>global|const|shared|local|param)\b\s*"
    r"(?P<attrs>(?:\.attribute\s*\([^()]*\)\s*)*)(?:\.align\s+(?P<align>\d+)\s+)?"
    r"(?:\.(?P<vector>v2|v4|v8)\s+)?\.(?P<type>\w+)\s*(?P<rest>.*)$",
    re.S,
)
_NAME = re.compile(
    r"^\s*(?P<name>[\w$%]+)\s*(?P<dims>(?:\[\s*(?:0x[0-9a-fA-F]+|\d*)\s*\]\s*)*)\s*(?:=(?P<initial>.*))?$",
    re.S,
)
_DIM = re.compile(r"\[\s*(0x[0-9a-fA-F]+|\d*)\s*\]")


def _align(text: str | None, natural: int, line: int) -> int:
    if text is None:
        return natural
    value = int(text[:12])
    if value <= 0 or value & (value - 1) or value > 4096:
        raise PtxError(f"bad alignment {text[:20]}", line)
    return value


def dimensions(text: str) -> list[int]:
    """[2][3] -> [2, 3]; an open dimension counts 0."""
    return [int(d, 0 if d.startswith("0x") else 10) if d else 0 for d in _DIM.findall(text[:200])]


def _count(dims: list[int], line: int) -> int:
    total = 1
    for dim in dims:
        total *= dim
        if total > MAX_BYTES:
            raise PtxError("an array of this size is refused", line)
    return total


def parse_params(text: str, line: int) -> list[Param]:
    """The parameters between the parentheses of a function head, with offsets as the launch lays them out."""
    params: list[Param] = []
    offset = 0
    if not text.strip():
        return params
    for number, item in enumerate(text.split(",")):
        match = _PARAM.match(item)
        if match is None:
            raise PtxError(f"malformed parameter `{item.strip()[:60]}`", line)
        scalar = match["type"]
        if scalar not in BITS and scalar not in ("texref", "samplerref", "surfref"):
            raise PtxError(f"unknown type .{scalar}", line)
        width = max(BITS.get(scalar, 64) // 8, 1)
        dims = dimensions(match["dims"] or "")
        size = width * _count(dims, line)
        align = _align(match["align1"] or match["align2"], width, line)
        offset = (offset + align - 1) & -align
        if offset + size > 1 << 20:
            raise PtxError("parameters are too large", line)
        params.append(Param(match["name"] or f"_{number}", offset, size, align, scalar, bool(dims)))
        offset += size
    return params


def parse_variables(text: str, line: int) -> list[Variable]:
    """`.global .align 4 .b8 name[16] = {...}`, or several names of scalars in one statement."""
    match = _VARIABLE.match(text)
    if match is None:
        raise PtxError(f"malformed declaration `{' '.join(text.split())[:60]}`", line)
    scalar = match["type"]
    width = max(BITS.get(scalar, 0) // 8, 1) * int((match["vector"] or "v1")[1:])
    align = _align(match["align"], width if scalar in BITS else 8, line)
    rest = match["rest"]
    items = [rest] if "=" in rest or "," not in rest else rest.split(",")
    found = []
    for item in items:
        named = _NAME.match(item)
        if named is None:
            raise PtxError(f"malformed declaration `{' '.join(text.split())[:60]}`", line)
        dims = dimensions(named["dims"])
        initial = (named["initial"] or "").strip()
        if dims and dims[0] == 0 and initial:
            dims[0] = initial.count(",") + 1 if len(dims) == 1 else initial.count("{") - 1
        size = width * _count(dims, line)
        found.append(
            Variable(
                named["name"],
                match["space"],
                scalar,
                size,
                align,
                line,
                -1,
                initial,
                ".extern" in match["link"],
            )
        )
    return found
