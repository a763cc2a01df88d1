# SPDX-License-Identifier: Apache-2.0
"""The two system calls that Python has no name for: waking futexes in a shared segment, punching holes in a file."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

from .wire import REPLY_FUTEX_WORDS, REPLY_SEGMENT_BYTES

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]
_libc.prctl.argtypes = [
    ctypes.c_int,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
]
_libc.syscall.restype = ctypes.c_long

_SYS_FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 98)
_FUTEX_WAKE = 1
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_PR_SET_CHILD_SUBREAPER = 36
_MAP_FAILED = ctypes.c_void_p(-1).value


def wake(address: int) -> None:
    """Wakes all who sleep on the word at that address of ours."""
    _libc.syscall(
        ctypes.c_long(_SYS_FUTEX),
        ctypes.c_void_p(address),
        ctypes.c_int(_FUTEX_WAKE),
        ctypes.c_int(0x7FFFFFFF),
        None,
        None,
        ctypes.c_int(0),
    )


def wake_reply_segment(fd: int) -> None:
    """Wakes whoever sleeps in a dead worker's reply segment; each then looks at its socket. Reads nothing of it."""
    if os.fstat(fd).st_size < REPLY_SEGMENT_BYTES:
        return
    base = _libc.mmap(None, REPLY_SEGMENT_BYTES, 1, 1, fd, 0)  # PROT_READ, MAP_SHARED
    if base is None or base == _MAP_FAILED:
        return
    for offset in REPLY_FUTEX_WORDS:
        wake(base + offset)
    _libc.munmap(base, REPLY_SEGMENT_BYTES)


def drop_pages(fd: int, size: int, offset: int = 0) -> None:
    """Frees memory of a file though somebody may still have it mapped."""
    _libc.fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, offset, size)


def ring(fd: int) -> None:
    """Counts the first word of a page up and wakes whoever sleeps on it."""
    (count,) = struct.unpack("<I", os.pread(fd, 4, 0))
    os.pwrite(fd, struct.pack("<I", (count + 1) & 0xFFFFFFFF), 0)
    base = _libc.mmap(None, 4096, 1, 1, fd, 0)  # PROT_READ, MAP_SHARED
    if base is None or base == _MAP_FAILED:
        return
    wake(base)
    _libc.munmap(base, 4096)


def adopt_orphans() -> None:
    """Workers of a zygote that was killed become our children: somebody has to reap them."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
