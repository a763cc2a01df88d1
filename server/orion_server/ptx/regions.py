# SPDX-License-Identifier: Apache-2.0
"""Splits a kernel at its waits and decides what each thread keeps across them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .flow import Exit, Graph, Wait, bits, defined, registers_in, used
from .layout import LEGACY, OPERATIONS, Sync
from .loops import find_loops
from .model import BITS, Imm, Instruction, Mem, Operand, Reg, Special, Sym, Vec
from .opcodes import OPS, destinations

# A register is computed again rather than kept when that takes at most so many instructions.
REMAT_COST = 24
_VARYING = frozenset(
    ("%clock", "%clock_hi", "%clock64", "%globaltimer", "%globaltimer_lo", "%globaltimer_hi")
)
# Loops that hold no other loop and load global memory go trip by trip through all threads of the block.
_POLLS = frozenset(("volatile", "acquire", "relaxed"))


@dataclass
class SyncPoint:
    """One entry of the kernel's sync table."""

    kind: Sync = Sync.START
    op: int = 0
    fixed: int = 0
    imm: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    args: list[Operand | None] = field(default_factory=lambda: [None, None, None, None])
    results: list[Reg] = field(default_factory=list)
    predicate: int = -1  # the argument that is a predicate
    wide: bool = False  # arguments 0 and 1 are the halves of one 64-bit value


@dataclass
class Region:
    """Entered when the wait `number` is over (0: at the start)."""

    number: int
    block: int
    ins: Instruction | None
    order: list[int]
    live_in: int


@dataclass
class Plan:
    """How a kernel is cut up."""

    regions: list[Region]
    waits: dict[int, int]  # block that ends in a wait -> region that follows
    remat: dict[int, Instruction]
    constants: dict[int, Imm]
    columns: dict[int, tuple[int, int]]  # register -> byte offset per thread, width
    slot_bytes: int


def single_definitions(graph: Graph) -> dict[int, Instruction]:
    """Registers with exactly one definition in the reachable code."""
    found: dict[int, Instruction] = {}
    several = set()
    for index in graph.order:
        block = graph.blocks[index]
        code = block.code
        if isinstance(block.end, Wait) and block.end.ins is not None:
            code = [*code, block.end.ins]
        for ins in code:
            for reg in defined(ins, graph.carry):
                if reg.index in found:
                    several.add(reg.index)
                found[reg.index] = ins
    for index in several:
        del found[index]
    return found


def constants_of(single: dict[int, Instruction]) -> dict[int, Imm]:
    """Registers that are just a name for a number."""
    return {
        index: ins.operands[1]
        for index, ins in single.items()
        if ins.op == "mov" and len(ins.operands) == 2 and isinstance(ins.operands[1], Imm)
    }


def _is_param_load(ins: Instruction, names: set[str]) -> bool:
    address = ins.operands[1]
    return (
        ins.op == "ld"
        and "param" in ins.parts
        and isinstance(address, Mem)
        and isinstance(address.base, Sym)
        and address.base.name in names
    )


def rematerialisable(
    graph: Graph, single: dict[int, Instruction], params: set[str]
) -> dict[int, Instruction]:
    """Registers that are cheap pure functions of parameters, thread and block index."""
    cost: dict[int, int] = {}
    start_live = graph.blocks[0].live_in
    for index in graph.order:
        for ins in graph.blocks[index].code:
            if not ins.operands or "cc" in ins.parts or not (OPS[ins.op].pure or ins.op == "ld"):
                continue
            target = ins.operands[0]
            if isinstance(target, Vec) or any(isinstance(o, Vec) for o in ins.operands):
                continue
            if ins.op == "ld" and not _is_param_load(ins, params):
                continue
            if any(isinstance(o, Special) and o.name in _VARYING for o in ins.operands[1:]):
                continue
            total = 1
            for reg in used(ins, graph.carry):
                total += cost.get(reg.index, 1000)
            if total > REMAT_COST:
                continue
            for reg in registers_in(target):
                if single.get(reg.index) is ins and not start_live >> reg.index & 1:
                    cost[reg.index] = total
    return {index: single[index] for index in cost}


def add_loop_waits(graph: Graph, spin_only: bool = False) -> bool:
    """Puts a wait on the back edges of loops whose threads should advance together, or must let others run.

    Returns whether any loop may poll.
    """
    loops = find_loops(graph)
    polling = False
    uses: dict[int, int] = {}
    for index in graph.order:
        for ins in graph.blocks[index].code:
            for reg in used(ins, None):
                uses[reg.index] = uses.get(reg.index, 0) + 1
        end = graph.blocks[index].end
        if isinstance(end, Wait) and end.ins is not None:
            for reg in used(end.ins, None):
                uses[reg.index] = uses.get(reg.index, 0) + 1
    for head, (members, sources) in loops.items():
        inner = [h for h in loops if h != head and h in members]
        nested: set[int] = set()
        for other in inner:
            nested |= loops[other][0]
        own = members - nested
        spin = any(_polls(graph, b, uses) for b in own)
        polling |= spin
        waits = any(isinstance(graph.blocks[b].end, Wait) for b in members)
        loads = not spin_only and not inner and any(_loads_global(graph, b) for b in members)
        if waits or not (spin or loads):
            continue
        for source in sources:
            _split_edge(graph, source, head, spin)
    graph.order = graph.order_from(0, through_waits=True)
    return polling


def _polls(graph: Graph, index: int, uses: dict[int, int]) -> bool:
    for ins in graph.blocks[index].code:
        if ins.op == "ld" and _POLLS.intersection(ins.parts):
            return True
        if ins.op == "atom" and any(uses.get(r.index) for r in registers_in(ins.operands[0])):
            return True
    return False


