# SPDX-License-Identifier: Apache-2.0
"""orion_cuda.h: our own declarations of CUDA's types, and the cffi text of types and functions."""

from __future__ import annotations

import re

from .model import CudaType, Spec
from .text import banner, cuda_parameters, join

GUARD = "ORION_GENERATED_ORION_CUDA_H"


def type_lines(t: CudaType, plain: bool) -> list[str]:
    """One type as C. `plain` leaves out what cffi cannot read."""
    if t.kind == "enum":
        values = [f"  {name} = {value}," for name, value, _ in t.values]
        return [f"typedef enum {t.tag or t.name + '_enum'} {{", *values, f"}} {t.name};"]
    if t.kind in ("struct", "union"):
        if not t.members:
            return [f"typedef {t.kind} {t.tag} {t.name};"]
        members = [f"  {cffi_member(t, i) if plain else m[2]};" for i, m in enumerate(t.members)]
        lines = [f"typedef {t.kind} {t.tag} {{", *members, f"}} {t.name};"]
        if not plain:
            lines.append(f'_Static_assert(sizeof({t.name}) == {t.size}, "ABI of {t.name}");')
        return lines
    if t.kind == "handle":
        return [f"typedef struct {t.tag} *{t.name};"]
    if t.kind == "constants":
        return constant_lines(t, plain)
    return [f"typedef {t.declaration};"]


def cffi_member(t: CudaType, index: int) -> str:
    """cffi knows no alignment and no sizeof in an array's length: take that from the next offset."""
    offset, _, text = t.members[index]
    text = re.sub(r"_Alignas\(\d+\) ", "", text)
    if "sizeof" not in text:
        return text
    end = t.members[index + 1][0] if index + 1 < len(t.members) else t.size
    return re.sub(r"\[.*\]$", f"[{end - offset}]", text)


def constant_lines(t: CudaType, plain: bool) -> list[str]:
    lines = []
    for name, value, cast in t.values:
        if not plain:
            text = (
                f"(({cast.replace('void*', 'void *')}){value})"
                if cast
                else str(value)
                if value >= 0
                else f"({value})"
            )
            lines.append(f"#define {name} {text}")
        elif not cast:
            lines.append(f"#define {name} {value}")
    return lines


def emit_header(spec: Spec) -> str:
    lines = [
        banner("emit_types", "csrc/spec/cuda"),
        f"#ifndef {GUARD}",
        f"#define {GUARD}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "",
    ]
    for t in spec.types.values():
        lines += [*type_lines(t, plain=False), ""]
    lines += ["#endif", ""]
    return "\n".join(lines)


def emit_cdef(spec: Spec) -> str:
    """What cffi.FFI().cdef() takes: the types, then every function of cuda.h with its per-thread variant."""
    lines = []
    for t in spec.types.values():
        lines += type_lines(t, plain=True)
    for s in spec.signatures.values():
        if s.header not in ("cuda.h", "cudaProfiler.h"):
            continue
        parameters = join(cuda_parameters(s))
        lines += [f"CUresult {name}({parameters});" for name in (s.name, s.per_thread_name) if name]
    return "\n".join(lines) + "\n"


def emit_map(spec: Spec) -> str:
    """The linker's version script: CUDA's names, our marker, and nothing else."""
    names = [name for s in spec.signatures.values() for name in (s.name, s.per_thread_name) if name]
    rows = "\n".join(f"    {name};" for name in [*sorted(names), "orion_shim_marker"])
    return f"{banner('emit_types')}{{\n  global:\n{rows}\n  local:\n    *;\n}};\n"
