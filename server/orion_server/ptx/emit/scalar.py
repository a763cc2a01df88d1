# SPDX-License-Identifier: Apache-2.0
"""Arithmetic opcodes that exist for integers and floats: each goes to the emitter of its type."""

from __future__ import annotations

from ..model import Instruction
from ..opcodes import op, types_of
from . import floats, integer, packed
from .function import FunctionEmitter

_INT = "u16 s16 u32 s32 u64 s64"
_FLOAT = "f32 f64"
_SMALL = "f16 bf16 f16x2 bf16x2"
_ROUND = "rn rz rm rp ftz sat"


def _family(ins: Instruction) -> str:
    kind = types_of(ins)[-1]
    if kind in ("f32", "f64"):
        return "float"
    if kind in ("f16", "bf16", "f16x2", "bf16x2", "f32x2"):
        return "small"
    return "int"


@op("add", f"{_INT} {_FLOAT} {_SMALL} f32x2 u16x2 s16x2", f"{_ROUND} cc", pure=True, least=3)
def add(f: FunctionEmitter, ins: Instruction) -> None:
    """sum"""
    {"float": floats.binary, "small": packed.binary, "int": integer.add_sub}[_family(ins)](f, ins)


@op("sub", f"{_INT} {_FLOAT} {_SMALL} f32x2", f"{_ROUND} cc", pure=True, least=3)
def sub(f: FunctionEmitter, ins: Instruction) -> None:
    """difference"""
    {"float": floats.binary, "small": packed.binary, "int": integer.add_sub}[_family(ins)](f, ins)


@op("mul", f"{_INT} {_FLOAT} {_SMALL} f32x2", f"{_ROUND} lo hi wide", pure=True, least=3)
def mul(f: FunctionEmitter, ins: Instruction) -> None:
    """product"""
    {"float": floats.binary, "small": packed.binary, "int": integer.multiply}[_family(ins)](f, ins)


@op("mad", f"{_INT} {_FLOAT}", f"{_ROUND} lo hi wide cc", pure=True, least=4)
def mad(f: FunctionEmitter, ins: Instruction) -> None:
    """product and sum; for floats the same as fma"""
    {"float": floats.fused, "int": integer.multiply_add}[_family(ins)](f, ins)


@op("fma", f"{_FLOAT} {_SMALL} f32x2", f"{_ROUND} relu oob", pure=True, least=4)
def fma(f: FunctionEmitter, ins: Instruction) -> None:
    """product and sum, rounded once"""
    {"float": floats.fused, "small": packed.fused}[_family(ins)](f, ins)


@op("div", f"{_INT} {_FLOAT}", "rn rz rm rp ftz full approx", least=3)
def div(f: FunctionEmitter, ins: Instruction) -> None:
    """quotient; an integer divided by zero is all ones"""
    {"float": floats.binary, "int": integer.divide}[_family(ins)](f, ins)


@op("rem", _INT, least=3)
def rem(f: FunctionEmitter, ins: Instruction) -> None:
    """remainder; by zero it is the dividend"""
    integer.divide(f, ins)


@op("abs", f"s16 s32 s64 {_FLOAT} {_SMALL}", "ftz", least=2, pure=True)
def absolute(f: FunctionEmitter, ins: Instruction) -> None:
    """magnitude"""
    {"float": floats.sign, "small": packed.sign, "int": integer.sign}[_family(ins)](f, ins)


@op("neg", f"s16 s32 s64 {_FLOAT} {_SMALL}", "ftz", least=2, pure=True)
def negate(f: FunctionEmitter, ins: Instruction) -> None:
    """negation"""
    {"float": floats.sign, "small": packed.sign, "int": integer.sign}[_family(ins)](f, ins)


@op("min", f"{_INT} {_FLOAT} {_SMALL} u16x2 s16x2", "ftz NaN xorsign relu", least=3, pure=True)
def minimum(f: FunctionEmitter, ins: Instruction) -> None:
    """lesser"""
    {"float": floats.extremum, "small": packed.extremum, "int": integer.extremum}[_family(ins)](
        f, ins
    )


@op("max", f"{_INT} {_FLOAT} {_SMALL} u16x2 s16x2", "ftz NaN xorsign relu", least=3, pure=True)
def maximum(f: FunctionEmitter, ins: Instruction) -> None:
    """greater"""
    {"float": floats.extremum, "small": packed.extremum, "int": integer.extremum}[_family(ins)](
        f, ins
    )
