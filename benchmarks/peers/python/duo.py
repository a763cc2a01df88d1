# SPDX-License-Identifier: Apache-2.0
"""The rows of every Python peer: two processes, pinned apart, that probe the floor themselves around each sample.

python benchmarks/peers/python/duo.py WIRE LIBRARY FOLDER [ROW]...

FOLDER is empty, and its name in the names of all that packages make elsewhere.
LIBRARY is benchmarks/native/sample.c as a shared library: floors, samples and statistics are those of the C programs.
One JSON object on standard output, with the names that twin.c uses.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from wires import WIRES, Wire, now

FLOOR_BYTES = 512  # bench_floor_t
PAGE_BYTES = 4096
JOB = struct.Struct("<IIQQd")  # job, count, bytes, stamp, seconds used; behind the floor
BENCH_JOB = 4
PR_SET_PDEATHSIG = 1
ANSWER, RECEIVE, IDLE, PIN, ATTACH, OBJECTS, ARRAYS = range(1, 8)
SAMPLE_NS = 25e6
BATCHES = 5
ACKNOWLEDGE = b"12345678"
OBJECT = {"id": 17, "name": "step", "loss": 0.25, "shape": (32, 128), "tags": ["a", "b", "c"]}
Run = Callable[[], float]


class Result(ctypes.Structure):
    """bench_result_t."""

    _fields_ = [
        *((name, ctypes.c_double) for name in ("median", "least", "most", "ratio", "second")),
        ("line", ctypes.c_double),
        ("pair", ctypes.c_double),
        ("kept", ctypes.c_int),
        ("dropped", ctypes.c_int),
    ]


RUN = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_void_p)


class Duo:
    """Both sides of one wire; `side` is set after the fork."""

    def __init__(self, wire: Wire, library: str) -> None:
        self.wire = wire
        self.library = ctypes.CDLL(library)
        self.library.bench_sample.restype = Result
        self.library.bench_second.argtypes = [ctypes.c_double]
        self.page = mmap.mmap(-1, PAGE_BYTES)
        self.side = 0
        self.stamp = 0
        self.meetings = 0
        self.figures: dict[str, dict[str, Any]] = {}

    def started(self, side: int) -> None:
        self.side = side
        self.library.bench_hurry()
        self.library.bench_pin(side)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        self.library.bench_floor_share(ctypes.c_void_p(address))
        self.wire.open(side, self.meet)

    def meet(self) -> None:
        """Returns when the other side has come as far."""
        self.meetings += 1
        words = memoryview(self.page).cast("I")
        words[1000 + self.side] = self.meetings
        while words[1000 + 1 - self.side] < self.meetings:
            time.sleep(0.0001)

    def job(self) -> tuple[int, int, int, int, float]:
        return JOB.unpack_from(self.page, FLOOR_BYTES)  # type: ignore[return-value]

    # ---- side 1 ----

    def answer_jobs(self) -> None:
        while self.library.bench_floor_answer() == BENCH_JOB:
            self.answer_job(*self.job()[:4])
            self.library.bench_job_done()

    def answer_job(self, job: int, count: int, size: int, stamp: int) -> None:
        wire = self.wire
        if job == ANSWER:
            wire.answers(count)
        elif job == RECEIVE:
            receive = wire.receive
            for _ in range(count - 1):
                receive()
            check(receive(), size, stamp)
            wire.answers(1)
        elif job == OBJECTS:
            for _ in range(count):
                wire.send_object(wire.receive_object())
        elif job == ARRAYS:
            for number in range(count):
                array = wire.receive_array()
                must(array.nbytes == size and array[0] == array[-1] == (stamp + number) % 4096)
                del array
                wire.answers(1)
        elif job == IDLE:
            used = time.process_time()
            wire.answers(1)
            JOB.pack_into(
                self.page, FLOOR_BYTES, job, count, size, stamp, time.process_time() - used
            )
        elif job == PIN:
            self.library.bench_pin(count)
        elif job == ATTACH:
            wire.close()
            wire.open(1, self.meet)
            wire.answers(1)

    # ---- side 0 ----

    def start(self, job: int, count: int = 1, size: int = 8) -> None:
        JOB.pack_into(self.page, FLOOR_BYTES, job, count, size, self.stamp, 0.0)
        self.library.bench_job_start()

    def finish(self) -> None:
        self.library.bench_job_await()

    def message(self, size: int) -> bytes:
        self.stamp += 1
        return (
            self.stamp.to_bytes(8, "little")
            + bytes(max(size - 16, 0))
            + (self.stamp.to_bytes(8, "little") if size >= 16 else b"")
        )

    def sample(
        self, name: str, unit: str, run: Run, samples: int | None = None, second: str | None = None
    ) -> None:
        if samples is None:
            samples = int(os.environ.get("ORION_BENCH_SAMPLES", "15"))

        def guarded(_: Any) -> float:
            try:
                return run()
            except BaseException:  # the C caller cannot pass it on, and the other side waits
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)

        result = self.library.bench_sample(RUN(guarded), None, samples)
        self.figures[name] = {
            "unit": unit,
            "median": result.median,
            "least": result.least,
            "most": result.most,
            "ratio_to_pair": result.ratio,
            "line": result.line,
            "pair": result.pair,
            "kept": result.kept,
            "dropped": result.dropped,
        }
        if second:
            self.figures[name][second] = result.second

    def times(self, job: int, size: int, count: int, once: Callable[[], Any]) -> float:
        """Median of `count` timed turns; their 99th percentile in medians is the sample's second figure."""
        self.start(job, count, size)
        took = [0] * count
        for turn in range(count):
            began = now()
            once()
            took[turn] = now() - began
        if job == ANSWER:
            self.wire.called()
        self.finish()
        median = float(np.median(took))
        self.library.bench_second(float(np.percentile(took, 99)) / median)
        return median

    def fitting(self, run: Callable[[int], float], least: int, most: int) -> int:
        """As many turns as fill a sample, by the fastest of some trials."""
        best = min(run(least) for _ in range(4))
        return int(min(max(SAMPLE_NS / max(best, 1), least), most))

    def calls(self) -> None:
        for size in (8, 64, 256, 4096, 65536):
            data = self.message(size)
            self.start(ANSWER, 1, size)
            must(bytes(self.wire.call(data)) == data)
            self.wire.called()
            self.finish()
            self.turns(f"call_{size}", ANSWER, size, partial(self.wire.call, data))

    def turns(self, name: str, job: int, size: int, once: Callable[[], Any]) -> None:
        """A row of timed turns, with their 99th percentile."""

        def run(count: int) -> float:
            return self.times(job, size, count, once)

        count = self.fitting(run, 50, 10000)
        self.sample(name, "ns", lambda: run(count), second="p99_of_p50")

    def one_way(self) -> None:
        for size in (8, 64, 256):

            def run(count: int, size: int = size) -> float:
                return float(np.median([self.batch(count, size) for _ in range(BATCHES)]))

            count = self.fitting(run, 500, 10000)
            self.sample(f"one_way_{size}", "ns", lambda run=run, n=count: run(n))

    def batch(self, count: int, size: int) -> float:
        """ns per message; the last is acknowledged."""
        data, send = self.message(size), self.wire.send
        self.start(RECEIVE, count, size)
        began = now()
        for _ in range(count):
            send(data)
        self.wire.call(ACKNOWLEDGE)
        took = now() - began
        self.wire.called()
        self.finish()
        return took / count

    def objects(self) -> None:
        wire = self.wire

        def once() -> None:
            wire.send_object(OBJECT)
            must(wire.receive_object() == OBJECT)

        self.turns("object", OBJECTS, 8, once)

    def arrays(self) -> None:
        for size, count in ((64 << 10, 200), (1 << 20, 40), (64 << 20, 2)):
            if size > self.wire.largest:
                continue
            array, other = np.ones((2, size // 4), dtype=np.float32)

            def run(
                size: int = size, count: int = count, array: Any = array, other: Any = other
            ) -> float:
                copies, rates = [], []
                for _ in range(min(count, 5)):
                    began = now()
                    np.copyto(other, array)
                    copies.append(size / (now() - began))
                self.start(ARRAYS, count, size)
                for _ in range(count):
                    array[0] = array[-1] = self.stamp % 4096
                    self.stamp += 1
                    began = now()
                    self.wire.send_array(array)
                    self.wire.call(ACKNOWLEDGE)
                    rates.append(size / (now() - began))
                    self.wire.called()
                self.finish()
                rate = float(np.median(rates))
                self.library.bench_second(rate / float(np.median(copies)))
                return rate

            run()
            self.sample(f"array_{size}", "GB/s", run, 7, second="of_memcpy")

            shared = self.wire.empty(size // 4)
            if shared is not None:
                self.hand_over(size, shared)

    def hand_over(self, size: int, shared: np.ndarray[Any, Any]) -> None:
        """An array that is in shared memory already, sent and acknowledged."""

        def run() -> float:
            self.start(ARRAYS, 200, size)
            took = []
            for _ in range(200):
                shared[0] = shared[-1] = self.stamp % 4096
                self.stamp += 1
                began = now()
                self.wire.send_array(shared)
                self.wire.call(ACKNOWLEDGE)
                took.append(now() - began)
                self.wire.called()
            self.finish()
            return float(np.median(took))

        run()
        self.sample(f"hand_{size}", "ns", run, 7)

    def asleep(self) -> None:
        data = self.message(64)

        def run() -> float:
            self.start(ANSWER, 60, 64)
            took = []
            for _ in range(60):
                time.sleep(0.002)
                began = now()
                self.wire.call(data)
                took.append(now() - began)
            self.wire.called()
            self.finish()
            return float(np.median(took))

        self.sample("asleep_64", "ns", run, 3)

    def one_core(self) -> None:
        self.start(PIN, 0)
        self.finish()
        data = self.message(64)
        medians = [self.times(ANSWER, 64, 30, lambda: self.wire.call(data)) for _ in range(3)]
        self.start(PIN, 1)
        self.finish()
        self.figures["one_core_64"] = {"unit": "ns", "median": float(np.median(medians))}

    def idle(self) -> None:
        self.start(IDLE)
        time.sleep(1)
        self.wire.call(ACKNOWLEDGE)
        self.wire.called()
        self.finish()
        self.figures["idle"] = {"unit": "cores", "median": self.job()[4]}

    def attach(self) -> None:
        if not self.wire.reopens:
            return
        took = []
        for _ in range(5):
            began = now()
            self.start(ATTACH)
            self.wire.close()
            self.wire.open(0, self.meet)
            self.wire.call(ACKNOWLEDGE)
            took.append((now() - began) / 1e3)
            self.wire.called()
            self.finish()
        self.figures["attach"] = {"unit": "us", "median": float(np.median(took))}

    def ask(self, rows: list[str]) -> None:
        known = ("calls", "one_way", "objects", "arrays", "asleep", "one_core", "idle", "attach")
        for row in known:
            if not rows or row in rows:
                getattr(self, row)()
        print(json.dumps({"benchmark": self.wire.name, "figures": self.figures}))
        sys.stdout.flush()
        self.library.bench_die_with_child(False)
        self.library.bench_job_end_all()


def must(good: bool) -> None:
    if not good:
        raise RuntimeError("a message is not what was sent")


def check(data: Any, size: int, stamp: int) -> None:
    must(len(data) == size and int.from_bytes(bytes(data[:8]), "little") == stamp)


def main() -> int:
    name, library, folder, *rows = sys.argv[1:]
    duo = Duo(WIRES[name](folder), library)
    parent = os.getpid()
    duo.library.bench_die_with_child(True)
    child = os.fork()
    if child == 0:
        status = 1
        duo.library.bench_die_with_child(False)
        duo.library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # libc's, found through ours
        if os.getppid() != parent:
            os._exit(1)
        try:
            duo.started(1)
            duo.answer_jobs()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    duo.started(0)
    duo.ask(rows)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
