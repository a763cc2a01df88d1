# SPDX-License-Identifier: Apache-2.0
"""Kernels through the whole server, without a CUDA library: upload, load, compile in the cage, cache, faults."""

from __future__ import annotations

import os
import struct
import time

import pytest
from orion_raw_client import REPLY_EVENTS, RawClient

SCALE = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .global .align 4 .u32 factor = 3;
.visible .entry scale(.param .u64 p, .param .u32 n)
{
    .reg .pred %p<2>;
    .reg .b32 %r<8>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [p];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 bra DONE;
    mul.wide.u32 %rd2, %r5, 4;
    add.u64 %rd3, %rd1, %rd2;
    mov.u64 %rd4, factor;
    ld.global.u32 %r6, [%rd4];
    ld.global.u32 %r7, [%rd3];
    mul.lo.u32 %r7, %r7, %r6;
    st.global.u32 [%rd3], %r7;
DONE:
    ret;
}
.visible .entry endless()
{
LOOP:
    bra LOOP;
}
\0"""


@pytest.fixture
def client(cpu_server):
    with RawClient(cpu_server.socket, gmem_mib=64) as client:
        assert client.load(SCALE) == 0
        yield client


def test_kernel_runs_and_its_description_is_right(client, cpu_server):
    result, blob = client.function("scale")
    assert result == 0
    fields = struct.unpack_from("<10I", blob)
    assert fields[8:] == (12, 2)
    assert struct.unpack_from("<I", blob, 40)[0] == 0  # it prints nothing
    assert struct.unpack_from("<4I", blob, 48) == (0, 8, 8, 4)
    address = client.alloc(4000)
    client.copy_in(address, struct.pack("<1000I", *range(1000)))
    client.launch(struct.pack("<QI", address, 1000), grid=8, block=128)
    assert client.copy_out(address, 4000) == (
        0,
        struct.pack("<1000I", *(3 * i for i in range(1000))),
    )


def test_kernel_that_prints_says_so_and_is_heard(cpu_server):
    ptx = b"""
