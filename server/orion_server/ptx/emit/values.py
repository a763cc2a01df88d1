# SPDX-License-Identifier: Apache-2.0
"""LLVM types and literals for PTX types and immediates. Registers are plain bits; each use casts to what it needs."""

from __future__ import annotations

import struct

from ..model import BITS, Imm

LLVM_BITS: dict[str, int] = {
    "i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "i128": 128,
    "half": 16, "float": 32, "double": 64, "ptr": 64, "<2 x half>": 32,
}  # fmt: skip
_FLOAT = {"f16": "half", "f32": "float", "f64": "double", "f16x2": "<2 x half>"}


def int_type(ptx: str) -> str:
    """The integer type that holds a PTX type."""
    return f"i{BITS[ptx]}"


def value_type(ptx: str) -> str:
    """The LLVM type in which arithmetic on a PTX type happens."""
    return _FLOAT.get(ptx) or f"i{BITS[ptx]}"


def is_float(llvm: str) -> bool:
    return llvm in ("float", "double", "half", "<2 x half>")


def is_signed(ptx: str) -> bool:
    return ptx[0] == "s"


def int_literal(value: int, bits: int) -> str:
    if bits == 1:
        return "true" if value & 1 else "false"
    value &= (1 << bits) - 1
    if value >> (bits - 1):
        value -= 1 << bits
    return str(value)


def _widen(bits32: int) -> int:
    """float32 bits -> float64 bits of the same value, NaN payloads kept."""
    sign, exponent, fraction = bits32 >> 31, bits32 >> 23 & 0xFF, bits32 & 0x7FFFFF
    if exponent == 0xFF:
        return sign << 63 | 0x7FF << 52 | fraction << 29
    value: float = struct.unpack("<f", struct.pack("<I", bits32))[0]
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def float_literal(bits_: int, width: int) -> str:
    """LLVM writes float constants as the bits of the double of the same value."""
    return f"0x{_widen(bits_):016X}" if width == 32 else f"0x{bits_:016X}"


def float_constant(value: float) -> str:
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


def _narrow(bits64: int) -> int:
    value: float = struct.unpack("<d", struct.pack("<Q", bits64))[0]
    try:
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    except OverflowError:
        return 0xFF800000 if value < 0 else 0x7F800000


def literal(imm: Imm, llvm: str) -> str:
    """An immediate as a constant of an LLVM type."""
    width = LLVM_BITS[llvm]
    if llvm in ("float", "double"):
        bits_ = imm.value & ((1 << max(imm.float_bits, width)) - 1)
        if imm.float_bits and imm.float_bits != width:
            bits_ = _widen(bits_) if width == 64 else _narrow(bits_)
        return float_literal(bits_ & ((1 << width) - 1), width)
    value = imm.value
    if imm.float_bits == 64 and width == 32:
        value = _narrow(value)
    if llvm == "half":
        return f"0xH{value & 0xFFFF:04X}"
    if llvm == "<2 x half>":
        return f"<half 0xH{value & 0xFFFF:04X}, half 0xH{value >> 16 & 0xFFFF:04X}>"
    return int_literal(value, width)
