# SPDX-License-Identifier: Apache-2.0
"""atom, red, fences, prefetches and asynchronous copies.

A block runs on one OS thread and switches between its threads only at waits, so atomics on shared memory are plain.
"""

from __future__ import annotations

from ..model import BITS, Instruction, Operand, Reg
from ..opcodes import op, types_of
from .floats import pick
from .function import FunctionEmitter
from .memory import ALIAS, address, space_of
from .packed import from_float, lanes, to_float

_TYPES = "b16 b32 u32 s32 b64 u64 s64 f32 f64 f16 f16x2 bf16 bf16x2 b128"
_MODS = (
    "add and or xor cas exch min max inc dec global shared shared::cta relaxed acquire release acq_rel noftz "
    "cta cluster gpu sys L2::cache_hint"
)
_RMW = {
    "add": "add",
    "and": "and",
    "or": "or",
    "xor": "xor",
    "exch": "xchg",
    "inc": "uinc_wrap",
    "dec": "udec_wrap",
}


def _ordering(ins: Instruction) -> str:
    for part, ordering in (("acq_rel", "acq_rel"), ("acquire", "acquire"), ("release", "release")):
        if part in ins.parts:
            return ordering
    return "monotonic"


def _operation(ins: Instruction) -> str:
    return next(p for p in ins.parts if p in (*_RMW, "cas", "min", "max"))


@op("atom", _TYPES, _MODS, least=3)
def atom(f: FunctionEmitter, ins: Instruction) -> None:
    """atomic read, change, write; plain on shared memory, since a block runs on one OS thread"""
    old, type_ = _atomic(f, ins, ins.operands[1], ins.operands[2:])
    f.set(ins.operands[0], old, type_)


@op("red", _TYPES, _MODS, dst=0, least=2)
def red(f: FunctionEmitter, ins: Instruction) -> None:
    """as atom without a result"""
    _atomic(f, ins, ins.operands[0], ins.operands[1:])


def _atomic(
    f: FunctionEmitter, ins: Instruction, place: Operand, values: list[Operand]
) -> tuple[str, str]:
    ptx = types_of(ins)[0]
    operation = _operation(ins)
    space = space_of(ins)
    pointer = address(f, place, space)
    if ptx in ("f16", "f16x2", "bf16", "bf16x2"):
        return _small_float(f, ins, operation, ptx, pointer, values[0], space)
    float_ = ptx in ("f32", "f64") and operation == "add"
    type_ = {"f32": "float", "f64": "double"}[ptx] if float_ else f"i{BITS[ptx]}"
    if operation == "cas":
        if len(values) < 2:
            raise f.reject(ins, "operands")
        return _cas(f, ins, type_, pointer, f.use(values[0], type_), f.use(values[1], type_), space)
    value = f.use(values[0], type_)
    if space == "shared":
        return _plain(f, operation, ptx, type_, pointer, value), type_
    kind = _RMW.get(operation) or ("" if ptx[0] == "s" else "u") + operation
    if float_:
        kind = "fadd"
    align = BITS[ptx] // 8
    return f.emit(
        f"atomicrmw {kind} ptr {pointer}, {type_} {value} {_ordering(ins)}, align {align}"
    ), type_


def _plain(
    f: FunctionEmitter, operation: str, ptx: str, type_: str, pointer: str, value: str
) -> str:
    align = BITS[ptx] // 8
    alias = ALIAS["shared"]
    old = f.emit(f"load {type_}, ptr {pointer}, align {align}{alias}")
    if operation == "exch":
        new = value
    elif operation in ("min", "max"):
        kind = ("s" if ptx[0] == "s" else "u") + operation
        new = f.intrinsic(f"llvm.{kind}.{type_}", type_, (old, type_), (value, type_))
    elif operation == "inc":
        wrap = f.emit(f"icmp uge {type_} {old}, {value}")
        new = f.emit(f"select i1 {wrap}, {type_} 0, {type_} {f.emit(f'add {type_} {old}, 1')}")
    elif operation == "dec":
        zero = f.emit(f"icmp eq {type_} {old}, 0")
        above = f.emit(f"icmp ugt {type_} {old}, {value}")
        less = f.emit(f"sub {type_} {old}, 1")
        new = f.emit(
            f"select i1 {f.emit(f'or i1 {zero}, {above}')}, {type_} {value}, {type_} {less}"
        )
    else:
        name = "fadd" if type_ in ("float", "double") else operation
        new = f.emit(f"{name} {type_} {old}, {value}")
    f.do(f"store {type_} {new}, ptr {pointer}, align {align}{alias}")
    return old


def _cas(
    f: FunctionEmitter,
    ins: Instruction,
    type_: str,
    pointer: str,
    expected: str,
    new: str,
    space: str,
) -> tuple[str, str]:
    align = int(type_[1:]) // 8
    if space == "shared":
        alias = ALIAS["shared"]
        old = f.emit(f"load {type_}, ptr {pointer}, align {align}{alias}")
        same = f.emit(f"icmp eq {type_} {old}, {expected}")
        chosen = f.emit(f"select i1 {same}, {type_} {new}, {type_} {old}")
        f.do(f"store {type_} {chosen}, ptr {pointer}, align {align}{alias}")
        return old, type_
    ordering = _ordering(ins)
    failure = {"monotonic": "monotonic", "release": "monotonic"}.get(ordering, "acquire")
    pair = f.emit(
        f"cmpxchg ptr {pointer}, {type_} {expected}, {type_} {new} {ordering} {failure}, align {align}"
    )
    return f.emit(f"extractvalue {{ {type_}, i1 }} {pair}, 0"), type_


