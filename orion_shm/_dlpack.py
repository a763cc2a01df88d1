# SPDX-License-Identifier: Apache-2.0
"""DLPack capsules: ours over memory that an object keeps alive (the unversioned `dltensor`, which every consumer
takes), and what is in those of others, of either kind."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from orion_shm import _messages

NAME = b"dltensor"  # a consumer renames the capsule, and is then the one that calls the deleter
VERSIONED_NAME, VERSION = b"dltensor_versioned", (1, 0)
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
KINDS = {code: kind for kind, code in CODES.items()}


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    ]


_alive: dict[int, tuple[Any, ...]] = {}  # by the address of the struct: all that it points to


def _delete(address: int) -> None:
    _alive.pop(address, None)


_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.argtypes, _is_valid.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_int
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.argtypes, _pointer_of.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_void_p


def _drop(capsule: int) -> None:
    """The capsule goes: if nobody took the tensor out of it, the tensor goes, too."""
    if _is_valid(capsule, NAME):
        _alive.pop(_pointer_of(capsule, NAME), None)


_CALLBACK = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_delete_callback, _drop_callback = _CALLBACK(_delete), _CALLBACK(_drop)

_new = ctypes.pythonapi.PyCapsule_New
_new.argtypes, _new.restype = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p], ctypes.py_object


def capsule(
    owner: object,
    pointer: int,
    device: tuple[int, int],
    dtype: Any,
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None,
) -> Any:
    """strides in bytes, None for C order. BufferError for a dtype that DLPack does not know."""
    if dtype.kind not in CODES or not dtype.isnative:
        raise BufferError(f"DLPack has no type for {dtype}")
    extents = (ctypes.c_int64 * len(shape))(*shape)
    steps = None
    if strides is not None:
        steps = (ctypes.c_int64 * len(shape))(*(step // dtype.itemsize for step in strides))
    tensor = _Tensor(
        pointer, *device, len(shape), CODES[dtype.kind], 8 * dtype.itemsize, 1, extents, steps, 0
    )
    managed = _Managed(tensor, None, ctypes.cast(_delete_callback, ctypes.c_void_p))
    address = ctypes.addressof(managed)
    _alive[address] = (managed, extents, steps, owner)
    return _new(address, NAME, ctypes.cast(_drop_callback, ctypes.c_void_p))


@dataclass(frozen=True)
class Seen:
    """What a tensor of somebody else's is: where, and how it lies there. It stays as long as this does."""

    pointer: int
    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None  # in bytes, None for C order
    capsule: Any


def _tensor_in(capsule: Any) -> _Tensor:
    """Not taken out: when the capsule goes, the tensor is deleted."""
    if _is_valid(id(capsule), VERSIONED_NAME):
        whole = _Versioned.from_address(_pointer_of(id(capsule), VERSIONED_NAME))
        if whole.major != VERSION[0]:
            raise BufferError(
                f"a DLPack tensor of version {whole.major}.{whole.minor} is not known"
            )
        tensor: _Tensor = whole.tensor
        return tensor
    if not _is_valid(id(capsule), NAME):
        raise BufferError("__dlpack__ returned no DLPack capsule that nobody else has used")
    return _Managed.from_address(_pointer_of(id(capsule), NAME)).tensor  # type: ignore[no-any-return]


def look(tensor: Any, stream: int | None) -> Seen:
    """At an object with __dlpack__, without a copy; `stream` is made to wait for it. BufferError where it holds what
    NumPy has no name for."""
    try:
        capsule = tensor.__dlpack__(stream=stream, max_version=VERSION, copy=False)
    except TypeError:  # of a time before DLPack 1.0
        capsule = tensor.__dlpack__(stream=stream)
    found = _tensor_in(capsule)
    kind = KINDS.get(found.code)
    if kind is None or found.lanes != 1 or found.bits % 8 != 0:
        raise BufferError(
            f"NumPy has no type for DLPack's {found.code} of {found.bits} bits and {found.lanes} lanes"
        )
    dtype = _messages.checked_dtype(f"{kind}{found.bits // 8}")
    shape = tuple(found.shape[: found.ndim])
    strides = (
        tuple(n * dtype.itemsize for n in found.strides[: found.ndim]) if found.strides else None
    )
    return Seen((found.data or 0) + found.byte_offset, dtype, shape, strides, capsule)
