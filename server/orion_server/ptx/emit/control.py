# SPDX-License-Identifier: Apache-2.0
"""Branches, calls, traps, and functions that the device runtime provides."""

from __future__ import annotations

from ..layout import FUNCTION_TAG
from ..model import CallSite, Instruction, Operand, Reg, Signature, Sym
from ..opcodes import op
from .device import function_type, scalar_of, yield_inline
from .function import FunctionEmitter, Value


def _by_graph(f: FunctionEmitter, ins: Instruction) -> None:
    raise AssertionError(f"{ins.op} is part of the control flow graph")


@op("bra", "", "uni", dst=0)
def branch(f: FunctionEmitter, ins: Instruction) -> None:
    """direct branches"""
    _by_graph(f, ins)


@op("brx", "", "idx uni", dst=0, least=2)
def branch_indexed(f: FunctionEmitter, ins: Instruction) -> None:
    """branch through a table"""
    _by_graph(f, ins)


@op("ret", "", "uni", dst=0, least=0)
def return_(f: FunctionEmitter, ins: Instruction) -> None:
    """end of a function"""
    _by_graph(f, ins)


@op("exit", "", "", dst=0, least=0)
def exit_(f: FunctionEmitter, ins: Instruction) -> None:
    """end of a thread"""
    _by_graph(f, ins)


@op("trap", "", "", dst=0, least=0)
def trap(f: FunctionEmitter, ins: Instruction) -> None:
    """ends the kernel with an error"""
    f.call("orion_cpu_trap", "void", ("%ctx", "ptr"), ("%t", "i32"))
    f.end_thread()


@op("brkpt", "", "", dst=0, least=0)
def breakpoint_(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect: no debugger is attached"""


@op("nanosleep", "u32", "", dst=0)
def nanosleep(f: FunctionEmitter, ins: Instruction) -> None:
    """lets other threads run"""
    if f.unit.fibers:
        yield_inline(f)
    else:
        f.call("orion_cpu_pause", "void")


@op("pmevent", "", "mask", dst=0)
def pmevent(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect"""


@op("setmaxnreg", "u32", "inc dec sync aligned", dst=0)
def setmaxnreg(f: FunctionEmitter, ins: Instruction) -> None:
    """no effect"""


# --- calls ---


def _pointer(f: FunctionEmitter, name: str) -> str:
    return f.object_pointer(name)


def _argument(f: FunctionEmitter, operand: Operand, size: int, array: bool) -> Value:
    scalar = scalar_of(size, array)
    if isinstance(operand, Sym) and (operand.name in f.body.params or operand.name in f.objects):
        pointer = _pointer(f, operand.name)
        if scalar is None:
            return pointer, "ptr"
        return f.emit(f"load {scalar}, ptr {pointer}"), scalar
    if scalar is None:
        raise f.unsupported("argument by value of an array")
    return f.use(operand, scalar), scalar


def _arguments(
    f: FunctionEmitter, ins: Instruction, site: CallSite, signature: Signature
) -> list[Value]:
    if len(site.args) != len(signature.params) or len(site.returns) != len(signature.returns):
        raise f.reject(ins, "arguments do not match the function")
    values: list[Value] = [
        ("%ctx", "ptr"),
        ("%t", "i32"),
        *((f.thread_index(a), "i32") for a in "xyz"),
    ]
    values.extend(_argument(f, a, *p) for a, p in zip(site.args, signature.params, strict=True))
    return values


def _invoke(
    f: FunctionEmitter, ins: Instruction, target: str, signature: Signature, site: CallSite
) -> None:
    result, _ = function_type(signature)
    values = _arguments(f, ins, site, signature)
    if signature.returns and result == "void":
        values.append((_pointer(f, site.returns[0]), "ptr"))
    text = f"call {result} {target}({', '.join(f'{t} {v}' for v, t in values)})"
    if result == "void":
        f.do(text)
    else:
        value = f.emit(text)
        f.do(f"store {result} {value}, ptr {_pointer(f, site.returns[0])}")


@op("call", "", "uni", dst=0, least=0)
def call(f: FunctionEmitter, ins: Instruction) -> None:
    """direct calls, calls through function pointers, and vprintf, malloc, free, __assertfail"""
    site = ins.call
    assert site is not None
    if isinstance(site.target, Reg):
        _indirect(f, ins, site, site.target)
        return
    function = f.unit.module.functions.get(site.target)
    if function is not None and not function.entry:
        _invoke(f, ins, f.unit.want(site.target), function.signature(), site)
        if function.noreturn:
            f.end_thread()
        return
    if site.target in _RUNTIME:
        _runtime_call(f, ins, site, site.target)
        return
    raise f.reject(ins, f"function `{site.target[:80]}` is not defined in this module")


def _indirect(f: FunctionEmitter, ins: Instruction, site: CallSite, register: Reg) -> None:
    signature = f.body.prototypes.get(site.prototype)
    if signature is None:
        raise f.reject(ins, "no prototype")
    table, count = f.unit.table(signature)
    value = f.use(register, "i64")
    index = f.emit(f"sub i64 {value}, {FUNCTION_TAG}")
    inside, bad, good, go = f.label(), f.label(), f.label(), f.label()
    f.do(f"br i1 {f.emit(f'icmp ult i64 {index}, {count}')}, label %{inside}, label %{bad}")
    f.start(inside)
    slot = f.emit(f"getelementptr inbounds ptr, ptr {table}, i64 {index}")
    target = f.emit(f"load ptr, ptr {slot}")
    f.do(f"br i1 {f.emit(f'icmp eq ptr {target}, null')}, label %{bad}, label %{good}")
    f.start(bad)
    f.call("orion_cpu_bad_call", "void", ("%ctx", "ptr"), ("%t", "i32"), (value, "i64"))
    f.do("unreachable")
    f.start(good)
    f.do(f"br label %{go}")
    f.start(go)
    _invoke(f, ins, target, signature, site)


# Functions of CUDA's device runtime: parameter sizes, result size, C helper, whether it returns.
_RUNTIME: dict[str, tuple[tuple[int, ...], int, str, bool]] = {
    "vprintf": ((8, 8), 4, "orion_cpu_vprintf", True),
    "malloc": ((8,), 8, "orion_cpu_malloc", True),
    "free": ((8,), 0, "orion_cpu_free", True),
    "__assertfail": ((8, 8, 4, 8, 8), 0, "orion_cpu_assert_fail", False),
}


def _runtime_call(f: FunctionEmitter, ins: Instruction, site: CallSite, name: str) -> None:
    sizes, result, helper, returns = _RUNTIME[name]
    if len(site.args) != len(sizes):
        raise f.reject(ins, f"arguments of {name}")
    values: list[Value] = [("%ctx", "ptr"), ("%t", "i32")]
    values.extend(_argument(f, a, size, False) for a, size in zip(site.args, sizes, strict=True))
    value = f.call(helper, f"i{8 * result}" if result else "void", *values)
    if result and site.returns:
        f.do(f"store i{8 * result} {value}, ptr {_pointer(f, site.returns[0])}")
    if not returns:
        f.end_thread()
