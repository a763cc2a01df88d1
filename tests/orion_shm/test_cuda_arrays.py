# SPDX-License-Identifier: Apache-2.0
"""CUDA arrays without CUDA: layouts, nonsense, and one sentence where there is no driver. With one: tests/e2e."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref
from typing import Any

import numpy as np
import pytest

from orion_shm import _dlpack, _messages, cuda_arrays


class Claims:
    """An object that says it is a CUDA array."""

    def __init__(self, **more: Any) -> None:
        self.__cuda_array_interface__ = {
            "data": (4096, False),
            "shape": (2, 3),
            "typestr": "<f4",
            "version": 3,
            **more,
        }


@pytest.mark.parametrize(
    ("shape", "strides", "order"),
    [
        ((2, 3), None, "C"), ((2, 3), (12, 4), "C"), ((2, 3), (4, 8), "F"), ((), None, "C"),
        ((5,), (4,), "C"), ((1, 3), (999, 4), "C"), ((3, 1), (4, 999), "C"),
    ],
)  # fmt: skip
def test_contiguous_layouts_are_known(
    shape: tuple[int, ...], strides: tuple[int, ...] | None, order: str
) -> None:
    assert cuda_arrays._order(shape, strides, 4) == order


def test_layouts_agree_with_numpy() -> None:
    for array in (np.zeros((2, 3, 4)), np.zeros((2, 3, 4), order="F"), np.zeros((4, 1, 2), "i2")):
        order = cuda_arrays._order(array.shape, array.strides, array.itemsize)
        assert array.flags.c_contiguous if order == "C" else array.flags.f_contiguous


def test_gaps_and_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        cuda_arrays.export(None, Claims(strides=(24, 8)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="masked"):
        cuda_arrays.export(None, Claims(mask=5))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="send_object"):
        cuda_arrays.export(None, Claims(typestr="|O"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="without items"):
        cuda_arrays.export(None, Claims(shape=(0, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * cuda_arrays.HEAD.size, b"\xff" * 400])
def test_nonsense_is_malformed_before_any_driver_sees_it(data: bytes) -> None:
    with pytest.raises(_messages.MalformedError):
        cuda_arrays.load(None, data)  # type: ignore[arg-type]


class Tensor:
    """A tensor in host memory that says it is on a CUDA device, and has no other interface than DLPack's."""

    def __init__(self, array: np.ndarray[Any, Any], kind: int = 2) -> None:
        self.array, self.kind = array, kind
        self.asked: list[dict[str, Any]] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self, **options: Any) -> Any:
        self.asked.append(options)
        return self.array.__dlpack__(max_version=options["max_version"], copy=options["copy"])


class OldTensor(Tensor):
    """Of a time before DLPack 1.0."""

    def __dlpack__(self, stream: int | None = None) -> Any:  # type: ignore[override]
        self.asked.append({"stream": stream})
        return self.array.__dlpack__()


@pytest.mark.parametrize("make", [Tensor, OldTensor])
def test_a_tensor_of_either_dlpack_is_looked_at_in_place(make: type[Tensor]) -> None:
    for array in (
        np.arange(12, dtype="i2").reshape(3, 4),
        np.arange(12.0).reshape(3, 4).T,
        np.zeros((), "c8"),
        np.ones(3, "?"),
    ):
        counted = sys.getrefcount(array)
        tensor = make(array)
        seen, stream = cuda_arrays._seen(tensor)
        assert (seen.pointer, seen.dtype) == (array.ctypes.data, array.dtype)
        assert seen.shape == array.shape
        assert seen.strides in (None, array.strides)
        assert stream == tensor.asked[-1]["stream"] == cuda_arrays.LEGACY_STREAM
        del tensor, seen
        assert sys.getrefcount(array) == counted, "the tensor was deleted with its capsule"


@pytest.mark.parametrize("kind", [2, 13])
def test_a_tensor_on_a_cuda_device_is_an_array_on_a_gpu(kind: int) -> None:
    assert _messages.is_array(Tensor(np.ones(3), kind))
    assert not _messages.is_array(Tensor(np.ones(3), 1))
    with pytest.raises(BufferError, match="device type 10 is neither"):
        _messages.as_host_array(Tensor(np.ones(3), 10))


