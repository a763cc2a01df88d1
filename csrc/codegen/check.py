# SPDX-License-Identifier: Apache-2.0
"""Refuses a spec that does not hold together. Every message names the place and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .load import Source
from .model import CLASSES, WIRE_CLASSES, Entry, Parameter, Spec, SpecError

VALUES = {
    "needs": ("nothing", "init", "context"),
    "wire": ("", *WIRE_CLASSES),
    "reply": ("", "deferred"),
    "runs": ("", "executor"),
    "implicit": ("", "stream"),
}
AMOUNT = re.compile(r"^(?P<name>\w+)( \* \d+)?$")
MAX_OPCODE = 0x7FFF
REPLY_BYTES = 4080
# Names that generated functions use themselves.
TAKEN = frozenset(
    [
        "s",
        "w",
        "a",
        "i",
        "k",
        "call",
        "result",
        "reply",
        "outs",
        "payload",
        "fixed",
        "at",
        "args",
        "cursor",
        "measured",
        "copy",
        "pattern",
        "record",
        "ticket",
    ]
)
# C types that mean the same on this ABI; the left side is what cuda.h says.
SAME_TYPE = {
    "CUdevice": "int",
    "cuuint32_t": "unsigned int",
    "cuuint64_t": "unsigned long long",
    "unsigned long": "unsigned long long",
}


def check(spec: Spec, opcodes: Mapping[str, int], lock: Source) -> None:
    for entry in spec.entries.values():
        check_words(entry)
        if entry.cls == "alias":
            check_alias(entry, spec)
        if entry.wire:
            check_operation(entry, spec)
        elif entry.parameters:
            raise SpecError(
                entry.parameters[0].place,
                f"{entry.name} sends nothing, so its parameters need no kinds",
                'drop the line, or add wire = "sync" or "async"',
            )
    check_names(spec)
    check_opcodes(spec, opcodes, lock)


def check_words(entry: Entry) -> None:
    if entry.cls not in CLASSES:
        raise SpecError(
            entry.place,
            f"{entry.name}: class = {entry.cls!r} does not exist",
            f"use one of {', '.join(CLASSES)}",
        )
    for word, allowed in VALUES.items():
        value = getattr(entry, word)
        if value not in allowed:
            raise SpecError(
                entry.place,
                f"{entry.name}: {word} = {value!r} does not exist",
                f"use one of {', '.join(filter(None, allowed))}",
            )
    if entry.cls in ("hand", "refused") and not entry.why:
        raise SpecError(
            entry.place, f"{entry.name} is {entry.cls} without a reason", 'add why = "..."'
        )
    if entry.cls != "refused" and not entry.doc:
        raise SpecError(entry.place, f"{entry.name} has no doc", 'add doc = "one sentence"')
    if entry.cls in ("local", "alias", "refused") and entry.wire:
        raise SpecError(
            entry.place,
            f"{entry.name} is {entry.cls} and cannot have a wire form",
            "drop wire, or make it hand",
        )
    if entry.cls in WIRE_CLASSES and entry.wire != entry.cls:
        raise SpecError(
            entry.place, f"{entry.name}: wire = {entry.wire!r} contradicts its class", "drop wire"
        )


def check_alias(entry: Entry, spec: Spec) -> None:
    target = spec.entries.get(entry.same_as)
    if target is None or entry.same_as not in spec.signatures or target.cls in ("alias", "refused"):
        raise SpecError(
            entry.place,
            f"{entry.name} is an alias of {entry.same_as!r}, which is not served itself",
            "name a served function in same_as",
        )
    ours, theirs = spec.signatures[entry.name].parameters, spec.signatures[entry.same_as].parameters
    if [t for t, _ in ours] != [t for t, _ in theirs]:
        raise SpecError(
            entry.place,
            f"{entry.name} and {entry.same_as} have different parameters",
            "write it by hand",
        )


def check_names(spec: Spec) -> None:
    for name, entry in spec.entries.items():
        if entry.internal:
            if not name.startswith("orion"):
                raise SpecError(
                    entry.place,
                    f"{name} is not an operation of ours",
                    "call it orion<Something>, or move it to its chapter",
                )
            if entry.cls not in WIRE_CLASSES:
                raise SpecError(
                    entry.place,
                    f"{name} is internal and must be sent",
                    'make its class "sync" or "async"',
                )
        elif name not in spec.signatures:
            raise SpecError(
                entry.place,
                f"cuda.h declares no {name}",
                "correct the name, or move it to internal.toml",
            )
    for name, signature in spec.signatures.items():
        if name not in spec.entries:
            raise SpecError(
                signature.place,
                f"nothing is decided about {name}",
                "add an entry or a [[refuse]] name to its chapter",
            )


def check_operation(entry: Entry, spec: Spec) -> None:
    if not entry.internal:
        check_against_signature(entry, spec)
    check_touches(entry)
    for parameter in entry.parameters:
        check_parameter(entry, parameter)
    if entry.wire == "async":
        back = next((p for p in entry.parameters if p.form in ("out", "out_bytes")), None)
        if back is not None:
            raise SpecError(
                back.place,
                f"{entry.name} is async and cannot bring back {back.name}",
                "make it sync",
            )
        if entry.deferred:
            raise SpecError(
                entry.place,
                f"{entry.name} is async and has no reply to defer",
                "drop reply, or make it sync",
            )
    new = next((p for p in entry.parameters if p.form == "new"), None)
    if new is not None and entry.deferred:
        raise SpecError(
            new.place, f"{entry.name} cannot bind {new.name} when it answers later", "drop reply"
        )
    memory = next((p for p in entry.parameters if p.inner and p.inner.is_memory), None)
    if memory is not None and not entry.allocates:
        raise SpecError(
            entry.place,
            f"{entry.name} hands out memory ({memory.name}) without saying what is charged",
            'add allocates = "<size parameter>", "served" where its serving function charges, or "nothing"',
        )
    for word, value, forms in (
        ("allocates", entry.charged, ("value",)),
        ("destroys", entry.destroys, ("handle",)),
    ):
        if not value:
            continue
        named = entry.parameter(value)
        if named is None or named.form not in forms:
            raise SpecError(
                entry.place,
                f"{entry.name}: {word} = {value!r} names no {forms[0]} parameter",
                "name one of its parameters",
            )


def check_touches(entry: Entry) -> None:
    if not entry.touches:
        return
    if entry.cls not in ("sync", "async"):
        raise SpecError(
            entry.place, f"{entry.name} is {entry.cls}: no stub would check", "drop touches"
        )
    address, *amounts = entry.touched
    pointer = entry.parameter(address)
    if pointer is None or pointer.kind.name != "device_ptr" or len(amounts) not in (1, 3):
        raise SpecError(
            entry.place,
            f"{entry.name}: touches = {entry.touches!r} is no range of device memory",
            'write "<device_ptr>, <bytes>" or "<device_ptr>, <pitch>, <row bytes>, <rows>"',
        )
    for amount in amounts:
        found = AMOUNT.match(amount)
        named = entry.parameter(found["name"]) if found else None
        if named is None or named.form != "value":
            raise SpecError(
                entry.place,
                f"{entry.name}: {amount!r} in touches is no amount",
                'write "<parameter>" or "<parameter> * <number>"',
            )


def check_against_signature(entry: Entry, spec: Spec) -> None:
    signature = spec.signatures.get(entry.name)
    if signature is None:
        return  # check_names says it better
    declared = [name for _, name in signature.parameters]
    for parameter in entry.parameters:
        if parameter.name not in declared:
            raise SpecError(
                parameter.place,
                f"{entry.name} has no parameter {parameter.name}",
                f"its parameters are {', '.join(declared)}",
            )
    for name in declared:
        if entry.parameter(name) is None:
            raise SpecError(
                entry.place, f"{entry.name}: no kind for parameter {name}", f'add {name} = "<kind>"'
            )
    given = [p.name for p in entry.parameters]
    if given != declared:
        raise SpecError(
            entry.place,
            f"{entry.name}: parameters stand in another order than in cuda.h",
            f"order them {', '.join(declared)}",
        )
    for (text, name), parameter in zip(signature.parameters, entry.parameters, strict=True):
        wanted = expected_type(parameter)
        if wanted and not same_type(text, wanted):
            raise SpecError(
                parameter.place,
                f"{entry.name}: {name} is a {text!r} but kind {parameter.kind.name} is a {wanted!r}",
                "choose the kind that fits the type",
            )


def expected_type(parameter: Parameter) -> str:
    if parameter.form in ("out", "new"):
        assert parameter.inner is not None
        return f"{parameter.inner.c} *"
    return parameter.kind.c


def same_type(text: str, wanted: str) -> bool:
    def plain(name: str) -> str:
        stars = name.count("*")
        base = re.sub(r"\bconst\b|\*", "", name).strip()
        return SAME_TYPE.get(base, base) + "*" * stars

    enum_as_number = text.startswith("CU") and "*" not in text and wanted in ("int", "unsigned int")
    return plain(text) == plain(wanted) or enum_as_number


def check_parameter(entry: Entry, parameter: Parameter) -> None:
    if parameter.name in TAKEN:
        raise SpecError(
            parameter.place,
            f"{parameter.name} is a name that generated code uses itself",
            "rename it, or write the entry by hand",
        )
    if parameter.form == "bytes_in":
        length = entry.parameter(parameter.argument)
        if length is None or length.kind.name not in ("u32", "size", "u64"):
            raise SpecError(
                parameter.place,
                f"{parameter.name}: length {parameter.argument!r} is no u32 or size parameter of {entry.name}",
                "name the parameter that carries the length",
            )
    if parameter.form in ("flags", "out_bytes"):
        try:
            number = parameter.number
        except ValueError:
            raise SpecError(
                parameter.place,
                f"{parameter.name}: {parameter.kind.name}({parameter.argument}) needs a number",
                "write it as 0x1 or 512",
            ) from None
        if parameter.form == "out_bytes" and not 0 < number <= REPLY_BYTES:
            raise SpecError(
                parameter.place,
                f"{parameter.name}: at most {REPLY_BYTES} bytes fit into a reply",
                "make it smaller, or page it",
            )
    if parameter.optional and parameter.form != "out":
        raise SpecError(
            parameter.place,
            f"{parameter.name}: only out(...) may be optional",
            "drop the question mark",
        )


def check_opcodes(spec: Spec, opcodes: Mapping[str, int], lock: Source) -> None:
    """Every operation has its number, every number its operation, and no number is used twice."""
    seen: dict[int, str] = {}
    last = 0
    for name, number in opcodes.items():
        place = lock.place("opcodes", name)
        if not 1 <= number <= MAX_OPCODE:
            raise SpecError(
                place, f"opcode {number} of {name} is out of range", f"use 1 to {MAX_OPCODE}"
            )
        if number in seen:
            raise SpecError(
                place,
                f"opcode {number} belongs to {seen[number]} already",
                "append the next free number",
            )
        if number <= last:
            raise SpecError(
                place,
                f"opcode {number} of {name} is not appended in order",
                "numbers only ever grow; append at the end",
            )
        seen[number], last = name, number
    retired = set(lock.data.get("retired", {}))
    for name in opcodes:
        entry = spec.entries.get(name)
        if name not in retired and (entry is None or not entry.wire):
            raise SpecError(
                lock.place("opcodes", name),
                f"opcode {opcodes[name]} has no operation {name}",
                f"give {name} a wire form, or list it under [retired]",
            )
    for entry in spec.entries.values():
        if not entry.wire:
            continue
        if entry.name not in opcodes or entry.name in retired:
            raise SpecError(
                entry.place,
                f"{entry.name} has no opcode",
                f"append {entry.name} = {last + 1} to {lock.path.name}",
            )
        entry.opcode = opcodes[entry.name]