.version 7.0
.target sm_80
.address_size 64
.extern .func (.param .b32 r) vprintf (.param .b64 a, .param .b64 b);
.global .align 1 .b8 text[4] = {72, 105, 10, 0};
.visible .entry speak()
{
    .reg .b64 %rd<4>;
    .reg .b32 %r<2>;
    mov.u64 %rd1, text;
    cvta.global.u64 %rd2, %rd1;
    mov.u64 %rd3, 0;
    {
    .param .b64 p0;
    .param .b64 p1;
    .param .b32 q;
    st.param.b64 [p0], %rd2;
    st.param.b64 [p1], %rd3;
    call.uni (q), vprintf, (p0, p1);
    ld.param.b32 %r1, [q];
    }
    ret;
}
\0"""
    with RawClient(cpu_server.socket) as client:
        assert client.load(ptx) == 0
        for index in (0, 1):
            result, blob = client.function("speak", 1 << 32 | index)
            assert result == 0
            assert struct.unpack_from("<I", blob, 40)[0] == 1
        client.launch(b"", grid=2)
        assert client.call("cuCtxSynchronize")[0] == 0
        events = bytes(client.reply[REPLY_EVENTS : REPLY_EVENTS + 4096])
        assert events.count(b"Hi\n") == 2


def test_module_variables_are_found_charged_and_writable(client):
    free, _ = client.info()
    assert free < 64 << 20
    text = b"factor\0"
    result, data, _ = client.call(
        "orionModuleGlobal", struct.pack("<QII", 1 << 32, len(text), 0) + text
    )
    assert result == 0
    address, size = struct.unpack_from("<QQ", data)
    assert size == 4
    assert client.copy_out(address, 4) == (0, struct.pack("<I", 3))
    assert client.call("cuModuleUnload", struct.pack("<Q", 1 << 32))[0] == 0
    assert client.info()[0] == 64 << 20
    assert client.copy_out(address, 4)[0] != 0


def test_exposed_variable_is_the_same_memory_on_both_sides(client):
    text = b"factor\0"
    _, data, _ = client.call("orionModuleGlobal", struct.pack("<QII", 1 << 32, len(text), 0) + text)
    address = struct.unpack_from("<Q", data)[0]
    result, data, _ = client.call("orionExpose", struct.pack("<Q", address))
    assert result == 0
    offset, size = struct.unpack_from("<QQ", data)
    client.take_notices()
    ((at, length, fd),) = client.extents
    assert (at, length) == (offset, size)
    inside = address - client.welcome.range_base - offset
    assert os.pread(fd, 4, inside) == struct.pack("<I", 3)
    os.pwrite(fd, struct.pack("<I", 7), inside)
    assert client.copy_out(address, 4)[1] == struct.pack("<I", 7)
    with pytest.raises(OSError):  # noqa: PT011 - sealed: the client cannot cut the worker's memory off
        os.ftruncate(fd, 0)
    assert (
        struct.unpack_from("<QQ", client.call("orionExpose", struct.pack("<Q", address))[1])[1] == 0
    )
    assert client.call("orionExpose", struct.pack("<Q", 0x400000))[0] == 1


def test_unknown_names_are_not_found(client):
    assert client.function("nothing")[0] == 500
    text = b"nothing\0"
    assert (
        client.call("orionModuleGlobal", struct.pack("<QII", 1 << 32, len(text), 0) + text)[0]
        == 500
    )


def test_handles_of_functions_go_with_their_module(client):
    assert client.function("scale")[0] == 0
    assert client.call("cuModuleUnload", struct.pack("<Q", 1 << 32))[0] == 0
    client.launch(bytes(16))
    assert client.call("orionDescribe")[2] == 400


def test_second_session_takes_the_object_from_the_cache(cpu_server):
    files = list((cpu_server.folder / "state").rglob("objects/*/*/*"))
    with RawClient(cpu_server.socket) as client:
        client.load(SCALE)
        client.function("scale")
    cpu_server.wait_idle()
    now = list((cpu_server.folder / "state").rglob("objects/*/*/*"))
    assert now
    assert set(files) <= set(now)
    for path in now:
        assert path.stat().st_mode & 0o077 == 0
    stamps = {p: p.stat().st_mtime_ns for p in now}
    time.sleep(0.02)
    with RawClient(cpu_server.socket) as client:
        client.load(SCALE)
        assert client.function("scale")[0] == 0
    assert any(p.stat().st_mtime_ns > stamps[p] for p in now)


def test_damaged_cache_entry_is_compiled_anew(cpu_server):
    for path in (cpu_server.folder / "state").rglob("objects/*/*/*"):
        path.write_bytes(b"garbage" * 100)
    with RawClient(cpu_server.socket) as client:
        client.load(SCALE)
        assert client.function("scale")[0] == 0
        address = client.alloc(4)
        client.copy_in(address, struct.pack("<I", 5))
        client.launch(struct.pack("<QI", address, 1), block=32)
        assert client.copy_out(address, 4)[1] == struct.pack("<I", 15)


def test_wild_pointer_ends_the_session_with_illegal_address(client, cpu_server):
    client.function("scale")
    client.launch(struct.pack("<QI", 0x123456789000, 1), block=32)
    lost = client.await_end()
    assert lost.result == 700
    assert "0x123456789000" in str(lost)
    assert "scale" in str(lost)
    cpu_server.wait_idle()
    assert "illegal address" in cpu_server.report()["sessions"][-1]["error"]


def test_endless_kernel_ends_with_its_client(cpu_server):
    client = RawClient(cpu_server.socket)
    client.load(SCALE)
    assert client.function("endless")[0] == 0
    client.launch(b"")
    time.sleep(0.1)
    client.close()
    cpu_server.wait_idle(2.0)


@pytest.mark.parametrize(
    "image", [b"garbage", b".version 7.0\n.target sm_80\n.visible .entry k( {\0", bytes(100)]
)
def test_bad_images_fail_and_the_session_goes_on(cpu_server, image):
    with RawClient(cpu_server.socket) as client:
        assert client.load(image) in (200, 218)
        assert client.load(SCALE, module=2 << 32) == 0


def test_tenants_do_not_share_a_cache(tmp_path):
    from orion_server.cache import ObjectCache

    one, two = ObjectCache(tmp_path, "1000", 1 << 20), ObjectCache(tmp_path, "1001", 1 << 20)
    fd = os.memfd_create("object")
    os.write(fd, b"code")
    assert one.put(bytes(32), fd, 4)
    found = one.open(bytes(32))
    assert found is not None
    assert os.pread(found[0], found[1], 0) == b"code"
    os.close(found[0])
    assert two.open(bytes(32)) is None
    with pytest.raises(ValueError, match="32 bytes"):
        one.open(b"../../etc/passwd")
    os.close(fd)


def test_cache_stays_below_its_size(tmp_path):
    from orion_server.cache import ObjectCache

    cache = ObjectCache(tmp_path, "1", 100_000)
    fd = os.memfd_create("object")
    os.ftruncate(fd, 10_000)
    for number in range(40):
        assert cache.put(bytes([number] * 32), fd, 10_000)
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= 100_000
    assert cache.open(bytes([39] * 32)) is not None
    assert not cache.put(bytes(32), fd, 200_000)
    os.close(fd)


def test_every_helper_of_compiled_code_is_in_the_worker():
    from orion_server import _worker
    from orion_server.ptx.helpers import HELPERS

    assert [name for name in HELPERS if name not in _worker.symbols()] == []
