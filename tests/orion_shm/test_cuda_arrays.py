# SPDX-License-Identifier: Apache-2.0
"""CUDA arrays without CUDA: layouts, nonsense, and one sentence where there is no driver. With one: tests/e2e."""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

import numpy as np
import pytest

from orion_shm import _messages, cuda_arrays


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
