# SPDX-License-Identifier: Apache-2.0
"""A DLPack capsule (the unversioned `dltensor`, which every consumer takes) over memory that an object keeps alive."""

from __future__ import annotations

import ctypes
from typing import Any

NAME = b"dltensor"  # a consumer renames the capsule, and is then the one that calls the deleter
CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}


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
