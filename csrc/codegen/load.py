# SPDX-License-Identifier: Apache-2.0
"""Reads the spec's TOML files into the model, keeping the line of every key for error messages."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .model import (
    Blob,
    BlobField,
    CudaType,
    Entry,
    Kind,
    Parameter,
    Place,
    Signature,
    Spec,
    SpecError,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CHAPTERS = [
    "session",
    "device",
    "context",
    "memory",
    "copy",
    "stream",
    "event",
    "module",
    "library",
    "launch",
    "host",
    "pool",
    "link",
    "occupancy",
    "profiler",
    "graph",
    "array",
    "virtual",
    "ipc",
    "external",
    "interop",
    "green",
    "internal",
]
WORDS = (
    "class",
    "doc",
    "why",
    "needs",
    "wire",
    "reply",
    "runs",
    "allocates",
    "destroys",
    "touches",
    "implicit",
    "same_as",
)
FIELDS = {"class": "cls"}
KIND = re.compile(r"^(?P<kind>\w+)(\((?P<argument>[^)]*)\))?(?P<optional>\?)?$")
TABLE = re.compile(r"^\s*\[\[?\s*([\w.\"-]+)\s*\]\]?")
KEY = re.compile(r"^\s*([\w-]+)\s*=")


class Source:
    """One TOML file: its data and where each table and key begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8")
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            place = Place(path, int(found[1]) if found else 1)
            raise SpecError(place, f"not valid TOML ({error})", "correct the syntax") from error
        self.lines: dict[tuple[str, str], int] = {}
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            if match := TABLE.match(line):
                table = match[1].strip('"')
                self.lines.setdefault((table, ""), number)
            elif match := KEY.match(line):
                self.lines.setdefault((table, match[1]), number)

    def place(self, table: str, key: str = "") -> Place:
        line = self.lines.get((table, key)) or self.lines.get((table, "")) or 1
        return Place(self.path, line)


def load_signatures(path: Path) -> tuple[int, dict[str, Signature]]:
    source = Source(path)
    result = {}
    for name, row in source.data.items():
        if not isinstance(row, Mapping):
            continue
        suffix = next((s for s in ("ptds", "ptsz") if s in row), "")
        result[name] = Signature(
            name=name,
            header=row.get("header", "cuda.h"),
            version=row["version"],
            per_thread=suffix,
            per_thread_version=row[suffix] if suffix else 0,
            parameters=tuple((text, parameter) for text, parameter in row["parameters"]),
            place=source.place(name),
        )
    return int(source.data["cuda_version"]), result


def load_types(path: Path) -> dict[str, CudaType]:
    source = Source(path)
    return {
        name: CudaType(
            name=name,
            kind=row["kind"],
            tag=row.get("tag", ""),
            declaration=row.get("declaration", ""),
            size=row.get("size", 0),
            values=tuple((v[0], v[1], v[2] if len(v) > 2 else "") for v in row.get("values", ())),
            members=tuple((m[0], m[1], m[2]) for m in row.get("members", ())),
        )
        for name, row in source.data.items()
    }


def load_kinds(path: Path) -> dict[str, Kind]:
    source = Source(path)
    return {name: parse_kind(source, name, row) for name, row in source.data.items()}


def parse_kind(source: Source, name: str, row: Mapping[str, str]) -> Kind:
    holds = row.get("holds", "")
    if holds not in (("memory", "nothing") if row["form"] == "handle" else ("",)):
        raise SpecError(
            source.place(name, "holds"),
            f"kind {name}: holds = {holds!r} does not say whether its objects are charged to a lease",
            'say holds = "memory" or "nothing" of each handle, and of nothing else',
        )
    return Kind(
        name,
        row["form"],
        row["doc"],
        row.get("c", ""),
        row.get("wire", ""),
        row.get("name", ""),
        row.get("object", ""),
        holds,
    )