def _small_float(
    f: FunctionEmitter,
    ins: Instruction,
    operation: str,
    ptx: str,
    pointer: str,
    value: Operand,
    space: str,
) -> tuple[str, str]:
    """A loop of compare and swap around the sum of each lane."""
    count, element = lanes(ptx)
    bits = 16 * count
    type_ = f"i{bits}"
    if operation not in ("add", "min", "max"):
        raise f.reject(ins)
    addend = f.use(value, type_)
    before, loop, done = f.label(), f.label(), f.label()
    f.do(f"br label %{before}")
    f.start(before)
    first = f.emit(f"load {type_}, ptr {pointer}, align {bits // 8}")
    f.do(f"br label %{loop}")
    f.start(loop)
    old, next_ = f.tmp(), f.tmp()
    f.lines.append(f"  {old} = phi {type_} [ {first}, %{before} ], [ {next_}, %{loop} ]")
    total = "0"
    for i in range(count):
        x, y = (to_float(f, _lane(f, v, type_, i), element) for v in (old, addend))
        result = (
            f.emit(f"fadd float {x}, {y}")
            if operation == "add"
            else pick(f, operation, "float", x, y, False)
        )
        part = f.cast(from_float(f, result, element), "i16", type_)
        if i:
            part = f.emit(f"shl {type_} {part}, 16")
        total = f.emit(f"or {type_} {total}, {part}")
    pair = f.emit(
        f"cmpxchg ptr {pointer}, {type_} {old}, {type_} {total} acq_rel acquire, align {bits // 8}"
    )
    f.lines.append(f"  {next_} = extractvalue {{ {type_}, i1 }} {pair}, 0")
    ok = f.emit(f"extractvalue {{ {type_}, i1 }} {pair}, 1")
    f.do(f"br i1 {ok}, label %{done}, label %{loop}")
    f.start(done)
    return old, type_


def _lane(f: FunctionEmitter, value: str, type_: str, i: int) -> str:
    if type_ == "i16":
        return value
    shifted = f.emit(f"lshr {type_} {value}, 16") if i else value
    return f.emit(f"trunc {type_} {shifted} to i16")


# --- order ---


def _fence(f: FunctionEmitter, ins: Instruction) -> None:
    f.do("fence acq_rel" if "cta" in ins.parts else "fence seq_cst")


@op("membar", "", "cta gl sys gpu", dst=0, least=0)
def membar(f: FunctionEmitter, ins: Instruction) -> None:
    """memory fence"""
    _fence(f, ins)


@op("fence", "", "sc acq_rel acquire release cta cluster gpu sys proxy alias async", dst=0, least=0)
def fence(f: FunctionEmitter, ins: Instruction) -> None:
    """memory fence"""
    _fence(f, ins)


@op("prefetch", "", "global local L1 L2 L2::evict_last L2::evict_normal tensormap", dst=0)
def prefetch(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect"""


@op("prefetchu", "", "L1", dst=0)
def prefetchu(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect"""


@op("discard", "", "global L2", dst=0)
def discard(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect"""


@op("applypriority", "", "global L2::evict_normal", dst=0)
def applypriority(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect"""


@op("griddepcontrol", "", "launch_dependents wait", dst=0, least=0)
def griddepcontrol(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect: launches of a stream run in order"""


@op(
    "cp",
    "",
    "async ca cg shared shared::cta global commit_group wait_group wait_all L2::64B L2::128B L2::256B L2::cache_hint",
    dst=0,
    least=0,
)
def copy_async(f: FunctionEmitter, ins: Instruction) -> None:
    """cp.async as a plain copy; bulk forms are not supported"""
    if not ins.parts or ins.parts[0] != "async":
        raise f.reject(ins)
    if "commit_group" in ins.parts or "wait_group" in ins.parts or "wait_all" in ins.parts:
        return
    size = f.constant_of(ins.operands[2]) if len(ins.operands) > 2 else None
    if size not in (4, 8, 16):
        raise f.reject(ins, "size")
    target = address(f, ins.operands[0], "shared")
    source = address(f, ins.operands[1], "global")
    type_ = f"i{8 * size}"
    if len(ins.operands) > 3 and "L2::cache_hint" not in ins.parts:
        _partial_copy(f, ins, target, source, size)
        return
    value = f.emit(f"load {type_}, ptr {source}, align {size}{ALIAS['global']}")
    f.do(f"store {type_} {value}, ptr {target}, align {size}{ALIAS['shared']}")


def _partial_copy(
    f: FunctionEmitter, ins: Instruction, target: str, source: str, size: int
) -> None:
    """Bytes beyond the source size become zero; a predicate means: ignore the source."""
    limit = ins.operands[3]
    if isinstance(limit, Reg) and limit.type == "pred":
        count = f.emit(f"select i1 {f.use(limit, 'i1')}, i64 0, i64 {size}")
    else:
        count = f.cast(f.use(limit, "i32"), "i32", "i64")
    f.unit.declare("memset", "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1 immarg)")
    f.unit.declare("memcpy", "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)")
    count = f.intrinsic("llvm.umin.i64", "i64", (count, "i64"), (str(size), "i64"))
    f.do(f"call void @llvm.memset.p0.i64(ptr {target}, i8 0, i64 {size}, i1 false)")
    f.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {source}, i64 {count}, i1 false)")
