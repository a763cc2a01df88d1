# SPDX-License-Identifier: Apache-2.0
"""A C file that holds our facts against a real cuda.h. Compiled by tests/abi alone; it includes what we never do."""

from __future__ import annotations

from collections.abc import Collection

from .model import CudaType, Spec
from .text import banner, cuda_parameters, join


def emit_abi(
    spec: Spec, headers: Collection[str], known: Collection[str], *, skip: Collection[str] = ()
) -> str:
    """`known` are the identifiers of the headers at hand: an older or newer release lacks some of our names.

    `skip` names values and structs that are known to differ in that release.
    """
    lines = [banner("emit_abi", "csrc/spec/cuda"), "#define __CUDA_API_VERSION_INTERNAL"]
    lines += [f"#include <{name}>" for name in headers] + ["#include <stddef.h>", ""]
    for t in spec.types.values():
        if t.kind in ("enum", "constants"):
            lines += value_lines(t, known, skip)
        elif t.members and t.name in known and t.name not in skip:
            lines += layout_lines(t, known)
    for s in spec.signatures.values():
        if s.header in headers:
            lines += [
                f"CUresult {n}({join(cuda_parameters(s))});"
                for n in (s.name, s.per_thread_name)
                if n in known
            ]
    return "\n".join(lines) + "\n"


def value_lines(t: CudaType, known: Collection[str], skip: Collection[str]) -> list[str]:
    return [
        f'_Static_assert((long long)({name}) == {value}, "{name}");'
        for name, value, _ in t.values
        if name in known and name not in skip
    ]


def layout_lines(t: CudaType, known: Collection[str]) -> list[str]:
    lines = [f'_Static_assert(sizeof({t.name}) == {t.size}, "sizeof {t.name}");']
    for offset, member, _ in t.members:
        if member and member in known and not member.startswith(("reserved", "pad")):
            lines.append(
                f'_Static_assert(offsetof({t.name}, {member}) == {offset}, "{t.name}.{member}");'
            )
    return lines
