# SPDX-License-Identifier: Apache-2.0
"""Emits called functions, and kernels that run on fibers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flow import Block, Exit, Graph, Wait, bits
from ..layout import DONE, Sync
from ..model import BITS, Function, Instruction, Signature
from ..regions import SyncPoint, constants_of, describe, single_definitions
from .function import FunctionEmitter
from .kernel import RegionEmitter, store_arguments

if TYPE_CHECKING:
    from ..unit import Unit

CONTEXT = "ptr %ctx, i32 %t, i32 %tx, i32 %ty, i32 %tz"


def scalar_of(size: int, array: bool) -> str | None:
    """The LLVM type in which a parameter travels; None: by reference."""
    return None if array or size not in (1, 2, 4, 8, 16) else f"i{8 * size}"


def function_type(signature: Signature) -> tuple[str, list[str]]:
    """Result type and parameter types behind the context; results that are no scalar come through a last pointer."""
    params = [scalar_of(*p) or "ptr" for p in signature.params]
    if not signature.returns:
        return "void", params
    result = scalar_of(*signature.returns[0])
    return (result, params) if result else ("void", [*params, "ptr"])


def wait_inline(f: FunctionEmitter, ins: Instruction) -> None:
    """A wait on a fiber: leave the arguments, switch away, find the result."""
    point = describe(ins)
    number = len(f.unit.sync)
    f.unit.sync.append(point)
    store_arguments(f, point)
    f.call("orion_cpu_fiber_wait", "void", ("%ctx", "ptr"), ("%t", "i32"), (str(number), "i32"))
    arrays = (
        ["result_pred"]
        if point.kind == Sync.ELECT and len(point.results) == 1
        else ["result", "result_pred"]
    )
    for reg, array in zip(point.results, arrays, strict=False):
        name = f.emit(f"load i32, ptr {f.thread_slot(array, 4)}, align 4")
        if reg.type == "pred":
            f.set(reg, f.emit(f"icmp ne i32 {name}, 0"), "i1")
        else:
            f.set(reg, name, "i32")


def yield_inline(f: FunctionEmitter, end: Wait | None = None) -> None:
    """Lets other fibers run, in a loop that may poll or for nanosleep."""
    number = len(f.unit.sync)
    f.unit.sync.append(SyncPoint(Sync.SPIN, fixed=15))
    f.call("orion_cpu_fiber_wait", "void", ("%ctx", "ptr"), ("%t", "i32"), (str(number), "i32"))
    if end is not None:
        f.do(f"br label %B{end.next}")


class FiberEmitter(RegionEmitter):
    """A kernel as one region whose threads wait on their own stacks."""

    def wait(self, block: Block, end: Wait) -> None:
        yield_inline(self, end)

    def exit(self, end: Exit) -> None:
        self._leave(DONE)


class DeviceEmitter(FunctionEmitter):
    """A called function as `@f<ordinal>`."""

    def __init__(self, unit: Unit, graph: Graph, function: Function) -> None:
        super().__init__(unit, graph, function.name)
        self.function = function

    def write(self) -> str:
        function, graph = self.function, self.graph
        graph.liveness()
        self.constants = constants_of(single_definitions(graph))
        result, types = function_type(function.signature())
        heads = [f"{t} %a{i}" for i, t in enumerate(types)]
        self.prologue.append("  %t64 = zext i32 %t to i64")
        for i, param in enumerate(function.params):
            scalar = scalar_of(param.size, param.array)
            if scalar is None:
                self.objects[param.name] = f"%a{i}"
            else:
                self.prologue.append(f"  %p{i} = alloca {scalar}, align {max(param.align, 8)}")
                self.prologue.append(f"  store {scalar} %a{i}, ptr %p{i}")
                self.objects[param.name] = f"%p{i}"
        for param in function.returns:
            if result == "void":
                self.objects[param.name] = f"%a{len(types) - 1}"
            else:
                self.prologue.append(f"  %ret = alloca {result}, align 16")
                self.prologue.append(f"  store {result} 0, ptr %ret")
                self.objects[param.name] = "%ret"
        live = graph.blocks[0].live_in
        self.assign_storage(graph.order, live, [])
        for index in bits(live):
            reg = self.body.registers[index]
            self.set(reg, "false" if reg.type == "pred" else "0", f"i{BITS[reg.type]}")
        self.do("br label %B0")
        self.blocks(graph.order)
        return "\n".join(
            [
                f"define internal {result} {self.unit.want(function.name)}({', '.join([CONTEXT, *heads])}) #0 {{",
                "entry:",
                *self.prologue,
                *self.lines,
                "}",
            ]
        )

    def wait(self, block: Block, end: Wait) -> None:
        yield_inline(self, end)

    def exit(self, end: Exit) -> None:
        if end.thread:
            self.call("orion_cpu_fiber_exit", "void", ("%ctx", "ptr"), ("%t", "i32"))
            self.do("unreachable")
            return
        result, _ = function_type(self.function.signature())
        if result == "void":
            self.do("ret void")
        else:
            self.do(f"ret {result} {self.emit(f'load {result}, ptr %ret')}")
