# SPDX-License-Identifier: Apache-2.0
"""Integer arithmetic and logic."""

from __future__ import annotations

from ..model import BITS, Instruction
from ..opcodes import op, types_of
from .function import FunctionEmitter, Value
from .values import int_literal

_BITS = "pred b16 b32 b64"


def operands(f: FunctionEmitter, ins: Instruction, type_: str, first: int = 1) -> list[str]:
    return [f.use(o, type_) for o in ins.operands[first:]]


def _lanes(ptx: str) -> bool:
    return ptx.endswith("x2")


def carry_in(f: FunctionEmitter) -> str:
    assert f.graph.carry is not None
    return f.use(f.graph.carry, "i1")


def set_carry(f: FunctionEmitter, name: str) -> None:
    assert f.graph.carry is not None
    f.set(f.graph.carry, name, "i1")


def add_sub(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    if _lanes(ptx):
        packed_lanes(f, ins, ins.op)
        return
    type_ = f"i{BITS[ptx]}"
    a, b = operands(f, ins, type_)[:2]
    if "cc" in ins.parts:
        _with_carry(f, ins, type_, a, b, "false")
    elif "sat" in ins.parts:
        kind = ("s" if ptx[0] == "s" else "u") + ins.op
        f.set(
            ins.operands[0],
            f.intrinsic(f"llvm.{kind}.sat.{type_}", type_, (a, type_), (b, type_)),
            type_,
        )
    else:
        f.set(ins.operands[0], f.emit(f"{ins.op} {type_} {a}, {b}"), type_)


def _with_carry(
    f: FunctionEmitter, ins: Instruction, type_: str, a: str, b: str, carry: str
) -> None:
    """One bit more than the type: that bit is the carry, or the borrow inverted twice."""
    bits = int(type_[1:])
    wide = f"i{bits + 1}"
    x, y = f.emit(f"zext {type_} {a} to {wide}"), f.emit(f"zext {type_} {b} to {wide}")
    kind = "sub" if ins.op in ("sub", "subc") else "add"
    total = f.emit(f"{kind} {wide} {x}, {y}")
    if carry != "false":
        total = f.emit(f"{kind} {wide} {total}, {f.emit(f'zext i1 {carry} to {wide}')}")
    result = f.emit(f"trunc {wide} {total} to {type_}")
    if "cc" in ins.parts:
        out = f.emit(f"lshr {wide} {total}, {bits}")
        set_carry(f, f.emit(f"trunc {wide} {out} to i1"))
    f.set(ins.operands[0], result, type_)


@op("addc", "u32 s32 u64 s64", "cc", least=3)
def add_carry(f: FunctionEmitter, ins: Instruction) -> None:
    """sum with carry"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    a, b = operands(f, ins, type_)
    _with_carry(f, ins, type_, a, b, carry_in(f))


@op("subc", "u32 s32 u64 s64", "cc", least=3)
def sub_borrow(f: FunctionEmitter, ins: Instruction) -> None:
    """difference with borrow"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    a, b = operands(f, ins, type_)
    _with_carry(f, ins, type_, a, b, carry_in(f))


def product(f: FunctionEmitter, ins: Instruction, ptx: str, a: str, b: str) -> Value:
    """The product in the width that .lo, .hi or .wide asks for."""
    bits = BITS[ptx]
    type_ = f"i{bits}"
    if "wide" in ins.parts or "hi" in ins.parts:
        wide = f"i{2 * bits}"
        extend = "sext" if ptx[0] == "s" else "zext"
        x, y = f.emit(f"{extend} {type_} {a} to {wide}"), f.emit(f"{extend} {type_} {b} to {wide}")
        flags = "nsw" if ptx[0] == "s" else "nuw"
        full = f.emit(f"mul {flags} {wide} {x}, {y}")
        if "wide" in ins.parts:
            return full, wide
        return f.emit(f"trunc {wide} {f.emit(f'lshr {wide} {full}, {bits}')} to {type_}"), type_
    return f.emit(f"mul {type_} {a}, {b}"), type_


def multiply(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    a, b = operands(f, ins, f"i{BITS[ptx]}")
    f.set(ins.operands[0], *product(f, ins, ptx, a, b))


def multiply_add(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    type_ = f"i{BITS[ptx]}"
    value, have = product(f, ins, ptx, f.use(ins.operands[1], type_), f.use(ins.operands[2], type_))
    c = f.use(ins.operands[3], have)
    if "cc" in ins.parts:
        _with_carry(f, ins, have, value, c, "false")
    elif "sat" in ins.parts:
        f.set(
            ins.operands[0],
            f.intrinsic(f"llvm.sadd.sat.{have}", have, (value, have), (c, have)),
            have,
        )
    else:
        f.set(ins.operands[0], f.emit(f"add {have} {value}, {c}"), have)


@op("madc", "u32 s32 u64 s64", "lo hi cc", least=4)
def multiply_add_carry(f: FunctionEmitter, ins: Instruction) -> None:
    """product, sum and carry"""
    ptx = types_of(ins)[0]
    type_ = f"i{BITS[ptx]}"
    value, have = product(f, ins, ptx, f.use(ins.operands[1], type_), f.use(ins.operands[2], type_))
    _with_carry(f, ins, have, value, f.use(ins.operands[3], have), carry_in(f))


def _mul24(f: FunctionEmitter, ins: Instruction) -> str:
    signed = types_of(ins)[0] == "s32"
    values = []
    for operand in ins.operands[1:3]:
        up = f.emit(f"shl i32 {f.use(operand, 'i32')}, 8")
        low = f.emit(f"{'ashr' if signed else 'lshr'} i32 {up}, 8")
        values.append(f.emit(f"{'sext' if signed else 'zext'} i32 {low} to i64"))
    full = f.emit(f"mul i64 {values[0]}, {values[1]}")
    if "hi" in ins.parts:  # the upper 32 of 48 bits
        full = f.emit(f"lshr i64 {full}, 16")
    return f.emit(f"trunc i64 {full} to i32")


@op("mul24", "u32 s32", "lo hi", least=3, pure=True)
def multiply24(f: FunctionEmitter, ins: Instruction) -> None:
    """product of 24-bit numbers"""
    f.set(ins.operands[0], _mul24(f, ins), "i32")


@op("mad24", "u32 s32", "lo hi sat", least=4, pure=True)
def multiply_add24(f: FunctionEmitter, ins: Instruction) -> None:
    """product of 24-bit numbers, and sum"""
    value, c = _mul24(f, ins), f.use(ins.operands[3], "i32")
    if "sat" in ins.parts:
        f.set(
            ins.operands[0],
            f.intrinsic("llvm.sadd.sat.i32", "i32", (value, "i32"), (c, "i32")),
            "i32",
        )
    else:
        f.set(ins.operands[0], f.emit(f"add i32 {value}, {c}"), "i32")


def divide(f: FunctionEmitter, ins: Instruction) -> None:
    """Both cases that make the host trap are kept away from the divide instruction."""
    ptx = types_of(ins)[0]
    bits = BITS[ptx]
    type_ = f"i{bits}"
    signed = ptx[0] == "s"
    a, b = operands(f, ins, type_)
    zero = f.emit(f"icmp eq {type_} {b}, 0")
    safe = f.emit(f"select i1 {zero}, {type_} 1, {type_} {b}")
    minus = ""
    if signed:
        minus = f.emit(f"icmp eq {type_} {b}, -1")
        safe = f.emit(f"select i1 {minus}, {type_} 1, {type_} {safe}")
    if ins.op == "div":
        result = f.emit(f"{'sdiv' if signed else 'udiv'} {type_} {a}, {safe}")
        if signed:
            result = f.emit(
                f"select i1 {minus}, {type_} {f.emit(f'sub {type_} 0, {a}')}, {type_} {result}"
            )
        result = f.emit(f"select i1 {zero}, {type_} -1, {type_} {result}")
    else:
        result = f.emit(f"{'srem' if signed else 'urem'} {type_} {a}, {safe}")
        result = f.emit(f"select i1 {zero}, {type_} {a}, {type_} {result}")
    f.set(ins.operands[0], result, type_)


def sign(f: FunctionEmitter, ins: Instruction) -> None:
    type_ = f"i{BITS[types_of(ins)[0]]}"
    a = f.use(ins.operands[1], type_)
    result = f.emit(f"sub {type_} 0, {a}")
    if ins.op == "abs":
        result = f.emit(
            f"select i1 {f.emit(f'icmp slt {type_} {a}, 0')}, {type_} {result}, {type_} {a}"
        )
    f.set(ins.operands[0], result, type_)


def extremum(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    if _lanes(ptx):
        packed_lanes(f, ins, ("s" if ptx[0] == "s" else "u") + ins.op)
        return
    type_ = f"i{BITS[ptx]}"
    a, b = operands(f, ins, type_)
    kind = ("s" if ptx[0] == "s" else "u") + ins.op
    result = f.intrinsic(f"llvm.{kind}.{type_}", type_, (a, type_), (b, type_))
    if "relu" in ins.parts:
        result = f.intrinsic(f"llvm.smax.{type_}", type_, (result, type_), ("0", type_))
    f.set(ins.operands[0], result, type_)


def packed_lanes(f: FunctionEmitter, ins: Instruction, kind: str) -> None:
    """Two 16-bit integers in one register."""
    lanes = "<2 x i16>"
    a, b = (f.emit(f"bitcast i32 {f.use(o, 'i32')} to {lanes}") for o in ins.operands[1:3])
    if kind in ("add", "sub"):
        result = f.emit(f"{kind} {lanes} {a}, {b}")
    else:
        result = f.intrinsic(f"llvm.{kind}.v2i16", lanes, (a, lanes), (b, lanes))
    f.set(ins.operands[0], f.emit(f"bitcast {lanes} {result} to i32"), "i32")


@op("sad", "u16 s16 u32 s32 u64 s64", least=4, pure=True)
def sum_of_difference(f: FunctionEmitter, ins: Instruction) -> None:
    """|a - b| + c"""
    ptx = types_of(ins)[0]
    type_ = f"i{BITS[ptx]}"
    a, b, c = operands(f, ins, type_)
    less = f.emit(f"icmp {'slt' if ptx[0] == 's' else 'ult'} {type_} {a}, {b}")
    up, down = f.emit(f"sub {type_} {b}, {a}"), f.emit(f"sub {type_} {a}, {b}")
    distance = f.emit(f"select i1 {less}, {type_} {up}, {type_} {down}")
    f.set(ins.operands[0], f.emit(f"add {type_} {distance}, {c}"), type_)


def _logic(f: FunctionEmitter, ins: Instruction) -> None:
    type_ = f"i{BITS[types_of(ins)[0]]}"
    a, b = operands(f, ins, type_)
    f.set(ins.operands[0], f.emit(f"{ins.op} {type_} {a}, {b}"), type_)


@op("and", _BITS, least=3, pure=True)
def logic_and(f: FunctionEmitter, ins: Instruction) -> None:
    """bitwise"""
    _logic(f, ins)


@op("or", _BITS, least=3, pure=True)
def logic_or(f: FunctionEmitter, ins: Instruction) -> None:
    """bitwise"""
    _logic(f, ins)


@op("xor", _BITS, least=3, pure=True)
def logic_xor(f: FunctionEmitter, ins: Instruction) -> None:
    """bitwise"""
    _logic(f, ins)


@op("not", _BITS, least=2, pure=True)
def logic_not(f: FunctionEmitter, ins: Instruction) -> None:
    """bitwise"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    f.set(
        ins.operands[0],
        f.emit(f"xor {type_} {f.use(ins.operands[1], type_)}, {int_literal(-1, int(type_[1:]))}"),
        type_,
    )


@op("cnot", "b16 b32 b64", least=2, pure=True)
def logic_cnot(f: FunctionEmitter, ins: Instruction) -> None:
    """1 for 0, else 0"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    zero = f.emit(f"icmp eq {type_} {f.use(ins.operands[1], type_)}, 0")
    f.set(ins.operands[0], f.emit(f"zext i1 {zero} to {type_}"), type_)


@op("shl", "b16 b32 b64", least=3, pure=True)
def shift_left(f: FunctionEmitter, ins: Instruction) -> None:
    """shift; by the width or more gives 0"""
    _shift(f, ins, "shl")


@op("shr", "b16 b32 b64 u16 u32 u64 s16 s32 s64", least=3, pure=True)
def shift_right(f: FunctionEmitter, ins: Instruction) -> None:
    """shift; by the width or more gives 0 or the sign"""
    _shift(f, ins, "ashr" if types_of(ins)[0][0] == "s" else "lshr")


def _shift(f: FunctionEmitter, ins: Instruction, kind: str) -> None:
    bits = BITS[types_of(ins)[0]]
    type_ = f"i{bits}"
    a = f.use(ins.operands[1], type_)
    constant = f.constant_of(ins.operands[2])
    if constant is not None:
        constant &= 0xFFFFFFFF
        if constant < bits:
            f.set(ins.operands[0], f.emit(f"{kind} {type_} {a}, {constant}"), type_)
        elif kind == "ashr":
            f.set(ins.operands[0], f.emit(f"ashr {type_} {a}, {bits - 1}"), type_)
        else:
            f.set(ins.operands[0], "0", type_)
        return
    amount = f.use(ins.operands[2], "i32")
    small = f.emit(f"icmp ult i32 {amount}, {bits}")
    top = bits - 1
    clamped = f.emit(f"select i1 {small}, i32 {amount}, i32 {top}")
    by = f.cast(clamped, "i32", type_)
    result = f.emit(f"{kind} {type_} {a}, {by}")
    if kind != "ashr":
        result = f.emit(f"select i1 {small}, {type_} {result}, {type_} 0")
    f.set(ins.operands[0], result, type_)
