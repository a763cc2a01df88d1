# SPDX-License-Identifier: Apache-2.0
"""f32 and f64 arithmetic: rounding modes, flush to zero, saturation, NaN rules."""

from __future__ import annotations

from ..model import Instruction
from ..opcodes import op, types_of
from .function import FunctionEmitter
from .values import float_constant

_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
# Modes of the C helpers, by PTX name; rn is what the host does by itself.
ROUNDING = {"rz": 1, "rm": 2, "rp": 3}
# Operations of orion_cpu_fround and orion_cpu_dround.
OPERATION = {"add": 0, "sub": 1, "mul": 2, "div": 3, "fma": 4, "sqrt": 5}


def llvm_type(ins: Instruction) -> str:
    return "float" if types_of(ins)[-1] == "f32" else "double"


def suffix(type_: str) -> str:
    return "f32" if type_ == "float" else "f64"


def flush(f: FunctionEmitter, value: str) -> str:
    """A subnormal becomes zero of the same sign."""
    f.unit.declare(
        "orion.ftz",
        "define internal float @orion.ftz(float %a) alwaysinline {\n"
        "  %i = bitcast float %a to i32\n  %e = and i32 %i, 2139095040\n  %z = icmp eq i32 %e, 0\n"
        "  %s = and i32 %i, -2147483648\n  %r = select i1 %z, i32 %s, i32 %i\n"
        "  %f = bitcast i32 %r to float\n  ret float %f\n}",
    )
    return f.emit(f"call float @orion.ftz(float {value})")


def bf16_to_float(f: FunctionEmitter, value: str) -> str:
    wide = f.emit(f"zext i16 {value} to i32")
    return f.emit(f"bitcast i32 {f.emit(f'shl i32 {wide}, 16')} to float")


def saturate(f: FunctionEmitter, type_: str, value: str) -> str:
    """Clamps to [0, 1]; NaN becomes 0."""
    above = f.emit(f"fcmp ogt {type_} {value}, {float_constant(0.0)}")
    value = f.emit(f"select i1 {above}, {type_} {value}, {type_} {float_constant(0.0)}")
    below = f.emit(f"fcmp olt {type_} {value}, {float_constant(1.0)}")
    return f.emit(f"select i1 {below}, {type_} {value}, {type_} {float_constant(1.0)}")


def inputs(f: FunctionEmitter, ins: Instruction, type_: str) -> list[str]:
    values = [f.use(o, type_) for o in ins.operands[1:]]
    if "ftz" in ins.parts and type_ == "float":
        values = [flush(f, v) for v in values]
    return values


def finish(f: FunctionEmitter, ins: Instruction, type_: str, value: str) -> None:
    """.ftz and .sat of a result, and the assignment."""
    if "ftz" in ins.parts and type_ == "float":
        value = flush(f, value)
    if "sat" in ins.parts:
        value = saturate(f, type_, value)
    f.set(ins.operands[0], value, type_)


def _mode(ins: Instruction) -> int:
    return next((ROUNDING[p] for p in ins.parts if p in ROUNDING), 0)


def rounded(f: FunctionEmitter, operation: str, mode: int, type_: str, values: list[str]) -> str:
    """An operation in a rounding mode that is not the host's: done by a C helper."""
    padded = [*values, *[float_constant(0.0)] * (3 - len(values))]
    helper = "orion_cpu_fround" if type_ == "float" else "orion_cpu_dround"
    arguments = [(v, type_) for v in padded]
    return f.call(helper, type_, (str(OPERATION[operation]), "i32"), (str(mode), "i32"), *arguments)


def binary(f: FunctionEmitter, ins: Instruction) -> None:
    type_ = llvm_type(ins)
    values = inputs(f, ins, type_)
    mode = _mode(ins)
    if mode:
        result = rounded(f, ins.op, mode, type_, values)
    else:
        result = f.emit(f"{_BINARY[ins.op]} {type_} {values[0]}, {values[1]}")
    finish(f, ins, type_, result)


def fused(f: FunctionEmitter, ins: Instruction) -> None:
    type_ = llvm_type(ins)
    values = inputs(f, ins, type_)
    mode = _mode(ins)
    if mode:
        result = rounded(f, "fma", mode, type_, values)
    else:
        result = f.intrinsic(f"llvm.fma.{suffix(type_)}", type_, *((v, type_) for v in values))
    finish(f, ins, type_, result)


def sign(f: FunctionEmitter, ins: Instruction) -> None:
    type_ = llvm_type(ins)
    value = inputs(f, ins, type_)[0]
    if ins.op == "neg":
        result = f.emit(f"fneg {type_} {value}")
    else:
        result = f.intrinsic(f"llvm.fabs.{suffix(type_)}", type_, (value, type_))
    f.set(ins.operands[0], result, type_)


def pick(f: FunctionEmitter, kind: str, type_: str, a: str, b: str, nan: bool) -> str:
    """min or max: a NaN operand is ignored, or wins when `nan`; -0 is less than +0."""
    name = f"llvm.{kind}imum" + ("" if nan else "num")
    return f.intrinsic(f"{name}.{suffix(type_)}", type_, (a, type_), (b, type_))


