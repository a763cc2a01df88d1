# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a message are: arrays, objects and CUDA arrays, to bytes and back. Nothing that came is believed.

An array is a head (below) and its items, C or Fortran contiguous. An object is its pickle, or, where the pickle has
buffers beside it, a head, the pickle and the buffers. Head and rest are one run of bytes when they are short, else the
rest is the message's bulk.
"""

from __future__ import annotations

import ast
import math
import os
import pickle
import struct
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from orion_shm._channel import Channel

TAG_BYTES, TAG_ARRAY, TAG_OBJECT, TAG_CUDA, TAG_PICKLE = range(5)

# bytes of the head, of which the dtype's text; dimensions; Fortran order; then the shape, then the text
ARRAY_HEAD = struct.Struct("<HHBB2x")
# bytes of the head; buffers; then the length of the pickle and of each buffer
OBJECT_HEAD = struct.Struct("<II")
DIMENSIONS_MAX = 32
BUFFERS_MAX = 400  # as many lengths fit beside the inline limit
BUFFER_ALIGN = 64
DTYPE_TEXT_MAX = 2000
HEADS_KEPT = 512
DLPACK_HOST = (1, 3)  # kDLCPU, kDLCUDAHost
DLPACK_GPU = (2, 13)  # kDLCUDA, kDLCUDAManaged

_heads_out: dict[tuple[Any, ...], bytes] = {}
_heads_in: dict[bytes, tuple[Any, tuple[int, ...], str, int, int]] = {}
_numpy: ModuleType | None = None


class MalformedError(ValueError):
    """The other side sent something that is no message of this library; it was dropped."""


def numpy() -> ModuleType:
    """NumPy, loaded when the first array needs it."""
    global _numpy
    if _numpy is None:
        import numpy as np

        _numpy = np
    return _numpy


def address(where: Any) -> bytes:
    """An address, also as a path object, for the C core."""
    text = os.fspath(where)
    encoded = os.fsencode(text)
    if b"\0" in encoded:
        raise ValueError(f"an address holds no NUL character: {text!r}")
    if encoded.startswith(b"ucx://"):
        from orion_server import ucx_wheel

        ucx_wheel.name_it(os.environ)
    return encoded


def token(text: str | None) -> bytes | None:
    """ID.SECRET, for the C core, which says what is wrong with it."""
    if text is None:
        return None
    encoded = text.encode()
    if b"\0" in encoded:
        raise ValueError("a token holds no NUL character")
    return encoded


# ---- arrays


def dlpack_kind(value: Any) -> int | None:
    """Which type of device a DLPack tensor is on; None for all other objects."""
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return int(value.__dlpack_device__()[0])
    return None


def is_on_gpu(value: Any) -> bool:
    return hasattr(value, "__cuda_array_interface__") or dlpack_kind(value) in DLPACK_GPU


def is_array(value: Any) -> bool:
    """A NumPy array, or an array on a GPU."""
    np = sys.modules.get("numpy")
    if np is not None and isinstance(value, np.ndarray):
        return True
    return not isinstance(value, (bytes, bytearray, memoryview)) and is_on_gpu(value)


def checked_dtype(dtype: Any) -> np.dtype[Any]:
    """As NumPy's; TypeError where items are Python objects, which have no meaning elsewhere."""
    made: np.dtype[Any] = numpy().dtype(dtype)
    if made.hasobject:
        raise TypeError(f"dtype {made} holds Python objects: use send_object")
    return made


def measure(shape: Any, dtype: Any) -> tuple[np.dtype[Any], int]:
    """The dtype and the bytes that an array takes."""
    made = checked_dtype(dtype)
    extents = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in extents):
        raise ValueError(f"negative dimensions in {shape}")
    return made, math.prod(extents) * made.itemsize


