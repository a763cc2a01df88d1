# SPDX-License-Identifier: Apache-2.0
"""Special registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .function import FunctionEmitter, Value

_FIELDS = {f"%{r}.{a}": f"{r}.{a}" for r in ("ntid", "ctaid", "nctaid") for a in "xyz"}
_ZERO = frozenset(("%smid", "%gridid", "%envreg0", "%envreg3"))
_SMEM = {
    "%dynamic_smem_size": "dynamic_shared",
    "%total_smem_size": "shared_bytes",
    "%aggr_smem_size": "shared_bytes",
}


def special_register(f: FunctionEmitter, name: str) -> Value:
    """The value of a special register for the running thread."""
    if name.startswith("%tid."):
        return f.thread_index(name[-1]), "i32"
    if name in _FIELDS:
        return f.field(_FIELDS[name]), "i32"
    if name in _SMEM:
        return f.field(_SMEM[name]), "i32"
    if name == "WARP_SZ":
        return "32", "i32"
    if name in _ZERO:
        return "0", "i32"
    if name == "%nsmid":
        return "1", "i32"
    if name == "%laneid":
        return f.emit("and i32 %t, 31"), "i32"
    if name == "%warpid":
        return f.emit("lshr i32 %t, 5"), "i32"
    if name == "%nwarpid":
        rounded = f.early("threads+31", f"add i32 {f.field('threads')}, 31")
        return f.early("nwarpid", f"lshr i32 {rounded}, 5"), "i32"
    if name in ("%clock", "%clock_hi", "%clock64"):
        now = f.call("orion_cpu_clock", "i64")
        return _half(f, now, name, "%clock64", "%clock_hi")
    if name in ("%globaltimer", "%globaltimer_lo", "%globaltimer_hi"):
        now = f.call("orion_cpu_globaltimer", "i64")
        return _half(f, now, name, "%globaltimer", "%globaltimer_hi")
    if name in ("%envreg1", "%envreg2"):
        # Where cooperative groups finds the grid's workspace: the high word in 1, the low word in 2.
        space = f.field("grid_workspace")
        if name == "%envreg1":
            space = f.early("workspace_high", f"lshr i64 {space}, 32")
        return f.early(name, f"trunc i64 {space} to i32"), "i32"
    if name.startswith("%lanemask_"):
        return _lane_mask(f, name[10:]), "i32"
    raise f.unsupported(f"special register {name}")


def _half(f: FunctionEmitter, value: str, name: str, whole: str, high: str) -> Value:
    if name == whole:
        return value, "i64"
    if name == high:
        value = f.emit(f"lshr i64 {value}, 32")
    return f.emit(f"trunc i64 {value} to i32"), "i32"


def _lane_mask(f: FunctionEmitter, relation: str) -> str:
    lane = f.emit("and i32 %t, 31")
    equal = f.emit(f"shl i32 1, {lane}")
    if relation == "eq":
        return equal
    if relation in ("lt", "ge"):
        below = f.emit(f"sub i32 {equal}, 1")
        return below if relation == "lt" else f.emit(f"xor i32 {below}, -1")
    upto = f.emit(f"sub i32 {f.emit(f'shl i32 {equal}, 1')}, 1")
    return upto if relation == "le" else f.emit(f"xor i32 {upto}, -1")
