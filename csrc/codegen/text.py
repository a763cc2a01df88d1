# SPDX-License-Identifier: Apache-2.0
"""Small pieces of C text that several emitters share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template

from .model import Entry, Parameter, Signature

WIRE_TYPES = {
    "u8": ("uint8_t", 1),
    "u16": ("uint16_t", 2),
    "u32": ("uint32_t", 4),
    "i32": ("int32_t", 4),
    "u64": ("uint64_t", 8),
    "i64": ("int64_t", 8),
    "f32": ("float", 4),
}


@dataclass(frozen=True)
class Field:
    """One field of a wire struct; a pad has no parameter."""

    name: str
    wire: str
    offset: int
    count: int = 1
    parameter: Parameter | None = None


def banner(maker: str, spec: str = "csrc/spec") -> str:
    licence = "/* SPDX-License-Identifier: Apache-2.0 */"
    return f"{licence}\n/* Generated from {spec} by csrc/codegen/{maker}.py: edit those. */\n"


def fill(template: str, **words: object) -> str:
    return Template(template).substitute(words)


def layout(fields: Iterable[tuple[str, str, int, Parameter | None]]) -> tuple[list[Field], int]:
    """Natural alignment in the order given, every gap an explicit pad, the whole a multiple of 8."""
    result: list[Field] = []
    offset = pads = 0

    def pad_to(alignment: int) -> None:
        nonlocal offset, pads
        gap = -offset % alignment
        if gap:
            result.append(Field(f"pad{pads}", "u8", offset, gap))
            offset, pads = offset + gap, pads + 1

    for name, wire, count, parameter in fields:
        size = WIRE_TYPES[wire][1]
        pad_to(size)
        result.append(Field(name, wire, offset, count, parameter))
        offset += size * count
    pad_to(8)
    return result, offset


def wire_fields(entry: Entry) -> tuple[list[Field], int]:
    """The fixed part of an operation's record."""
    rows: list[tuple[str, str, int, Parameter | None]] = []
    for p in entry.sent:
        if p.form == "string":
            rows.append((f"{p.name}_bytes", "u32", 1, p))
        else:
            rows.append((p.name, "u64" if p.form == "new" else p.kind.wire, 1, p))
    return layout(rows)


def reply_fields(entry: Entry) -> tuple[list[Field], int]:
    """The fixed part of an operation's reply."""
    rows: list[tuple[str, str, int, Parameter | None]] = []
    for p in entry.outs:
        assert p.inner is not None
        rows.append((p.name, p.inner.wire, 1, p))
    rows += [(f"{p.name}_bytes", "u32", 1, p) for p in entry.blobs]
    return layout(rows)


def struct(name: str, fields: Sequence[Field], size: int) -> str:
    """A wire struct with its size asserted."""
    lines = [f"typedef struct {name} {{"]
    for f in fields:
        array = f"[{f.count}]" if f.count > 1 or f.name.startswith("pad") else ""
        lines.append(f"  {WIRE_TYPES[f.wire][0]} {f.name}{array};")
    lines += [f"}} {name}_t;", f'_Static_assert(sizeof({name}_t) == {size}, "wire layout");', ""]
    return "\n".join(lines)


def declare(c_type: str, name: str) -> str:
    return f"{c_type}{name}" if c_type.endswith("*") else f"{c_type} {name}"


def cuda_parameters(signature: Signature) -> list[str]:
    return [declare(text, name) for text, name in signature.parameters]


def call_parameters(entry: Entry) -> list[str]:
    """The parameters of orion_call_X and orion_post_X: objects are u64 wire handles."""
    result = []
    for p in entry.travelling:
        if p.form in ("handle", "new"):
            result.append(f"uint64_t {p.name}")
        elif p.form == "out":
            assert p.inner is not None
            result.append(declare(f"{p.inner.c} *", p.name))
        elif p.form == "bytes_in":
            result.append(f"const void *{p.name}")
        elif p.form == "string":
            result.append(f"const char *{p.name}")
        elif p.form == "out_bytes":
            result += [
                f"void *{p.name}",
                f"uint32_t {p.name}_capacity",
                f"uint32_t *{p.name}_bytes_p",
            ]
        else:
            result.append(declare(p.kind.c, p.name))
    return result


def serve_parameters(entry: Entry) -> list[str]:
    """The parameters of orion_serve_X: objects instead of handles. Deferred ones answer through orion_reply_X."""
    result = []
    for p in entry.travelling:
        if p.form == "handle":
            result.append(f"{p.kind.object} *{p.name}")
        elif p.form == "new":
            assert p.inner is not None
            result.append(f"{p.inner.object} **{p.name}")
        elif p.form == "out" and not entry.deferred:
            assert p.inner is not None
            result.append(declare(f"{p.inner.c} *", p.name))
        elif p.form == "bytes_in":
            result.append(f"const void *{p.name}")
        elif p.form == "string":
            result.append(f"const char *{p.name}")
        elif p.form == "out_bytes" and not entry.deferred:
            result += [f"void *{p.name}", f"uint32_t *{p.name}_bytes_p"]
        elif p.form in ("value", "flags"):
            result.append(declare(p.kind.c, p.name))
    return result


def reply_parameters(entry: Entry) -> list[str]:
    """The results that orion_reply_X carries."""
    result = [declare(p.inner.c, p.name) for p in entry.outs if p.inner is not None]
    for p in entry.blobs:
        result += [f"const void *{p.name}", f"uint32_t {p.name}_bytes"]
    return result


def to_wire(p: Parameter, value: str) -> str:
    """A C expression of parameter p as its wire type."""
    if p.kind.c == "void *":
        return f"(uint64_t)(uintptr_t){value}"
    if p.form in ("handle", "new"):
        return value
    return f"({WIRE_TYPES[p.kind.wire][0]}){value}"


def from_wire(c_type: str, value: str) -> str:
    return f"(void *)(uintptr_t){value}" if c_type == "void *" else f"({c_type}){value}"


def join(parameters: Sequence[str]) -> str:
    return ", ".join(parameters) if parameters else "void"


WIDTH = 120
FUNCTION = re.compile(r"^(?!typedef|struct|enum|union|#)[^\s].*\) \{$")


def pretty(text: str) -> str:
    """The house's C style: four spaces, a function's brace on its own line, at most 120 columns."""
    lines: list[str] = []
    for line in text.split("\n"):
        stripped = line.lstrip(" ")
        indent = len(line) - len(stripped)
        wide = " " * (indent * 2 if indent % 2 == 0 else indent) + stripped
        brace = FUNCTION.match(wide) is not None
        lines += wrap(wide[:-2] if brace else wide)
        if brace:
            lines.append("{")
    return "\n".join(lines)


def wrap(line: str) -> list[str]:
    """Breaks a long line behind commas, aligned with the first parenthesis (or the last && when there is no comma)."""
    if (
        len(line) <= WIDTH
        or "(" not in line
        or line.lstrip().startswith(("#", "/*", "*", "__attribute__"))
    ):
        return [line]
    margin = line.index("(") + 1
    lines = []
    while len(line) > WIDTH:
        at = max(line.rfind(mark, margin, WIDTH - 1) for mark in (", ", "&& ", "|| "))
        if at < 0:
            break
        at += 2 if line[at] != "," else 1
        lines.append(line[:at].rstrip())
        line = " " * margin + line[at:].lstrip()
    return [*lines, line]
