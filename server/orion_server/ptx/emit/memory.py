# SPDX-License-Identifier: Apache-2.0
"""ld, st and the addresses they use."""

from __future__ import annotations

from ..model import BITS, Imm, Instruction, Mem, Operand, Reg, Sym, Vec
from ..opcodes import op, types_of
from .function import FunctionEmitter

ALIAS = {
    "shared": ", !alias.scope !11, !noalias !15",
    "global": ", !alias.scope !12, !noalias !16",
    "const": ", !alias.scope !12, !noalias !16",
    "local": ", !noalias !18",
    "param": ", !noalias !18",
    "": ", !noalias !17",
}
_CACHE = (
    "ca cg cs lu cv wb wt nc L1::evict_normal L1::evict_last L1::evict_first L1::no_allocate L1::evict_unchanged "
    "L2::64B L2::128B L2::256B L2::cache_hint"
)
_ORDER = "weak volatile relaxed acquire release cta gpu sys cluster mmio"
_SPACES = "global shared shared::cta shared::cluster local const param param::entry param::func"
_TYPES = "b8 u8 s8 b16 u16 s16 b32 u32 s32 f32 b64 u64 s64 f64 b128"


def space_of(ins: Instruction) -> str:
    for part in ins.parts:
        base = part.split("::")[0]
        if base in ("global", "shared", "local", "const", "param"):
            return base
    return ""


def address(f: FunctionEmitter, operand: Operand, space: str, extra: int = 0) -> str:
    """A pointer to [operand + extra] in a state space."""
    if not isinstance(operand, Mem):
        raise f.unsupported("address")
    base, offset = operand.base, operand.offset + extra
    if space == "shared":
        return _shared(f, base, offset)
    if isinstance(base, Sym):
        return _symbol(f, base, offset, space)
    if isinstance(base, Imm):
        return f.emit(f"inttoptr i64 {base.value + offset} to ptr")
    pointer = f.emit(f"inttoptr i64 {f.use(base, 'i64')} to ptr")
    return f.emit(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer


def _shared(f: FunctionEmitter, base: Reg | Sym | Imm, offset: int) -> str:
    shared = f.field("shared")
    if isinstance(base, Sym):
        name, _ = f.unit.address_of(f, Sym(base.name, base.offset + offset))
        return f.emit(f"getelementptr inbounds i8, ptr {shared}, i64 {name}")
    if isinstance(base, Imm):
        return f.emit(f"getelementptr i8, ptr {shared}, i64 {base.value + offset}")
    # The sum of a 32-bit base and an offset may pass through negative values.
    index = (
        f.emit(f"sext i32 {f.use(base, 'i32')} to i64")
        if BITS[base.type] == 32
        else f.use(base, "i64")
    )
    pointer = f.emit(f"getelementptr i8, ptr {shared}, i64 {index}")
    return f.emit(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer


def _symbol(f: FunctionEmitter, base: Sym, offset: int, space: str) -> str:
    offset += base.offset
    data = f.unit.module.data.variables.get(base.name)
    if space == "param" or base.name in f.objects or data is None:
        if f.in_kernel and base.name in f.kernel_params:
            params = f.field("params")
            at = f.kernel_params[base.name] + offset
            return f.early(f"param+{at}", f"getelementptr inbounds i8, ptr {params}, i64 {at}")
        pointer = f.object_pointer(base.name)
        return f.emit(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer
    if f.unit.module.variables[base.name].space not in (space or "global", "const", "global"):
        raise f.unsupported(f"address of `{base.name[:60]}` in this space")
    place = f.early(
        f"&{base.name}+{offset}", f"add i64 {f.field('module_base')}, {data[0] + offset}"
    )
    return f.early(f"*{base.name}+{offset}", f"inttoptr i64 {place} to ptr")


def _ordering(ins: Instruction) -> tuple[str, str]:
    """(prefix, suffix) of the LLVM load or store."""
    parts = ins.parts
    if "acquire" in parts:
        return "atomic ", " acquire"
    if "release" in parts:
        return "atomic ", " release"
    if "relaxed" in parts:
        return "atomic ", " monotonic"
    return ("volatile ", "") if "volatile" in parts or "cv" in parts else ("", "")


def element_type(ptx: str) -> str:
    return {"f32": "float", "f64": "double"}.get(ptx) or f"i{BITS[ptx]}"


def _items(operand: Operand) -> list[Operand]:
    return operand.items if isinstance(operand, Vec) else [operand]


@op("ld", _TYPES, f"{_SPACES} {_CACHE} {_ORDER} unified v2 v4 v8", least=2)
def load(f: FunctionEmitter, ins: Instruction) -> None:
    """loads; cache hints have no effect"""
    space, ptx = space_of(ins), types_of(ins)[-1]
    type_ = element_type(ptx)
    size = BITS[ptx] // 8
    targets = _items(ins.operands[0])
    invariant = False
    source = ins.operands[1]
    if (
        space == "param"
        and f.in_kernel
        and isinstance(source, Mem)
        and isinstance(source.base, Sym)
    ):
        invariant = source.base.name in f.kernel_params
    prefix, suffix = _ordering(ins)
    if prefix == "atomic ":
        type_ = f"i{BITS[ptx]}"
    for i, target in enumerate(targets):
        if invariant:
            pointer = address(f, source, space, i * size)
            key = f"{pointer}:{type_}"
            name = f.early(key, f"load {type_}, ptr {pointer}, align {size}, !invariant.load !0")
        else:
            pointer = address(f, source, space, i * size)
            name = f.emit(
                f"load {prefix}{type_}, ptr {pointer}{suffix}, align {size}{ALIAS[space]}"
            )
        _widen(f, target, name, type_, ptx)


def _widen(f: FunctionEmitter, target: Operand, name: str, type_: str, ptx: str) -> None:
    if isinstance(target, Reg) and ptx[0] == "s" and BITS[target.type] > BITS[ptx]:
        name = f.emit(f"sext {type_} {name} to i{BITS[target.type]}")
        type_ = f"i{BITS[target.type]}"
    f.set(target, name, type_)


@op("st", _TYPES, f"{_SPACES} {_CACHE} {_ORDER} unified v2 v4 v8", dst=0, least=2)
def store(f: FunctionEmitter, ins: Instruction) -> None:
    """stores; cache hints have no effect"""
    space, ptx = space_of(ins), types_of(ins)[-1]
    type_ = element_type(ptx)
    size = BITS[ptx] // 8
    prefix, suffix = _ordering(ins)
    if prefix == "atomic ":
        type_ = f"i{BITS[ptx]}"
    for i, item in enumerate(_items(ins.operands[1])):
        value = f.use(item, type_)
        pointer = address(f, ins.operands[0], space, i * size)
        f.do(f"store {prefix}{type_} {value}, ptr {pointer}{suffix}, align {size}{ALIAS[space]}")


@op("ldu", _TYPES, f"{_SPACES} {_CACHE} v2 v4", least=2)
def load_uniform(f: FunctionEmitter, ins: Instruction) -> None:
    """as ld"""
    load(f, ins)