def _loads_global(graph: Graph, index: int) -> bool:
    return any(
        ins.op == "ld" and not {"param", "shared", "local", "const"}.intersection(ins.parts)
        for ins in graph.blocks[index].code
    )


def _split_edge(graph: Graph, source: int, head: int, spin: bool) -> None:
    middle = graph.add_block()
    middle.end = Wait(None, head, spin)
    graph.redirect(source, head, middle.index)


def outcomes(graph: Graph, region: Region, waits: dict[int, int], done: int) -> set[int]:
    """Where threads can be when the region returns."""
    found = set()
    for index in region.order:
        end = graph.blocks[index].end
        if isinstance(end, Wait) and index in waits:
            found.add(waits[index])
        elif isinstance(end, Exit):
            found.add(done)
    return found


def make_plan(graph: Graph, params: set[str]) -> Plan:
    """Cuts the graph into regions. Waits must be in place."""
    graph.liveness()
    single = single_definitions(graph)
    constants = constants_of(single)
    remat = rematerialisable(graph, single, params)
    regions = [Region(0, 0, None, graph.order_from(0, False), graph.blocks[0].live_in)]
    waits: dict[int, int] = {}
    by_loop_head: dict[tuple[int, bool], int] = {}
    kept = 0
    for index in graph.order:
        end = graph.blocks[index].end
        if not isinstance(end, Wait):
            continue
        key = (end.next, end.spin)
        if end.ins is None and key in by_loop_head:
            waits[index] = by_loop_head[key]
            continue
        number = len(regions)
        waits[index] = number
        if end.ins is None:
            by_loop_head[key] = number
        live = graph.blocks[end.next].live_in
        if end.ins is not None:
            for reg in defined(end.ins, graph.carry):
                live &= ~(1 << reg.index)
        regions.append(Region(number, end.next, end.ins, graph.order_from(end.next, False), live))
        kept |= live
    columns: dict[int, tuple[int, int]] = {}
    offset = 0
    keep = [i for i in bits(kept) if i not in remat and i not in constants]
    widths = {i: max(BITS[graph.body.registers[i].type] // 8, 1) for i in keep}
    for index in sorted(keep, key=lambda i: -widths[i]):
        columns[index] = (offset, widths[index])
        offset += widths[index]
    return Plan(regions, waits, remat, constants, columns, (offset + 15) & -16)


def describe(ins: Instruction | None, spin: bool = False) -> SyncPoint:
    """The sync table entry of a wait; argument values that are immediate are filled in later."""
    if ins is None:
        return SyncPoint(Sync.SPIN if spin else Sync.LOOP)
    parts, operands = ins.parts, ins.operands
    results = [r for o in operands[: destinations(ins)] for r in registers_in(o)]
    point = SyncPoint(results=results)
    legacy = 0 if "sync" in parts else LEGACY
    if ins.op in ("bar", "barrier"):
        return _describe_barrier(ins, point)
    mask: Operand | None = operands[-1] if not legacy else Imm(0xFFFFFFFF)
    if ins.op == "shfl":
        mode = next(p for p in parts if p in OPERATIONS[Sync.SHUFFLE])
        point.kind, point.op = Sync.SHUFFLE, OPERATIONS[Sync.SHUFFLE].index(mode) | legacy
        point.args = [operands[1], operands[2], operands[3], mask]
    elif ins.op == "vote":
        mode = next(p for p in parts if p in OPERATIONS[Sync.VOTE])
        point.kind, point.op = Sync.VOTE, OPERATIONS[Sync.VOTE].index(mode) | legacy
        point.args = [operands[1], Imm(0), Imm(0), mask]
        point.predicate = 0
    elif ins.op == "match":
        point.kind, point.op = Sync.MATCH, 0 if "any" in parts else 1
        point.args = [operands[1], Imm(0), Imm(0), mask]
        if "b64" in parts:
            point.args[1] = operands[1]
            point.wide = True
    elif ins.op == "redux":
        name = next(p for p in parts if p in ("add", "min", "max", "and", "or", "xor"))
        if name in ("min", "max"):
            name = ("s" if "s32" in parts else "u") + name
        point.kind, point.op = Sync.REDUX, OPERATIONS[Sync.REDUX].index(name)
        point.args = [operands[1], Imm(0), Imm(0), mask]
    elif ins.op == "activemask":
        point.kind = Sync.ACTIVE
        point.args = [Imm(0), Imm(0), Imm(0), Imm(0xFFFFFFFF)]
    else:
        point.kind = Sync.ELECT
        point.args = [Imm(0), Imm(0), Imm(0), mask]
    return point


def _describe_barrier(ins: Instruction, point: SyncPoint) -> SyncPoint:
    parts, operands = ins.parts, ins.operands
    if "warp" in parts:
        point.kind = Sync.WARP
        point.args = [Imm(0), Imm(0), Imm(0), operands[0]]
        point.results = []
    elif "red" in parts:
        point.kind = Sync.BARRIER_RED
        point.op = next(i for i, n in enumerate(OPERATIONS[Sync.BARRIER_RED]) if n in parts)
        count: Operand = operands[2] if len(operands) > 3 else Imm(0)
        point.args = [operands[1], count, operands[-1], Imm(0)]
        point.predicate = 2
    else:
        point.kind = Sync.ARRIVE if "arrive" in parts else Sync.BARRIER
        count = operands[1] if len(operands) > 1 else Imm(0)
        point.args = [operands[0], count, Imm(0), Imm(0)]
        point.results = []
    return point
