# SPDX-License-Identifier: Apache-2.0
"""mov, cvta, selp, set, setp and other instructions that move or compare."""

from __future__ import annotations

from ..model import BITS, Imm, Instruction, Operand, Pair, Reg, Sym, Vec
from ..opcodes import op, types_of
from .floats import bf16_to_float, flush
from .function import FunctionEmitter
from .values import is_float, value_type

_ALL = "pred b8 b16 u16 s16 b32 u32 s32 b64 u64 s64 f16 bf16 f16x2 bf16x2 f32 f64 b128"
_INT_COMPARE = {"eq": "eq", "ne": "ne", "lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}
_ORDER_COMPARE = {"lt": "lt", "le": "le", "gt": "gt", "ge": "ge"}
_FLOAT_COMPARE = {
    "eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge",
    "equ": "ueq", "neu": "une", "ltu": "ult", "leu": "ule", "gtu": "ugt", "geu": "uge",
    "num": "ord", "nan": "uno",
}  # fmt: skip
_COMPARE = "eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan"
_BOOL = "and or xor"


@op("mov", _ALL, pure=True, least=2)
def move(f: FunctionEmitter, ins: Instruction) -> None:
    """moves, packs and unpacks"""
    target, source = ins.operands[0], ins.operands[1]
    if isinstance(target, Vec):
        _unpack(f, target, source, types_of(ins)[0])
    elif isinstance(source, Vec):
        _pack(f, target, source, types_of(ins)[0])
    elif isinstance(source, Reg):
        constant = f.constants.get(source.index)
        if constant is not None and isinstance(target, Reg):
            type_ = f"i{BITS[target.type]}"
            f.set(target, f.use(source, type_), type_)
        else:
            f.set(target, *f.read(source))
    else:
        type_ = value_type(types_of(ins)[0])
        if is_float(type_) and not isinstance(source, Imm):
            type_ = f"i{BITS[types_of(ins)[0]]}"
        f.set(target, f.use(source, type_), type_)


def _unpack(f: FunctionEmitter, target: Vec, source: Operand, ptx: str) -> None:
    width = BITS[ptx]
    part = width // len(target.items)
    whole = f.use(source, f"i{width}")
    for i, item in enumerate(target.items):
        if isinstance(item, Reg) and item.name == "_":
            continue
        shifted = f.emit(f"lshr i{width} {whole}, {i * part}") if i else whole
        f.set(item, f.emit(f"trunc i{width} {shifted} to i{part}"), f"i{part}")


def _pack(f: FunctionEmitter, target: Operand, source: Vec, ptx: str) -> None:
    width = BITS[ptx]
    part = width // len(source.items)
    whole = ""
    for i, item in enumerate(source.items):
        value = f.emit(f"zext i{part} {f.use(item, f'i{part}')} to i{width}")
        if i:
            value = f.emit(f"shl i{width} {value}, {i * part}")
        whole = f.emit(f"or i{width} {whole}, {value}") if whole else value
    f.set(target, whole, f"i{width}")


@op("cvta", "u32 u64", "to global shared shared::cta local const param", pure=True, least=2)
def convert_address(f: FunctionEmitter, ins: Instruction) -> None:
    """between generic addresses and those of a state space"""
    target, source = ins.operands[0], ins.operands[1]
    shared = any(p.startswith("shared") for p in ins.parts)
    # The generic address of a module variable, parameter or local is its flat address already.
    value = f.use(source, "i64")
    if shared:
        base = f.early("shared64", f"ptrtoint ptr {f.field('shared')} to i64")
        value = f.emit(
            f"sub i64 {value}, {base}" if "to" in ins.parts else f"add i64 {value}, {base}"
        )
    elif isinstance(source, Sym) and source.name in f.unit.shared_offsets:
        raise f.reject(ins, "a shared variable in another space")
    f.set(target, value, "i64")


@op(
    "isspacep",
    "",
    "global shared shared::cta shared::cluster local const param",
    pure=False,
    least=2,
)
def is_space(f: FunctionEmitter, ins: Instruction) -> None:
    """which space a generic address lies in"""
    value = f.use(ins.operands[1], "i64")
    space = ins.parts[0].split("::")[0]
    if space == "global":
        other = _in_shared(f, value)
        for test in (_in_local(f, value), _in_const(f, value), _in_param(f, value)):
            other = f.emit(f"or i1 {other}, {test}")
        result = f.emit(f"xor i1 {other}, true")
    else:
        tests = {"shared": _in_shared, "local": _in_local, "const": _in_const, "param": _in_param}
        result = tests[space](f, value)
    f.set(ins.operands[0], result, "i1")


def _between(f: FunctionEmitter, value: str, low: str, high: str) -> str:
    distance = f.emit(f"sub i64 {value}, {low}")
    return f.emit(f"icmp ult i64 {distance}, {f.emit(f'sub i64 {high}, {low}')}")


def _in_shared(f: FunctionEmitter, value: str) -> str:
    base = f.early("shared64", f"ptrtoint ptr {f.field('shared')} to i64")
    size = f.early("shared_size64", f"zext i32 {f.field('shared_bytes')} to i64")
    return f.emit(f"icmp ult i64 {f.emit(f'sub i64 {value}, {base}')}, {size}")


def _in_local(f: FunctionEmitter, value: str) -> str:
    kept = _between(f, value, f.field("local_low"), f.field("local_high"))
    stack = _between(f, value, f.field("stack_low"), f.field("stack_high"))
    return f.emit(f"or i1 {kept}, {stack}")


def _in_const(f: FunctionEmitter, value: str) -> str:
    data = f.unit.module.data
    offset = f.emit(f"sub i64 {value}, {f.field('module_base')}")
    return f.emit(
        f"icmp ult i64 {f.emit(f'sub i64 {offset}, {data.const_begin}')}, {data.const_end - data.const_begin}"
    )


def _in_param(f: FunctionEmitter, value: str) -> str:
    size = max((p.offset + p.size for p in f.unit.kernel.params), default=0)
    base = f.early("params64", f"ptrtoint ptr {f.field('params')} to i64")
    return f.emit(f"icmp ult i64 {f.emit(f'sub i64 {value}, {base}')}, {size}")


@op("selp", _ALL, pure=True, least=4)
def select(f: FunctionEmitter, ins: Instruction) -> None:
    """one of two values"""
    type_ = value_type(types_of(ins)[0])
    target, yes, no, pred = ins.operands
    f.set(
        target,
        f.emit(
            f"select i1 {f.use(pred, 'i1')}, {type_} {f.use(yes, type_)}, {type_} {f.use(no, type_)}"
        ),
        type_,
    )


@op("slct", _ALL, "ftz", pure=True, least=4)
def select_by_sign(f: FunctionEmitter, ins: Instruction) -> None:
    """one of two values by the sign of a third"""
    kinds = types_of(ins)
    type_, by = value_type(kinds[0]), value_type(kinds[1])
    value = f.use(ins.operands[3], by)
    test = f.emit(f"fcmp oge float {value}, 0.0" if by == "float" else f"icmp sge {by} {value}, 0")
    yes, no = f.use(ins.operands[1], type_), f.use(ins.operands[2], type_)
    f.set(ins.operands[0], f.emit(f"select i1 {test}, {type_} {yes}, {type_} {no}"), type_)


def compare(f: FunctionEmitter, name: str, ptx: str, a: Operand, b: Operand, ftz: bool) -> str:
    """The i1 result of a comparison."""
    if ptx == "bf16":
        x, y = bf16_to_float(f, f.use(a, "i16")), bf16_to_float(f, f.use(b, "i16"))
        return f.emit(f"fcmp {_FLOAT_COMPARE[name]} float {x}, {y}")
    type_ = value_type(ptx)
    left, right = f.use(a, type_), f.use(b, type_)
    if is_float(type_):
        if ftz and type_ == "float":
            left, right = flush(f, left), flush(f, right)
        return f.emit(f"fcmp {_FLOAT_COMPARE[name]} {type_} {left}, {right}")
    if name in _INT_COMPARE:
        condition = _INT_COMPARE[name]
    elif name in _ORDER_COMPARE:
        condition = ("s" if ptx[0] == "s" else "u") + _ORDER_COMPARE[name]
    else:
        raise f.unsupported(f"comparison .{name} of .{ptx}")
    return f.emit(f"icmp {condition} {type_} {left}, {right}")


def _combined(f: FunctionEmitter, ins: Instruction, test: str, extra: Operand) -> str:
    bool_op = next(p for p in ins.parts if p in ("and", "or", "xor"))
    return f.emit(f"{bool_op} i1 {test}, {f.use(extra, 'i1')}")


@op("setp", _ALL, f"{_COMPARE} {_BOOL} ftz", pure=True, least=3)
def set_predicate(f: FunctionEmitter, ins: Instruction) -> None:
    """comparisons into predicates"""
    ptx = types_of(ins)[-1]
    operands = ins.operands
    if ptx in ("f16x2", "bf16x2"):
        raise f.reject(ins)
    test = compare(f, ins.parts[0], ptx, operands[1], operands[2], "ftz" in ins.parts)
    target = operands[0]
    first: Operand = target.first if isinstance(target, Pair) else target
    result = _combined(f, ins, test, operands[3]) if len(operands) > 3 else test
    second = ""
    if isinstance(target, Pair):
        second = f.emit(f"xor i1 {test}, true")
        if len(operands) > 3:
            second = _combined(f, ins, second, operands[3])
    f.set(first, result, "i1")
    if isinstance(target, Pair):
        f.set(target.second, second, "i1")


@op("set", _ALL, f"{_COMPARE} {_BOOL} ftz", pure=True, least=3)
def set_value(f: FunctionEmitter, ins: Instruction) -> None:
    """comparisons into registers: all ones or 1.0 for true"""
    kinds = types_of(ins)
    if len(kinds) != 2 or kinds[1] in ("f16x2", "bf16x2"):
        raise f.reject(ins)
    test = compare(f, ins.parts[0], kinds[1], ins.operands[1], ins.operands[2], "ftz" in ins.parts)
    if len(ins.operands) > 3:
        test = _combined(f, ins, test, ins.operands[3])
    if kinds[0] == "f32":
        f.set(ins.operands[0], f.emit(f"uitofp i1 {test} to float"), "float")
    else:
        f.set(ins.operands[0], f.emit(f"sext i1 {test} to i32"), "i32")
