# SPDX-License-Identifier: Apache-2.0
"""One kernel's LLVM module: its regions, the functions it calls, its tables, as IR text."""

from __future__ import annotations

from dataclasses import dataclass

from .emit.device import DeviceEmitter, FiberEmitter, function_type
from .emit.function import FunctionEmitter, Value
from .emit.kernel import RegionEmitter
from .emit.special import special_register
from .errors import PtxError
from .flow import WAITS, Graph
from .index import Module
from .layout import FLAG_FIBERS, FUNCTION_TAG, KERNEL_MAGIC
from .model import Body, Function, Signature, Sym
from .regions import SyncPoint, add_loop_waits, describe, make_plan

# Regions copy the code that is reachable from them; beyond so many instructions fibers are the better way.
MAX_REGION_CODE = 60_000
# Local memory of a thread: CUDA's limit, and what may lie on the OS thread's stack.
MAX_LOCAL = 512 << 10
STACK_LOCAL = 16 << 10

_METADATA = """
attributes #0 = { nounwind "frame-pointer"="none" }
attributes #1 = { nounwind noinline }
!0 = !{}
!1 = !{i32 1, i32 1025}
!2 = distinct !{!2, !"orion"}
!3 = distinct !{!3, !2, !"slots"}
!4 = distinct !{!4, !2, !"shared"}
!5 = distinct !{!5, !2, !"global"}
!10 = !{!3}
!11 = !{!4}
!12 = !{!5}
!14 = !{!4, !5}
!15 = !{!3, !5}
!16 = !{!3, !4}
!17 = !{!3}
!18 = !{!3, !4, !5}
!20 = distinct !{!20, !22}
!22 = !{!"llvm.loop.vectorize.enable", i1 false}
"""


@dataclass
class Facts:
    """What the C side and the cache must know besides the code."""

    flags: int = 0
    regions: int = 1
    slot_bytes: int = 0
    local_bytes: int = 0
    vectorise: bool = False


