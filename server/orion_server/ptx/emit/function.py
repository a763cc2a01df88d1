# SPDX-License-Identifier: Apache-2.0
"""Emits LLVM IR text for one run of basic blocks: a region of a kernel or a called function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import PtxError
from ..flow import Block, Branch, Dead, Exit, Jump, Switch, Wait, bits, defined
from ..layout import BLOCK
from ..model import BITS, Imm, Instruction, Not, Operand, Reg, Special, Sym
from ..opcodes import OPS, destinations
from .values import LLVM_BITS, int_literal, literal, value_type

if TYPE_CHECKING:
    from ..flow import Graph
    from ..unit import Unit

Value = tuple[str, str]  # name, LLVM type


class FunctionEmitter:
    """State while one LLVM function is written. Opcode handlers get it as their first argument."""

    in_kernel = False

    def __init__(self, unit: Unit, graph: Graph, name: str) -> None:
        self.unit = unit
        self.graph = graph
        self.body = graph.body
        self.name = name  # the PTX function, for messages and parameters
        self.prologue: list[str] = []
        self.lines: list[str] = []
        self.values: dict[int, Value] = {}  # registers with one definition here
        self.memory: dict[int, Value] = {}  # the others: stack slot, type
        self.fixed: set[int] = (
            set()
        )  # registers whose value was computed before their definition is met
        self.constants: dict[int, Imm] = {}
        self.slices: dict[str, int] | None = (
            None  # local variables kept in the block's memory: name -> offset
        )
        self.local_bytes = 0
        self.kernel_params: dict[str, int] = {}  # offsets in the launch's parameter block
        self.objects: dict[str, str] = {}  # .param and .local objects: pointer
        self.once: dict[str, str] = {}  # values computed in the prologue
        self.count = 0
        self.pos = 0
        self.ended = False

    # --- text ---

    def tmp(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text: str) -> str:
        """Emits an instruction with a result; returns its name."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self) -> str:
        self.count += 1
        return f"L{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")

    def early(self, key: str, text: str) -> str:
        """A value that is the same for all threads: computed once, before the loop over threads."""
        name = self.once.get(key)
        if name is None:
            self.count += 1
            name = self.once[key] = f"%e{self.count}"
            self.prologue.append(f"  {name} = {text}")
        return name

    def unsupported(self, why: str = "") -> PtxError:
        return PtxError(f"{self.name}: unsupported {why}", self.unit.module.lines.at(self.pos))

    def reject(self, ins: Instruction, why: str = "") -> PtxError:
        reason = f" ({why})" if why else ""
        return PtxError(
            f"{self.name}: unsupported instruction `{ins.form}`{reason}",
            self.unit.module.lines.at(ins.pos),
        )

    # --- the block's context ---

    def field(self, name: str) -> str:
        offset, type_ = BLOCK[name]
        if name in self.once:
            return self.once[name]
        at = self.early(f"&{name}", f"getelementptr inbounds i8, ptr %ctx, i64 {offset}")
        hint = ", !invariant.load !0"
        if name in ("ntid.x", "ntid.y", "ntid.z", "threads"):
            hint += ", !range !1"
        elif type_ == "ptr":
            hint += ", !noundef !0"
        return self.early(name, f"load {type_}, ptr {at}, align {LLVM_BITS[type_] // 8}{hint}")

    def thread_slot(self, array: str, width: int) -> str:
        """The element of this thread in a per-thread array of the context."""
        base = self.field(array)
        return self.emit(f"getelementptr inbounds i{8 * width}, ptr {base}, i64 %t64")

    def object_pointer(self, name: str) -> str:
        """Where a .local variable or a .param object of a call lies."""
        known = self.objects.get(name)
        if known is not None:
            return known
        if self.slices is not None and name in self.slices:
            bytes_ = self.unit.facts.local_bytes
            offset = self.emit(f"mul nuw nsw i64 %t64, {bytes_}")
            start = self.emit(f"getelementptr inbounds i8, ptr {self.field('local')}, i64 {offset}")
            return self.emit(f"getelementptr inbounds i8, ptr {start}, i64 {self.slices[name]}")
        size, align = self._object_size(name)
        pointer = f"%O{len(self.objects)}"
        self.prologue.append(f"  {pointer} = alloca [{max(size, 1)} x i8], align {max(align, 16)}")
        self.objects[name] = pointer
        return pointer

    def _object_size(self, name: str) -> tuple[int, int]:
        variable = self.body.variables.get(name)
        if variable is not None and variable.space == "local":
            return variable.size, variable.align
        param = self.body.params.get(name)
        if param is None:
            raise self.unsupported(f"reference to `{name[:80]}`")
        return param.size, param.align

    def thread_index(self, axis: str) -> str:
        if axis == "x":
            return "%x" if self.in_kernel else "%tx"
        return f"%t{axis}"

    # --- registers and operands ---

    def cast(self, name: str, have: str, want: str) -> str:
        """Reinterprets bits; widens with zeros or drops high bits where the sizes differ."""
        if have == want:
            return name
        have_bits, want_bits = LLVM_BITS[have], LLVM_BITS[want]
        if have[0] != "i":
            if have == "ptr":
                name = self.emit(f"ptrtoint ptr {name} to i64")
            elif want_bits == have_bits and want != "ptr":
                return self.emit(f"bitcast {have} {name} to {want}")
            else:
                name = self.emit(f"bitcast {have} {name} to i{have_bits}")
            have = f"i{have_bits}"
        if want_bits > have_bits:
            name = self.emit(f"zext {have} {name} to i{want_bits}")
        elif want_bits < have_bits:
            name = self.emit(f"trunc {have} {name} to i{want_bits}")
        if want == "ptr":
            return self.emit(f"inttoptr i64 {name} to ptr")
        if want[0] != "i":
            return self.emit(f"bitcast i{want_bits} {name} to {want}")
        return name

    def read(self, reg: Reg) -> Value:
        value = self.values.get(reg.index)
        if value is not None:
            return value
        slot = self.memory.get(reg.index)
        if slot is None:
            constant = self.constants.get(reg.index)
            if constant is not None:
                return literal(constant, f"i{BITS[reg.type]}"), f"i{BITS[reg.type]}"
            return ("false" if reg.type == "pred" else "0", f"i{BITS[reg.type]}")
        return self.emit(f"load {slot[1]}, ptr {slot[0]}"), slot[1]

    def use(self, operand: Operand, want: str) -> str:
        """The operand as a value of an LLVM type."""
        if isinstance(operand, Reg):
            constant = self.constants.get(operand.index)
            if constant is not None:
                return literal(constant, want)
            name, have = self.read(operand)
            return name if have == want else self.cast(name, have, want)
        if isinstance(operand, Imm):
            return literal(operand, want)
        if isinstance(operand, Special):
            name, have = self.unit.special(self, operand.name)
            return self.cast(name, have, want)
        if isinstance(operand, Sym):
            name, have = self.unit.address_of(self, operand)
            return self.cast(name, have, want)
        if isinstance(operand, Not):
            return self.emit(f"xor i1 {self.use(operand.item, 'i1')}, true")
        raise self.unsupported("operand")

    def set(self, operand: Operand, name: str, have: str) -> None:
        """Assigns to a register."""
        if not isinstance(operand, Reg):
            raise self.unsupported("destination")
        width = BITS[operand.type]
        if LLVM_BITS[have] != width:
            name = self.cast(name, have, f"i{width}")
            have = f"i{width}"
        slot = self.memory.get(operand.index)
        if slot is None:
            self.values[operand.index] = (name, have)
        else:
            self.do(f"store {slot[1]} {self.cast(name, have, slot[1])}, ptr {slot[0]}")

    # --- instructions and blocks ---

    def instruction(self, ins: Instruction) -> None:
        self.pos = ins.pos
        try:
            OPS[ins.op].emit(self, ins)
        except PtxError:
            raise
        except (ArithmeticError, LookupError, StopIteration, TypeError, ValueError) as error:
            # A handler met fewer or other operands or types than every valid form has.
            raise self.reject(ins, "malformed") from error

    def assign_storage(self, order: list[int], live_in: int, results: list[Reg]) -> None:
        """Registers with more than one definition in these blocks live on the stack until LLVM promotes them."""
        once = twice = 0
        for index in order:
            for ins in self.graph.blocks[index].code:
                for reg in defined(ins, self.graph.carry):
                    bit = 1 << reg.index
                    twice |= once & bit
                    once |= bit
        entering = live_in
        for reg in results:
            entering |= 1 << reg.index
        several = twice | (once & entering)
        for index in bits(several):
            if index in self.fixed or index in self.constants:
                continue
            reg = self.body.registers[index]
            type_ = value_type(reg.type) if reg.type in ("f32", "f64") else f"i{BITS[reg.type]}"
            self.prologue.append(f"  %R{index} = alloca {type_}")
            self.memory[index] = (f"%R{index}", type_)

    def blocks(self, order: list[int]) -> None:
        for index in order:
            block = self.graph.blocks[index]
            self.start(f"B{index}")
            self.ended = False
            for ins in block.code:
                if self._known(ins):
                    continue
                self.instruction(ins)
                if self.ended:
                    break
            else:
                self.terminate(block)

    def _known(self, ins: Instruction) -> bool:
        if ins.operands and isinstance(ins.operands[0], Reg) and destinations(ins) == 1:
            index = ins.operands[0].index
            return (index in self.fixed or index in self.constants) and "cc" not in ins.parts
        return False

    def terminate(self, block: Block) -> None:
        end = block.end
        if isinstance(end, Jump):
            self.do(f"br label %B{end.target}")
        elif isinstance(end, Branch):
            pred = self.use(end.pred, "i1")
            true, false = (end.false, end.true) if end.negated else (end.true, end.false)
            self.do(f"br i1 {pred}, label %B{true}, label %B{false}")
        elif isinstance(end, Switch):
            index = self.use(end.index, "i32")
            if not end.targets:
                self.do("unreachable")
                return
            cases = " ".join(f"i32 {i}, label %B{t}" for i, t in enumerate(end.targets))
            self.do(f"switch i32 {index}, label %B{end.targets[-1]} [{cases}]")
        elif isinstance(end, Exit):
            self.exit(end)
        elif isinstance(end, Wait):
            self.wait(block, end)
        elif isinstance(end, Dead):
            self.do("unreachable")

    def exit(self, end: Exit) -> None:
        raise NotImplementedError

    def wait(self, block: Block, end: Wait) -> None:
        raise NotImplementedError

    # --- helpers for handlers ---

    def call(self, helper: str, result: str, *args: Value) -> str:
        """Calls a C helper; returns the result's name."""
        types = ", ".join(t for _, t in args)
        self.unit.declare(helper, f"declare {result} @{helper}({types})")
        text = f"call {result} @{helper}({', '.join(f'{t} {n}' for n, t in args)})"
        if result == "void":
            self.do(text)
            return ""
        return self.emit(text)

    def intrinsic(self, name: str, result: str, *args: Value) -> str:
        types = ", ".join(t for _, t in args)
        self.unit.declare(name, f"declare {result} @{name}({types})")
        return self.emit(f"call {result} @{name}({', '.join(f'{t} {n}' for n, t in args)})")

    def end_thread(self) -> None:
        """The rest of the block is never reached."""
        self.do("unreachable")
        self.ended = True

    def constant_of(self, operand: Operand) -> int | None:
        """The value of an operand that is the same constant everywhere, else None."""
        if isinstance(operand, Imm):
            return operand.value
        if isinstance(operand, Reg) and operand.index in self.constants:
            return self.constants[operand.index].value
        return None

    def int_const(self, value: int, type_: str) -> str:
        return int_literal(value, LLVM_BITS[type_])
