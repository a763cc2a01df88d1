# SPDX-License-Identifier: Apache-2.0
"""Parses the body of one function into instructions with resolved registers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .declare import parse_params, parse_variables
from .errors import PtxError
from .model import BITS, Body, CallSite, Function, Imm, Instruction, Operand, Param, Reg, Signature
from .opcodes import OPS, destinations, refusal
from .operands import OperandReader, split_operands

if TYPE_CHECKING:
    from .index import Module

_STATEMENT = re.compile(
    r"\s*(?:(?P<label>[\w$%]+)\s*:(?!:)|(?P<stmt>[@.\w$%][^;{}]*(?:\{[^;{}]*\}[^;{}]*)*);|(?P<brace>[{}])|(?P<empty>;))"
)
_INSTRUCTION = re.compile(
    r"(?:@\s*(!?)\s*([\w$%]+)\s+)?([a-z]\w*)((?:(?:\.|::)\w+)*)\s*(.*)$", re.S
)
_PARTS = re.compile(r"\.(\w+(?:::\w+)*)")
_CALL = re.compile(
    r"(?:\(([^()]*)\)\s*,)?\s*([\w$%.]+)\s*(?:,\s*\(([^()]*)\))?\s*(?:,\s*([\w$%]+))?\s*$"
)
_REG = re.compile(r"\.reg\s*(?:\.v[248]\s*)?\.(\w+)\s+(.*)$", re.S)
_REG_NAME = re.compile(r"\s*([\w$%]+)\s*(?:<\s*(\d+)\s*>)?\s*$")
_PROTOTYPE = re.compile(r"\.callprototype\s*(?:\(([^()]*)\)\s*)?[\w$%]+\s*(?:\(([^()]*)\))?[^()]*$")
MAX_DEPTH = 64
CARRY = frozenset(("addc", "subc", "madc"))


class BodyParser:
    """Reads the statements of one function."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.function = function
        self.body = Body([], [], {}, {}, {}, {}, set())
        self.reader = OperandReader(module, self.body)
        self.prototype_label = ""
        for param in (*function.params, *function.returns):
            self.body.params[param.name] = param
            self.reader.declare_alias(param.name, param.name)

    def error(self, message: str, pos: int) -> PtxError:
        return PtxError(f"{self.function.name}: {message}", self.module.lines.at(pos))

    def parse(self) -> Body:
        text, pos, end = self.module.text, self.function.start, self.function.end
        match_at = _STATEMENT.match
        code = self.body.code
        while True:
            match = match_at(text, pos, end)
            if match is None:
                if text[pos:end].strip():
                    raise self.error(
                        "malformed statement",
                        pos + len(text[pos:end]) - len(text[pos:end].lstrip()),
                    )
                break
            pos = match.end()
            kind = match.lastgroup
            if kind == "stmt":
                statement = match["stmt"]
                if statement[0] == ".":
                    self._directive(statement, match.start("stmt"))
                else:
                    code.append(self._instruction(statement, match.start("stmt")))
            elif kind == "label":
                self.prototype_label = match["label"]
                code.append(self.reader.define_label(match["label"]))
            elif kind == "brace":
                self._scope(match["brace"], match.start("brace"))
        self.body.registers = self.reader.registers
        return self.body

    def _scope(self, brace: str, pos: int) -> None:
        if brace == "{":
            if self.reader.depth >= MAX_DEPTH:
                raise self.error("scopes are nested too deeply", pos)
            self.reader.push()
        elif not self.reader.pop():
            raise self.error("unbalanced }", pos)

    def _instruction(self, statement: str, pos: int) -> Instruction:
        match = _INSTRUCTION.match(statement)
        if match is None:
            raise self.error(f"malformed instruction `{statement[:60]}`", pos)
        negated, guard_name, name, suffix, rest = match.groups()
        parts = tuple(_PARTS.findall(suffix)) if "::" in suffix else tuple(suffix.split(".")[1:])
        why = refusal(name, parts)
        if why is not None:
            raise self.error(why, pos)
        try:
            guard = self.reader.register(guard_name) if guard_name else None
            if name == "call":
                return Instruction(name, parts, [], pos, guard, bool(negated), self._call(rest))
            if name == "bra" or name == "brx":
                operands: list[Operand] = [self.reader.branch_operand(t) for t in rest.split(",")]
            else:
                read = self.reader.operand
                operands = [read(t) for t in split_operands(rest)] if rest else []
        except (ValueError, KeyError) as error:
            reason = error.args[0] if error.args else "?"
            raise self.error(
                f"cannot read the operands of `{statement[:80]}`: {reason}", pos
            ) from None
        ins = Instruction(name, parts, operands, pos, guard, bool(negated))
        if len(operands) < max(OPS[name].least, destinations(ins)):
            raise self.error(f"`{statement[:60]}` has too few operands", pos)
        if "cc" in parts or name in CARRY:
            self.reader.carry()
        return ins

    def _call(self, rest: str) -> CallSite:
        match = _CALL.match(rest.strip())
        if match is None:
            raise ValueError("malformed call")
        returns, target, args, prototype = match.groups()
        resolve = self.reader.object_name
        site = CallSite(
            [resolve(r.strip()) for r in returns.split(",")] if returns and returns.strip() else [],
            target,
            [self._argument(a.strip()) for a in args.split(",")] if args and args.strip() else [],
            prototype or "",
        )
        if target[0] == "%" or self.reader.is_register(target):
            site.target = self.reader.register(target)
        else:
            self.body.references.add(target)
        return site

    def _argument(self, text: str) -> Operand:
        from .model import Sym

        if self.reader.is_object(text):
            return Sym(self.reader.object_name(text))
        return self.reader.operand(text)

    def _directive(self, statement: str, pos: int) -> None:
        line = self.module.lines.at(pos)
        words = statement[1:].split(None, 1)
        if len(words) < 2:
            raise self.error(f"malformed directive `{statement[:40]}`", pos)
        keyword = words[0].split(".")[0]
        if keyword == "reg":
            self._registers(statement, pos)
        elif keyword == "param":
            for param in parse_params(statement, line):
                self.body.params[self.reader.declare(param.name)] = param
        elif keyword in ("local", "shared", "global", "const"):
            for variable in parse_variables(statement, line):
                # Shared variables are laid out by name for the whole module, so they keep theirs.
                name = variable.name if keyword != "local" else self.reader.declare(variable.name)
                self.body.variables[name] = variable
        elif keyword == "callprototype":
            self._prototype(statement, line)
        elif keyword == "branchtargets":
            names = [t.strip() for t in statement.split(None, 1)[1].split(",")]
            self.body.targets[self.prototype_label] = [self.reader.label(n) for n in names]
        elif keyword not in ("pragma", "calltargets", "maxntid", "minnctapersm"):
            raise self.error(f"unsupported directive `{statement[:40]}`", pos)

    def _prototype(self, statement: str, line: int) -> None:
        match = _PROTOTYPE.match(statement)
        if match is None:
            raise PtxError("malformed .callprototype", line)
        sides = [
            tuple((p.size, p.array) for p in parse_params(side or "", line))
            for side in (match[1], match[2])
        ]
        self.body.prototypes[self.prototype_label] = Signature(sides[0], sides[1])

    def _registers(self, statement: str, pos: int) -> None:
        match = _REG.match(statement)
        if match is None or match[1] not in BITS or ".v" in statement.split(None, 2)[1]:
            raise self.error(f"malformed `{statement[:60]}`", pos)
        for item in match[2].split(","):
            named = _REG_NAME.match(item)
            if named is None:
                raise self.error(f"malformed `{statement[:60]}`", pos)
            if named[2] is None:
                self.reader.declare_register(named[1], match[1])
            else:
                self.reader.declare_range(named[1], int(named[2][:10]), match[1])


def parse_body(module: Module, function: Function) -> Body:
    """The body of one function of a module."""
    return BodyParser(module, function).parse()


__all__ = ["Imm", "Param", "Reg", "parse_body"]
