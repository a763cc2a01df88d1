# SPDX-License-Identifier: Apache-2.0
"""Control flow of one function: basic blocks, liveness, loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .errors import PtxError
from .model import Body, Instruction, Mem, Not, Operand, Pair, Reg, Sym, Vec
from .opcodes import destinations

# Instructions at which a thread may have to wait for others.
WAITS = frozenset(("bar", "barrier", "shfl", "vote", "match", "redux", "activemask", "elect"))
CARRY_IN = frozenset(("addc", "subc", "madc"))


@dataclass(slots=True)
class Jump:
    target: int


@dataclass(slots=True)
class Branch:
    pred: Reg
    negated: bool
    true: int
    false: int


@dataclass(slots=True)
class Switch:
    index: Operand
    targets: list[int]


@dataclass(slots=True)
class Exit:
    """ret or exit; `thread` when the whole thread ends."""

    thread: bool


@dataclass(slots=True)
class Dead:
    """Control never gets here: behind trap."""


@dataclass(slots=True)
class Wait:
    """The thread waits at `ins` (None: a loop trip; `spin` when the loop may poll) and goes on at `next`."""

    ins: Instruction | None
    next: int
    spin: bool = False


Terminator = Jump | Branch | Switch | Exit | Dead | Wait


@dataclass
class Block:
    """A straight run of instructions."""

    index: int
    code: list[Instruction] = field(default_factory=list)
    end: Terminator = field(default_factory=Dead)
    use: int = 0  # bit sets of register indices
    define: int = 0
    live_in: int = 0
    live_out: int = 0


def successors(block: Block) -> list[int]:
    end = block.end
    if isinstance(end, Branch):
        return [end.true, end.false]
    if isinstance(end, Jump):
        return [end.target]
    if isinstance(end, Switch):
        return end.targets
    if isinstance(end, Wait):
        return [end.next]
    return []


def registers_in(operand: Operand) -> Iterator[Reg]:
    if isinstance(operand, Reg):
        yield operand
    elif isinstance(operand, Mem):
        if isinstance(operand.base, Reg):
            yield operand.base
    elif isinstance(operand, Vec):
        for item in operand.items:
            yield from registers_in(item)
    elif isinstance(operand, Pair):
        yield from registers_in(operand.first)
        yield from registers_in(operand.second)
    elif isinstance(operand, Not):
        yield operand.item


def defined(ins: Instruction, carry: Reg | None) -> list[Reg]:
    found: list[Reg] = []
    for operand in ins.operands[: destinations(ins)]:
        found.extend(registers_in(operand))
    if carry is not None and "cc" in ins.parts:
        found.append(carry)
    return found


def used(ins: Instruction, carry: Reg | None) -> list[Reg]:
    found: list[Reg] = []
    for operand in ins.operands[destinations(ins) :]:
        found.extend(registers_in(operand))
    if ins.call is not None:
        if isinstance(ins.call.target, Reg):
            found.append(ins.call.target)
        for operand in ins.call.args:
            found.extend(registers_in(operand))
    if carry is not None and ins.op in CARRY_IN:
        found.append(carry)
    return found


def bits(mask: int) -> Iterator[int]:
    """The set bits of a mask, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Graph:
    """The control flow graph of a function; block 0 is the start."""

    def __init__(self, body: Body, name: str, waits: bool) -> None:
        self.name = name
        self.body = body
        self.blocks: list[Block] = []
        self.carry = next((r for r in body.registers if r.name == "%cc"), None)
        self._build(waits)
        self._reach()

    def _new(self) -> Block:
        block = Block(len(self.blocks))
        self.blocks.append(block)
        return block

    def _build(self, waits: bool) -> None:
        labels: dict[str, int] = {}
        current: Block | None = self._new()
        pending: list[tuple[Block, list[str]]] = []
        for item in self.body.code:
            if isinstance(item, str):
                block = self._new()
                if current is not None:
                    current.end = Jump(block.index)
                labels[item] = block.index
                current = block
                continue
            if current is None:
                current = self._new()
            if item.guard is not None and item.op != "bra":
                # Any predicated instruction becomes a branch around it; LLVM makes selects where they pay.
                inside = self._new()
                skip = Branch(item.guard, item.negated, inside.index, -1)
                current.end = skip
                current = self._place(item, inside, pending, waits)
                after = self._new()
                skip.false = after.index
                if current is not None:
                    current.end = Jump(after.index)
                current = after
                continue
            current = self._place(item, current, pending, waits)
        if current is not None:
            current.end = Exit(False)
        for block, names in pending:
            self._link(block, [self._target(n, labels) for n in names])

    def _place(
        self, ins: Instruction, block: Block, pending: list[tuple[Block, list[str]]], waits: bool
    ) -> Block | None:
        """Adds an instruction; returns the block in which the next one goes, or None after a jump."""
        op = ins.op
        if op == "bra":
            target = ins.operands[0]
            if not isinstance(target, Sym):
                raise PtxError(f"{self.name}: a branch needs a label")
            if ins.guard is None:
                block.end = Jump(-1)
                pending.append((block, [target.name]))
                return None
            after = self._new()
            block.end = Branch(ins.guard, ins.negated, -1, after.index)
            pending.append((block, [target.name]))
            return after
        if op == "brx":
            names = ins.operands[1]
            if not isinstance(names, Sym):
                raise PtxError(f"{self.name}: brx.idx needs a table of labels")
            targets = next(
                (self.body.targets[n] for n in names.name.split("|") if n in self.body.targets),
                None,
            )
            targets = targets or self.body.targets.get(names.name.rsplit("|", 1)[-1], [])
            block.end = Switch(ins.operands[0], [])
            pending.append((block, targets))
            return None
        if op in ("ret", "exit"):
            block.end = Exit(op == "exit")
            return None
        if op == "trap":
            block.code.append(ins)
            block.end = Dead()
            return None
        if waits and (op in WAITS or (op == "nanosleep")):
            after = self._new()
            block.end = (
                Wait(ins, after.index) if op != "nanosleep" else Wait(None, after.index, True)
            )
            return after
        block.code.append(ins)
        return block

    def _target(self, name: str, labels: dict[str, int]) -> int:
        for candidate in name.split("|"):
            if candidate in labels:
                return labels[candidate]
        base = name.split("|")[0].split("#")[0]
        # A label of a scope that is already closed cannot be meant; but be kind to a unique one.
        matching = [v for k, v in labels.items() if k.split("#")[0] == base]
        if len(matching) == 1:
            return matching[0]
        raise PtxError(f"{self.name}: branch to `{base[:60]}`, which is not defined")

    def _link(self, block: Block, targets: list[int]) -> None:
        end = block.end
        if isinstance(end, Jump):
            end.target = targets[0]
        elif isinstance(end, Branch):
            end.true = targets[0]
        elif isinstance(end, Switch):
            end.targets = targets

    def add_block(self) -> Block:
        return self._new()

    def redirect(self, source: int, old: int, new: int) -> None:
        """Makes the edges from a block to `old` lead to `new`."""
        end = self.blocks[source].end
        if isinstance(end, Jump):
            end.target = new if end.target == old else end.target
        elif isinstance(end, Branch):
            end.true = new if end.true == old else end.true
            end.false = new if end.false == old else end.false
        elif isinstance(end, Switch):
            end.targets[:] = [new if t == old else t for t in end.targets]
        elif isinstance(end, Wait) and end.next == old:
            end.next = new

    # --- order and liveness ---

    def _reach(self) -> None:
        """Reverse postorder of the reachable blocks."""
        self.order = self.order_from(0, through_waits=True)

    def order_from(self, start: int, through_waits: bool) -> list[int]:
        """Reverse postorder from a block; waits end a region unless `through_waits`."""
        seen = {start}
        post: list[int] = []
        stack: list[tuple[int, Iterator[int]]] = [(start, iter(self._next(start, through_waits)))]
        while stack:
            index, rest = stack[-1]
            for follower in rest:
                if follower not in seen:
                    seen.add(follower)
                    stack.append((follower, iter(self._next(follower, through_waits))))
                    break
            else:
                post.append(index)
                stack.pop()
        post.reverse()
        return post

    def _next(self, index: int, through_waits: bool) -> list[int]:
        block = self.blocks[index]
        if isinstance(block.end, Wait) and not through_waits:
            return []
        return successors(block)

    def liveness(self) -> None:
        """Fills use, define, live_in and live_out of each reachable block."""
        for index in self.order:
            block = self.blocks[index]
            use = define = 0
            for ins in block.code:
                for reg in used(ins, self.carry):
                    if not define >> reg.index & 1:
                        use |= 1 << reg.index
                for reg in defined(ins, self.carry):
                    define |= 1 << reg.index
            extra: Iterable[Reg] = ()
            if isinstance(block.end, Branch):
                extra = (block.end.pred,)
            elif isinstance(block.end, Switch):
                extra = registers_in(block.end.index)
            elif isinstance(block.end, Wait) and block.end.ins is not None:
                extra = used(block.end.ins, self.carry)
            for reg in extra:
                if not define >> reg.index & 1:
                    use |= 1 << reg.index
            if isinstance(block.end, Wait) and block.end.ins is not None:
                for reg in defined(block.end.ins, self.carry):
                    define |= 1 << reg.index
            block.use, block.define = use, define
        changed = True
        while changed:
            changed = False
            for index in reversed(self.order):
                block = self.blocks[index]
                out = 0
                for follower in successors(block):
                    out |= self.blocks[follower].live_in
                live = block.use | (out & ~block.define)
                if out != block.live_out or live != block.live_in:
                    block.live_out, block.live_in = out, live
                    changed = True
