# SPDX-License-Identifier: Apache-2.0
"""A client that writes whatever it likes into the memory it can write: only its own session ends, with the reason."""

from __future__ import annotations

import os
import random
import struct

import pytest
from orion_raw_client import COMMAND_BYTES, OPCODES, RING_AT, STAGE_AT, RawClient, SessionLost


@pytest.fixture
def bystander(null_server):
    with RawClient(null_server.socket) as client:
        yield client
        assert client.call("orionDescribe")[0] == 0


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<IHHII", 0, 1, 0, 1, 0),
        struct.pack("<IHHII", 8, 1, 0, 1, 0),
        struct.pack("<IHHII", 17, 1, 0, 1, 0),
        struct.pack("<IHHII", 0xFFFFFFF8, 1, 0, 1, 0),
        struct.pack("<IHHII", 32 * 1024 + 8, 1, 0, 1, 0),
    ],
)
def test_broken_record_header_ends_the_session_with_a_reason(null_server, bystander, record):
    client = RawClient(null_server.socket)
    record = record[:12] + struct.pack("<I", client.welcome.epoch)
    client.command[RING_AT : RING_AT + 16] = record
    client._word.value = 64
    client.wake()
    lost = client.await_end()
    assert "protocol" in str(lost)


@pytest.mark.parametrize("head", [1, 8, 0x7FFFFFFF, 0xFFFFFFF8, 256 * 1024 + 8])
def test_jumping_head_ends_the_session(null_server, bystander, head):
    client = RawClient(null_server.socket)
    client._word.value = head
    client.wake()
    assert "protocol" in str(client.await_end())


def test_unknown_operation_ends_the_session(null_server, bystander):
    client = RawClient(null_server.socket)
    client.post(60000)
    assert "operation 60000" in str(client.await_end())


def test_short_record_ends_the_session(null_server, bystander):
    client = RawClient(null_server.socket)
    client.post("orionLaunch", b"")
    assert "protocol" in str(client.await_end())


def test_sync_operation_without_a_slot_ends_the_session(null_server, bystander):
    client = RawClient(null_server.socket)
    client.post("cuMemGetInfo_v2")
    assert "protocol" in str(client.await_end())


def test_writing_to_the_socket_ends_the_session(null_server, bystander):
    client = RawClient(null_server.socket)
    client.socket.send(b"hello again")
    assert "socket" in str(client.await_end())


def test_client_cannot_write_its_replies(null_server):
    client = RawClient(null_server.socket)
    with pytest.raises(TypeError):
        client.reply[0] = 1
    client.close()


def test_random_scribbling_never_disturbs_others(null_server, bystander):
    dice = random.Random(11)
    for _ in range(40):
        client = RawClient(null_server.socket, timeout=10)
        try:
            for _ in range(20):
                at = dice.choice(
                    [
                        dice.randrange(COMMAND_BYTES - 64),
                        RING_AT + dice.randrange(4096),
                        128,
                        256,
                        384,
                    ]
                )
                client.command[at : at + 64] = dice.randbytes(64)
                client.wake()
            client._look(10**9)
        except SessionLost:
            pass
        client.close()
        assert bystander.call("cuMemGetInfo_v2")[0] == 0


def test_random_operations_never_disturb_others(null_server, bystander):
    dice = random.Random(12)
    numbers = list(OPCODES.values())
    for _ in range(60):
        client = RawClient(null_server.socket, timeout=10)
        try:
            for turn in range(30):
                size = dice.choice([0, 8, 16, 24, 32, 40, 48, 56, 64, 96, 128, 1024])
                words = [
                    dice.choice(
                        [
                            0,
                            1,
                            2,
                            1 << 32,
                            1 << 48,
                            (1 << 64) - 1,
                            0x100800000000,
                            dice.getrandbits(64),
                        ]
                    )
                    for _ in range(size // 8)
                ]
                slot = dice.choice([0xFFFF, 0, 1, 127, 128, 5000])
                client.post(
                    dice.choice(numbers), struct.pack(f"<{len(words)}Q", *words), slot, turn + 1
                )
        except (SessionLost, TimeoutError):
            pass
        client.close()
    assert bystander.call("cuMemGetInfo_v2")[0] == 0
    assert "Traceback" not in null_server.text()


def test_uploads_are_bounded(null_server):
    with RawClient(null_server.socket) as client:
        for size in (0, 256 << 20 | 1, (1 << 64) - 1):
            client.post("orionUploadBegin", struct.pack("<IIQ", 9, 0, size))
            assert client.call("cuMemGetInfo_v2")[2] == 1
        client.call("orionContextReset")
        client.post("orionUploadBegin", struct.pack("<IIQ", 1, 0, 100))
        client.command[STAGE_AT : STAGE_AT + 4] = b"abcd"
        for offset, size in ((98, 4), ((1 << 64) - 2, 4), (0, 1 << 20), (200, 0)):
            client.post("orionUploadChunk", struct.pack("<IIIIQ", 1, 0, 1, size, offset))
        assert client.call("cuMemGetInfo_v2")[2] == 1
        assert client.call("orionModuleLoad", struct.pack("<IIQ", 77, 0, 1 << 32))[0] == 1


def test_handles_must_be_free_live_and_in_bounds(null_server):
    with RawClient(null_server.socket) as client:
        stream = 1 << 32 | 5
        client.post("cuStreamCreate", struct.pack("<QII", stream, 0, 0))
        assert client.call("cuStreamSynchronize", struct.pack("<Q", stream))[0] == 0
        for wrong in (
            5,
            2 << 32 | 5,
            1 << 32 | 6,
            1 << 32 | 0xFFFFFFFF,
            2 << 48,
            1 << 48 | 128,
            1 << 48 | 0xFFFF,
        ):
            assert client.call("cuStreamSynchronize", struct.pack("<Q", wrong))[0] == 400
        assert client.call("cuStreamSynchronize", struct.pack("<Q", 1 << 48 | 3))[0] == 0
        assert client.call("cuStreamSynchronize", struct.pack("<Q", 0))[0] == 0
        client.post("cuStreamDestroy_v2", struct.pack("<Q", stream))
        assert client.call("cuStreamSynchronize", struct.pack("<Q", stream))[0] == 400
        client.post("cuStreamCreate", struct.pack("<QII", 3 << 32 | 5, 0, 0))
        assert client.call("cuStreamSynchronize", struct.pack("<Q", 3 << 32 | 5))[0] == 0
        assert client.call("orionDescribe")[2] == 0
        client.post("cuStreamCreate", struct.pack("<QII", 4 << 32 | 5, 0, 0))  # taken
        assert client.call("orionDescribe")[2] == 400


def test_no_worker_survives_its_test(null_server):
    null_server.wait_idle()
    assert all(os.path.exists(f"/proc/{p}") for p in null_server.processes())
    assert len(null_server.processes()) <= 3
