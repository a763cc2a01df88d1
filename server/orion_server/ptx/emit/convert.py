# SPDX-License-Identifier: Apache-2.0
"""cvt in all its forms."""

from __future__ import annotations

from ..model import BITS, Instruction, Reg
from ..opcodes import op, types_of
from .floats import ROUNDING, bf16_to_float, flush, saturate, suffix
from .function import FunctionEmitter
from .packed import from_float, to_float

_TYPES = "u8 s8 u16 s16 u32 s32 u64 s64 f16 bf16 f16x2 bf16x2 f32 f64 tf32 e4m3x2 e5m2x2"
_TO_INTEGRAL = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}
_FLOATS = ("f16", "bf16", "f32", "f64")


@op("cvt", _TYPES, "rn rz rm rp rna rni rzi rmi rpi ftz sat relu satfinite", least=2, pure=True)
def convert(f: FunctionEmitter, ins: Instruction) -> None:
    """conversions between integers and floats; packed forms to f16x2 and bf16x2"""
    to, from_ = types_of(ins)[:2] if len(types_of(ins)) > 1 else ("", "")
    if not to:
        raise f.reject(ins)
    if to in ("f16x2", "bf16x2"):
        _pair(f, ins, to[:-2], from_)
    elif to == "tf32":
        value = f.call("orion_cpu_f32_to_tf32", "float", (f.use(ins.operands[1], "float"), "float"))
        f.set(ins.operands[0], value, "float")
    elif to in _FLOATS and from_ in _FLOATS:
        _float_to_float(f, ins, to, from_)
    elif to in _FLOATS and from_[0] in "us":
        _int_to_float(f, ins, to, from_)
    elif from_ in _FLOATS and to[0] in "us":
        _float_to_int(f, ins, to, from_)
    elif to[0] in "us" and from_[0] in "us":
        _int_to_int(f, ins, to, from_)
    else:
        raise f.reject(ins)


def _source_int(f: FunctionEmitter, ins: Instruction, ptx: str) -> str:
    """The source may be wider than its type: the low bits count."""
    return f.use(ins.operands[1], f"i{BITS[ptx]}")


def _assign_int(f: FunctionEmitter, ins: Instruction, value: str, ptx: str) -> None:
    """The destination may be wider than its type: extended by its sign."""
    target = ins.operands[0]
    have = BITS[ptx]
    if isinstance(target, Reg) and BITS[target.type] > have and ptx[0] == "s":
        value = f.emit(f"sext i{have} {value} to i{BITS[target.type]}")
        have = BITS[target.type]
    f.set(target, value, f"i{have}")


def _int_to_int(f: FunctionEmitter, ins: Instruction, to: str, from_: str) -> None:
    value = _source_int(f, ins, from_)
    have, want = BITS[from_], BITS[to]
    signed = from_[0] == "s"
    if "sat" in ins.parts:
        value = _saturate_int(f, value, from_, to)
    if want > have:
        value = f.emit(f"{'sext' if signed else 'zext'} i{have} {value} to i{want}")
    elif want < have:
        value = f.emit(f"trunc i{have} {value} to i{want}")
    _assign_int(f, ins, value, to)


def _saturate_int(f: FunctionEmitter, value: str, from_: str, to: str) -> str:
    """Clamps to what the destination type can hold, across signs."""
    bits = BITS[from_]
    source_low, source_high = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if from_[0] == "s" else (0, (1 << bits) - 1)
    )
    wide = BITS[to]
    low, high = (
        (-(1 << (wide - 1)), (1 << (wide - 1)) - 1) if to[0] == "s" else (0, (1 << wide) - 1)
    )
    kind = from_[0]
    type_ = f"i{bits}"
    if low > source_low:
        value = f.intrinsic(
            f"llvm.{kind}max.{type_}", type_, (value, type_), (f.int_const(low, type_), type_)
        )
    if high < source_high:
        value = f.intrinsic(
            f"llvm.{kind}min.{type_}", type_, (value, type_), (f.int_const(high, type_), type_)
        )
    return value


def _source_float(f: FunctionEmitter, ins: Instruction, from_: str) -> tuple[str, str]:
    """The source as float or double."""
    if from_ == "f64":
        return f.use(ins.operands[1], "double"), "double"
    if from_ == "f32":
        value = f.use(ins.operands[1], "float")
        return (flush(f, value) if "ftz" in ins.parts else value), "float"
    bits = f.use(ins.operands[1], "i16")
    return (bf16_to_float(f, bits) if from_ == "bf16" else to_float(f, bits, "f16")), "float"


def _rounding(ins: Instruction) -> int:
    return next((ROUNDING[p] for p in ins.parts if p in ROUNDING), 0)


