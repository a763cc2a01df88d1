# SPDX-License-Identifier: Apache-2.0
"""The one table of opcodes. Emitters enter themselves here; validation and the coverage list read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .model import BITS, Instruction

if TYPE_CHECKING:
    from .emit.function import FunctionEmitter

Handler = Callable[["FunctionEmitter", Instruction], None]

INT16_UP = "u16 s16 u32 s32 u64 s64"
BITS16_UP = "b16 b32 b64"
FLOATS = "f32 f64"
ROUNDING = "rn rz rm rp"


@dataclass(frozen=True)
class Op:
    """What is accepted of one opcode."""

    name: str
    mods: frozenset[str]
    types: frozenset[str]
    dst: int  # how many leading operands are written
    least: int  # fewest operands
    pure: bool  # depends on its operands only and is cheap: may be computed again instead of kept
    emit: Handler
    doc: str


OPS: dict[str, Op] = {}


def op(
    name: str, types: str = "", mods: str = "", dst: int = 1, pure: bool = False, least: int = 1
) -> Callable[[Handler], Handler]:
    """Enters the decorated emitter for an opcode."""

    def enter(handler: Handler) -> Handler:
        doc = (handler.__doc__ or "").strip().split("\n")[0]
        OPS[name] = Op(
            name, frozenset(mods.split()), frozenset(types.split()), dst, least, pure, handler, doc
        )
        return handler

    return enter


def refusal(name: str, parts: tuple[str, ...]) -> str | None:
    """Why the form is not supported, or None if it is."""
    entry = OPS.get(name)
    form = ".".join((name, *parts))
    if entry is None:
        return f"unsupported instruction `{form}`"
    for part in parts:
        if part not in entry.mods and part not in entry.types:
            return f"unsupported instruction `{form}` (.{part})"
    return None


def destinations(ins: Instruction) -> int:
    """How many leading operands the instruction writes."""
    if ins.op in ("bar", "barrier"):
        return 1 if "red" in ins.parts else 0
    return OPS[ins.op].dst


def types_of(ins: Instruction) -> tuple[str, ...]:
    """The type suffixes of an instruction, in order."""
    allowed = OPS[ins.op].types
    return tuple(p for p in ins.parts if p in allowed)


def supported_forms() -> list[tuple[str, str, str, str]]:
    """Rows (opcode, modifiers, types, note) for the documentation, sorted by opcode."""
    order = {name: i for i, name in enumerate(BITS)}
    return [
        (
            name,
            " ".join(sorted(entry.mods)),
            " ".join(sorted(entry.types, key=lambda t: order.get(t, 99))),
            entry.doc,
        )
        for name, entry in sorted(OPS.items())
    ]