def parse_parameter(name: str, text: object, kinds: Mapping[str, Kind], place: Place) -> Parameter:
    match = KIND.match(text) if isinstance(text, str) else None
    if match is None:
        raise SpecError(
            place,
            f"{name} = {text!r} is not a kind",
            'write it as "kind", "kind(argument)" or "out(kind)?"',
        )
    kind = kinds.get(match["kind"])
    if kind is None:
        raise SpecError(
            place,
            f"unknown kind {match['kind']!r}",
            f"use one of {', '.join(kinds)}, or add it to kinds.toml",
        )
    argument = (match["argument"] or "").strip()
    inner = None
    if kind.form in ("out", "new"):
        inner = kinds.get(argument)
        wanted = "handle" if kind.form == "new" else "value"
        if inner is None or inner.form != wanted:
            raise SpecError(
                place,
                f"{kind.name}({argument}) needs a {wanted} kind inside",
                f"name one of kinds.toml with form = {wanted!r}",
            )
    return Parameter(name, kind, place, argument, inner, bool(match["optional"]))


def load_chapter(path: Path, kinds: Mapping[str, Kind]) -> list[Entry]:
    source = Source(path)
    chapter = path.stem
    entries = []
    for name, row in source.data.items():
        if name == "refuse":
            entries += load_refusals(source, chapter, row)
            continue
        if not isinstance(row, Mapping):
            raise SpecError(
                source.place("", name),
                f"{name} stands outside any entry",
                "put it under a [name] line",
            )
        place = source.place(name)
        words: dict[str, Any] = {FIELDS.get(key, key): row[key] for key in WORDS if key in row}
        if "cls" not in words:
            raise SpecError(
                place,
                f"{name} has no class",
                "add class = sync, async, local, hand, alias or refused",
            )
        parameters = tuple(
            parse_parameter(key, text, kinds, source.place(name, key))
            for key, text in row.items()
            if key not in WORDS
        )
        entry = Entry(
            name=name,
            chapter=chapter,
            place=place,
            internal=chapter == "internal",
            parameters=parameters,
            **words,
        )
        if entry.implicit == "stream":
            entry.extra = (
                parse_parameter("default_stream", "stream", kinds, source.place(name, "implicit")),
            )
        if entry.cls in ("sync", "async"):
            entry.wire = entry.wire or entry.cls
        entries.append(entry)
    return entries


def load_refusals(source: Source, chapter: str, groups: object) -> list[Entry]:
    """[[refuse]] groups: one reason, many names."""
    entries = []
    text = source.path.read_text(encoding="utf-8").splitlines()
    for group in groups if isinstance(groups, list) else []:
        for name in group["names"]:
            line = next((n for n, row in enumerate(text, 1) if re.search(rf'"{name}"', row)), 1)
            entries.append(
                Entry(name, chapter, Place(source.path, line), "refused", why=group["why"])
            )
    return entries


def load_blobs(path: Path) -> list[Blob]:
    if not path.exists():
        return []
    source = Source(path)
    return [
        Blob(name, row["doc"], tuple(BlobField(*f) for f in row["fields"]))
        for name, row in source.data.items()
    ]


def load_opcodes(path: Path) -> tuple[dict[str, int], Source]:
    source = Source(path)
    return {name: int(number) for name, number in source.data.get("opcodes", {}).items()}, source


def load(folder: Path) -> tuple[Spec, dict[str, int], Source]:
    """The whole spec, still unchecked, and the opcode lock."""
    cuda_version, signatures = load_signatures(folder / "cuda" / "signatures.toml")
    kinds = load_kinds(folder / "kinds.toml")
    entries: dict[str, Entry] = {}
    for chapter in CHAPTERS:
        path = folder / f"{chapter}.toml"
        if not path.exists():
            continue
        for entry in load_chapter(path, kinds):
            if entry.name in entries:
                raise SpecError(
                    entry.place,
                    f"{entry.name} was decided already at {entries[entry.name].place}",
                    "keep one of the two",
                )
            entries[entry.name] = entry
    opcodes, lock = load_opcodes(folder / "opcodes.toml")
    spec = Spec(
        cuda_version,
        signatures,
        load_types(folder / "cuda" / "types.toml"),
        kinds,
        entries,
        load_blobs(folder / "blobs.toml"),
    )
    return spec, opcodes, lock
