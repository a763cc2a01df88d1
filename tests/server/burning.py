# SPDX-License-Identifier: Apache-2.0
"""Clients that keep a device busy, and what the server accounts to them."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

from orion_raw_client import RawClient
from orion_server_fixtures import Server

# One thread a block, `rounds` dependent multiplications each: about a nanosecond a round.
BURN = b"""
.version 7.0
.target sm_80
.address_size 64
.visible .entry burn(.param .u64 p, .param .u64 rounds)
{
    .reg .pred %p<2>;
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [p];
    ld.param.u64 %rd2, [rounds];
    mov.u64 %rd3, 1;
LOOP:
    mul.lo.u64 %rd3, %rd3, 6364136223846793005;
    add.u64 %rd3, %rd3, 1442695040888963407;
    sub.u64 %rd2, %rd2, 1;
    setp.ne.u64 %p1, %rd2, 0;
    @%p1 bra LOOP;
    st.global.u64 [%rd1], %rd3;
    ret;
}
\0"""
MILLISECOND = 500_000  # rounds, roughly


class Burner(RawClient):
    """A client with the kernel loaded."""

    def __init__(self, server: Server, **wishes: object) -> None:
        super().__init__(server.socket, **wishes)
        assert self.load(BURN) == 0
        assert self.function("burn")[0] == 0
        self.cell = self.alloc(512)

    def burn(self, blocks: int, rounds: int = MILLISECOND) -> None:
        """Asks for that many blocks, and does not wait."""
        self.launch(struct.pack("<QQ", self.cell, rounds), grid=blocks)

    def burn_on(self, rounds: int = MILLISECOND) -> None:
        """More than any test waits for."""
        self.burn(1 << 24, rounds)

    @property
    def number(self) -> int:
        return self.welcome.session_id


def seconds_of(server: Server, clients: Sequence[Burner]) -> list[float]:
    """Device time accounted to each so far."""
    rows = {row["session"]: row["busy_seconds"] for row in server.status()["clients"]}
    return [rows[client.number] for client in clients]


def shares_over(server: Server, clients: Sequence[Burner], seconds: float) -> list[float]:
    """What each got of the device time that all of them got, until they had `seconds` together."""
    before = seconds_of(server, clients)
    while True:
        got = [n - b for n, b in zip(seconds_of(server, clients), before, strict=True)]
        if sum(got) >= seconds:
            return [g / sum(got) for g in got]
        time.sleep(0.02)