def extremum(f: FunctionEmitter, ins: Instruction) -> None:
    type_ = llvm_type(ins)
    values = inputs(f, ins, type_)
    result = pick(f, ins.op, type_, values[0], values[1], "NaN" in ins.parts)
    for value in values[2:]:
        result = pick(f, ins.op, type_, result, value, "NaN" in ins.parts)
    if "xorsign" in ins.parts:
        int_ = "i32" if type_ == "float" else "i64"
        a, b = (f.emit(f"bitcast {type_} {v} to {int_}") for v in values[:2])
        magnitude = f.emit(f"bitcast {int_} {f.emit(f'xor {int_} {a}, {b}')} to {type_}")
        absolute = [
            f.intrinsic(f"llvm.fabs.{suffix(type_)}", type_, (v, type_)) for v in values[:2]
        ]
        result = pick(f, ins.op, type_, absolute[0], absolute[1], "NaN" in ins.parts)
        result = f.intrinsic(
            f"llvm.copysign.{suffix(type_)}", type_, (result, type_), (magnitude, type_)
        )
    f.set(ins.operands[0], result, type_)


@op("copysign", "f32 f64", least=3, pure=True)
def copy_sign(f: FunctionEmitter, ins: Instruction) -> None:
    """the magnitude of b with the sign of a"""
    type_ = llvm_type(ins)
    a, b = f.use(ins.operands[1], type_), f.use(ins.operands[2], type_)
    f.set(
        ins.operands[0],
        f.intrinsic(f"llvm.copysign.{suffix(type_)}", type_, (b, type_), (a, type_)),
        type_,
    )


@op("sqrt", "f32 f64", "approx rn rz rm rp ftz", least=2)
def square_root(f: FunctionEmitter, ins: Instruction) -> None:
    """square root; .approx is exact"""
    type_ = llvm_type(ins)
    values = inputs(f, ins, type_)
    mode = _mode(ins)
    if mode:
        result = rounded(f, "sqrt", mode, type_, values)
    else:
        result = f.intrinsic(f"llvm.sqrt.{suffix(type_)}", type_, (values[0], type_))
    finish(f, ins, type_, result)


@op("rsqrt", "f32 f64", "approx ftz", least=2)
def reciprocal_root(f: FunctionEmitter, ins: Instruction) -> None:
    """reciprocal square root, correctly rounded twice"""
    type_ = llvm_type(ins)
    value = inputs(f, ins, type_)[0]
    root = f.intrinsic(f"llvm.sqrt.{suffix(type_)}", type_, (value, type_))
    finish(f, ins, type_, f.emit(f"fdiv {type_} {float_constant(1.0)}, {root}"))


@op("rcp", "f32 f64", "approx rn rz rm rp ftz", least=2)
def reciprocal(f: FunctionEmitter, ins: Instruction) -> None:
    """reciprocal; .approx is exact"""
    type_ = llvm_type(ins)
    value = inputs(f, ins, type_)[0]
    mode = _mode(ins)
    if mode:
        result = rounded(f, "div", mode, type_, [float_constant(1.0), value])
    else:
        result = f.emit(f"fdiv {type_} {float_constant(1.0)}, {value}")
    finish(f, ins, type_, result)


def _libm(f: FunctionEmitter, ins: Instruction, function: str) -> None:
    value = inputs(f, ins, "float")[0]
    finish(f, ins, "float", f.call(function, "float", (value, "float")))


@op("sin", "f32", "approx ftz", least=2)
def sine(f: FunctionEmitter, ins: Instruction) -> None:
    """the host's sinf"""
    _libm(f, ins, "sinf")


@op("cos", "f32", "approx ftz", least=2)
def cosine(f: FunctionEmitter, ins: Instruction) -> None:
    """the host's cosf"""
    _libm(f, ins, "cosf")


@op("lg2", "f32", "approx ftz", least=2)
def log2(f: FunctionEmitter, ins: Instruction) -> None:
    """the host's log2f"""
    _libm(f, ins, "log2f")


@op("ex2", "f32 f16 f16x2 bf16 bf16x2", "approx ftz", least=2)
def exp2(f: FunctionEmitter, ins: Instruction) -> None:
    """the host's exp2f"""
    if types_of(ins)[0] != "f32":
        from . import packed

        packed.unary_call(f, ins, "exp2f")
        return
    _libm(f, ins, "exp2f")


@op("tanh", "f32 f16 f16x2 bf16 bf16x2", "approx", least=2)
def tanh(f: FunctionEmitter, ins: Instruction) -> None:
    """the host's tanhf"""
    if types_of(ins)[0] != "f32":
        from . import packed

        packed.unary_call(f, ins, "tanhf")
        return
    _libm(f, ins, "tanhf")


@op("testp", "f32 f64", "finite infinite number notanumber normal subnormal", least=2)
def test_property(f: FunctionEmitter, ins: Instruction) -> None:
    """classes of floats"""
    type_ = llvm_type(ins)
    value = f.use(ins.operands[1], type_)
    # Masks of llvm.is.fpclass.
    mask = {
        "finite": 504,
        "infinite": 516,
        "number": 1020,
        "notanumber": 3,
        "normal": 264,
        "subnormal": 144,
    }
    kind = next(p for p in ins.parts if p in mask)
    name = f"llvm.is.fpclass.{suffix(type_)}"
    f.unit.declare(name, f"declare i1 @{name}({type_}, i32 immarg)")
    f.set(ins.operands[0], f.emit(f"call i1 @{name}({type_} {value}, i32 {mask[kind]})"), "i1")
