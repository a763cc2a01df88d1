# SPDX-License-Identifier: Apache-2.0
"""CUDA arrays over a channel: not their items but an IPC handle goes over, with an event that says when they are ready.

The sender names the allocation (cuIpcGetMemHandle of its base, and the offset), and records an interprocess event on
the stream that the array is ready on. The receiver opens the allocation once for all arrays in it, lets the legacy
default stream wait for the event, and closes it when the last array is dropped. As with CUDA IPC everywhere, the sender
keeps the array until the receiver has said that it is done.
"""

from __future__ import annotations

import ctypes
import functools
import math
import struct
import threading
import weakref
from typing import TYPE_CHECKING, Any

from orion_shm import _dlpack, _messages

if TYPE_CHECKING:
    from orion_shm._channel import Channel

LIBRARY = "libcuda.so.1"
# memory handle, offset of the array in the allocation, event handle, UUID of the device; then an array's head
HEAD = struct.Struct("<64sQ64s16s")

SUCCESS, INVALID_VALUE, NOT_SUPPORTED = 0, 1, 801
POINTER_CONTEXT, POINTER_BUFFER_ID = 1, 7
EVENT_NO_TIMING = 0x2
EVENT_FLAGS = EVENT_NO_TIMING | 0x4  # interprocess
DLPACK_CUDA = 2
LAZY_PEER_ACCESS = 1
LEGACY_STREAM = 1
EXPORTS_KEPT = 256
EVENTS_KEPT = 32


class _Handle(ctypes.Structure):
    """CUipcMemHandle and CUipcEventHandle: passed by value."""

    _fields_ = [("bytes", ctypes.c_ubyte * 64)]


class Driver:
    """The functions of the CUDA driver that this needs, each checked."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise RuntimeError(
                f"CUDA arrays need a CUDA driver, and {LIBRARY} cannot be loaded ({error}): "
                "run on a machine with a GPU, or under `orion run`"
            ) from None
        self("cuInit", 0)
        self.lock = threading.Lock()
        self.exported: dict[tuple[int, int], bytes] = {}
        # by context and stream: an interprocess event and its handle, those used least recently first
        self.events: dict[int, dict[int, tuple[ctypes.c_void_p, bytes]]] = {}
        self.opened: weakref.WeakValueDictionary[bytes, Allocation] = weakref.WeakValueDictionary()
        self.devices = dict(self._devices())

    def __call__(self, name: str, *arguments: Any) -> None:
        result = getattr(self.library, name)(*arguments)
        if result == SUCCESS:
            return
        text = ctypes.c_char_p()
        self.library.cuGetErrorName(result, ctypes.byref(text))
        error = (text.value or b"?").decode()
        if result == NOT_SUPPORTED:
            raise RuntimeError(
                f"{name}: this CUDA driver does not share memory between processes ({error})"
            )
        if name == "cuIpcGetMemHandle" and result == INVALID_VALUE:
            raise RuntimeError(
                f"{name}: managed memory, pinned memory and that of an asynchronous pool cannot be shared between "
                f"processes ({error}): copy the array to memory of cudaMalloc"
            )
        raise RuntimeError(f"{name}: {error} ({result})")

    def _devices(self) -> list[tuple[bytes, int]]:
        count = ctypes.c_int()
        self("cuDeviceGetCount", ctypes.byref(count))
        found = []
        for device in range(count.value):
            uuid = (ctypes.c_ubyte * 16)()
            self("cuDeviceGetUuid_v2", uuid, device)
            found.append((bytes(uuid), device))
        if not found:
            raise RuntimeError("CUDA arrays need a CUDA device, and the driver has none")
        return found

    def uuid_of(self, device: int) -> bytes:
        return next(uuid for uuid, number in self.devices.items() if number == device)


@functools.cache
def driver() -> Driver:
    """The CUDA driver, loaded and initialised when the first CUDA array is sent or comes."""
    return Driver()


class _Current:
    """A context, current while it is entered."""

    def __init__(self, context: ctypes.c_void_p) -> None:
        self.context = context

    def __enter__(self) -> None:
        driver()("cuCtxPushCurrent_v2", self.context)

    def __exit__(self, *exception: object) -> None:
        driver()("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


# ---- sending


def _order(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> str:
    """C or F; ValueError where the items do not lie side by side."""

    def steps(extents: tuple[int, ...]) -> list[int]:
        return [itemsize * math.prod(extents[i + 1 :]) for i in range(len(extents))]

    def same(wanted: list[int], actual: list[int], extents: list[int]) -> bool:
        return all(a == b for a, b, n in zip(wanted, actual, extents, strict=True) if n > 1)

    if strides is None or same(steps(shape), list(strides), list(shape)):
        return "C"
    backwards = tuple(reversed(shape))
    if same(steps(backwards), list(reversed(strides)), list(backwards)):
        return "F"
    raise ValueError("a CUDA array that is sent has to be contiguous: make a contiguous copy of it")


def _ready(cuda: Driver, context: int, stream: int) -> bytes:
    """Handle of an event that stands for all work of this stream until now. Recorded again an event stands for more,
    never for less, also where it was another stream's, because the stream waits for it first: so few are enough."""
    events = cuda.events.setdefault(context, {})
    known = events.pop(stream, None)
    if known is None and len(events) >= EVENTS_KEPT:
        known = events.pop(next(iter(events)))
    if known is None:
        event, handle = ctypes.c_void_p(), _Handle()
        cuda("cuEventCreate", ctypes.byref(event), EVENT_FLAGS)
        cuda("cuIpcGetEventHandle", ctypes.byref(handle), event)
        known = (event, bytes(handle.bytes))
    else:
        cuda("cuStreamWaitEvent", ctypes.c_void_p(stream), known[0], 0)
    events[stream] = known
    cuda("cuEventRecord", known[0], ctypes.c_void_p(stream))
    return known[1]


