# SPDX-License-Identifier: Apache-2.0
"""Bit fields, permutations, counting, and small dot products."""

from __future__ import annotations

from ..model import BITS, Instruction
from ..opcodes import op, types_of
from .function import FunctionEmitter
from .integer import operands


@op("popc", "b32 b64", least=2, pure=True)
def popc(f: FunctionEmitter, ins: Instruction) -> None:
    """number of ones"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    value = f.intrinsic(f"llvm.ctpop.{type_}", type_, (f.use(ins.operands[1], type_), type_))
    f.set(ins.operands[0], f.cast(value, type_, "i32"), "i32")


def _leading(f: FunctionEmitter, value: str, type_: str) -> str:
    name = f"llvm.ctlz.{type_}"
    f.unit.declare(name, f"declare {type_} @{name}({type_}, i1 immarg)")
    return f.emit(f"call {type_} @{name}({type_} {value}, i1 false)")


@op("clz", "b32 b64", least=2, pure=True)
def clz(f: FunctionEmitter, ins: Instruction) -> None:
    """number of leading zeros"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    f.set(
        ins.operands[0],
        f.cast(_leading(f, f.use(ins.operands[1], type_), type_), type_, "i32"),
        "i32",
    )


@op("bfind", "u32 s32 u64 s64", "shiftamt", least=2, pure=True)
def bfind(f: FunctionEmitter, ins: Instruction) -> None:
    """highest bit that is not the sign; -1 if none"""
    ptx = types_of(ins)[0]
    bits = BITS[ptx]
    type_ = f"i{bits}"
    value = f.use(ins.operands[1], type_)
    if ptx[0] == "s":
        value = f.emit(f"xor {type_} {value}, {f.emit(f'ashr {type_} {value}, {bits - 1}')}")
    zeros = f.cast(_leading(f, value, type_), type_, "i32")
    none = f.emit(f"icmp eq {type_} {value}, 0")
    found = zeros if "shiftamt" in ins.parts else f.emit(f"sub i32 {bits - 1}, {zeros}")
    f.set(ins.operands[0], f.emit(f"select i1 {none}, i32 -1, i32 {found}"), "i32")


