# SPDX-License-Identifier: Apache-2.0
"""Kernels of two clients that wait for each other, through memory that both see: turns are no deadlock."""

from __future__ import annotations

import struct

import pytest
from test_ipc import Client

HANDOVERS = 6
# Waits until the cell is `mine`, makes it one more, and waits for what comes after the other's step, `steps` times.
STEP = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry step(.param .u64 cell, .param .u64 mine, .param .u64 steps)
{
    .reg .pred %p<3>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [cell];
    ld.param.u64 %rd2, [mine];
    ld.param.u64 %rd3, [steps];
WAIT:
    ld.volatile.global.u64 %rd4, [%rd1];
    setp.ne.u64 %p1, %rd4, %rd2;
    @%p1 bra WAIT;
    add.u64 %rd5, %rd2, 1;
    st.volatile.global.u64 [%rd1], %rd5;
    add.u64 %rd2, %rd2, 2;
    sub.u64 %rd3, %rd3, 1;
    setp.ne.u64 %p2, %rd3, 0;
    @%p2 bra WAIT;
    ret;
}
\0"""


@pytest.mark.parametrize("mode", ["fair", "capped", "exclusive"])
def test_kernels_of_two_clients_that_wait_for_each_other_come_to_an_end(make_server, mode):
    """One thread, so that only one of them can run: who waits is stopped, and the other has its turn."""
    pytest.importorskip("llvmlite", reason="the CPU device needs llvmlite")
    server = make_server("--memory", "64M", "--threads", "1", "--share-mode", mode)
    wishes = {"gmem_mib": 16, "ratio": 40, "timeout": 250.0}
    with Client(server.socket, **wishes) as one, Client(server.socket, **wishes) as two:
        cell = one.alloc(4096)
        result, there, _ = two.open(one.share(cell))
        assert result == 0
        for client, address, mine in ((one, cell, 0), (two, there, 1)):
            assert client.load(STEP) == 0
            assert client.function("step")[0] == 0
            client.launch(struct.pack("<QQQ", address, mine, HANDOVERS // 2))
        for client in (one, two):
            assert client.call("cuCtxSynchronize")[0] == 0
        assert one.copy_out(cell, 8) == (0, struct.pack("<Q", HANDOVERS))
