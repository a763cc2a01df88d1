# SPDX-License-Identifier: Apache-2.0
"""One instruction at a time on edge values, against a model in Python integers and NumPy floats."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from ptxhost import Device

WIDTH = {"b8": 1, "b16": 2, "b32": 4, "b64": 8, "f32": 4, "f64": 8}


def register(type_: str) -> str:
    return {"u": "b", "s": "b"}.get(type_[0], type_[0]) + ("16" if type_[1:] == "8" else type_[1:])


def run(
    device: Device,
    body: str,
    inputs: Sequence[Sequence[int]],
    in_types: Sequence[str],
    out_type: str,
) -> list[int]:
    """Runs `body` for each row; %a, %b, %c are the inputs and %d the result, all as raw bits."""
    rows = len(inputs[0])
    sizes = [8] * len(inputs)
    lines = []
    for i, (name, type_) in enumerate(zip("abc", in_types, strict=False)):
        lines.append(
            f"ld.param.u64 %p, [k_param_{i}]; add.s64 %q, %p, %o; ld.global.{type_} %{name}, [%q];"
        )
    registers = " ".join(
        f".reg .{register(t)} %{n};" for n, t in zip("abc", in_types, strict=False)
    )
    params = ", ".join(f".param .u64 k_param_{i}" for i in range(len(inputs) + 1))
    source = f"""
