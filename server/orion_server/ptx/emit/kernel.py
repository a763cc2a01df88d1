# SPDX-License-Identifier: Apache-2.0
"""Emits the region functions of a kernel: a loop over threads around the code from one wait to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..flow import Block, Exit, Graph, Wait, bits, defined, used
from ..layout import DONE, MIXED, Sync
from ..model import BITS, Reg
from ..regions import Plan, Region, SyncPoint, outcomes
from .function import FunctionEmitter
from .values import int_literal

if TYPE_CHECKING:
    from ..unit import Unit

NO_ALIAS_SLOTS = ", !alias.scope !10, !noalias !14"


def slot_type(reg: Reg) -> str:
    return f"i{max(BITS[reg.type], 8)}"


class RegionEmitter(FunctionEmitter):
    """One region of a kernel as `i32 @r<number>(ctx, t0, lo, hi, y, z)`."""

    in_kernel = True

    def __init__(self, unit: Unit, graph: Graph, name: str, plan: Plan, region: Region) -> None:
        super().__init__(unit, graph, name)
        self.plan = plan
        self.region = region
        self.constants = plan.constants
        self.kernel_params = {p.name: p.offset for p in unit.kernel.params}
        self.ends = outcomes(graph, region, plan.waits, DONE)
        self.loaded: set[int] = set()
        self.touched = 0  # registers that the region's code names

    def write(self) -> str:
        region = self.region
        results = self.unit.sync[region.number].results
        self.touched = 0
        for block in region.order:
            self.touched |= self.graph.blocks[block].use | self.graph.blocks[block].define
        for index in bits(region.live_in & self.touched):
            if index in self.plan.remat:
                self._collect(index)
        self.assign_storage(region.order, region.live_in, results)
        self._enter(results)
        self.do(f"br label %B{region.block}")
        self.blocks(region.order)
        return self._wrap()

    # --- entering: bring back what lives across the wait ---

    def _collect(self, index: int) -> None:
        """Marks a register and what it is computed from as computed up front."""
        if index in self.fixed or index in self.constants:
            return
        self.fixed.add(index)
        ins = self.plan.remat[index]
        for reg in (*used(ins, None), *defined(ins, None)):
            if reg.index in self.plan.remat:
                self._collect(reg.index)

    def _enter(self, results: list[Reg]) -> None:
        self.do("%t = add nuw nsw i32 %t0, %x")
        self.do("%t64 = zext i32 %t to i64")
        done: set[int] = set()
        for index in bits(self.region.live_in):
            if not self.touched >> index & 1:
                self.loaded.add(index)  # only passes through: its column keeps it
            elif index in self.fixed:
                self._recompute(index, done)
            elif index not in self.constants:
                reg = self.body.registers[index]
                if self.region.number == 0:
                    self.set(reg, "false" if reg.type == "pred" else "0", f"i{BITS[reg.type]}")
                else:
                    self._load(reg)
        self._results(results)

    def _recompute(self, index: int, done: set[int]) -> None:
        if index in done:
            return
        done.add(index)
        ins = self.plan.remat[index]
        for reg in used(ins, None):
            if reg.index in self.fixed:
                self._recompute(reg.index, done)
        if index not in self.values:
            self.instruction(ins)

    def _column(self, reg: Reg) -> str:
        offset, width = self.plan.columns[reg.index]
        base = self.early(
            f"column{offset}",
            f"getelementptr inbounds i8, ptr {self.field('slots')}, i64 {self._scaled_stride(offset)}",
        )
        return self.emit(f"getelementptr inbounds i{8 * width}, ptr {base}, i64 %t64")

    def _scaled_stride(self, offset: int) -> str:
        stride = self.early("stride64", f"zext i32 {self.field('stride')} to i64")
        return self.early(f"stride*{offset}", f"mul nuw nsw i64 {stride}, {offset}")

    def _load(self, reg: Reg) -> None:
        type_ = slot_type(reg)
        align = self.plan.columns[reg.index][1]
        name = self.emit(f"load {type_}, ptr {self._column(reg)}, align {align}{NO_ALIAS_SLOTS}")
        if reg.type == "pred":
            name, type_ = self.emit(f"trunc i8 {name} to i1"), "i1"
        self.set(reg, name, type_)
        if reg.index in self.values:
            self.loaded.add(reg.index)

    def _results(self, results: list[Reg]) -> None:
        if not results:
            return
        point = self.unit.sync[self.region.number]
        arrays = ["result", "result_pred"]
        if point.kind == Sync.ELECT and len(results) == 1:
            arrays = ["result_pred"]
        for reg, array in zip(results, arrays, strict=False):
            name = self.emit(f"load i32, ptr {self.thread_slot(array, 4)}, align 4{NO_ALIAS_SLOTS}")
            if reg.type == "pred":
                self.set(reg, self.emit(f"icmp ne i32 {name}, 0"), "i1")
            else:
                self.set(reg, name, "i32")

    # --- leaving ---

    def _leave(self, next_: int) -> None:
        if len(self.ends) > 1:
            self.do(
                f"store i32 {next_}, ptr {self.thread_slot('next', 4)}, align 4{NO_ALIAS_SLOTS}"
            )
        self.do("br label %next")

    def exit(self, end: Exit) -> None:
        self._leave(DONE)

    def wait(self, block: Block, end: Wait) -> None:
        number = self.plan.waits[block.index]
        store_arguments(self, self.unit.sync[number])
        target = next(r for r in self.plan.regions if r.number == number)
        for index in bits(target.live_in):
            if index in self.plan.remat or index in self.constants:
                continue
            reg = self.body.registers[index]
            if index in self.loaded:
                continue  # unchanged since it was loaded
            type_ = slot_type(reg)
            value = (
                self.emit(f"zext i1 {self.use(reg, 'i1')} to i8")
                if reg.type == "pred"
                else self.use(reg, type_)
            )
            align = self.plan.columns[index][1]
            self.do(
                f"store {type_} {value}, ptr {self._column(reg)}, align {align}{NO_ALIAS_SLOTS}"
            )
        self._leave(number)

    def _vectorises(self) -> bool:
        """Whether LLVM should try to run threads side by side: straight code with much arithmetic on shared memory.

        Guarded stores and short regions lose by it, and it doubles the time to compile.
        """
        if len(self.region.order) != 1:
            return False
        code = self.graph.blocks[self.region.order[0]].code
        shared = sum(ins.op == "ld" and "shared" in ins.parts for ins in code)
        sums = sum(
            ins.op in ("fma", "mul", "add", "mad") and ins.parts[-1] in ("f32", "f64", "s32", "u32")
            for ins in code
        )
        return shared >= 8 and sums >= 8

    def _wrap(self) -> str:
        returned = self.ends.pop() if len(self.ends) == 1 else MIXED
        loop = ""
        if self._vectorises():
            self.unit.facts.vectorise = True
        else:
            loop = ", !llvm.loop !20"
        return "\n".join(
            [
                f"define internal i32 @r{self.region.number}(ptr noalias nonnull %ctx, i32 %t0, i32 %lo, i32 %hi, "
                "i32 %ty, i32 %tz) #0 {",
                "entry:",
                *self.prologue,
                "  br label %thread",
                "thread:",
                "  %x = phi i32 [ %lo, %entry ], [ %x.next, %next ]",
                *self.lines,
                "next:",
                "  %x.next = add nuw nsw i32 %x, 1",
                "  %more = icmp ult i32 %x.next, %hi",
                f"  br i1 %more, label %thread, label %done{loop}",
                "done:",
                f"  ret i32 {int_literal(returned, 32)}",
                "}",
            ]
        )


def store_arguments(f: FunctionEmitter, point: SyncPoint) -> None:
    """Leaves a wait's operands where the scheduler looks: in the table if constant, else per thread."""
    for i, operand in enumerate(point.args):
        if operand is None:
            point.fixed |= 1 << i
            continue
        constant = f.constant_of(operand)
        if constant is not None:
            point.fixed |= 1 << i
            point.imm[i] = (constant >> 32 * i if point.wide and i < 2 else constant) & 0xFFFFFFFF
            continue
        if point.wide and i < 2:
            wide = f.use(operand, "i64")
            value = f.emit(f"lshr i64 {wide}, {32 * i}")
            value = f.emit(f"trunc i64 {value} to i32")
        elif point.predicate == i:
            value = f.emit(f"zext i1 {f.use(operand, 'i1')} to i32")
        else:
            value = f.use(operand, "i32")
        f.do(f"store i32 {value}, ptr {f.thread_slot(f'arg{i}', 4)}, align 4{NO_ALIAS_SLOTS}")