def _head_of(dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> bytes:
    key = (dtype, shape, order)
    head = _heads_out.get(key)
    if head is None:
        checked_dtype(dtype)
        text = repr(dtype.descr if dtype.names else dtype.str).encode()
        if len(text) > DTYPE_TEXT_MAX or len(shape) > DIMENSIONS_MAX:
            raise TypeError(f"dtype or shape of the array cannot be sent: {dtype}, {shape}")
        size = ARRAY_HEAD.size + 8 * len(shape) + len(text)
        padding = -size % 8
        head = ARRAY_HEAD.pack(size + padding, len(text), len(shape), order == "F")
        head += struct.pack(f"<{len(shape)}Q", *shape) + text + bytes(padding)
        if len(_heads_out) >= HEADS_KEPT:
            _heads_out.clear()
        _heads_out[key] = head
    return head


def as_host_array(value: Any) -> np.ndarray[Any, Any]:
    """A NumPy array over a buffer or a DLPack tensor, without a copy."""
    kind = dlpack_kind(value)
    if kind is not None:
        if kind not in DLPACK_HOST:
            raise BufferError(
                f"a DLPack tensor on device type {kind} is neither in host memory nor on a CUDA device: "
                "copy it to the host"
            )
        tensor: np.ndarray[Any, Any] = numpy().from_dlpack(value)
        return tensor
    array: np.ndarray[Any, Any] = numpy().asarray(memoryview(value))
    return array


def array_out(channel: Channel, value: Any) -> tuple[int, bytes, np.ndarray[Any, Any] | None]:
    """Tag, head and contiguous items (None: the head is all) of anything that `send_array` takes."""
    np = numpy()
    if not isinstance(value, np.ndarray):
        if is_on_gpu(value):
            if channel is not None and channel.transport != "shm":
                raise BufferError(
                    f"{channel.address}: a CUDA array goes over as a handle of this host's device, which means nothing "
                    "at the other end of a network: send a copy in host memory (cupy.asnumpy(array), tensor.cpu())"
                )
            import orion_shm.cuda_arrays as cuda_arrays

            return TAG_CUDA, cuda_arrays.export(channel, value), None
        value = as_host_array(value)
    flags = value.flags
    if flags.c_contiguous:
        order = "C"
    elif flags.f_contiguous:
        order = "F"
    else:
        value, order = np.ascontiguousarray(value), "C"
    head = _head_of(value.dtype, value.shape, order)
    return TAG_ARRAY, head, value if value.nbytes else None


def raw(array: np.ndarray[Any, Any]) -> Any:
    """Something with a buffer: dates and the like have none of their own."""
    if array.dtype.kind not in "mMV":
        return array
    flat = array.reshape(-1, order="A")
    return flat.view(numpy().uint8)


def base_of(array: Any) -> Any:
    """The object whose memory an array is a view of."""
    np = numpy()
    while True:
        if isinstance(array, np.ndarray):
            array = array.base
        elif isinstance(array, memoryview):
            array = array.obj
        else:
            return array


def read_array_head(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], str, int, int]:
    """dtype, shape, order, bytes of the items, and length of the head at the beginning of `data`; MalformedError."""
    size = int.from_bytes(data[:2], "little")  # the head's first field
    known = _heads_in.get(data[:size])
    if known is not None:
        return known
    if len(data) < ARRAY_HEAD.size:
        raise MalformedError("an array's head is cut off")
    size, text_bytes, dimensions, fortran = ARRAY_HEAD.unpack_from(data)
    shape_end = ARRAY_HEAD.size + 8 * dimensions
    text_end = shape_end + text_bytes
    if (
        size > len(data)
        or text_end > size
        or dimensions > DIMENSIONS_MAX
        or text_bytes > DTYPE_TEXT_MAX
        or fortran > 1
    ):
        raise MalformedError("an array's head makes no sense")
    shape = struct.unpack_from(f"<{dimensions}Q", data, ARRAY_HEAD.size)
    try:
        dtype = checked_dtype(ast.literal_eval(data[shape_end:text_end].decode("ascii")))
    except Exception as error:  # NumPy raises many kinds for nonsense
        raise MalformedError(f"an array's dtype makes no sense: {error}") from None
    known = (dtype, shape, "F" if fortran else "C", math.prod(shape) * dtype.itemsize, size)
    if len(_heads_in) >= HEADS_KEPT:
        _heads_in.clear()
    _heads_in[data[:size]] = known
    return known