.version 7.8
.target sm_80
.address_size 64
.visible .entry k({params})
{{
  .reg .b64 %p, %q, %o; .reg .b32 %t, %t2; .reg .pred %pr, %ps; .reg .b16 %h1, %h2; .reg .b64 %w1, %w2;
  .reg .f32 %f1, %f2; {registers} .reg .{register(out_type)} %d;
  mov.u32 %t, %tid.x; mul.wide.u32 %o, %t, 8;
  {" ".join(lines)}
  {body}
  ld.param.u64 %p, [k_param_{len(inputs)}]; add.s64 %q, %p, %o; st.global.{out_type} [%q], %d;
  ret;
}}
"""
    arrays = [np.array([v & (1 << 64) - 1 for v in column], np.uint64) for column in inputs]
    out = np.zeros(rows, np.uint64)
    del sizes
    device.load(source).launch("k", 1, rows, *arrays, out)
    mask = (1 << 8 * WIDTH["b" + out_type[1:]]) - 1
    return [int(v) & mask for v in out]


def bits32(value: float) -> int:
    with np.errstate(all="ignore"):
        return int(np.array([value], np.float32).view(np.uint32)[0])


def bits64(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def single(raw: int) -> np.float32:
    return np.array([raw], np.uint32).view(np.float32)[0]


EDGES = {
    16: [0, 1, 2, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x1234, 0xABCD],
    32: [0, 1, 2, 31, 32, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF, 0x12345678, 0xDEADBEEF],
    64: [
        0,
        1,
        63,
        64,
        (1 << 63) - 1,
        1 << 63,
        (1 << 64) - 1,
        0x123456789ABCDEF0,
        0xFEDCBA9876543210,
    ],
}


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def trunc_div(a: int, b: int) -> int:
    q = abs(a) // abs(b)
    return -q if (a < 0) != (b < 0) else q


def divide(a: int, b: int, bits: int) -> int:
    del bits
    return -1 if b == 0 else trunc_div(a, b)


def remainder(a: int, b: int, bits: int) -> int:
    del bits
    return a if b == 0 else a - b * trunc_div(a, b)


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


BINARY: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, n: a + b,
    "sub": lambda a, b, n: a - b,
    "mul.lo": lambda a, b, n: a * b,
    "mul.hi": lambda a, b, n: (a * b) >> n,
    "div": divide,
    "rem": remainder,
    "min": lambda a, b, n: min(a, b),
    "max": lambda a, b, n: max(a, b),
}


@pytest.mark.parametrize("type_", ["u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("op", list(BINARY))
def test_integer_binary(device: Device, op: str, type_: str) -> None:
    bits = int(type_[1:])
    pairs = [(a, b) for a in EDGES[bits] for b in EDGES[bits]]
    columns = [[p[0] for p in pairs], [p[1] for p in pairs]]
    got = run(device, f"{op}.{type_} %d, %a, %b;", columns, [f"b{bits}"] * 2, f"b{bits}")
    mask = (1 << bits) - 1
    view = (lambda v: signed(v, bits)) if type_[0] == "s" else (lambda v: v)
    assert got == [BINARY[op](view(a), view(b), bits) & mask for a, b in pairs]


@pytest.mark.parametrize("type_", ["b16", "b32", "b64", "u16", "s16", "u32", "s32", "u64", "s64"])
def test_shifts_clamp(device: Device, type_: str) -> None:
    bits = int(type_[1:])
    pairs = [
        (a, b) for a in EDGES[bits] for b in (0, 1, 7, 15, 16, 31, 32, 63, 64, 65, 255, 0xFFFFFFFF)
    ]
    columns = [[p[0] for p in pairs], [p[1] for p in pairs]]
    mask = (1 << bits) - 1
    right = run(device, f"shr.{type_} %d, %a, %b;", columns, [f"b{bits}", "b32"], f"b{bits}")
    assert right == [
        (signed(a, bits) >> min(b, bits)) & mask if type_[0] == "s" else (a >> b if b < bits else 0)
        for a, b in pairs
    ]
    if type_[0] == "b":
        left = run(device, f"shl.{type_} %d, %a, %b;", columns, [f"b{bits}", "b32"], f"b{bits}")
        assert left == [(a << b) & mask if b < bits else 0 for a, b in pairs]


@pytest.mark.parametrize("type_", ["u32", "s32", "u64", "s64"])
def test_bit_field_extract(device: Device, type_: str) -> None:
    bits = int(type_[1:])
    rows = [
        (a, p, n) for a in EDGES[bits] for p in (0, 1, 8, 31, 40, 255) for n in (0, 1, 5, 32, 64)
    ]
    got = run(
        device,
        f"bfe.{type_} %d, %a, %b, %c;",
        list(zip(*rows, strict=True)),
        [f"b{bits}", "b32", "b32"],
        f"b{bits}",
    )
    want = []
    for a, pos, length in rows:
        msb = bits - 1
        sign = 0 if type_[0] == "u" or length == 0 else a >> min(pos + length - 1, msb) & 1
        d = 0
        for i in range(bits):
            bit = a >> (pos + i) & 1 if i < length and pos + i <= msb else sign
            d |= bit << i
        want.append(d)
    assert got == want


@pytest.mark.parametrize("bits", [32, 64])
def test_bit_field_insert(device: Device, bits: int) -> None:
    rows = [
        (a, p, n) for a in EDGES[bits] for p in (0, 1, 8, 31, 40, 255) for n in (0, 1, 5, 32, 64)
    ]
    body = f"not.b{bits} %d, %a; bfi.b{bits} %d, %a, %d, %b, %c;"
    got = run(device, body, list(zip(*rows, strict=True)), [f"b{bits}", "b32", "b32"], f"b{bits}")
    want = []
    for a, pos, length in rows:
        d = ~a & (1 << bits) - 1
        for i in range(length):
            if pos + i < bits:
                d = d & ~(1 << pos + i) | (a >> i & 1 if i < bits else 0) << pos + i
        want.append(d)
    assert got == want


UNARY: dict[str, tuple[str, str, Callable[[int], int]]] = {
    "popc.b32": ("b32", "b32", lambda a: bin(a).count("1")),
    "popc.b64": ("b64", "b32", lambda a: bin(a).count("1")),
    "clz.b32": ("b32", "b32", lambda a: 32 - a.bit_length()),
    "clz.b64": ("b64", "b32", lambda a: 64 - a.bit_length()),
    "brev.b32": ("b32", "b32", lambda a: int(f"{a:032b}"[::-1], 2)),
    "brev.b64": ("b64", "b64", lambda a: int(f"{a:064b}"[::-1], 2)),
    "bfind.u32": ("b32", "b32", lambda a: a.bit_length() - 1),
    "bfind.s32": ("b32", "b32", lambda a: (~a & 0xFFFFFFFF if a >> 31 else a).bit_length() - 1),
    "bfind.shiftamt.u32": ("b32", "b32", lambda a: 32 - a.bit_length() if a else -1),
    "bfind.u64": ("b64", "b32", lambda a: a.bit_length() - 1),
    "not.b32": ("b32", "b32", lambda a: ~a),
    "cnot.b32": ("b32", "b32", lambda a: int(a == 0)),
    "neg.s32": ("b32", "b32", lambda a: -a),
    "abs.s32": ("b32", "b32", lambda a: abs(signed(a, 32))),
    "abs.s64": ("b64", "b64", lambda a: abs(signed(a, 64))),
}


@pytest.mark.parametrize("op", list(UNARY))
def test_integer_unary(device: Device, op: str) -> None:
    source, target, model = UNARY[op]
    values = EDGES[int(source[1:])]
    got = run(device, f"{op} %d, %a;", [values], [source], target)
    mask = (1 << int(target[1:])) - 1
    assert got == [model(v) & mask for v in values]


@pytest.mark.parametrize("from_", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("to", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("sat", ["", ".sat"])
def test_integer_conversion(device: Device, from_: str, to: str, sat: str) -> None:
    have, want_bits = int(from_[1:]), int(to[1:])
    values = sorted({v & (1 << have) - 1 for n in EDGES for v in EDGES[n]})
    got = run(
        device,
        f"cvt{sat}.{to}.{from_} %d, %a;",
        [values],
        [f"b{max(have, 16)}"],
        f"b{max(want_bits, 16)}",
    )
    out_bits = max(want_bits, 16)
    want = []
    for v in values:
        value = signed(v, have) if from_[0] == "s" else v
        if sat:
            low, high = (
                (-(1 << want_bits - 1), (1 << want_bits - 1) - 1)
                if to[0] == "s"
                else (0, (1 << want_bits) - 1)
            )
            value = clamp(value, low, high)
        value &= (1 << want_bits) - 1
        if to[0] == "s":
            value = signed(value, want_bits)
        want.append(value & (1 << out_bits) - 1)
    assert got == want


FLOATS = [
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.7,
    -3.7,
    1e9,
    -1e9,
    3e9,
    1e19,
    -1e19,
    1e38,
    math.inf,
    -math.inf,
    math.nan,
]
ROUND: dict[str, Callable[[float], float]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


@pytest.mark.parametrize("to", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
@pytest.mark.parametrize("mode", list(ROUND))
@pytest.mark.parametrize("from_", ["f32", "f64"])
def test_float_to_integer(device: Device, from_: str, to: str, mode: str) -> None:
    bits = int(to[1:])
    encode = bits32 if from_ == "f32" else bits64
    got = run(
        device,
        f"cvt.{mode}.{to}.{from_} %d, %a;",
        [[encode(v) for v in FLOATS]],
        [from_],
        f"b{max(bits, 16)}",
    )
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if to[0] == "s" else (0, (1 << bits) - 1)
    want = []
    for v in FLOATS:
        v = float(np.float32(v)) if from_ == "f32" else v
        if math.isnan(v):
            value = 1 << bits - 1 if from_ == "f64" or bits == 64 else 0
        elif math.isinf(v):
            value = high if v > 0 else low
        else:
            value = clamp(int(ROUND[mode](v)), low, high)
        value &= (1 << bits) - 1
        if to[0] == "s":
            value = signed(value, bits) & (1 << max(bits, 16)) - 1
        want.append(value)
    assert got == want


@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_rounding_modes_of_floats(device: Device, op: str, mode: str) -> None:
    from fractions import Fraction

    rng = np.random.default_rng(7)
    a, b = rng.uniform(-9, 9, 60).astype(np.float32), rng.uniform(-9, 9, 60).astype(np.float32)
    columns = [[int(v) for v in x.view(np.uint32)] for x in (a, b)]
    got = np.array(
        run(device, f"{op}.{mode}.f32 %d, %a, %b;", columns, ["f32", "f32"], "f32"), np.uint32
    ).view(np.float32)
    calculate = {
        "add": Fraction.__add__, "sub": Fraction.__sub__, "mul": Fraction.__mul__, "div": Fraction.__truediv__
    }[op]  # fmt: skip
    for x, y, g in zip(a, b, got, strict=True):
        exact = calculate(Fraction(float(x)), Fraction(float(y)))
        near = np.float32(float(exact))
        below = near if Fraction(float(near)) <= exact else np.nextafter(near, np.float32(-np.inf))
        above = near if Fraction(float(near)) >= exact else np.nextafter(near, np.float32(np.inf))
        want = {"rn": near, "rm": below, "rp": above, "rz": below if exact > 0 else above}[mode]
        assert g == want


def test_flush_to_zero(device: Device) -> None:
    tiny = [1, 0x80000001, 0x007FFFFF, 0x00800000, bits32(1.0)]
    got = run(device, "mul.ftz.f32 %d, %a, 0f3F800000;", [tiny], ["f32"], "f32")
    assert got == [0, 0x80000000, 0, 0x00800000, bits32(1.0)]
    assert run(device, "mul.f32 %d, %a, 0f3F800000;", [tiny], ["f32"], "f32") == tiny
    # A product that is subnormal is flushed as well.
    assert run(device, "mul.ftz.f32 %d, %a, 0f3F000000;", [[0x00800000]], ["f32"], "f32") == [0]


def test_saturation_of_floats(device: Device) -> None:
    values = [-1.0, 0.25, 1.0, 7.0, math.nan, -math.inf, math.inf]
    got = run(
        device, "add.sat.f32 %d, %a, 0f00000000;", [[bits32(v) for v in values]], ["f32"], "f32"
    )
    assert [float(single(v)) for v in got] == [0, 0.25, 1, 1, 0, 0, 1]


def test_minimum_and_nan(device: Device) -> None:
    nan, one = bits32(math.nan), bits32(1.0)
    got = run(
        device,
        "min.f32 %d, %a, %b;",
        [[nan, one, 0, bits32(-0.0)], [one, nan, bits32(-0.0), 0]],
        ["f32"] * 2,
        "f32",
    )
    assert got == [one, one, bits32(-0.0), bits32(-0.0)]
    got = run(device, "max.NaN.f32 %d, %a, %b;", [[nan, one], [one, nan]], ["f32"] * 2, "f32")
    assert all(math.isnan(single(v)) for v in got)


@pytest.mark.parametrize(
    "name",
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"],
)
def test_float_comparison(device: Device, name: str) -> None:
    values = [0.0, -0.0, 1.0, -1.0, math.inf, math.nan]
    pairs = [(a, b) for a in values for b in values]
    columns = [[bits32(p[0]) for p in pairs], [bits32(p[1]) for p in pairs]]
    got = run(
        device, f"setp.{name}.f32 %pr, %a, %b; selp.b32 %d, 1, 0, %pr;", columns, ["f32"] * 2, "b32"
    )
    plain = {
        "eq": "__eq__",
        "ne": "__ne__",
        "lt": "__lt__",
        "le": "__le__",
        "gt": "__gt__",
        "ge": "__ge__",
    }
    want = []
    for a, b in pairs:
        unordered = math.isnan(a) or math.isnan(b)
        if name == "num":
            want.append(int(not unordered))
        elif name == "nan":
            want.append(int(unordered))
        elif unordered:
            want.append(int(name.endswith("u")))
        else:
            want.append(int(getattr(a, plain[name.rstrip("u") if name not in plain else name])(b)))
    assert got == want


def test_half_conversions(device: Device) -> None:
    values = np.concatenate(
        [
            np.array([0, -0.0, 1, 65504, 65519, 65520, 1e6, 5.96e-8, 2.9e-8, 6e-5, np.inf]),
            np.linspace(-3, 3, 40),
        ]
    )
    with np.errstate(over="ignore"):
        want = values.astype(np.float16).view(np.uint16)
    got = run(device, "cvt.rn.f16.f64 %d, %a;", [[bits64(v) for v in values]], ["f64"], "b16")
    assert got == [int(v) for v in want]
    halves = [int(v) for v in np.arange(0, 65536, 97, dtype=np.uint16)]
    got = run(device, "cvt.f32.f16 %d, %a;", [halves], ["b16"], "f32")
    expected = np.array(halves, np.uint16).view(np.float16).astype(np.float32)
    assert np.array_equal(np.array(got, np.uint32).view(np.float32), expected, equal_nan=True)


def test_bf16_conversions(device: Device) -> None:
    values = [1.0, 1.00390625, 1.01171875, -3.14159, 3.4e38, math.inf]
    got = run(device, "cvt.rn.bf16.f32 %d, %a;", [[bits32(v) for v in values]], ["f32"], "b16")
    want = []
    for v in values:
        raw = bits32(v)
        want.append((raw + 0x7FFF + (raw >> 16 & 1)) >> 16 if math.isfinite(v) else raw >> 16)
    assert got == want


def test_carry_chain(device: Device) -> None:
    rows = [(0xFFFFFFFF, 1), (5, 7), (0x80000000, 0x80000000), (0, 0)]
    columns = [[r[0] for r in rows], [r[1] for r in rows]]
    got = run(device, "add.cc.u32 %t, %a, %b; addc.u32 %d, 10, 20;", columns, ["b32"] * 2, "b32")
    assert got == [31, 30, 31, 30]
    got = run(device, "sub.cc.u32 %t, %a, %b; subc.u32 %d, 10, 20;", columns, ["b32"] * 2, "b32")
    assert got == [(-10 - (a < b)) & 0xFFFFFFFF for a, b in rows]
    got = run(
        device,
        "mad.lo.cc.u32 %t, %a, %b, %b; madc.hi.u32 %d, %a, %b, 0;",
        columns,
        ["b32"] * 2,
        "b32",
    )
    assert got == [(a * b >> 32) + (((a * b & 0xFFFFFFFF) + b) >> 32) & 0xFFFFFFFF for a, b in rows]


MISC: dict[str, tuple[list[list[int]], list[str], str, list[int]]] = {
    "mul24.hi.u32 %d, %a, %b;": ([[0xFFFFFF, 0x123456], [0xFFFFFF, 0xABCDEF]], ["b32", "b32"], "b32",
                                 [0xFFFFFF * 0xFFFFFF >> 16, 0x123456 * 0xABCDEF >> 16]),
    "mul24.lo.s32 %d, %a, %b;": ([[0xFFFFFF], [5]], ["b32", "b32"], "b32", [(-5) & 0xFFFFFFFF]),
    "mad.hi.s32 %d, %a, %b, 7;": ([[0x80000000], [4]], ["b32", "b32"], "b32", [5]),
    "mad.wide.s32 %d, %a, %b, %w1;": ([[0xFFFFFFFF], [4]], ["b32", "b32"], "b64", [(-4) & 0xFFFFFFFFFFFFFFFF]),
    "sad.u32 %d, %a, %b, 100;": ([[5, 9], [9, 5]], ["b32", "b32"], "b32", [104, 104]),
    "shf.l.wrap.b32 %d, %a, %b, 8;": ([[0x11223344], [0xAABBCCDD]], ["b32", "b32"], "b32", [0xBBCCDD11]),
    "shf.r.clamp.b32 %d, %a, %b, 40;": ([[0x11223344], [0xAABBCCDD]], ["b32", "b32"], "b32", [0xAABBCCDD]),
    "shf.r.wrap.b32 %d, %a, %b, 40;": ([[0x11223344], [0xAABBCCDD]], ["b32", "b32"], "b32", [0xDD112233]),
    "prmt.b32 %d, %a, %b, 0x7240;": ([[0x33221100], [0x77665544]], ["b32", "b32"], "b32", [0x77224400]),
    "prmt.b32 %d, %a, %b, 0xF8A9;": ([[0x33F21180], [0x77665544]], ["b32", "b32"], "b32", [0x00FFFF00]),
    "prmt.b32.f4e %d, %a, %b, 1;": ([[0x33221100], [0x77665544]], ["b32", "b32"], "b32", [0x44332211]),
    "lop3.b32 %d, %a, %b, %t2, 0x96;": ([[0b1100], [0b1010]], ["b32", "b32"], "b32", [0b0110]),
    "lop3.b32 %d, %a, %b, -1, 0xE8;": ([[0b1100], [0b1010]], ["b32", "b32"], "b32", [0b1110]),
    "dp4a.s32.s32 %d, %a, %b, 10;": ([[0xFF020304], [0x01010102]], ["b32", "b32"], "b32", [10 - 1 + 2 + 3 + 8]),
    "dp2a.lo.u32.u32 %d, %a, %b, 1;": ([[0x00030002], [0x00000504]], ["b32", "b32"], "b32", [1 + 8 + 15]),
    "vabsdiff4.u32.u32.u32.add %d, %a, %b, 3;": ([[0x01020304], [0x04030201]], ["b32", "b32"], "b32", [11]),
    "bmsk.clamp.b32 %d, %a, %b;": ([[4, 28, 0], [8, 8, 32]], ["b32", "b32"], "b32", [0xFF0, 0xF0000000, 0xFFFFFFFF]),
    "fns.b32 %d, %a, 0, %b;": ([[0b10110, 0b10110], [1, 3]], ["b32", "b32"], "b32", [1, 4]),
    "set.lt.u32.s32 %d, %a, %b;": ([[0xFFFFFFFF, 3], [0, 1]], ["b32", "b32"], "b32", [0xFFFFFFFF, 0]),
    "slct.s32.s32 %d, %a, %b, -1;": ([[5], [6]], ["b32", "b32"], "b32", [6]),
    "add.sat.s32 %d, %a, %b;": ([[0x7FFFFFFF, 0x80000000], [5, 0xFFFFFFFF]], ["b32", "b32"], "b32",
                                [0x7FFFFFFF, 0x80000000]),
    "copysign.f32 %d, %a, %b;": ([[bits32(-1.0)], [bits32(5.0)]], ["f32", "f32"], "f32", [bits32(-5.0)]),
    "testp.subnormal.f32 %pr, %a; selp.b32 %d, 1, 0, %pr;": ([[1, bits32(1.0)]], ["f32"], "b32", [1, 0]),
    "mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};": ([[0x12345678]], ["b32"], "b32", [0x56781234]),
    "setp.gt.s32 %pr|%ps, %a, 3; selp.b32 %d, 1, 0, %ps;": ([[4, 2]], ["b32"], "b32", [0, 1]),
    "setp.lt.and.s32 %pr, %a, 9, %ps; selp.b32 %d, 1, 0, %pr;": ([[4]], ["b32"], "b32", [0]),
    "mov.b32 %d, 1; @%ps mov.b32 %d, 2; @!%ps add.s32 %d, %d, %a;": ([[4]], ["b32"], "b32", [5]),
    "{ .reg .b32 %a; mov.b32 %a, 77; mov.b32 %d, %a; } add.s32 %d, %d, %a;": ([[4]], ["b32"], "b32", [81]),
    "fma.rn.f16x2 %d, %a, %b, %a;": ([[0x3C004000], [0x40003C00]], ["b32", "b32"], "b32", [0x42004400]),
    "max.s16x2 %d, %a, %b;": ([[0x0001FFFF], [0xFFFF0002]], ["b32", "b32"], "b32", [0x00010002]),
    "cvt.rn.f16x2.f32 %d, %a, %b;": ([[bits32(1.0)], [bits32(2.0)]], ["f32", "f32"], "b32", [0x3C004000]),
    "neg.f16x2 %d, %a;": ([[0x3C00BC00]], ["b32"], "b32", [0xBC003C00]),
    "ex2.approx.f32 %d, %a;": ([[bits32(3.0)]], ["f32"], "f32", [bits32(8.0)]),
    "lg2.approx.f32 %d, %a;": ([[bits32(8.0)]], ["f32"], "f32", [bits32(3.0)]),
    "rcp.approx.ftz.f32 %d, %a;": ([[bits32(4.0), 0]], ["f32"], "f32", [bits32(0.25), bits32(math.inf)]),
    "tanh.approx.f32 %d, %a;": ([[0]], ["f32"], "f32", [0]),
    "isspacep.shared %pr, %a; selp.b32 %d, 1, 0, %pr;": ([[16]], ["b64"], "b32", [0]),
    "mul.wide.s16 %d, %h1, -5; mov.b32 %d, %a;": ([[3]], ["b32"], "b32", [3]),
}  # fmt: skip


@pytest.mark.parametrize("body", list(MISC))
def test_single_instruction(device: Device, body: str) -> None:
    inputs, in_types, out_type, want = MISC[body]
    assert run(device, body, inputs, in_types, out_type) == want