def test_a_tensor_that_numpy_cannot_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dlpack, "KINDS", {})
    with pytest.raises(BufferError, match="no type for DLPack's 2 of 64 bits and 1 lanes"):
        _dlpack.look(Tensor(np.ones(3)), 1)
    capsule = np.ones(3).__dlpack__()

    class Used(Tensor):
        def __dlpack__(self, **options: Any) -> Any:
            return capsule

    np.from_dlpack(Holding(capsule))  # type: ignore[arg-type]
    with pytest.raises(BufferError, match="nobody else has used"):
        _dlpack.look(Used(np.ones(3)), 1)


class Holding:
    """Gives out one capsule."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule


class Recorded:
    """The driver calls that were made, by name; events and handles are numbers."""

    def __init__(self) -> None:
        self.events: dict[int, dict[int, tuple[ctypes.c_void_p, bytes]]] = {}
        self.calls: list[tuple[str, int | None]] = []
        self.made = 0

    def __call__(self, name: str, *arguments: Any) -> None:
        if name == "cuEventCreate":
            self.made += 1
            arguments[0]._obj.value = self.made
        if name == "cuIpcGetEventHandle":
            arguments[0]._obj.bytes[0] = arguments[1].value
        if name in ("cuStreamWaitEvent", "cuEventRecord"):
            self.calls.append((name, next(a.value for a in arguments if a.value != 77)))


def test_events_are_bounded_and_one_that_changes_streams_stands_for_both() -> None:
    driver: Any = Recorded()
    streams = range(1000, 1000 + 3 * cuda_arrays.EVENTS_KEPT)
    handles = [cuda_arrays._ready(driver, 5, stream)[0] for stream in streams]
    assert driver.made == len(driver.events[5]) == cuda_arrays.EVENTS_KEPT
    assert handles == 3 * list(range(1, cuda_arrays.EVENTS_KEPT + 1)), "the oldest is used again"
    driver.calls.clear()
    cuda_arrays._ready(driver, 5, 77)
    assert driver.calls == [("cuStreamWaitEvent", 1), ("cuEventRecord", 1)]
    cuda_arrays._ready(driver, 6, 77)
    assert driver.made == cuda_arrays.EVENTS_KEPT + 1, "an event belongs to its context"


def test_without_a_driver_one_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    cuda_arrays.driver.cache_clear()
    with pytest.raises(RuntimeError, match="orion run"):
        cuda_arrays.export(None, Claims())  # type: ignore[arg-type]
    cuda_arrays.driver.cache_clear()


class HostAllocation:
    """Memory of a NumPy array where a device's would be."""

    device = 0

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.pointer = array, array.ctypes.data


class HostArray(cuda_arrays.CudaArray):
    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f4", "i8", "u1", "c16", "?"])
def test_a_dlpack_capsule_is_a_view_that_keeps_its_memory(order: str, dtype: str) -> None:
    whole = np.arange(20).astype(dtype)
    part = whole[8:].reshape((3, 4), order=order)  # type: ignore[call-overload]
    owner = HostAllocation(whole)
    made = HostArray(owner, 8 * whole.itemsize, whole.dtype, (3, 4), order)  # type: ignore[arg-type]
    view = np.from_dlpack(made)  # type: ignore[arg-type]
    np.testing.assert_array_equal(view, part)
    assert np.shares_memory(view, whole)
    alive = weakref.ref(owner)
    del made, owner
    gc.collect()
    assert alive() is not None
    del view
    gc.collect()
    assert alive() is None


def test_a_capsule_that_nobody_takes_keeps_nothing() -> None:
    owner = HostAllocation(np.arange(4))
    made = HostArray(owner, 0, owner.array.dtype, (4,), "C")  # type: ignore[arg-type]
    alive = weakref.ref(owner)
    unused = made.__dlpack__()
    del made, owner, unused
    gc.collect()
    assert alive() is None
    dates = np.zeros(3, "M8[s]")
    odd = HostArray(HostAllocation(dates), 0, dates.dtype, (3,), "C")  # type: ignore[arg-type]
    with pytest.raises(BufferError, match="no type"):
        odd.__dlpack__()
