# SPDX-License-Identifier: Apache-2.0
"""The page by which the supervisor tells a worker its limits: readable for the worker, and no more than that."""

from __future__ import annotations

import fcntl
import mmap
import os
import struct

import pytest
from orion_server.lease_page import F_SEAL_FUTURE_WRITE, PAGE, LeasePage, Turn


@pytest.fixture
def page():
    page = LeasePage()
    yield page
    page.close()


def test_reader_sees_limit_and_turn(page):
    with mmap.mmap(page.fd, PAGE, prot=mmap.PROT_READ) as seen:
        assert struct.unpack_from("<4sIQ", seen) == (b"LESE", 1, 0)
        assert struct.unpack_from("<I", seen, 64)[0] == Turn.ALONE
        page.set_memory_limit(123 << 20)
        page.set_turn(Turn.OVER)
        assert struct.unpack_from("<Q", seen, 8)[0] == 123 << 20
        assert struct.unpack_from("<I", seen, 64)[0] == Turn.OVER


def test_descriptor_for_the_worker_cannot_write(page):
    with pytest.raises(PermissionError):
        mmap.mmap(page.fd, PAGE)
    for attempt in (
        lambda: os.write(page.fd, b"x"),
        lambda: os.pwrite(page.fd, b"x", 0),
        lambda: os.ftruncate(page.fd, 0),
    ):
        with pytest.raises(OSError):  # noqa: PT011 - EBADF or EINVAL, as the kernel likes
            attempt()


def test_memory_is_sealed_against_a_second_look(page):
    """Should a worker open its descriptor anew, for writing: the seals are of the memory, not of the descriptor."""
    if not fcntl.fcntl(page.fd, fcntl.F_GET_SEALS) & F_SEAL_FUTURE_WRITE:
        pytest.skip("this kernel has no seal against future writing")
    again = os.open(f"/proc/self/fd/{page.fd}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(again, PAGE)
        with pytest.raises(OSError):  # noqa: PT011 - EPERM
            os.pwrite(again, b"x", 64)
        with pytest.raises(OSError):  # noqa: PT011 - EPERM: one that cannot shrink kills no reader
            os.ftruncate(again, 0)
    finally:
        os.close(again)


def test_closing_twice_is_safe_for_the_descriptor(page):
    page.close_fd()
    page.close_fd()
    page.set_turn(Turn.SHARED)  # the supervisor's own view lives on
