# SPDX-License-Identifier: Apache-2.0
"""Channels in asyncio: tasks wait for messages and answers without a thread, and notice the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from channel_schemes import SCHEMES, address_of

import orion_shm

SECONDS = 20.0
LAST = b"y" * 4000


async def turns() -> None:
    """Lets every other task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture(params=SCHEMES)
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[orion_shm.Channel, orion_shm.Channel]]:
    with orion_shm.listen(address_of(request.param)) as listener:
        made: list[orion_shm.Channel] = []
        thread = threading.Thread(target=lambda: made.append(listener.accept(SECONDS)))
        thread.start()
        client = orion_shm.connect(listener.address, SECONDS)
        thread.join()
    with client, made[0]:
        yield client, made[0]


Ends = tuple[orion_shm.Channel, orion_shm.Channel]


def test_messages_wake_the_task_that_waits(ends: Ends) -> None:
    client, server = ends

    async def answer() -> None:
        while True:
            await server.asend(b"re: " + await server.arecv())

    async def ask() -> None:
        task = asyncio.create_task(answer())
        for i in range(200):
            await client.asend(str(i).encode())
            assert await client.arecv() == b"re: %d" % i
        task.cancel()

    asyncio.run(asyncio.wait_for(ask(), SECONDS))


def test_several_tasks_share_what_comes(ends: Ends) -> None:
    client, server = ends

    async def main() -> None:
        tasks = [asyncio.create_task(server.arecv()) for _ in range(5)]
        await turns()
        for i in range(5):
            client.send(bytes([i]))
        got = await asyncio.gather(*tasks)
        assert sorted(got) == [bytes([i]) for i in range(5)]

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_a_cancelled_task_loses_no_message(ends: Ends) -> None:
    client, server = ends

    async def main() -> None:
        first = asyncio.create_task(server.arecv())
        second = asyncio.create_task(server.arecv())
        await turns()
        first.cancel()
        client.send(b"for whoever is left")
        assert await second == b"for whoever is left"
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_calls_are_open_at_the_same_time(ends: Ends) -> None:
    client, server = ends
    gate = threading.Barrier(4)

    def handler(data: bytes) -> bytes:
        gate.wait(SECONDS)  # all four are being answered at once
        return data * 2

    threads = [threading.Thread(target=server.serve, args=(handler,)) for _ in range(4)]
    for thread in threads:
        thread.start()

    async def main() -> None:
        answers = await asyncio.gather(*(client.acall(bytes([i])) for i in range(4)))
        assert answers == [bytes([i]) * 2 for i in range(4)]

    asyncio.run(asyncio.wait_for(main(), SECONDS))
    client.close()
    for thread in threads:
        thread.join(SECONDS)


def test_a_call_that_is_cancelled_harms_no_other(ends: Ends) -> None:
    client, server = ends

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.acall(b"never answered"), 0.05)
        thread = threading.Thread(target=server.serve, args=(lambda data: data,))
        thread.start()
        assert await client.acall(b"second") == b"second"
        client.close()
        thread.join(SECONDS)

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_iteration_ends_when_the_other_side_closes(ends: Ends) -> None:
    client, server = ends

    async def main() -> list[bytes]:
        async def close_soon() -> None:
            await turns()
            client.send(b"last")
            client.close()

        task = asyncio.create_task(close_soon())
        got = [message async for message in server]
        await task
        return got

    assert asyncio.run(asyncio.wait_for(main(), SECONDS)) == [b"last"]


def test_closing_here_wakes_the_tasks_that_wait(ends: Ends) -> None:
    client, _ = ends

    async def main() -> None:
        receiving = asyncio.create_task(client.arecv())
        calling = asyncio.create_task(client.acall(b"x"))
        await turns()
        client.close()
        for task in (receiving, calling):
            with pytest.raises(ValueError, match="closed"):
                await task

    asyncio.run(asyncio.wait_for(main(), SECONDS))


def test_sending_to_one_that_does_not_read_leaves_the_loop_free(ends: Ends) -> None:
    client, server = ends

    async def main() -> None:
        while True:
            try:
                client.send(b"x" * 4000, 0)
            except TimeoutError:
                break
        sending = asyncio.create_task(client.asend(LAST))
        await turns()
        assert not sending.done()
        while await server.arecv() != LAST:
            pass
        await sending

    asyncio.run(asyncio.wait_for(main(), SECONDS))