@op("brev", "b32 b64", least=2, pure=True)
def brev(f: FunctionEmitter, ins: Instruction) -> None:
    """bits in reverse order"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    value = f.use(ins.operands[1], type_)
    f.set(ins.operands[0], f.intrinsic(f"llvm.bitreverse.{type_}", type_, (value, type_)), type_)


def _shift_clamped(f: FunctionEmitter, kind: str, type_: str, value: str, amount: str) -> str:
    """A shift by an i32 amount; by the width or more gives 0 (or the sign)."""
    bits = int(type_[1:])
    small = f.emit(f"icmp ult i32 {amount}, {bits}")
    by = f.cast(f.emit(f"select i1 {small}, i32 {amount}, i32 {bits - 1}"), "i32", type_)
    result = f.emit(f"{kind} {type_} {value}, {by}")
    return result if kind == "ashr" else f.emit(f"select i1 {small}, {type_} {result}, {type_} 0")


def _ones(f: FunctionEmitter, type_: str, count: str) -> str:
    """The low `count` bits set."""
    return f.emit(f"xor {type_} {_shift_clamped(f, 'shl', type_, '-1', count)}, -1")


@op("bfe", "u32 s32 u64 s64", least=4, pure=True)
def bfe(f: FunctionEmitter, ins: Instruction) -> None:
    """a bit field, extended by its sign if signed"""
    ptx = types_of(ins)[0]
    bits = BITS[ptx]
    type_ = f"i{bits}"
    value = f.use(ins.operands[1], type_)
    pos = f.emit(f"and i32 {f.use(ins.operands[2], 'i32')}, 255")
    length = f.emit(f"and i32 {f.use(ins.operands[3], 'i32')}, 255")
    if ptx[0] == "u":
        shifted = _shift_clamped(f, "lshr", type_, value, pos)
        f.set(ins.operands[0], f.emit(f"and {type_} {shifted}, {_ones(f, type_, length)}"), type_)
        return
    # The sign bit is that of the field, or the operand's if the field goes beyond it.
    shifted = _shift_clamped(f, "ashr", type_, value, pos)
    mask = _ones(f, type_, length)
    field = f.emit(f"and {type_} {shifted}, {mask}")
    last = f.emit(f"sub i32 {length}, 1")
    sign = f.emit(f"and {type_} {_shift_clamped(f, 'ashr', type_, shifted, last)}, 1")
    fill = f.emit(
        f"and {type_} {f.emit(f'sub {type_} 0, {sign}')}, {f.emit(f'xor {type_} {mask}, -1')}"
    )
    result = f.emit(f"or {type_} {field}, {fill}")
    empty = f.emit(f"icmp eq i32 {length}, 0")
    f.set(ins.operands[0], f.emit(f"select i1 {empty}, {type_} 0, {type_} {result}"), type_)


@op("bfi", "b32 b64", least=5, pure=True)
def bfi(f: FunctionEmitter, ins: Instruction) -> None:
    """inserts a bit field"""
    type_ = f"i{BITS[types_of(ins)[0]]}"
    a, b = f.use(ins.operands[1], type_), f.use(ins.operands[2], type_)
    pos = f.emit(f"and i32 {f.use(ins.operands[3], 'i32')}, 255")
    length = f.emit(f"and i32 {f.use(ins.operands[4], 'i32')}, 255")
    mask = _shift_clamped(f, "shl", type_, _ones(f, type_, length), pos)
    field = f.emit(f"and {type_} {_shift_clamped(f, 'shl', type_, a, pos)}, {mask}")
    rest = f.emit(f"and {type_} {b}, {f.emit(f'xor {type_} {mask}, -1')}")
    f.set(ins.operands[0], f.emit(f"or {type_} {field}, {rest}"), type_)


@op("bmsk", "b32", "clamp wrap", least=3, pure=True)
def bmsk(f: FunctionEmitter, ins: Instruction) -> None:
    """a mask of b ones from bit a"""
    a, b = operands(f, ins, "i32")
    if "wrap" in ins.parts:
        a, b = f.emit(f"and i32 {a}, 31"), f.emit(f"and i32 {b}, 31")
    f.set(ins.operands[0], _shift_clamped(f, "shl", "i32", _ones(f, "i32", b), a), "i32")


@op("szext", "u32 s32", "clamp wrap", least=3, pure=True)
def szext(f: FunctionEmitter, ins: Instruction) -> None:
    """extends the low b bits"""
    a, b = operands(f, ins, "i32")
    if "wrap" in ins.parts:
        b = f.emit(f"and i32 {b}, 31")
    up = f.emit(f"sub i32 32, {f.intrinsic('llvm.umin.i32', 'i32', (b, 'i32'), ('32', 'i32'))}")
    kind = "ashr" if types_of(ins)[0] == "s32" else "lshr"
    left = _shift_clamped(f, "shl", "i32", a, up)
    result = _shift_clamped(f, kind, "i32", left, up)
    f.set(
        ins.operands[0],
        f.emit(f"select i1 {f.emit(f'icmp eq i32 {b}, 0')}, i32 0, i32 {result}"),
        "i32",
    )


@op("fns", "b32", least=4)
def fns(f: FunctionEmitter, ins: Instruction) -> None:
    """the n-th set bit from a base"""
    mask, base, offset = operands(f, ins, "i32")
    f.set(
        ins.operands[0],
        f.call("orion_cpu_fns", "i32", (mask, "i32"), (base, "i32"), (offset, "i32")),
        "i32",
    )


@op("shf", "b32", "l r clamp wrap", least=4, pure=True)
def funnel(f: FunctionEmitter, ins: Instruction) -> None:
    """funnel shift of two registers"""
    low, high, amount = operands(f, ins, "i32")
    left = "l" in ins.parts
    upper = f.emit(f"shl i64 {f.cast(high, 'i32', 'i64')}, 32")
    wide = f.emit(f"or i64 {upper}, {f.cast(low, 'i32', 'i64')}")
    if "clamp" in ins.parts:
        amount = f.intrinsic("llvm.umin.i32", "i32", (amount, "i32"), ("32", "i32"))
    else:
        amount = f.emit(f"and i32 {amount}, 31")
    by = f.cast(amount, "i32", "i64")
    shifted = (
        f.emit(f"lshr i64 {f.emit(f'shl i64 {wide}, {by}')}, 32")
        if left
        else f.emit(f"lshr i64 {wide}, {by}")
    )
    f.set(ins.operands[0], f.emit(f"trunc i64 {shifted} to i32"), "i32")


@op("lop3", "b32", "or and", least=5, pure=True)
def lop3(f: FunctionEmitter, ins: Instruction) -> None:
    """any bitwise function of three operands"""
    if "or" in ins.parts or "and" in ins.parts:
        raise f.reject(ins)
    table = f.constant_of(ins.operands[4])
    if table is None:
        raise f.reject(ins, "the table must be a constant")
    inputs = [f.use(o, "i32") for o in ins.operands[1:4]]
    inverse = [f.emit(f"xor i32 {v}, -1") for v in inputs]
    result = "0"
    for row in range(8):
        if table >> row & 1:
            term = "-1"
            for i in range(3):
                chosen = inputs[i] if row >> (2 - i) & 1 else inverse[i]
                term = f.emit(f"and i32 {term}, {chosen}")
            result = f.emit(f"or i32 {result}, {term}")
    f.set(ins.operands[0], result, "i32")


@op("prmt", "b32", "f4e b4e rc8 ecl ecr rc16", least=4, pure=True)
def prmt(f: FunctionEmitter, ins: Instruction) -> None:
    """picks four of eight bytes"""
    a, b, control = operands(f, ins, "i32")
    high = f.emit(f"shl i64 {f.cast(b, 'i32', 'i64')}, 32")
    wide = f.emit(f"or i64 {high}, {f.cast(a, 'i32', 'i64')}")
    mode = next((p for p in ins.parts if p != "b32"), "")
    result = "0"
    for i in range(4):
        selector = _selector(f, mode, control, i)
        by = f.cast(f.emit(f"shl i32 {f.emit(f'and i32 {selector}, 7')}, 3"), "i32", "i64")
        byte = f.emit(f"trunc i64 {f.emit(f'lshr i64 {wide}, {by}')} to i8")
        if not mode:
            sign = f.emit(f"ashr i8 {byte}, 7")
            replicate = f.emit(f"icmp ne i32 {f.emit(f'and i32 {selector}, 8')}, 0")
            byte = f.emit(f"select i1 {replicate}, i8 {sign}, i8 {byte}")
        placed = f.emit(f"shl i32 {f.emit(f'zext i8 {byte} to i32')}, {8 * i}")
        result = f.emit(f"or i32 {result}, {placed}")
    f.set(ins.operands[0], result, "i32")


def _selector(f: FunctionEmitter, mode: str, control: str, i: int) -> str:
    """Which byte goes to place i."""
    if not mode:
        return f.emit(f"and i32 {f.emit(f'lshr i32 {control}, {4 * i}')}, 15")
    low = f.emit(f"and i32 {control}, 3")
    if mode == "f4e":
        return f.emit(f"add i32 {low}, {i}")
    if mode == "b4e":
        return f.emit(f"sub i32 {low}, {i}")
    if mode == "rc8":
        return low
    if mode == "ecl":
        return f.intrinsic("llvm.umax.i32", "i32", (low, "i32"), (str(i), "i32"))
    if mode == "ecr":
        return f.intrinsic("llvm.umin.i32", "i32", (low, "i32"), (str(i), "i32"))
    half = f.emit(f"and i32 {control}, 1")
    return f.emit(f"add i32 {f.emit(f'shl i32 {half}, 1')}, {i & 1}")


def _dot(f: FunctionEmitter, ins: Instruction, wide_bits: int, count: int, start: int) -> None:
    kinds = types_of(ins)
    a, b, c = operands(f, ins, "i32")
    total = c
    for i in range(count):
        terms = []
        for value, kind, bits, at in ((a, kinds[0], wide_bits, i), (b, kinds[1], 8, start + i)):
            up = f.emit(f"shl i32 {value}, {32 - bits * (at + 1)}")
            terms.append(f.emit(f"{'ashr' if kind[0] == 's' else 'lshr'} i32 {up}, {32 - bits}"))
        total = f.emit(f"add i32 {total}, {f.emit(f'mul i32 {terms[0]}, {terms[1]}')}")
    f.set(ins.operands[0], total, "i32")


@op("dp4a", "u32 s32", least=4)
def dp4a(f: FunctionEmitter, ins: Instruction) -> None:
    """dot product of four bytes, and sum"""
    _dot(f, ins, 8, 4, 0)


@op("dp2a", "u32 s32", "lo hi", least=4)
def dp2a(f: FunctionEmitter, ins: Instruction) -> None:
    """dot product of two halves and two bytes, and sum"""
    _dot(f, ins, 16, 2, 2 if "hi" in ins.parts else 0)


def _lane_extremes(f: FunctionEmitter, ins: Instruction, count: int, kind: str) -> None:
    """The vabsdiff4 family: lane-wise on signed or unsigned bytes or halves, optionally summed into c."""
    kinds = types_of(ins)
    bits = 32 // count
    signed = kinds[1][0] == "s"
    a, b = f.use(ins.operands[1], "i32"), f.use(ins.operands[2], "i32")
    c = f.use(ins.operands[3], "i32") if len(ins.operands) > 3 else "0"
    result = c if "add" in ins.parts else "0"
    for i in range(count):
        x, y = (
            f.emit(
                f"{'ashr' if signed else 'lshr'} i32 {f.emit(f'shl i32 {v}, {32 - bits * (i + 1)}')}, {32 - bits}"
            )
            for v in (a, b)
        )
        if kind == "absdiff":
            difference = f.emit(f"sub i32 {x}, {y}")
            f.unit.declare("llvm.abs.i32", "declare i32 @llvm.abs.i32(i32, i1 immarg)")
            value = f.emit(f"call i32 @llvm.abs.i32(i32 {difference}, i1 false)")
        elif kind in ("min", "max"):
            value = f.intrinsic(f"llvm.s{kind}.i32", "i32", (x, "i32"), (y, "i32"))
        else:
            value = f.emit(f"{kind} i32 {x}, {y}")
        if "add" in ins.parts:
            result = f.emit(f"add i32 {result}, {value}")
        else:
            low = f.emit(f"and i32 {value}, {(1 << bits) - 1}")
            result = f.emit(f"or i32 {result}, {f.emit(f'shl i32 {low}, {bits * i}')}")
    f.set(ins.operands[0], result, "i32")


@op("vabsdiff4", "u32 s32", "add", least=3)
def vabsdiff4(f: FunctionEmitter, ins: Instruction) -> None:
    """byte-wise |a - b|, optionally summed"""
    _lane_extremes(f, ins, 4, "absdiff")


@op("vabsdiff2", "u32 s32", "add", least=3)
def vabsdiff2(f: FunctionEmitter, ins: Instruction) -> None:
    """half-wise |a - b|, optionally summed"""
    _lane_extremes(f, ins, 2, "absdiff")


@op("vadd4", "u32 s32", "add", least=3)
def vadd4(f: FunctionEmitter, ins: Instruction) -> None:
    """byte-wise sum, wrapping"""
    _lane_extremes(f, ins, 4, "add")


@op("vmin4", "u32 s32", "add", least=3)
def vmin4(f: FunctionEmitter, ins: Instruction) -> None:
    """byte-wise min"""
    _lane_extremes(f, ins, 4, "min")


@op("vmax4", "u32 s32", "add", least=3)
def vmax4(f: FunctionEmitter, ins: Instruction) -> None:
    """byte-wise max"""
    _lane_extremes(f, ins, 4, "max")
