# SPDX-License-Identifier: Apache-2.0
"""How long a call takes on this machine, beside multiprocessing.Pipe in the same run.

python examples/channel_pingpong.py
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable

import orion_shm

ADDRESS = f"pingpong-{os.getpid()}"
MESSAGE = b"x" * 64


def median_ns(round_trip: Callable[[], object], times: int) -> float:
    """The median of `times` round trips, after a tenth as many to warm up."""
    for _ in range(times // 10):
        round_trip()
    taken = []
    for _ in range(times):
        start = time.perf_counter_ns()
        round_trip()
        taken.append(time.perf_counter_ns() - start)
    return sorted(taken)[times // 2]


def main() -> None:
    ours, theirs = multiprocessing.Pipe()
    with orion_shm.listen(ADDRESS) as listener:
        child = os.fork()
        if child == 0:
            with orion_shm.connect(ADDRESS) as channel:
                channel.serve(lambda data: data)
            while (data := theirs.recv_bytes()) != b"":
                theirs.send_bytes(data)
            os._exit(0)
        channel = listener.accept(30)
    with channel:
        called = median_ns(lambda: channel.call(MESSAGE), 5000)

    def piped() -> None:
        ours.send_bytes(MESSAGE)
        ours.recv_bytes()

    pipe = median_ns(piped, 2000)
    ours.send_bytes(b"")
    os.waitpid(child, 0)
    print(
        f"channel.call {called / 1000:.2f} us, Pipe {pipe / 1000:.2f} us, {pipe / called:.0f} times"
    )


if __name__ == "__main__":
    main()
