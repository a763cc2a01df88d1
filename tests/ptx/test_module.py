# SPDX-License-Identifier: Apache-2.0
"""Reading modules: what the index knows, what is refused and how, and text that is not PTX."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from orion_server.ptx import (
    MemoryCache,
    PtxError,
    compile_kernel,
    parse_module,
    supported_forms,
    translate,
)
from orion_server.ptx.layout import BLOCK, KERNEL_BYTES, Sync
from ptxhost import SOURCE, Device, Loaded

KERNELS = Path(__file__).parent / "kernels"
HEAD = ".version 7.8\n.target sm_80\n.address_size 64\n"


def test_index_lists_kernels_and_parameters() -> None:
    module = parse_module((KERNELS / "basics.ptx").read_text())
    info = module.kernels["saxpy"]
    assert info.params == [(0, 4), (8, 8), (16, 8), (24, 8)]
    assert info.param_bytes == 32
    assert module.kernels["by_value"].params == [(0, 32), (32, 8), (40, 8)]


def test_index_knows_shared_memory_and_limits() -> None:
    text = HEAD + (
        ".extern .shared .align 16 .b8 dyn[];\n.visible .entry k(.param .u32 a) .maxntid 64, 2, 1 {\n"
        ".shared .align 4 .b8 s[100]; .reg .b32 %r<3>; mov.u32 %r1, s; mov.u32 %r2, dyn; ret;\n}\n"
    )
    info = parse_module(text).kernels["k"]
    assert info.max_threads == 128
    assert info.static_shared == 112  # dynamic shared memory begins at a multiple of 16


def test_variables_lie_in_one_block_with_their_values() -> None:
    module = parse_module(
        HEAD + ".global .align 4 .b8 a[6] = {1, 2, 3};\n.const .f32 c = 0f3F800000;\n"
        ".global .u64 p = generic(a)+2;\n.global .align 8 .u32 m[2][2] = {{1, 2}, {3, 0xFF}};\n"
        ".global .f64 d = 0d4000000000000000;\n"
    )
    data = module.data
    offset = data.variables["a"][0]
    assert data.image[offset : offset + 3] == b"\1\2\3"
    at, size, space = data.variables["c"]
    assert (data.image[at : at + 4], size, space) == (b"\0\0\x80\x3f", 4, "const")
    assert data.const_begin <= at < data.const_end
    (relocation,) = data.relocations
    assert (relocation.offset, relocation.target, relocation.addend) == (
        data.variables["p"][0],
        offset,
        2,
    )
    m = data.variables["m"][0]
    assert data.image[m : m + 16] == bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 255, 0, 0, 0])


def test_unsupported_instruction_fails_its_kernel_alone() -> None:
    text = HEAD + (
        ".visible .entry good() { ret; }\n.visible .entry bad()\n{\n  .reg .b32 %r<4>;\n"
        "  wmma.load.a.sync.aligned.row.m16n16k16.f16 {%r1}, [%r2];\n  ret;\n}\n"
    )
    module = parse_module(text)
    compile_kernel(module, "good")
    with pytest.raises(PtxError, match=r"bad: unsupported instruction `wmma\.load.*` at line 8"):
        compile_kernel(module, "bad")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("add.s32 %r1, %r2;", "too few operands"),
        ("add.s32 %r1, %r2, %nope;", "is not known"),
        ("frobnicate.s32 %r1;", "unsupported instruction"),
        ("add.s128 %r1, %r1, %r1;", "unsupported instruction"),
        ("bra nowhere;", "not defined"),
        ("mov.u32 %r1, missing;", "has no memory"),
        ("call missing, ();", "is not defined"),
        ("}", "unbalanced|malformed"),
        ("ld.global.u32 %r1, [;", "malformed|cannot read"),
        ("mov.u32 %r1, 0f12;", "not known|wrong number"),
    ],
)
def test_faults_are_named(body: str, message: str) -> None:
    text = HEAD + ".visible .entry k() {\n .reg .b32 %r<9>;\n" + body + "\n ret;\n}\n"

    def read_and_translate() -> None:
        translate(parse_module(text), "k")

    with pytest.raises(PtxError, match=message):
        read_and_translate()


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(PtxError, match="no kernel named"):
        compile_kernel(parse_module(HEAD), "k")


def test_32_bit_addresses_are_refused() -> None:
    with pytest.raises(PtxError, match="address_size"):
        parse_module(".version 7.8\n.target sm_80\n.address_size 32\n")


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000,
        "/*" * 100_000,
        ".entry k(" * 10_000,
        HEAD + ".global .b8 a[99999999999999];",
        HEAD + ".visible .entry k() {" + "{" * 1000 + "}" * 1001,
        HEAD + ".visible .entry k() { .reg .b32 %r<99999999999>; mov.u32 %r99999999, 1; ret; }",
        HEAD + ".visible .entry k() { .local .b8 x[4000000000]; ret; }",
        HEAD + ".visible .entry k() { mov.u32 " + "(" * 50_000 + "; }",
        HEAD + ".visible .entry k() { .reg .b32 %r; add.u32 %r, %r, " + "9" * 5000 + "; ret; }",
        HEAD + "\0\xff\u1234",
    ],
    ids=range(10),
)
def test_hostile_text_is_refused_or_bounded(text: str) -> None:
    try:
        module = parse_module(text)
        for name in module.kernels:
            translate(module, name)
    except PtxError:
        pass


@pytest.mark.parametrize("name", ["basics", "barriers", "warps", "atomics", "calls"])
def test_damaged_text_raises_nothing_but_ptx_errors(name: str) -> None:
    rng = random.Random(name)
    text = (KERNELS / f"{name}.ptx").read_text()
    words = [w for w in text.split() if w]
    for _ in range(60):
        at, size = rng.randrange(len(text)), rng.randrange(1, 40)
        kind = rng.randrange(4)
        if kind == 0:
            damaged = text[:at] + text[at + size :]
        elif kind == 1:
            damaged = text[:at] + rng.choice(words) + text[at:]
        elif kind == 2:
            damaged = text[:at] + chr(rng.randrange(1, 255)) + text[at + 1 :]
        else:
            other = rng.randrange(len(text))
            damaged = text[:at] + text[other : other + size] + text[at:]
        try:
            module = parse_module(damaged)
        except PtxError:
            continue
        for kernel in list(module.kernels)[:6]:
            try:
                translate(module, kernel)
            except PtxError:
                continue


def test_cache_returns_the_same_object(device: Device) -> None:
    del device
    cache = MemoryCache()
    text = (KERNELS / "basics.ptx").read_text()
    first = compile_kernel(parse_module(text), "saxpy", cache=cache)
    second = compile_kernel(parse_module(text), "saxpy", cache=cache)
    assert (first.cached, second.cached) == (False, True)
    assert first.object_bytes == second.object_bytes
    assert len(first.descriptor) == KERNEL_BYTES


def test_cache_key_covers_what_the_kernel_calls(device: Device) -> None:
    del device
    cache = MemoryCache()
    text = (KERNELS / "calls.ptx").read_text()
    compile_kernel(parse_module(text), "recursion", cache=cache)
    # Another body of the called function must give another object.
    changed = text.replace("setp.lt.s32", "setp.le.s32", 1)
    assert changed != text
    assert not compile_kernel(parse_module(changed), "recursion", cache=cache).cached


def test_damaged_cache_entry_is_ignored(device: Device) -> None:
    del device

    class Liar(MemoryCache):
        def get(self, key: str) -> bytes | None:
            blob = super().get(key)
            return None if blob is None else blob[:-1] + bytes([blob[-1] ^ 1])

    cache = Liar()
    module = parse_module((KERNELS / "basics.ptx").read_text())
    compile_kernel(module, "vector_add", cache=cache)
    assert not compile_kernel(module, "vector_add", cache=cache).cached


def test_every_opcode_has_a_line_in_the_list_of_forms() -> None:
    rows = supported_forms()
    assert {"add", "ld", "shfl", "atom", "cvt"} <= {r[0] for r in rows}
    assert all(row[3] for row in rows)


def test_layout_is_that_of_the_headers(tmp_path: Path) -> None:
    names = {"result_pred": "result_pred"}
    lines = []
    for name, (offset, _) in BLOCK.items():
        field = names.get(name, name)
        if field[-2:] in (".x", ".y", ".z"):
            field = f"{field[:-2]}[{'xyz'.index(field[-1])}]"
        elif field.startswith("arg"):
            field = f"arg[{field[3:]}]"
        lines.append(
            f'_Static_assert(offsetof(struct orion_cpu_block, {field}) == {offset}, "{name}");'
        )
    for kind in Sync:
        c_name = {"MATCH": "MATCH", "BARRIER_RED": "BARRIER_RED"}.get(kind.name, kind.name)
        lines.append(f'_Static_assert(ORION_CPU_SYNC_{c_name} == {int(kind)}, "{kind.name}");')
    lines.append(f'_Static_assert(sizeof(orion_cpu_kernel_t) == {KERNEL_BYTES}, "kernel");')
    source = tmp_path / "layout.c"
    source.write_text('#include "block.h"\n' + "\n".join(lines) + "\n")
    subprocess.run(
        ["cc", "-std=c11", "-D_GNU_SOURCE", f"-I{SOURCE}", "-c", str(source), "-o", "/dev/null"],
        check=True,
    )


def test_fresh_cuda_sources(device: Device, nvcc: Callable[[str], str]) -> None:
    import numpy as np

    loaded: Loaded = device.load(
        nvcc('extern "C" __global__ void k(int *p) { p[threadIdx.x] *= 3; }')
    )
    data = np.arange(32, dtype=np.int32)
    loaded.launch("k", 1, 32, data)
    assert np.array_equal(data, np.arange(32) * 3)


def test_parameter_has_an_address(device: Device) -> None:
    import numpy as np

    text = HEAD + (
        ".visible .entry k(.param .align 4 .b8 table[16], .param .u64 out) {\n"
        ".reg .b64 %p, %q; .reg .b32 %t, %v;\n mov.u32 %t, %tid.x; mul.wide.u32 %p, %t, 4;\n"
        "mov.b64 %q, table; add.s64 %q, %q, %p; ld.param.u32 %v, [%q];\n"
        "ld.param.u64 %q, [out]; add.s64 %q, %q, %p; st.global.u32 [%q], %v; ret; }\n"
    )
    table, out = np.array([5, 6, 7, 8], np.int32), np.zeros(4, np.int32)
    device.load(text).launch("k", 1, 4, table.tobytes(), out)
    assert np.array_equal(table, out)
