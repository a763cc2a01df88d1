# SPDX-License-Identifier: Apache-2.0
"""f16, bf16 and their pairs: done in float or double and rounded once, lane by lane."""

from __future__ import annotations

from ..model import BITS, Instruction, Operand
from ..opcodes import types_of
from .floats import bf16_to_float, flush, pick, saturate
from .function import FunctionEmitter

_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul"}


def lanes(ptx: str) -> tuple[int, str]:
    """(number of lanes, element type)"""
    return (2, ptx[:-2]) if ptx.endswith("x2") else (1, ptx)


def split(f: FunctionEmitter, operand: Operand, ptx: str) -> list[str]:
    """The lanes of an operand as float."""
    count, element = lanes(ptx)
    bits = BITS[element]
    whole = f.use(operand, f"i{bits * count}")
    values = []
    for i in range(count):
        part = whole
        if count > 1:
            part = f.emit(f"lshr i{bits * count} {whole}, {bits * i}") if i else whole
            part = f.emit(f"trunc i{bits * count} {part} to i{bits}")
        values.append(to_float(f, part, element))
    return values


def to_float(f: FunctionEmitter, value: str, element: str) -> str:
    if element == "bf16":
        return bf16_to_float(f, value)
    if element == "f32":
        return f.emit(f"bitcast i32 {value} to float")
    half = f.emit(f"bitcast i16 {value} to half")
    return f.emit(f"fpext half {half} to float")


def from_float(f: FunctionEmitter, value: str, element: str) -> str:
    """Rounds to nearest even; the result is bits."""
    if element == "bf16":
        return f.call("orion_cpu_f32_to_bf16", "i16", (value, "float"), ("0", "i32"))
    if element == "f32":
        return f.emit(f"bitcast float {value} to i32")
    half = f.emit(f"fptrunc float {value} to half")
    return f.emit(f"bitcast half {half} to i16")


def join(f: FunctionEmitter, ins: Instruction, parts: list[str], ptx: str) -> None:
    """Assigns lanes given as bits."""
    count, element = lanes(ptx)
    bits = BITS[element]
    if count == 1:
        f.set(ins.operands[0], parts[0], f"i{bits}")
        return
    wide = f"i{2 * bits}"
    low, high = (f.emit(f"zext i{bits} {p} to {wide}") for p in parts)
    f.set(ins.operands[0], f.emit(f"or {wide} {low}, {f.emit(f'shl {wide} {high}, {bits}')}"), wide)


def _finish(f: FunctionEmitter, ins: Instruction, value: str) -> str:
    if "sat" in ins.parts:
        value = saturate(f, "float", value)
    if "relu" in ins.parts:
        above = f.emit(f"fcmp ule float {value}, 0.0")
        ordered = f.emit(f"fcmp ord float {value}, {value}")
        value = f.emit(
            f"select i1 {f.emit(f'and i1 {above}, {ordered}')}, float 0.0, float {value}"
        )
    return value


def binary(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    if any(p in ("rz", "rm", "rp") for p in ins.parts):
        raise f.reject(ins, "rounding mode")
    element = lanes(ptx)[1]
    pairs = zip(split(f, ins.operands[1], ptx), split(f, ins.operands[2], ptx), strict=True)
    parts = []
    for a, b in pairs:
        value = f.emit(f"{_BINARY[ins.op]} float {a}, {b}")
        if element == "f32" and "ftz" in ins.parts:
            value = flush(f, value)
        parts.append(from_float(f, _finish(f, ins, value), element))
    join(f, ins, parts, ptx)


def fused(f: FunctionEmitter, ins: Instruction) -> None:
    """The product of two halves is exact in double, so one rounding of consequence is left."""
    ptx = types_of(ins)[0]
    if any(p in ("rz", "rm", "rp") for p in ins.parts):
        raise f.reject(ins, "rounding mode")
    element = lanes(ptx)[1]
    columns = [split(f, o, ptx) for o in ins.operands[1:4]]
    parts = []
    for a, b, c in zip(*columns, strict=True):
        if element == "f16":
            x, y, z = (f.emit(f"fpext float {v} to double") for v in (a, b, c))
            total = f.emit(f"fadd double {f.emit(f'fmul double {x}, {y}')}, {z}")
            bits_ = f.call("orion_cpu_f64_to_f16", "i16", (total, "double"), ("0", "i32"))
            if "sat" in ins.parts or "relu" in ins.parts:
                bits_ = from_float(f, _finish(f, ins, to_float(f, bits_, "f16")), "f16")
            parts.append(bits_)
            continue
        value = f.intrinsic("llvm.fma.f32", "float", (a, "float"), (b, "float"), (c, "float"))
        parts.append(from_float(f, _finish(f, ins, value), element))
    join(f, ins, parts, ptx)


def sign(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    bits = BITS[ptx]
    value = f.use(ins.operands[1], f"i{bits}")
    mask = 0x8000 if bits == 16 else 0x80008000
    if ins.op == "neg":
        result = f.emit(f"xor i{bits} {value}, {f.int_const(mask, f'i{bits}')}")
    else:
        result = f.emit(f"and i{bits} {value}, {f.int_const(~mask, f'i{bits}')}")
    f.set(ins.operands[0], result, f"i{bits}")


def extremum(f: FunctionEmitter, ins: Instruction) -> None:
    ptx = types_of(ins)[0]
    element = lanes(ptx)[1]
    if "xorsign" in ins.parts:
        raise f.reject(ins, ".xorsign")
    columns = [split(f, o, ptx) for o in ins.operands[1:]]
    parts = []
    for values in zip(*columns, strict=True):
        result = values[0]
        for value in values[1:]:
            result = pick(f, ins.op, "float", result, value, "NaN" in ins.parts)
        parts.append(from_float(f, result, element))
    join(f, ins, parts, ptx)


def unary_call(f: FunctionEmitter, ins: Instruction, function: str) -> None:
    ptx = types_of(ins)[0]
    element = lanes(ptx)[1]
    values = split(f, ins.operands[1], ptx)
    join(
        f,
        ins,
        [from_float(f, f.call(function, "float", (v, "float")), element) for v in values],
        ptx,
    )