class Unit:
    """Collects the pieces of one kernel."""

    def __init__(self, module: Module, kernel: str, fibers: bool = False) -> None:
        self.module = module
        self.kernel = module.functions[kernel]
        self.declarations: dict[str, str] = {}
        self.texts: list[str] = []
        self.sync: list[SyncPoint] = [SyncPoint()]
        self.facts = Facts()
        self.wanted: list[str] = []  # functions still to be emitted
        self.known: set[str] = set()
        self.tables: dict[Signature, str] = {}
        self.shared_offsets, self.static_shared = module.shared_layout(self.kernel)
        self.fibers = fibers or self._waits_in_calls()

    # --- what is called ---

    def reached(self) -> list[str]:
        """Functions that the kernel may call, directly or through a pointer, in order of discovery."""
        found: list[str] = []
        queue = [self.kernel.name]
        seen = set(queue)
        indirect = False
        while queue:
            body = self.module.body(queue.pop())
            names = {r for r in body.references if r in self.module.functions}
            if not indirect and any(
                not isinstance(c, str) and c.call is not None and not isinstance(c.call.target, str)
                for c in body.code
            ):
                indirect = True
                names.update(self.module.taken())
            for name in sorted(names - seen):
                seen.add(name)
                if not self.module.functions[name].entry:
                    found.append(name)
                    queue.append(name)
        return found

    def _waits_in_calls(self) -> bool:
        body = self.module.body(self.kernel.name)
        if not any(not isinstance(c, str) and c.call is not None for c in body.code):
            return False
        return any(self._needs_stack(name) for name in self.reached())

    def _needs_stack(self, name: str) -> bool:
        """Whether a called function may leave its thread in the middle."""
        body = self.module.body(name)
        if any(
            not isinstance(item, str) and item.op in (*WAITS, "exit", "nanosleep")
            for item in body.code
        ):
            return True
        return add_loop_waits(Graph(body, name, waits=False), spin_only=True)

    # --- emission ---

    def write(self) -> str:
        """The whole LLVM module as text."""
        body = self.module.body(self.kernel.name)
        graph = Graph(body, self.kernel.name, waits=not self.fibers)
        if not self.fibers:
            add_loop_waits(graph)
        params = {p.name for p in self.kernel.params}
        plan = make_plan(graph, params)
        if (
            sum(len(graph.blocks[i].code) for r in plan.regions for i in r.order) > MAX_REGION_CODE
            and plan.waits
        ):
            self.fibers = True
            graph = Graph(body, self.kernel.name, waits=False)
            plan = make_plan(graph, params)
        if self.fibers:
            add_loop_waits(graph, spin_only=True)
            plan.regions[0].order = graph.order
        slices, local_bytes = self._place_locals(body, self.kernel.name)
        if self.fibers:
            self.facts.flags |= FLAG_FIBERS
            self.facts.local_bytes = local_bytes
            emitter = FiberEmitter(self, graph, self.kernel.name, plan, plan.regions[0])
            emitter.slices = slices
            self.texts.append(emitter.write())
        else:
            keep = local_bytes > (0 if len(plan.regions) > 1 else STACK_LOCAL)
            self.sync = [SyncPoint()]
            for region in plan.regions[1:]:
                end = next(graph.blocks[b].end for b, n in plan.waits.items() if n == region.number)
                self.sync.append(describe(region.ins, getattr(end, "spin", False)))
            self.facts.slot_bytes = plan.slot_bytes
            self.facts.local_bytes = local_bytes if keep else 0
            for region in plan.regions:
                regional = RegionEmitter(self, graph, self.kernel.name, plan, region)
                regional.slices = slices if keep else None
                regional.local_bytes = self.facts.local_bytes
                self.texts.append(regional.write())
            self.facts.regions = len(plan.regions)
        while self.wanted:
            name = self.wanted.pop()
            device = self.module.functions[name]
            self._place_locals(self.module.body(name), name)
            called = Graph(self.module.body(name), name, waits=False)
            if self.fibers:
                add_loop_waits(called, spin_only=True)
            self.texts.append(DeviceEmitter(self, called, device).write())
        if self.fibers:
            self.facts.regions = len(self.sync)
        self._tables()
        return "\n".join(
            [*sorted(self.declarations.values()), *self.texts, self._descriptor(), _METADATA]
        )

    def _place_locals(self, body: Body, name: str) -> tuple[dict[str, int], int]:
        """Offsets of the .local variables in a thread's slice, and its size."""
        offsets: dict[str, int] = {}
        size = 0
        for variable_name, variable in body.variables.items():
            if variable.space == "local":
                align = max(variable.align, 8)
                size = (size + align - 1) & -align
                offsets[variable_name] = size
                size += variable.size
        if size > MAX_LOCAL:
            raise PtxError(
                f"{name}: {size} bytes of local memory for a thread; {MAX_LOCAL} is the limit"
            )
        return offsets, (size + 15) & -16

    def _descriptor(self) -> str:
        """The constant struct orion_cpu_kernel."""
        count = self.facts.regions
        entries = (
            ", ".join(["ptr @r0"] * count)
            if self.fibers
            else ", ".join(f"ptr @r{i}" for i in range(count))
        )
        points = ", ".join(
            f"[8 x i32] [i32 {int(p.kind)}, i32 {p.op}, i32 {p.fixed}, "
            + ", ".join(f"i32 {v - (1 << 32) if v >> 31 else v}" for v in p.imm)
            + ", i32 0]"
            for p in self.sync
        )
        param_bytes = max((p.offset + p.size for p in self.kernel.params), default=0)
        numbers = (
            KERNEL_MAGIC,
            self.facts.flags,
            count,
            self.facts.slot_bytes,
            self.facts.local_bytes,
            self.static_shared,
            param_bytes,
            self.kernel.max_threads,
        )
        kernel_type = "{ " + ", ".join(["i32"] * 8) + ", ptr, ptr }"
        return "\n".join(
            [
                f"@entries = internal constant [{count} x ptr] [{entries}]",
                f"@points = internal constant [{count} x [8 x i32]] [{points}], align 8",
                f"@orion_kernel = constant {kernel_type} {{ "
                + ", ".join(f"i32 {n}" for n in numbers)
                + ", ptr @entries, ptr @points }, align 8",
            ]
        )

    # --- services for emitters ---

    def declare(self, name: str, text: str) -> None:
        self.declarations.setdefault(name, text)

    def special(self, f: FunctionEmitter, name: str) -> Value:
        return special_register(f, name)

    def address_of(self, f: FunctionEmitter, symbol: Sym) -> Value:
        """The value of a symbol in an instruction: shared variables are offsets, all others addresses."""
        name, offset = symbol.name, symbol.offset
        if f.in_kernel and name in f.kernel_params:
            base = f.early("params64", f"ptrtoint ptr {f.field('params')} to i64")
            offset += f.kernel_params[name]
            return f.early(f"params64+{offset}", f"add i64 {base}, {offset}"), "i64"
        if (
            name in f.objects
            or name in f.body.params
            or (f.slices is not None and name in f.slices)
        ):
            return self._object_address(f, name, offset)
        if name in self.shared_offsets:
            return str(self.shared_offsets[name] + offset), "i64"
        place = self.module.data.variables.get(name)
        if place is not None:
            base = f.field("module_base")
            return f.early(f"{name}+{offset}", f"add i64 {base}, {place[0] + offset}"), "i64"
        if name in self.module.functions:
            return str(FUNCTION_TAG + self.module.ordinals[name]), "i64"
        if name in f.body.variables and f.body.variables[name].space == "local":
            return self._object_address(f, name, offset)
        raise f.unsupported(f"reference to `{name[:80]}`, which has no memory here")

    @staticmethod
    def _object_address(f: FunctionEmitter, name: str, offset: int) -> Value:
        address = f.emit(f"ptrtoint ptr {f.object_pointer(name)} to i64")
        return (f.emit(f"add i64 {address}, {offset}") if offset else address), "i64"

    def want(self, name: str) -> str:
        """The LLVM name of a called function."""
        if name not in self.known:
            self.known.add(name)
            self.wanted.append(name)
        return f"@f{self.module.ordinals[name]}"

    def table(self, signature: Signature) -> tuple[str, int]:
        """The table of functions of a signature, by ordinal; others are null."""
        count = len(self.module.functions)
        if signature not in self.tables:
            self.tables[signature] = f"@table{len(self.tables)}"
            for name in self.module.taken():
                if self.module.functions[name].signature() == signature:
                    self.want(name)
        return self.tables[signature], count

    def _tables(self) -> None:
        names = list(self.module.functions)
        taken = set(self.module.taken()) if self.tables else set()
        for signature, table in self.tables.items():
            rows = ", ".join(
                f"ptr @f{i}"
                if name in taken and self.module.functions[name].signature() == signature
                else "ptr null"
                for i, name in enumerate(names)
            )
            self.texts.append(f"{table} = internal constant [{len(names)} x ptr] [{rows}]")


def check_known(module: Module, kernel: str) -> Function:
    function = module.functions.get(kernel)
    if function is None or not function.entry:
        raise PtxError(f"no kernel named {kernel[:200]}")
    return function


__all__ = ["Facts", "Unit", "check_known", "function_type"]
