# SPDX-License-Identifier: Apache-2.0
"""What the spec says, as plain data. Nothing here knows how it is read or what is made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

WIRE_CLASSES = ("sync", "async")
ALLOCATES = ("", "nothing", "served")  # what an entry may say instead of naming a parameter
CLASSES = (*WIRE_CLASSES, "local", "hand", "alias", "refused")


@dataclass(frozen=True)
class Place:
    """Where something is said: error messages begin with it."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class SpecError(Exception):
    """A mistake in the spec; the text names the place and the fix."""

    def __init__(self, place: Place, problem: str, fix: str) -> None:
        super().__init__(f"{place}: {problem}; {fix}")


@dataclass(frozen=True)
class Signature:
    """One exported function of the CUDA driver API."""

    name: str
    header: str
    version: int
    per_thread: str  # "", "ptds" or "ptsz"
    per_thread_version: int
    parameters: tuple[tuple[str, str], ...]  # (C type, name)
    place: Place

    @property
    def per_thread_name(self) -> str:
        return f"{self.name}_{self.per_thread}" if self.per_thread else ""


@dataclass(frozen=True)
class CudaType:
    """One type of cuda.h (or its constants)."""

    name: str
    kind: str  # enum, struct, union, handle, alias, callback, constants
    tag: str
    declaration: str
    size: int
    values: tuple[tuple[str, int, str], ...]  # (name, value, cast)
    members: tuple[tuple[int, str, str], ...]  # (offset or -1, name, declaration)


@dataclass(frozen=True)
class Kind:
    """One row of kinds.toml."""

    name: str
    form: str
    doc: str
    c: str = ""
    wire: str = ""
    tag: str = ""  # NAME of ORION_KIND_NAME
    object: str = ""
    holds: str = ""  # handles: "memory" that counts against a lease, or "nothing"

    @property
    def is_memory(self) -> bool:
        return self.name == "device_ptr" or self.holds == "memory"


@dataclass(frozen=True)
class Parameter:
    """A parameter of a wire operation: `kind(argument)` and, for outs, `?`."""

    name: str
    kind: Kind
    place: Place
    argument: str = ""  # as written
    inner: Kind | None = None  # out, new: the kind inside
    optional: bool = False

    @property
    def form(self) -> str:
        return self.kind.form

    @property
    def number(self) -> int:
        return int(self.argument, 0)


@dataclass
class Entry:
    """Our decision about one name: a CUDA function or an operation of our own."""

    name: str
    chapter: str
    place: Place
    cls: str
    doc: str = ""
    why: str = ""
    needs: str = "context"
    wire: str = ""  # sync, async or "" when nothing is sent
    reply: str = ""
    runs: str = ""
    allocates: str = ""
    destroys: str = ""
    touches: str = ""  # "<device_ptr>, <bytes>" or "<device_ptr>, <pitch>, <row bytes>, <rows>"
    implicit: str = ""
    same_as: str = ""
    internal: bool = False
    parameters: tuple[Parameter, ...] = ()
    extra: tuple[Parameter, ...] = ()  # implicit = "stream" adds default_stream
    opcode: int = 0

    @property
    def travelling(self) -> tuple[Parameter, ...]:
        """The parameters of the operation: those of the CUDA function and what the entry adds."""
        return self.parameters + self.extra

    @property
    def touched(self) -> list[str]:
        return [item.strip() for item in self.touches.split(",")] if self.touches else []

    @property
    def charged(self) -> str:
        """The parameter that is charged before the operation is served; "" where none is."""
        return "" if self.allocates in ALLOCATES else self.allocates

    @property
    def deferred(self) -> bool:
        return self.reply == "deferred"

    @property
    def executor(self) -> bool:
        return self.runs == "executor"

    @property
    def outs(self) -> list[Parameter]:
        return [p for p in self.parameters if p.form == "out"]

    @property
    def blobs(self) -> list[Parameter]:
        return [p for p in self.parameters if p.form == "out_bytes"]

    @property
    def sent(self) -> list[Parameter]:
        """Everything with a field in the fixed part of the record."""
        return [
            p for p in self.travelling if p.form in ("value", "flags", "handle", "new", "string")
        ]

    @property
    def tails(self) -> list[Parameter]:
        """The parts of variable length, in order."""
        return [p for p in self.parameters if p.form in ("bytes_in", "string")]

    def parameter(self, name: str) -> Parameter | None:
        return next((p for p in self.parameters if p.name == name), None)


@dataclass(frozen=True)
class BlobField:
    name: str
    wire: str
    count: int
    doc: str


@dataclass(frozen=True)
class Blob:
    """A struct that travels in an out_bytes block."""

    name: str
    doc: str
    fields: tuple[BlobField, ...]


@dataclass
class Spec:
    """Everything the emitters may use."""

    cuda_version: int
    signatures: dict[str, Signature]
    types: dict[str, CudaType]
    kinds: dict[str, Kind]
    entries: dict[str, Entry]
    blobs: list[Blob] = field(default_factory=list)

    @property
    def operations(self) -> list[Entry]:
        """What has an opcode, by opcode."""
        return sorted((e for e in self.entries.values() if e.wire), key=lambda e: e.opcode)

    @property
    def exported(self) -> list[Entry]:
        """The entries that are CUDA names, in the order of the headers."""
        return [self.entries[name] for name in self.signatures]