def _seen(value: Any) -> tuple[_dlpack.Seen, int]:
    """What the array is, and the stream on which it is ready."""
    if not hasattr(value, "__cuda_array_interface__"):
        return _dlpack.look(value, LEGACY_STREAM), LEGACY_STREAM
    interface = value.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise TypeError("a masked CUDA array cannot be sent")
    dtype = _messages.checked_dtype(interface["typestr"])
    strides = interface.get("strides")
    strides = None if strides is None else tuple(strides)
    seen = _dlpack.Seen(interface["data"][0], dtype, tuple(interface["shape"]), strides, value)
    return seen, interface.get("stream") or LEGACY_STREAM


def export(channel: Channel, value: Any) -> bytes:
    """The message for an object with __cuda_array_interface__ or, on a CUDA device, __dlpack__. RuntimeError without a
    CUDA device, ValueError for an array that is not contiguous, TypeError for a masked one."""
    seen, stream = _seen(value)
    pointer, dtype, shape = seen.pointer, seen.dtype, seen.shape
    order = _order(shape, seen.strides, dtype.itemsize)
    if 0 in shape:
        raise ValueError("a CUDA array without items has no memory to share: send a NumPy array")
    cuda = driver()
    context, number = ctypes.c_void_p(), ctypes.c_ulonglong()
    cuda("cuPointerGetAttribute", ctypes.byref(context), POINTER_CONTEXT, ctypes.c_uint64(pointer))
    cuda("cuPointerGetAttribute", ctypes.byref(number), POINTER_BUFFER_ID, ctypes.c_uint64(pointer))
    with cuda.lock, _Current(context):
        base, size, device = ctypes.c_uint64(), ctypes.c_size_t(), ctypes.c_int()
        cuda(
            "cuMemGetAddressRange_v2",
            ctypes.byref(base),
            ctypes.byref(size),
            ctypes.c_uint64(pointer),
        )
        cuda("cuCtxGetDevice", ctypes.byref(device))
        # the number, too: another allocation may begin at an address that was freed
        handle = cuda.exported.get((base.value, number.value))
        if handle is None:
            made = _Handle()
            cuda("cuIpcGetMemHandle", ctypes.byref(made), base)
            handle = bytes(made.bytes)
            if len(cuda.exported) >= EXPORTS_KEPT:
                cuda.exported.clear()
            cuda.exported[base.value, number.value] = handle
        event = _ready(cuda, context.value or 0, stream)
    head = HEAD.pack(handle, pointer - base.value, event, cuda.uuid_of(device.value))
    return head + _messages._head_of(dtype, shape, order)


# ---- receiving


