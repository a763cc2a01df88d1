# SPDX-License-Identifier: Apache-2.0
"""The fast first look at a module: which functions and variables it has. Bodies are read later, one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from .body import parse_body
from .declare import parse_params, parse_variables
from .errors import PtxError
from .initial import lay_out
from .layout import MAX_THREADS
from .model import Body, Function, KernelInfo, ModuleData, Variable
from .text import Lines, clean

_TOP = re.compile(r"\s*([^;{}]*)([;{}])")
_HEAD = re.compile(
    r"^\s*(?:\.(?:visible|extern|weak|common)\s+)*(?:\.attribute\s*\([^()]*\)\s*)*\.(?P<kind>entry|func)\b\s*"
    r"(?:\.attribute\s*\([^()]*\)\s*)*(?:\((?P<returns>[^()]*)\)\s*)?(?P<name>[\w$%]+)\s*(?:\((?P<params>[^()]*)\))?(?P<rest>.*)$",
    re.S,
)
_LIMIT = re.compile(r"\.(maxntid|reqntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")
# Without a look behind, so that the engine can search for the word itself; ld.shared has no blank behind it.
_SHARED = re.compile(r"\.shared\s[^;{}]*;")
_LOCAL = re.compile(r"\.local\s[^;{}]*;")
_FUNCTION_VALUE = re.compile(r"\bmov\.[bu]64\s+[\w$%]+\s*,\s*([A-Za-z_$][\w$]*)\s*;")
_ADDRESS_SIZE = re.compile(r"^\s*\.address_size\s+(\d+)", re.M)


class Module:
    """A module of PTX. `data` describes the one block of memory that its variables need."""

    def __init__(self, text: str) -> None:
        size = _ADDRESS_SIZE.search(text)
        if size is not None and size[1] != "64":
            raise PtxError("only .address_size 64 is supported")
        self.text = clean(text)
        self.lines = Lines(self.text)
        self.functions: dict[str, Function] = {}
        self.variables: dict[str, Variable] = {}
        self.prototypes: dict[str, Function] = {}  # declared, not defined
        self._bodies: dict[str, Body] = {}
        self._taken: list[str] | None = None
        self._shared_of_functions: list[Variable] | None = None
        self._has_functions = False
        self._scan()
        self._has_functions = any(not f.entry for f in self.functions.values())
        self.ordinals = {name: i for i, name in enumerate(self.functions)}
        self.data: ModuleData = lay_out(self.variables, self.ordinals)
        self.kernels: Mapping[str, KernelInfo] = Kernels(self)

    def body(self, name: str) -> Body:
        """The parsed body of a function; parsed at the first call."""
        body = self._bodies.get(name)
        if body is None:
            body = self._bodies[name] = parse_body(self, self.functions[name])
        return body

    def taken(self) -> list[str]:
        """Functions whose address some variable or instruction of the module takes."""
        if self._taken is None:
            by_index = list(self.functions)
            names = {by_index[r.target] for r in self.data.relocations if r.is_function}
            names.update(n for n in _FUNCTION_VALUE.findall(self.text) if n in self.functions)
            self._taken = sorted(n for n in names if not self.functions[n].entry)
        return self._taken

    def _scan(self) -> None:
        text, pos = self.text, 0
        while True:
            match = _TOP.match(text, pos)
            if match is None:
                if text[pos:].strip():
                    raise PtxError("text after the last declaration", self.lines.at(pos))
                return
            head, end = match[1], match[2]
            if end == "}":
                raise PtxError("unbalanced }", self.lines.at(match.end()))
            if ".func" in head or ".entry" in head:
                pos = self._function(match)
            elif end == "{" and "=" not in head:
                pos = self._skip(match.end())  # .section and the like
                trailing = re.compile(r"\s*;").match(text, pos)
                pos = trailing.end() if trailing else pos
            else:
                pos = match.end()
                if end == "{":
                    pos = text.find(";", pos) + 1
                    if pos == 0:
                        raise PtxError("an initialiser without end", self.lines.at(match.start(1)))
                self._declare(text[match.start(1) : pos - 1], match.start(1))

    def _declare(self, statement: str, pos: int) -> None:
        if not statement.strip() or statement.lstrip().startswith(
            (".pragma", ".alias", ".version", ".blocksareclusters")
        ):
            return
        for variable in parse_variables(statement, self.lines.at(pos)):
            known = self.variables.get(variable.name)
            if known is None or known.extern:
                self.variables[variable.name] = variable

    def _skip(self, pos: int) -> int:
        """The position behind the brace that closes the one before pos."""
        depth, at = 1, pos
        while (end := self.text.find("}", at)) >= 0:
            depth += self.text.count("{", at, end) - 1
            at = end + 1
            if depth == 0:
                return at
        raise PtxError("unbalanced {", self.lines.at(pos))

    def _function(self, match: re.Match[str]) -> int:
        line_pos = match.start(1)
        head = _HEAD.match(match[1])
        if head is None:
            raise PtxError("malformed function head", self.lines.at(line_pos))
        line = self.lines.at(line_pos)
        end = match.end()
        start = end
        if match[2] == "{":
            end = self._skip(start)
        function = Function(
            head["name"],
            head["kind"] == "entry",
            parse_params(head["params"] or "", line),
            parse_params(head["returns"] or "", line),
            start,
            end - 1,
            line_pos,
            noreturn=".noreturn" in head["rest"],
        )
        for _, x, y, z in _LIMIT.findall(head["rest"]):
            function.max_threads = min(
                int(x[:9]) * int((y or "1")[:9]) * int((z or "1")[:9]), MAX_THREADS
            )
        if match[2] == ";":
            self.prototypes.setdefault(function.name, function)
        elif function.name in self.functions:
            raise PtxError(f"function {function.name} is defined twice", line)
        else:
            self.functions[function.name] = function
        return end

    def describe(self, function: Function) -> KernelInfo:
        """What a host may know of a kernel."""
        last = function.params[-1] if function.params else None
        info = KernelInfo(
            function.name,
            [(p.offset, p.size) for p in function.params],
            last.offset + last.size if last else 0,
            function.max_threads,
            self.shared_layout(function)[1],
        )
        info.local_bytes = sum(v.size for v in self._own(function, _LOCAL))
        return info

    def _own(self, function: Function, pattern: re.Pattern[str]) -> Iterator[Variable]:
        for match in pattern.finditer(self.text, function.start, function.end):
            before = self.text[match.start() - 1]
            if before.isalnum() or before == "_":
                continue  # a state space of an instruction
            yield from parse_variables(match.group()[:-1], self.lines.at(match.start()))

    def shared_layout(self, function: Function) -> tuple[dict[str, int], int]:
        """Offsets of all shared variables a kernel may name, and where dynamic shared memory begins.

        Module-level variables come first and for every kernel, since a called function may use them; a variable
        without size is dynamic shared memory itself.
        """
        offsets: dict[str, int] = {}
        dynamic: list[str] = []
        size = 0
        module_level = [v for v in self.variables.values() if v.space == "shared"]
        if module_level and not self._names_any(module_level, function):
            module_level = [v for v in module_level if v.extern or v.size == 0]
        own = list(self._own(function, _SHARED))
        if self._shared_of_functions is None:
            called = (f for f in self.functions.values() if not f.entry)
            self._shared_of_functions = [v for f in called for v in self._own(f, _SHARED)]
        for variable in (*module_level, *own, *self._shared_of_functions):
            if variable.extern or variable.size == 0:
                dynamic.append(variable.name)
                continue
            size = (size + variable.align - 1) & -variable.align
            offsets[variable.name] = size
            size += variable.size
        if size > 1 << 20:
            raise PtxError(
                f"{size} bytes of static shared memory in {function.name}",
                self.lines.at(function.pos),
            )
        begin = (size + 15) & -16
        offsets.update(dict.fromkeys(dynamic, begin))
        return offsets, begin if dynamic else size

    def _names_any(self, variables: list[Variable], function: Function) -> bool:
        if self._has_functions:
            return True  # a called function may name them
        body = self.text[function.start : function.end]
        return any(v.name in body for v in variables)


class Kernels(Mapping[str, KernelInfo]):
    """The kernels of a module, each described when it is first asked for: libraries have hundreds and use a few."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._names = {name: None for name, f in module.functions.items() if f.entry}
        self._known: dict[str, KernelInfo] = {}

    def __getitem__(self, name: str) -> KernelInfo:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._known:
            self._known[name] = self._module.describe(self._module.functions[name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def parse_module(text: str) -> Module:
    """Indexes a module. Raises PtxError naming the line when the text is not PTX."""
    return Module(text)
