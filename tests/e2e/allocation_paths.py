# SPDX-License-Identifier: Apache-2.0
"""Every function of the driver API that gives memory, at a limit of 32 MiB: python allocation_paths.py PATH.

Prints JSON lines: what has been asked for, the CUDA result, and what cuMemGetInfo says then. It ends without freeing
what it holds.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from typing import Any

MIB = 1 << 20
STREAM = None  # the default stream
HOST_FLAGS = 0
ATTACH_GLOBAL = 1
MODULE = """
.version 7.0
.target sm_80
.address_size 64
.visible .global .align 4 .b8 wide[{size}];
.visible .entry nothing() {{ ret; }}
"""

cuda: Any = None  # the library; whoever imports this file for its tables has none
pool = ctypes.c_void_p()
Result = tuple[int, int]  # CUDA result, what to free it by


def device() -> None:
    global cuda
    cuda = ctypes.CDLL("libcuda.so.1")
    context = ctypes.c_void_p()
    for result in (
        cuda.cuInit(0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
        cuda.cuCtxSetCurrent(context),
        cuda.cuDeviceGetDefaultMemPool(ctypes.byref(pool), 0),
    ):
        assert result == 0, result


def plain(name: str, *more: object) -> Callable[[int], Result]:
    def allocate(size: int) -> Result:
        address = ctypes.c_uint64()
        function = getattr(cuda, name)
        return function(ctypes.byref(address), ctypes.c_size_t(size), *more), address.value

    return allocate


def pitch(size: int) -> Result:
    """Rows of 512 bytes, which need no padding."""
    address, row = ctypes.c_uint64(), ctypes.c_size_t()
    width, height = ctypes.c_size_t(512), ctypes.c_size_t(size // 512)
    result = cuda.cuMemAllocPitch_v2(ctypes.byref(address), ctypes.byref(row), width, height, 4)
    assert result or row.value == 512
    return result, address.value


def from_pool(size: int) -> Result:
    address = ctypes.c_uint64()
    result = cuda.cuMemAllocFromPoolAsync(
        ctypes.byref(address), ctypes.c_size_t(size), pool, STREAM
    )
    return result, address.value


def variable(size: int) -> Result:
    module = ctypes.c_void_p()
    image = MODULE.format(size=size).encode() + b"\0"
    return cuda.cuModuleLoadData(ctypes.byref(module), image), module.value or 0


def free_device(address: int) -> int:
    return int(cuda.cuMemFree_v2(ctypes.c_uint64(address)))


def free_ordered(address: int) -> int:
    return cuda.cuMemFreeAsync(ctypes.c_uint64(address), STREAM) or cuda.cuCtxSynchronize()


def free_host(address: int) -> int:
    return int(cuda.cuMemFreeHost(ctypes.c_void_p(address)))


def unload(module: int) -> int:
    return cuda.cuModuleUnload(ctypes.c_void_p(module)) or cuda.cuCtxSynchronize()


# how to get it, how to give it back
PATHS: dict[str, tuple[Callable[[int], Result], Callable[[int], int]]] = {
    "cuMemAlloc": (plain("cuMemAlloc_v2"), free_device),
    "cuMemAllocPitch": (pitch, free_device),
    "cuMemAllocManaged": (plain("cuMemAllocManaged", ATTACH_GLOBAL), free_device),
    "cuMemHostAlloc": (plain("cuMemHostAlloc", HOST_FLAGS), free_host),
    "cuMemAllocHost": (plain("cuMemAllocHost_v2"), free_host),
    "cuMemAllocAsync": (plain("cuMemAllocAsync", STREAM), free_ordered),
    "cuMemAllocFromPoolAsync": (from_pool, free_ordered),
    "variable of a module": (variable, unload),
}
# Each takes memory on a GPU. Refused, and for nothing.
REFUSED = (
    "cuMemCreate",
    "cuArrayCreate_v2",
    "cuArray3DCreate_v2",
    "cuMipmappedArrayCreate",
    "cuMemPoolCreate",
    "cuGraphCreate",
    "cuGraphAddMemAllocNode",
    "cuStreamBeginCapture_v2",
)


def info() -> tuple[int, int]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value, total.value


def say(what: str, result: int) -> None:
    print(json.dumps([what, result, *info()]), flush=True)


def at_the_limit(name: str) -> None:
    """20 MiB, 14 that do not fit, 12 that do, one byte more; all of it back, and again at once."""
    get, give = PATHS[name]
    held = []
    for size in (20 * MIB, 14 * MIB, 12 * MIB, 512):
        result, by = get(size)
        say(f"{size}", result)
        held += [] if result else [by]
    while held:
        say("back", give(held.pop()))
    result, by = get(32 * MIB)
    say("all of it", result)


def mixed() -> None:
    """Each path after each other one has had all and given it back: nothing of it stays behind."""
    held = []
    for first, (get, give) in PATHS.items():
        for pieces in (1, 8):
            taken = [get(32 * MIB // pieces) for _ in range(pieces)]
            say(first, max(result for result, _ in taken))
            for _, by in taken:
                assert give(by) == 0
    for name in ("cuMemAlloc", "cuMemHostAlloc", "cuMemAllocManaged", "variable of a module"):
        result, by = PATHS[name][0](8 * MIB)
        say(f"8 MiB of {name}", result)
        held.append(by)
    for name, (get, _) in PATHS.items():
        say(f"no more by {name}", get(4096)[0])


def last() -> None:
    """Less is left than small pinned blocks are usually cut from."""
    for name, size in (
        ("cuMemAlloc", 30 * MIB),
        ("cuMemHostAlloc", 4096),
        ("cuMemAllocManaged", 512),
    ):
        say(name, PATHS[name][0](size)[0])


def refused() -> None:
    room = ctypes.create_string_buffer(4096)  # whatever the arguments are, they are not looked at
    pointers = [ctypes.c_void_p(ctypes.addressof(room))] * 6
    for name in REFUSED:
        say(name, getattr(cuda, name)(*pointers))


def main() -> None:
    device()
    {"mixed": mixed, "last": last, "refused": refused}.get(
        sys.argv[1], lambda: at_the_limit(sys.argv[1])
    )()


if __name__ == "__main__":
    main()
