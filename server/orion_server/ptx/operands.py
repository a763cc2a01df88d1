# SPDX-License-Identifier: Apache-2.0
"""Names and operands inside a function body: scopes, registers, immediates, addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .model import Body, Imm, Mem, Not, Operand, Pair, Reg, Special, Sym, Vec

if TYPE_CHECKING:
    from .index import Module

_SPLIT = re.compile(r"\s*(\{[^{}]*\}|\[[^\[\]]*\]|[^,{}\[\]]+)\s*(?:,|$)")
_INTEGER = re.compile(r"([+-]?)\s*(0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_HEX_FLOAT = re.compile(r"(-?)0([fFdD])([0-9a-fA-F]{8}(?:[0-9a-fA-F]{8})?)$")
_DECIMAL_FLOAT = re.compile(r"-?\d+\.\d*(?:[eE][+-]?\d+)?$")
_MEMORY = re.compile(
    r"\[\s*([\w$%.]+|-?\d+)\s*(?:\+\s*(-?\s*(?:0[xX][0-9a-fA-F]+|\d+))|(-\s*(?:0[xX][0-9a-fA-F]+|\d+)))?\s*\]$"
)
_SYMBOL = re.compile(r"([A-Za-z_$%][\w$%]*)\s*(?:([+-])\s*(\d+))?$")
_RANGED = re.compile(r"(.*?)(\d+)$")

_SPECIAL_NAMES = """%tid.x %tid.y %tid.z %ntid.x %ntid.y %ntid.z %ctaid.x %ctaid.y %ctaid.z %nctaid.x %nctaid.y
%nctaid.z %laneid %warpid %nwarpid %smid %nsmid %gridid %clock %clock_hi %clock64 %globaltimer
%globaltimer_lo %globaltimer_hi %lanemask_eq %lanemask_le %lanemask_lt %lanemask_ge %lanemask_gt
%dynamic_smem_size %total_smem_size %aggr_smem_size %envreg0 %envreg1 %envreg2 %envreg3 WARP_SZ"""
SPECIAL = frozenset(_SPECIAL_NAMES.split())


def split_operands(text: str) -> list[str]:
    """Splits at commas outside brackets."""
    if "{" not in text and "[" not in text:
        return [t.strip() for t in text.split(",")]
    found, pos, end = [], 0, len(text.rstrip())
    while pos < end:
        match = _SPLIT.match(text, pos, end)
        if match is None:
            raise ValueError("malformed operand list")
        found.append(match[1].rstrip())
        pos = match.end()
    return found


def integer(text: str) -> int:
    match = _INTEGER.match(text)
    if match is None or len(text) > 80:
        raise ValueError(f"`{text[:40]}` is not an integer")
    digits = match[2]
    if digits[:2] in ("0x", "0X", "0b", "0B"):
        value = int(digits, 0)
    elif len(digits) > 1 and digits[0] == "0":
        value = int(digits, 8)
    else:
        value = int(digits)
    return -value if match[1] == "-" else value


def immediate(text: str) -> Imm | None:
    """A number, or None if the text is not one."""
    match = _HEX_FLOAT.match(text)
    if match is not None:
        bits = 32 if match[2] in "fF" else 64
        if len(match[3]) * 4 != bits:
            raise ValueError(f"`{text}` has the wrong number of digits")
        value = int(match[3], 16)
        return Imm(value ^ (1 << (bits - 1) if match[1] else 0), bits)
    if _DECIMAL_FLOAT.match(text):
        import struct

        return Imm(int.from_bytes(struct.pack("<d", float(text[:60])), "little"), 64)
    if _INTEGER.match(text):
        return Imm(integer(text))
    return None


@dataclass
class _Scope:
    names: dict[str, str | Reg] = field(default_factory=dict)  # objects by unique name, registers
    ranges: dict[str, tuple[int, str]] = field(default_factory=dict)
    memo: dict[str, Operand] = field(default_factory=dict)
    number: int = 0


class OperandReader:
    """Resolves the operands of one function."""

    def __init__(self, module: Module, body: Body) -> None:
        self.module = module
        self.body = body
        self.registers: list[Reg] = []
        self.scopes = [_Scope()]
        self.memo = self.scopes[0].memo
        self.serial = 0

    @property
    def depth(self) -> int:
        return len(self.scopes)

    def push(self) -> None:
        self.serial += 1
        self.scopes.append(_Scope(number=self.serial))
        self.memo = self.scopes[-1].memo

    def pop(self) -> bool:
        if len(self.scopes) == 1:
            return False
        self.scopes.pop()
        self.memo = self.scopes[-1].memo
        return True

    # --- declarations ---

    def declare_alias(self, name: str, unique: str) -> None:
        self.scopes[-1].names[name] = unique

    def declare(self, name: str) -> str:
        """Declares an object in this scope; returns a name that no other scope uses."""
        number = self.scopes[-1].number
        unique = f"{name}#{number}" if number else name
        self.scopes[-1].names[name] = unique
        self.memo.clear()
        return unique

    def declare_register(self, name: str, type_: str) -> None:
        self.scopes[-1].names[name] = self._new(name, type_)
        self.memo.clear()

    def declare_range(self, prefix: str, count: int, type_: str) -> None:
        self.scopes[-1].ranges[prefix] = (count, type_)
        self.memo.clear()

    def _new(self, name: str, type_: str) -> Reg:
        reg = Reg(len(self.registers), name, type_)
        self.registers.append(reg)
        return reg

    # --- lookups ---

    def _find(self, name: str) -> str | Reg | None:
        for scope in reversed(self.scopes):
            found = scope.names.get(name)
            if found is not None:
                return found
            if scope.ranges and name[-1:].isdigit():
                reg = self._ranged(scope, name)
                if reg is not None:
                    return reg
        return None

    def _ranged(self, scope: _Scope, name: str) -> Reg | None:
        match = _RANGED.match(name)
        if match is None:
            return None
        first = len(match[1])
        for split in range(first, len(name)):
            span = scope.ranges.get(name[:split])
            if span is not None and int(name[split:][:10]) < span[0]:
                reg = self._new(name, span[1])
                scope.names[name] = reg
                return reg
        return None

    def is_register(self, name: str) -> bool:
        return isinstance(self._find(name), Reg)

    def is_object(self, name: str) -> bool:
        return isinstance(self._find(name), str)

    def object_name(self, name: str) -> str:
        found = self._find(name)
        if not isinstance(found, str):
            raise ValueError(f"`{name}` is not declared")
        return found

    def register(self, name: str) -> Reg:
        found = self._find(name)
        if not isinstance(found, Reg):
            raise ValueError(f"register `{name[:60]}` is not declared")
        return found

    def carry(self) -> Reg:
        """The condition code register of add.cc and its like."""
        found = self.scopes[0].names.get("%cc")
        if not isinstance(found, Reg):
            found = self.scopes[0].names["%cc"] = self._new("%cc", "pred")
        return found

    # --- labels: a label is seen from anywhere in the function, inner scopes first ---

    def define_label(self, name: str) -> str:
        number = self.scopes[-1].number
        return f"{name}#{number}" if number else name

    def label(self, name: str) -> str:
        return "|".join(f"{name}#{s.number}" if s.number else name for s in reversed(self.scopes))

    def branch_operand(self, text: str) -> Operand:
        text = text.strip()
        if self.is_register(text):
            return self.register(text)
        return Sym(self.label(text))

    # --- operands ---

    def operand(self, text: str) -> Operand:
        found = self.memo.get(text)
        if found is None:
            found = self._read(text)
            self.memo[text] = found
        return found

    def _read(self, text: str) -> Operand:
        if not text:
            raise ValueError("an operand is missing")
        first = text[0]
        if first == "{":
            return Vec([self.operand(t.strip()) for t in text[1:-1].split(",")])
        if first == "[":
            return self._memory(text)
        if first == "!":
            return Not(self.register(text[1:].strip()))
        if "|" in text:
            left, right = text.split("|", 1)
            return Pair(self.operand(left.strip()), self.operand(right.strip()))
        found = self._find(text)
        if isinstance(found, Reg):
            return found
        if text in SPECIAL:
            return Special(text)
        if text == "_":
            return self._new("_", "b64")
        number = immediate(text)
        if number is not None:
            return number
        return self._symbol(text)

    def _symbol(self, text: str) -> Sym:
        match = _SYMBOL.match(text)
        if (
            match is None
            or match[1] in SPECIAL
            or (text[0] == "%" and not isinstance(self._find(match[1]), str))
        ):
            raise ValueError(f"`{text[:40]}` is not known")
        offset = int(match[3][:12]) * (-1 if match[2] == "-" else 1) if match[3] else 0
        found = self._find(match[1])
        if isinstance(found, str):
            return Sym(found, offset)
        self.body.references.add(match[1])
        return Sym(match[1], offset)

    def _memory(self, text: str) -> Mem:
        match = _MEMORY.match(text)
        if match is None:
            raise ValueError(f"address `{text[:60]}`")
        offset_text = match[2] or match[3]
        offset = integer(offset_text.replace(" ", "").replace("\t", "")) if offset_text else 0
        number = _INTEGER.match(match[1])
        if number is not None:
            return Mem(Imm(integer(match[1])), offset)
        base = self._find(match[1])
        if isinstance(base, Reg):
            return Mem(base, offset)
        symbol = self._symbol(match[1])
        return Mem(symbol, offset)
