# SPDX-License-Identifier: Apache-2.0
"""What a PTX module consists of: functions, variables, instructions."""

from __future__ import annotations

from dataclasses import dataclass, field

# Bits of every PTX fundamental type.
BITS: dict[str, int] = {
    "pred": 1,
    "b8": 8, "u8": 8, "s8": 8, "e4m3": 8, "e5m2": 8,
    "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16, "e4m3x2": 16, "e5m2x2": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32, "tf32": 32,
    "b64": 64, "u64": 64, "s64": 64, "f64": 64, "f32x2": 64,
    "b128": 128, "u16x2": 32, "s16x2": 32,
}  # fmt: skip


@dataclass(slots=True)
class Param:
    """One declared parameter, or any other scalar or array object."""

    name: str
    offset: int
    size: int
    align: int
    scalar: str  # element type
    array: bool


@dataclass(slots=True)
class Variable:
    """A variable of a state space. `offset` is its place in that space's block, -1 while not laid out."""

    name: str
    space: str
    scalar: str
    size: int
    align: int
    line: int
    offset: int = -1
    initial: str = ""
    extern: bool = False


@dataclass(slots=True)
class Relocation:
    """Eight bytes at `offset` of the module's data that hold an address.

    Values of function pointers are in the image already: only variables need the block's address added.
    """

    offset: int
    target: (
        int  # variable: offset in the module's data; function: index of the address-taken function
    )
    addend: int
    is_function: bool


@dataclass
class ModuleData:
    """The one block that holds all .global and .const variables of a module."""

    size: int = 0
    align: int = 16
    image: bytes = b""
    relocations: list[Relocation] = field(default_factory=list)
    variables: dict[str, tuple[int, int, str]] = field(default_factory=dict)
    const_begin: int = 0
    const_end: int = 0

    def image_at(self, base: int) -> bytes:
        """The initial bytes for a block at an address; what lies behind them up to `size` is zero."""
        image = bytearray(self.image)
        for r in self.relocations:
            if not r.is_function:
                value = (base + r.target + r.addend) & (1 << 64) - 1
                image[r.offset : r.offset + 8] = value.to_bytes(8, "little")
        return bytes(image)


@dataclass(slots=True)
class Reg:
    """A register: `index` is its number in the function."""

    index: int
    name: str
    type: str


@dataclass(slots=True)
class Imm:
    """An immediate: the bits, and whether it was written as a float of that width."""

    value: int
    float_bits: int = 0


@dataclass(slots=True)
class Special:
    """A special register such as %tid.x"""

    name: str


@dataclass(slots=True)
class Sym:
    """The address of a variable, function or label, plus an offset."""

    name: str
    offset: int = 0


@dataclass(slots=True)
class Mem:
    """[base + offset]"""

    base: Reg | Sym | Imm
    offset: int = 0


@dataclass(slots=True)
class Vec:
    """{a, b, ...}"""

    items: list[Operand]


@dataclass(slots=True)
class Pair:
    """a|b: two destinations"""

    first: Operand
    second: Operand


@dataclass(slots=True)
class Not:
    """!p"""

    item: Reg


Operand = Reg | Imm | Special | Sym | Mem | Vec | Pair | Not


@dataclass(slots=True)
class Instruction:
    """One instruction. `guard` is the predicate of @p, `pos` the place in the source text."""

    op: str  # base opcode
    parts: tuple[str, ...]  # what follows it: modifiers and types
    operands: list[Operand]
    pos: int
    guard: Reg | None = None
    negated: bool = False
    call: CallSite | None = None

    @property
    def form(self) -> str:
        return ".".join((self.op, *self.parts))


@dataclass(slots=True)
class CallSite:
    """The operands of a call."""

    returns: list[str]
    target: str | Reg
    args: list[Operand]
    prototype: str = ""


@dataclass(frozen=True)
class Signature:
    """How a function is called: sizes in bytes, 0-size entries do not occur. Arrays go by reference."""

    returns: tuple[tuple[int, bool], ...]
    params: tuple[tuple[int, bool], ...]


@dataclass
class Body:
    """A parsed function body."""

    registers: list[Reg]
    code: list[Instruction | str]  # labels are strings
    variables: dict[str, Variable]
    params: dict[str, Param]  # .param space objects declared inside (for calls)
    prototypes: dict[str, Signature]
    targets: dict[str, list[str]]  # .branchtargets
    references: set[str]  # symbols of the module that it names


@dataclass
class Function:
    """A function or entry as the index sees it; `start:end` of the text is its body, without the braces."""

    name: str
    entry: bool
    params: list[Param]
    returns: list[Param]
    start: int
    end: int
    pos: int
    max_threads: int = 1024
    noreturn: bool = False

    def signature(self) -> Signature:
        return Signature(
            tuple((p.size, p.array) for p in self.returns),
            tuple((p.size, p.array) for p in self.params),
        )


@dataclass
class KernelInfo:
    """What a host may know about a kernel without compiling it."""

    name: str
    params: list[tuple[int, int]]  # offset, size
    param_bytes: int
    max_threads: int
    static_shared: int
    local_bytes: int = 0
    registers: int = 0
