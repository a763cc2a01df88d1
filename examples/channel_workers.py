# SPDX-License-Identifier: Apache-2.0
"""A pool of worker processes: arrays go to them without being copied, results come back as they are ready.

python examples/channel_workers.py [WORKERS]
"""

from __future__ import annotations

import os
import sys
import threading

import numpy as np

import orion_shm

ADDRESS = f"workers-{os.getpid()}"
JOBS = 40


def work() -> None:
    """What each worker process does until its channel is closed."""
    with orion_shm.connect(ADDRESS) as channel:
        channel.serve(lambda matrix: np.linalg.eigvalsh(matrix))


def drive(channel: orion_shm.Channel, jobs: list[int], results: dict[int, float]) -> None:
    """One thread for each worker: takes a job, sends it, waits for its result."""
    while True:
        try:
            seed = jobs.pop()
        except IndexError:
            return
        matrix = channel.empty((100, 100))
        matrix[:] = np.random.default_rng(seed).random((100, 100))
        matrix += matrix.T
        results[seed] = float(channel.call(matrix).max())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    jobs, results = list(range(JOBS)), dict[int, float]()
    with orion_shm.listen(ADDRESS) as listener:
        children = []
        for _ in range(count):
            child = os.fork()
            if child == 0:
                work()
                os._exit(0)
            children.append(child)
        channels = [listener.accept(30) for _ in children]
    threads = [threading.Thread(target=drive, args=(c, jobs, results)) for c in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for channel in channels:
        channel.close()
    for child in children:
        os.waitpid(child, 0)
    print(f"{len(results)} matrices, the largest eigenvalue is {max(results.values()):.3f}")


if __name__ == "__main__":
    main()