def array_in(data: bytes, bulk: Any) -> np.ndarray[Any, Any]:
    """A read-only array over the bytes behind the head, or over the bulk."""
    dtype, shape, order, wanted, size = read_array_head(data)
    came = len(data) - size if bulk is None else memoryview(bulk).nbytes
    if came != wanted:
        raise MalformedError(f"an array of shape {shape} and dtype {dtype} came with {came} bytes")
    items, at = (data, size) if bulk is None else (bulk, 0)
    array: np.ndarray[Any, Any] = numpy().ndarray(shape, dtype, items, at, None, order)
    return array


# ---- objects


def pickled(
    value: object, data: bytes, beside: list[pickle.PickleBuffer]
) -> tuple[bytes, list[memoryview]]:
    """The pickle, and the buffers beside it. Given: what pickling with all buffers beside it has made."""
    if len(beside) <= BUFFERS_MAX:
        try:
            return data, [buffer.raw() for buffer in beside]
        except BufferError:  # one is not contiguous
            pass
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        """True: into the pickle."""
        try:
            view = buffer.raw()
        except BufferError:
            return True
        if len(buffers) == BUFFERS_MAX:
            return True
        buffers.append(view)
        return False

    return pickle.dumps(value, protocol=5, buffer_callback=keep), buffers


def object_out(data: bytes, buffers: list[memoryview]) -> tuple[bytes, list[Any], list[int], int]:
    """Of a pickle and its buffers: head, parts, the place of each in the rest, and the length of the rest."""
    parts: list[Any] = [data, *buffers]
    lengths = [len(data), *(view.nbytes for view in buffers)]
    places, total = lay_out(lengths)
    size = OBJECT_HEAD.size + 8 * len(lengths)
    head = OBJECT_HEAD.pack(size, len(buffers)) + struct.pack(f"<{len(lengths)}Q", *lengths)
    return head, parts, places, total


def lay_out(lengths: list[int]) -> tuple[list[int], int]:
    """Where each part begins, and the length of all."""
    places, at = [], 0
    for length in lengths:
        at += -at % BUFFER_ALIGN
        places.append(at)
        at += length
    return places, at


def join(parts: list[Any], places: list[int], total: int) -> bytes:
    """The rest of an object as one run of bytes."""
    joined = bytearray(total)
    for part, place in zip(parts, places, strict=True):
        view = memoryview(part).cast("B") if not isinstance(part, bytes) else part
        joined[place : place + len(view)] = view
    return bytes(joined)


def object_in(data: bytes, bulk: Any) -> object:
    """Unpickles; buffers are read-only views. MalformedError, or whatever unpickling raises."""
    if len(data) < OBJECT_HEAD.size:
        raise MalformedError("an object's head is cut off")
    size, buffers = OBJECT_HEAD.unpack_from(data)
    if buffers > BUFFERS_MAX or size != OBJECT_HEAD.size + 8 * (buffers + 1) or size > len(data):
        raise MalformedError("an object's head makes no sense")
    lengths = list(struct.unpack_from(f"<{buffers + 1}Q", data, OBJECT_HEAD.size))
    rest = memoryview(data)[size:] if bulk is None else memoryview(bulk)
    places, total = lay_out(lengths)
    if total != rest.nbytes:
        raise MalformedError(f"an object of {total} bytes came with {rest.nbytes}")
    parts = [rest[place : place + length] for place, length in zip(places, lengths, strict=True)]
    value: object = pickle.loads(parts[0], buffers=parts[1:])
    return value


# ---- whatever came


def decode(channel: Channel, tag: int, data: bytes, bulk: Any) -> Any:
    """The object that a message other than plain bytes carries."""
    if tag == TAG_ARRAY:
        return array_in(data, bulk)
    if tag in (TAG_PICKLE, TAG_OBJECT):
        if not channel.allow_pickle:
            raise ValueError(
                f"{channel.address}: a pickled object came and was dropped; a channel that shall unpickle, which runs "
                "code of the sender's choice, is opened with allow_pickle=True"
            )
        if tag == TAG_PICKLE:
            return pickle.loads(data if bulk is None else bulk)
        return object_in(data, bulk)
    if tag == TAG_CUDA and channel.transport == "shm":
        import orion_shm.cuda_arrays as cuda_arrays

        return cuda_arrays.load(channel, data)
    raise MalformedError(f"{channel.address}: a message of unknown kind {tag} came and was dropped")
