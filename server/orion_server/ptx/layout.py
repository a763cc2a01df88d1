# SPDX-License-Identifier: Apache-2.0
"""The C structs that compiled code touches, as offsets: the twin of server/devices/cpu/{kernel,block}.h.

A test compiles the headers and compares.
"""

from __future__ import annotations

from enum import IntEnum

KERNEL_MAGIC = 0x314E524F
KERNEL_BYTES = 48
FLAG_FIBERS = 1

MIXED = 0xFFFFFFFF
DONE = 0x7FFFFFFF
LEGACY = 0x100
MAX_THREADS = 1024

# struct orion_cpu_block: field -> (offset, LLVM type)
BLOCK: dict[str, tuple[int, str]] = {
    "ntid.x": (0, "i32"),
    "ntid.y": (4, "i32"),
    "ntid.z": (8, "i32"),
    "nctaid.x": (12, "i32"),
    "nctaid.y": (16, "i32"),
    "nctaid.z": (20, "i32"),
    "ctaid.x": (24, "i32"),
    "ctaid.y": (28, "i32"),
    "ctaid.z": (32, "i32"),
    "threads": (36, "i32"),
    "stride": (40, "i32"),
    "shared_bytes": (44, "i32"),
    "module_base": (48, "i64"),
    "params": (56, "ptr"),
    "shared": (64, "ptr"),
    "slots": (72, "ptr"),
    "next": (80, "ptr"),
    "local": (88, "ptr"),
    "arg0": (96, "ptr"),
    "arg1": (104, "ptr"),
    "arg2": (112, "ptr"),
    "arg3": (120, "ptr"),
    "result": (128, "ptr"),
    "result_pred": (136, "ptr"),
    "local_low": (144, "i64"),
    "local_high": (152, "i64"),
    "stack_low": (160, "i64"),
    "stack_high": (168, "i64"),
    "grid_workspace": (176, "i64"),
    "dynamic_shared": (184, "i32"),
    "static_shared": (188, "i32"),
}


class Sync(IntEnum):
    """orion_cpu_sync_t.kind"""

    START = 0
    BARRIER = 1
    ARRIVE = 2
    BARRIER_RED = 3
    SHUFFLE = 4
    VOTE = 5
    MATCH = 6
    REDUX = 7
    WARP = 8
    ACTIVE = 9
    ELECT = 10
    LOOP = 11
    SPIN = 12


OPERATIONS: dict[Sync, tuple[str, ...]] = {
    Sync.BARRIER_RED: ("popc", "and", "or"),
    Sync.SHUFFLE: ("up", "down", "bfly", "idx"),
    Sync.VOTE: ("all", "any", "uni", "ballot"),
    Sync.MATCH: ("any", "all"),
    Sync.REDUX: ("add", "smin", "smax", "umin", "umax", "and", "or", "xor"),
}

# A value of a function pointer is FUNCTION_TAG + index into the module's table of address-taken functions. The tag
# makes it a non-canonical address, so that using it as data faults.
FUNCTION_TAG = 0x6F70 << 48
