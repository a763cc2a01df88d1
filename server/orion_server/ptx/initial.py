# SPDX-License-Identifier: Apache-2.0
"""The memory image of a module's variables: layout, initial values, and the places that hold addresses."""

from __future__ import annotations

import re
import struct

from .errors import PtxError
from .layout import FUNCTION_TAG
from .model import BITS, ModuleData, Relocation, Variable

_TOKEN = re.compile(r"\s*([{},]|[^{},]+)")
_FLOAT = re.compile(r"0[fF]([0-9a-fA-F]{8})$|0[dD]([0-9a-fA-F]{16})$")
_ADDRESS = re.compile(r"(?:generic\s*\(\s*([\w$]+)\s*\)|([A-Za-z_$][\w$]*))\s*(?:([+-])\s*(\d+))?$")
_INT = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
MAX_DATA = 1 << 32


def _integer(text: str) -> int:
    text = text.rstrip("U")
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text)
    if len(digits) > 80:
        raise ValueError("too long")
    if digits[:2] in ("0x", "0X", "0b", "0B"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


def _element(text: str, scalar: str) -> bytes | tuple[str, int]:
    """The bytes of one element, or (symbol, addend)."""
    width = BITS[scalar] // 8
    hexed = _FLOAT.match(text)
    if hexed:
        if hexed[1]:
            raw = bytes.fromhex(hexed[1])[::-1]
            return raw if width == 4 else struct.pack("<d", struct.unpack("<f", raw)[0])
        raw = bytes.fromhex(hexed[2])[::-1]
        return raw if width == 8 else struct.pack("<f", struct.unpack("<d", raw)[0])
    if _INT.match(text):
        if scalar in ("f32", "f64"):
            return struct.pack("<f" if width == 4 else "<d", float(_integer(text)))
        return (_integer(text) & ((1 << 8 * width) - 1)).to_bytes(width, "little")
    if scalar in ("f32", "f64"):
        return struct.pack("<f" if width == 4 else "<d", float(text))
    address = _ADDRESS.match(text)
    if address is None or width != 8:
        raise ValueError(text)
    return address[1] or address[2], int(address[4] or 0) * (-1 if address[3] == "-" else 1)


def _fill(variable: Variable, image: bytearray, relocations: list[tuple[int, str, int]]) -> None:
    width = BITS[variable.scalar] // 8
    at = 0
    for match in _TOKEN.finditer(variable.initial):
        token = match[1].strip()
        if token in ("", "{", "}", ","):
            continue
        if at + width > variable.size:
            raise ValueError("more values than elements")
        value = _element(token, variable.scalar)
        place = variable.offset + at
        if isinstance(value, bytes):
            image[place : place + width] = value
        else:
            relocations.append((place, value[0], value[1]))
        at += width


def lay_out(variables: dict[str, Variable], functions: dict[str, int]) -> ModuleData:
    """Places constants first, then globals; module memory is one block."""
    data = ModuleData()
    placed: list[Variable] = []
    for space in ("const", "global"):
        data.size = (data.size + 255) & -256 if placed else data.size
        begin = data.size
        for variable in variables.values():
            if variable.space != space or variable.scalar not in BITS or variable.extern:
                continue
            data.size = (data.size + variable.align - 1) & -variable.align
            data.align = max(data.align, variable.align)
            variable.offset = data.size
            data.size += variable.size
            if data.size > MAX_DATA:
                raise PtxError("the module's variables are too large", variable.line)
            data.variables[variable.name] = (variable.offset, variable.size, space)
            placed.append(variable)
        if space == "const":
            data.const_begin, data.const_end = begin, data.size
    if not any(v.initial for v in placed):
        return data
    image = bytearray(max(v.offset + v.size for v in placed if v.initial))
    pending: list[tuple[int, str, int]] = []
    for variable in placed:
        if variable.initial:
            try:
                _fill(variable, image, pending)
            except (ValueError, OverflowError, struct.error) as error:
                raise PtxError(
                    f"cannot read the initial value of {variable.name}: {error}", variable.line
                ) from None
    for place, name, addend in pending:
        if name in data.variables:
            data.relocations.append(Relocation(place, data.variables[name][0], addend, False))
        elif name in functions:
            # The value of a function pointer does not depend on where anything lies.
            value = (FUNCTION_TAG + functions[name] + addend) & (1 << 64) - 1
            image[place : place + 8] = value.to_bytes(8, "little")
            data.relocations.append(Relocation(place, functions[name], addend, True))
        else:
            raise PtxError(f"an initial value names {name}, which is not defined")
    data.image = bytes(image)
    return data