class Allocation:
    """An allocation of the other process, open until the last array in it goes."""

    def __init__(
        self, cuda: Driver, context: ctypes.c_void_p, device: int, handle: _Handle
    ) -> None:
        self.cuda, self.context, self.device = cuda, context, device
        base, size, opened = ctypes.c_uint64(), ctypes.c_size_t(), ctypes.c_uint64()
        with _Current(context):
            cuda("cuIpcOpenMemHandle_v2", ctypes.byref(opened), handle, LAZY_PEER_ACCESS)
            cuda("cuMemGetAddressRange_v2", ctypes.byref(base), ctypes.byref(size), opened)
        self.pointer, self.bytes = opened.value, size.value
        weakref.finalize(self, _close, cuda, context, self.pointer)

    def order_behind_legacy(self, stream: int | None) -> None:
        """What is ready on the legacy default stream is ready on this one."""
        event = ctypes.c_void_p()
        with _Current(self.context):
            self.cuda("cuEventCreate", ctypes.byref(event), EVENT_NO_TIMING)
            self.cuda("cuEventRecord", event, ctypes.c_void_p(LEGACY_STREAM))
            self.cuda("cuStreamWaitEvent", ctypes.c_void_p(stream), event, 0)
            self.cuda("cuEventDestroy_v2", event)


def _close(cuda: Driver, context: ctypes.c_void_p, pointer: int) -> None:
    with _Current(context):
        cuda("cuIpcCloseMemHandle", ctypes.c_uint64(pointer))


class CudaArray:
    """An array in memory that another process allocated. `cupy.asarray(it)`, `torch.from_dlpack(it)` and
    `numba.cuda.as_cuda_array(it)` are arrays of their kind over the same memory, which they keep open."""

    def __init__(
        self, allocation: Allocation, offset: int, dtype: Any, shape: tuple[int, ...], order: str
    ) -> None:
        self.allocation = allocation
        self.dtype, self.shape = dtype, shape
        self.strides: tuple[int, ...] | None = None
        if order == "F":
            self.strides = tuple(dtype.itemsize * math.prod(shape[:i]) for i in range(len(shape)))
        self.pointer = allocation.pointer + offset
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "descr": dtype.descr,
            "data": (self.pointer, False),
            "strides": self.strides,
            "stream": LEGACY_STREAM,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return DLPACK_CUDA, self.allocation.device

    def __dlpack__(self, stream: int | None = None, **options: Any) -> Any:
        """stream: the consumer's, which is made to wait for the array; -1 = it shall not."""
        if stream not in (None, -1, LEGACY_STREAM):
            self.allocation.order_behind_legacy(stream)
        return _dlpack.capsule(
            self, self.pointer, self.__dlpack_device__(), self.dtype, self.shape, self.strides
        )


def _device(cuda: Driver, uuid: bytes) -> int:
    device = cuda.devices.get(uuid)
    if device is None:
        raise RuntimeError(
            "a CUDA array came that lies on a device which this process does not have"
        )
    return device


@functools.cache
def _primary_context(device: int) -> ctypes.c_void_p:
    """Retained once and kept: arrays may come at any time."""
    context = ctypes.c_void_p()
    driver()("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    return context


def load(channel: Channel, data: bytes) -> CudaArray:
    """The array that a message of `export` names. MalformedError where it makes no sense, RuntimeError where the driver
    cannot open it."""
    if len(data) < HEAD.size:
        raise _messages.MalformedError("a CUDA array's head is cut off")
    handle, offset, event_handle, uuid = HEAD.unpack_from(data)
    dtype, shape, order, *_ = _messages.read_array_head(data[HEAD.size :])
    cuda = driver()
    device = _device(cuda, uuid)
    context = _primary_context(device)
    with cuda.lock:
        allocation = cuda.opened.get(handle)
        if allocation is None:
            allocation = Allocation(cuda, context, device, _Handle.from_buffer_copy(handle))
            cuda.opened[handle] = allocation
        if offset + math.prod(shape) * dtype.itemsize > allocation.bytes:
            raise _messages.MalformedError(
                "a CUDA array is longer than the allocation that it lies in"
            )
        event = ctypes.c_void_p()
        with _Current(context):
            made = _Handle.from_buffer_copy(event_handle)
            cuda("cuIpcOpenEventHandle", ctypes.byref(event), made)
            cuda("cuStreamWaitEvent", ctypes.c_void_p(LEGACY_STREAM), event, 0)
            cuda("cuEventDestroy_v2", event)
    return CudaArray(allocation, offset, dtype, shape, order)