def _float_to_float(f: FunctionEmitter, ins: Instruction, to: str, from_: str) -> None:
    value, type_ = _source_float(f, ins, from_)
    integral = next((_TO_INTEGRAL[p] for p in ins.parts if p in _TO_INTEGRAL), "")
    if integral:
        value = f.intrinsic(f"llvm.{integral}.{suffix(type_)}", type_, (value, type_))
    mode = _rounding(ins)
    if "sat" in ins.parts:
        value = saturate(f, type_, value)
    if "relu" in ins.parts:
        value = _relu(f, value)
    if to == "f64":
        f.set(
            ins.operands[0],
            f.emit(f"fpext float {value} to double") if type_ == "float" else value,
            "double",
        )
    elif to == "f32":
        if type_ == "double":
            if mode:
                value = f.call(
                    "orion_cpu_f64_to_f32", "float", (value, "double"), (str(mode), "i32")
                )
            else:
                value = f.emit(f"fptrunc double {value} to float")
        f.set(ins.operands[0], flush(f, value) if "ftz" in ins.parts else value, "float")
    else:
        f.set(ins.operands[0], _narrow(f, value, type_, to, mode), "i16")


def _narrow(f: FunctionEmitter, value: str, type_: str, to: str, mode: int) -> str:
    if type_ == "double":
        if to == "bf16":
            value = f.emit(f"fptrunc double {value} to float")
        else:
            return f.call("orion_cpu_f64_to_f16", "i16", (value, "double"), (str(mode), "i32"))
    if to == "bf16":
        return f.call("orion_cpu_f32_to_bf16", "i16", (value, "float"), (str(mode), "i32"))
    if mode:
        return f.call("orion_cpu_f32_to_f16", "i16", (value, "float"), (str(mode), "i32"))
    return from_float(f, value, "f16")


def _relu(f: FunctionEmitter, value: str) -> str:
    """Negative values become 0; NaN stays."""
    return f.emit(f"select i1 {f.emit(f'fcmp olt float {value}, 0.0')}, float 0.0, float {value}")


def _pair(f: FunctionEmitter, ins: Instruction, to: str, from_: str) -> None:
    """Two f32 into one register: the first operand goes into the upper half."""
    if from_ != "f32" or len(ins.operands) < 3:
        raise f.reject(ins)
    mode = _rounding(ins)
    halves = []
    for operand in ins.operands[1:3]:
        value = f.use(operand, "float")
        if "relu" in ins.parts:
            value = _relu(f, value)
        halves.append(f.emit(f"zext i16 {_narrow(f, value, 'float', to, mode)} to i32"))
    upper = f.emit(f"shl i32 {halves[0]}, 16")
    f.set(ins.operands[0], f.emit(f"or i32 {upper}, {halves[1]}"), "i32")


def _int_to_float(f: FunctionEmitter, ins: Instruction, to: str, from_: str) -> None:
    value = _source_int(f, ins, from_)
    bits = BITS[from_]
    signed = from_[0] == "s"
    mode = _rounding(ins)
    type_ = "double" if to == "f64" else "float"
    if mode:
        wide = (
            f.emit(f"{'sext' if signed else 'zext'} i{bits} {value} to i64") if bits < 64 else value
        )
        helper = f"orion_cpu_{'i' if signed else 'u'}64_to_{suffix(type_)}"
        result = f.call(helper, type_, (wide, "i64"), (str(mode), "i32"))
    elif to in ("f16", "bf16"):
        # A double holds every 32-bit integer: only the last step rounds.
        result = f.emit(f"{'si' if signed else 'ui'}tofp i{bits} {value} to double")
        if to == "f16":
            f.set(
                ins.operands[0],
                f.call("orion_cpu_f64_to_f16", "i16", (result, "double"), ("0", "i32")),
                "i16",
            )
        else:
            single = f.emit(f"fptrunc double {result} to float")
            f.set(ins.operands[0], from_float(f, single, "bf16"), "i16")
        return
    else:
        result = f.emit(f"{'si' if signed else 'ui'}tofp i{bits} {value} to {type_}")
    if "sat" in ins.parts:
        result = saturate(f, type_, result)
    if to in ("f16", "bf16"):
        f.set(ins.operands[0], _narrow(f, result, type_, to, mode), "i16")
    else:
        f.set(ins.operands[0], result, type_)


def _float_to_int(f: FunctionEmitter, ins: Instruction, to: str, from_: str) -> None:
    value, type_ = _source_float(f, ins, from_)
    rounding = next((_TO_INTEGRAL[p] for p in ins.parts if p in _TO_INTEGRAL), "trunc")
    if rounding != "trunc":
        value = f.intrinsic(f"llvm.{rounding}.{suffix(type_)}", type_, (value, type_))
    bits = BITS[to]
    kind = "fptosi" if to[0] == "s" else "fptoui"
    result = f.intrinsic(f"llvm.{kind}.sat.i{bits}.{suffix(type_)}", f"i{bits}", (value, type_))
    if bits == 64 or from_ == "f64":
        result = _nan_result(f, value, type_, result, bits)
    _assign_int(f, ins, result, to)


def _nan_result(f: FunctionEmitter, value: str, type_: str, result: str, bits: int) -> str:
    """NaN from f64, or into 64 bits, gives the highest bit alone; otherwise it gives 0."""
    nan = f.emit(f"fcmp uno {type_} {value}, {value}")
    return f.emit(
        f"select i1 {nan}, i{bits} {f.int_const(1 << (bits - 1), f'i{bits}')}, i{bits} {result}"
    )
