# SPDX-License-Identifier: Apache-2.0
"""Channels as Python sees them: messages, calls, arrays, objects, ends, threads and forks."""

from __future__ import annotations

import array
import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from channel_schemes import SCHEMES, address_of, only_shm

import orion_shm

SECONDS = 20.0


class Ends:
    """Both ends of a channel in one process."""

    def __init__(self, name: str, **options: Any) -> None:
        with orion_shm.listen(name, **options) as listener:
            made: list[orion_shm.Channel] = []
            thread = threading.Thread(target=lambda: made.append(listener.accept(SECONDS)))
            thread.start()
            self.client = orion_shm.connect(listener.address, SECONDS, **options)
            thread.join()
        self.server = made[0]


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    """What carries the messages; a claim about shared memory alone is marked `only_shm`."""
    return str(request.param)


@pytest.fixture
def name(scheme: str) -> str:
    """An address to listen at; connect to the listener's."""
    return address_of(scheme)


@pytest.fixture
def ends(name: str) -> Iterator[Ends]:
    made = Ends(name, allow_pickle=True)
    yield made
    made.client.close()
    made.server.close()


@pytest.fixture
def served(ends: Ends) -> Iterator[Ends]:
    """The server answers with what comes; `b"fail"` raises."""

    def handler(data: Any) -> Any:
        if isinstance(data, bytes) and data == b"fail":
            raise KeyError("no such thing")
        return data

    thread = threading.Thread(target=ends.server.serve, args=(handler,))
    thread.start()
    yield ends
    ends.client.close()
    thread.join(SECONDS)
    assert not thread.is_alive()


def begin(function: Callable[..., Any], *arguments: Any) -> threading.Thread:
    """In a thread of its own: a network takes a long message as the other side reads it."""
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


# ---- bytes


@pytest.mark.parametrize("size", [0, 1, 7, 8, 48, 64, 4080, 4081, 70_000, 3_000_001])
def test_bytes_arrive_as_they_were(ends: Ends, size: int) -> None:
    data = os.urandom(size)
    sending = begin(ends.client.send, data, SECONDS)
    assert ends.server.recv(SECONDS) == data
    sending.join()
    sending = begin(ends.server.send, memoryview(data), SECONDS)
    view = ends.client.recv_view(SECONDS)
    sending.join()
    assert view.readonly
    assert view == data


def test_any_contiguous_buffer_can_be_sent(ends: Ends) -> None:
    for data in (bytearray(b"abc"), memoryview(b"abcd")[1:], array.array("d", [1.5, 2.5])):
        ends.client.send(data)
        assert ends.server.recv(SECONDS) == bytes(memoryview(data).cast("B"))
    with pytest.raises(BufferError):
        ends.client.send(memoryview(b"abcd")[::2])
    with pytest.raises(TypeError):
        ends.client.send("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ends.client.send(None)  # type: ignore[arg-type]


def test_order_is_kept(ends: Ends) -> None:
    for i in range(3000):
        ends.client.send(i.to_bytes(4, "little") * (1 + i % 3000))
        if i % 10 == 9:
            for k in range(i - 9, i + 1):
                assert ends.server.recv(SECONDS)[:4] == k.to_bytes(4, "little")


def test_time_is_up_where_nothing_comes(ends: Ends) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="nothing came"):
        ends.client.recv(0.05)
    assert time.monotonic() - started >= 0.05
    with pytest.raises(TimeoutError):
        ends.client.recv(0)
    with pytest.raises(TimeoutError):
        ends.client.call(b"x", 0.05)
    with pytest.raises(ValueError, match="timeout"):
        ends.client.recv(-1)
    with pytest.raises(ValueError, match="timeout"):
        ends.client.send(b"", float("nan"))


def fill(channel: orion_shm.Channel) -> None:
    """Sends until the other side would have to read."""
    for _ in range(100_000):
        try:
            channel.send(b"x" * 1000, 0)
        except TimeoutError:
            return
    raise AssertionError("it never fills")


def test_a_full_channel_makes_the_sender_wait(ends: Ends) -> None:
    fill(ends.client)
    reader = threading.Thread(target=lambda: [ends.server.recv(SECONDS) for _ in range(100)])
    reader.start()
    for _ in range(50):
        ends.client.send(b"x" * 1000, SECONDS)
    reader.join()


# ---- calls


def test_calls_return_what_the_handler_returned(served: Ends) -> None:
    for size in (0, 8, 64, 4080, 5000, 1_000_000):
        data = os.urandom(size)
        assert served.client.call(data, SECONDS) == data
        assert served.client.call(bytearray(data)) == data
    numbers = np.arange(10_000.0).reshape(100, 100)
    np.testing.assert_array_equal(served.client.call(numbers, SECONDS), numbers)
    assert served.client.call_object({"a": [1, None, numbers[0]]})["a"][:2] == [1, None]


def test_a_handler_that_raises_is_an_error_of_the_caller_alone(served: Ends) -> None:
    with pytest.raises(orion_shm.RemoteError, match="KeyError: 'no such thing'"):
        served.client.call(b"fail", SECONDS)
    assert served.client.call(b"fine", SECONDS) == b"fine"


def test_a_handler_may_return_nothing_but_not_anything(name: str) -> None:
    ends = Ends(name)
    answers = iter([None, 5, b"x"])
    thread = threading.Thread(target=ends.server.serve, args=(lambda _: next(answers),))
    thread.start()
    assert ends.client.call(b"") == b""
    with pytest.raises(orion_shm.RemoteError, match="TypeError"):
        ends.client.call(b"")
    assert ends.client.call(b"") == b"x"
    ends.client.close()
    thread.join(SECONDS)


def test_serve_counts_and_ends_when_the_other_side_closes(ends: Ends) -> None:
    seen: list[bytes] = []
    ends.client.send(b"one")
    ends.client.send(b"two")
    ends.client.close()
    assert ends.server.serve(seen.append, SECONDS) == 2
    assert seen == [b"one", b"two"]


def test_a_call_that_is_received_instead_of_served_fails_at_once(ends: Ends) -> None:
    failures: list[str] = []

    def caller() -> None:
        try:
            ends.client.call(b"q", SECONDS)
        except orion_shm.RemoteError as error:
            failures.append(str(error))

    thread = threading.Thread(target=caller)
    thread.start()
    assert ends.server.recv(SECONDS) == b"q"
    thread.join(SECONDS)
    assert "does not serve" in failures[0]


def test_threads_call_at_the_same_time(served: Ends) -> None:
    wrong: list[int] = []

    def caller(seed: int) -> None:
        for i in range(200):
            data = bytes([seed, i % 256]) * (1 + i)
            if served.client.call(data, SECONDS) != data:
                wrong.append(seed)

    threads = [threading.Thread(target=caller, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- arrays


@pytest.mark.parametrize(
    "sent",
    [
        np.arange(6, dtype="<i2").reshape(2, 3),
        np.float32(3.5) * np.ones((0, 4), "f4"),
        np.array(7.25),
        np.asfortranarray(np.arange(24.0).reshape(4, 6)),
        np.arange(100)[::-3],
        np.array(["2026-11-23", "NaT"], "M8[D]"),
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([b"ab", b"c"]),
        np.array(["text"]),
        np.array([True, False]),
        np.arange(4, dtype=">u4"),
        np.arange(3) + 1j,
        np.ones((300, 500)),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_keep_shape_dtype_and_items(ends: Ends, sent: np.ndarray[Any, Any]) -> None:
    ends.client.send_array(sent)
    got = ends.server.recv_array(SECONDS)
    assert got.dtype == sent.dtype
    assert got.shape == sent.shape
    np.testing.assert_array_equal(got, sent)
    assert not got.flags.writeable
    ends.client.send(sent)
    np.testing.assert_array_equal(ends.server.recv(SECONDS), sent)


@only_shm
def test_arrays_of_the_arena_are_not_copied(ends: Ends) -> None:
    made = ends.client.empty((1000, 100), "f4")
    made[:] = 5
    ends.client.send_array(made[10:20])
    got = ends.server.recv(SECONDS)
    assert got.shape == (10, 100)
    made[15, 7] = 6  # the very same memory
    assert got[5, 7] == 6


@only_shm
def test_memory_comes_back_when_the_last_view_goes(name: str) -> None:
    ends = Ends(name, arena_limit=1 << 20)
    for _ in range(20):
        made = ends.client.empty(100_000, "f8")  # only one of these fits
        made[:] = 1
        ends.client.send_array(made)
        got = ends.server.recv(SECONDS)
        part = got[50:60]
        del made, got
        gc.collect()
        with pytest.raises(MemoryError, match="arena_limit"):
            ends.client.empty(100_000, "f8")
        assert part.sum() == 10
        del part
    ends.client.close()
    ends.server.close()


def test_arrays_outlive_the_channel(ends: Ends, scheme: str) -> None:
    made = ends.client.empty(5000, "i4")
    made[:] = np.arange(5000)
    ends.client.send_array(made)
    got = ends.server.recv(SECONDS)
    ends.client.close()
    ends.server.close()
    del ends
    gc.collect()
    assert got[4999] == 4999
    made[4999] = 3
    assert got[4999] == (3 if scheme == "shm" else 4999)  # the very same memory, or a copy


def test_what_fits_no_block_goes_in_pieces(name: str) -> None:
    ends = Ends(name, arena_limit=1 << 20)
    sent = np.arange(1_000_000)
    thread = threading.Thread(target=ends.client.send_array, args=(sent, SECONDS))
    thread.start()
    got = ends.server.recv(SECONDS)
    thread.join()
    np.testing.assert_array_equal(got, sent)
    ends.client.close()


def test_what_is_longer_than_the_other_side_takes_is_a_value_error(name: str) -> None:
    ends = Ends(name, arena_limit=1 << 20, message_limit=2 << 20)
    for send in (ends.client.send, ends.client.call):
        with pytest.raises(ValueError, match=r"at most 2097152 bytes; raise message_limit there"):
            send(bytes((2 << 20) + 1), SECONDS)
    with pytest.raises(ValueError, match="message_limit"):
        ends.client.send_array(np.zeros(300_000), SECONDS)
    ends.client.send(b"next")
    assert ends.server.recv(SECONDS) == b"next"
    ends.client.close()


def test_an_answer_waits_for_memory_that_the_caller_still_holds(name: str) -> None:
    ends = Ends(name, arena_limit=1 << 20)
    serving = threading.Thread(target=ends.server.serve, args=(lambda _: np.ones(90_000),))
    serving.start()
    first = ends.client.call(b"", SECONDS)
    got: list[float] = []
    calling = threading.Thread(target=lambda: got.append(ends.client.call(b"", SECONDS).sum()))
    calling.start()
    with pytest.raises(TimeoutError):
        ends.client.recv(0.05)  # this thread runs on meanwhile
    assert not got
    assert first.sum() == 90_000
    del first
    calling.join(SECONDS)
    assert got == [90_000]
    ends.client.close()
    serving.join(SECONDS)


class Tensor:
    """A DLPack tensor that says nothing else of itself."""

    def __init__(self, array: np.ndarray[Any, Any], device: int = 1) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


def test_buffers_and_dlpack_tensors_are_arrays_too(ends: Ends) -> None:
    ends.client.send_array(array.array("h", [1, 2, 3]))
    np.testing.assert_array_equal(ends.server.recv(SECONDS), np.array([1, 2, 3], "i2"))
    ends.client.send_array(Tensor(np.arange(5.0)))
    np.testing.assert_array_equal(ends.server.recv(SECONDS), np.arange(5.0))
    with pytest.raises(BufferError, match="device type 10"):
        ends.client.send_array(Tensor(np.arange(5.0), 10))
    with pytest.raises(TypeError):
        ends.client.send_array(object())
    with pytest.raises(TypeError, match="send_object"):
        ends.client.send_array(np.array([None]))
    with pytest.raises(TypeError, match="send_object"):
        ends.client.empty(3, object)
    with pytest.raises(ValueError, match="negative"):
        ends.client.empty(-3)


def test_what_is_no_array_is_said_and_dropped(ends: Ends) -> None:
    ends.client.send(b"bytes")
    with pytest.raises(TypeError, match="no array"):
        ends.server.recv_array(SECONDS)
    ends.client.send_array(np.ones(3))
    with pytest.raises(TypeError, match="no bytes"):
        ends.server.recv_view(SECONDS)
    ends.client.send(b"next")
    assert ends.server.recv(SECONDS) == b"next"


def test_long_bytes_arrive_while_they_are_copied(ends: Ends) -> None:
    sent = [os.urandom(size) for size in (65_535, 65_536, 1 << 20, (3 << 20) + 7)]
    got: list[Any] = []

    def receive() -> None:
        got.extend(ends.server.recv(SECONDS) for _ in range(2 * len(sent)))

    readers = [threading.Thread(target=receive) for _ in range(2)]  # one may take the other's
    for reader in readers:
        reader.start()
    for data in sent * 2:
        ends.client.send(data)
        ends.client.send_array(np.frombuffer(data, "u1"))
    for reader in readers:
        reader.join()
    arrays = [each for each in got if isinstance(each, np.ndarray)]
    assert sorted(each for each in got if isinstance(each, bytes)) == sorted(sent * 2)
    assert sorted(each.tobytes() for each in arrays) == sorted(sent * 2)


# ---- objects


def test_objects_with_large_buffers_arrive(ends: Ends) -> None:
    for count in (1, 3, 1000, 500_000):
        sent = {"text": "x" * 10, "numbers": np.arange(count), "more": [np.ones((2, count)), None]}
        sending = begin(ends.client.send_object, sent, SECONDS)
        got = ends.server.recv_object(SECONDS)
        sending.join()
        assert got["text"] == sent["text"]
        np.testing.assert_array_equal(got["numbers"], sent["numbers"])
        np.testing.assert_array_equal(got["more"][0], np.ones((2, count)))
    strided = np.arange(1000)[::2]
    ends.client.send_object([strided] * 3)
    np.testing.assert_array_equal(ends.server.recv(SECONDS)[2], strided)


def test_long_pickles_without_buffers_arrive_both_ways(served: Ends) -> None:
    for count in (1, 500, 5_000, 500_000):  # in a record, in the arena
        assert served.client.call_object({"numbers": list(range(count))}) == {
            "numbers": list(range(count))
        }
    got = served.client.call_object([np.arange(500_000), "beside"])
    np.testing.assert_array_equal(got[0], np.arange(500_000))


def test_an_object_is_no_array(ends: Ends) -> None:
    ends.client.send_object({1: 2})
    with pytest.raises(TypeError, match="no array"):
        ends.server.recv_array(SECONDS)
    ends.client.send_object({1: 2})
    assert ends.server.recv(SECONDS) == {1: 2}


def test_objects_are_not_unpickled_unless_allowed(name: str) -> None:
    ends = Ends(name)
    ends.client.send_object(os.getpid)
    with pytest.raises(ValueError, match="allow_pickle=True"):
        ends.server.recv(SECONDS)
    ends.client.send(b"still there")
    assert ends.server.recv(SECONDS) == b"still there"
    ends.client.close()


# ---- ends


def test_closing_ends_iteration_and_receiving(ends: Ends) -> None:
    for text in (b"a", b"b"):
        ends.client.send(text)
    ends.client.close()
    assert list(ends.server) == [b"a", b"b"]
    with pytest.raises(EOFError, match="closed"):
        ends.server.recv()
    with pytest.raises(BrokenPipeError):
        ends.server.send(b"x")
    with pytest.raises(BrokenPipeError):
        ends.server.call(b"x")
    with pytest.raises(ValueError, match="closed"):
        ends.client.send(b"x")
    with pytest.raises(ValueError, match="closed"):
        ends.client.recv()
    assert ends.client.closed
    assert ends.server.closed
    assert ends.client.fileno() == -1


def test_a_thread_that_waits_wakes_when_the_channel_is_closed(ends: Ends) -> None:
    errors: list[Exception] = []

    def wait() -> None:
        try:
            ends.client.recv()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    ends.client.close()
    thread.join(SECONDS)
    assert isinstance(errors[0], ValueError)


def test_leaving_a_with_block_closes(name: str) -> None:
    ends = Ends(name)
    with ends.client:
        pass
    assert ends.client.closed
    address = ends.client.address
    with pytest.raises(ConnectionRefusedError, match=re.escape(address)):
        orion_shm.connect(address)


# A process of its own: UCX does not work in the forked child of one that has used it.
DOOMED = """
import sys, orion_shm
with orion_shm.connect(sys.argv[1]) as channel:
    channel.send(b"ready")
    channel.recv()
"""


def test_a_peer_that_dies_is_a_reset_within_a_moment(name: str, scheme: str) -> None:
    with orion_shm.listen(name) as listener:
        # elsewhere: what is installed is to be found, not the checkout
        child = subprocess.Popen([sys.executable, "-c", DOOMED, listener.address], cwd="/")
        try:
            channel = listener.accept(SECONDS)
            assert channel.peer_pid == (child.pid if scheme == "shm" else None)
            assert channel.recv(SECONDS) == b"ready"
        finally:
            child.kill()
        started = time.monotonic()
        with pytest.raises(ConnectionResetError, match="died"):
            channel.recv(SECONDS)
        assert time.monotonic() - started < 5
        child.wait()
        channel.close()


def test_a_forked_child_may_not_use_the_channel(ends: Ends) -> None:
    child = os.fork()
    if child == 0:
        outcome = 1
        try:
            ends.client.send(b"x")
        except RuntimeError as error:
            outcome = 0 if "fork" in str(error) else 2
        ends.client.close()
        os._exit(outcome)
    _, status = os.waitpid(child, 0)
    assert status == 0
    ends.client.send(b"mine")
    assert ends.server.recv(SECONDS) == b"mine"


@pytest.fixture
def interrupted() -> Iterator[None]:
    """Ctrl-C in a moment, also where this process was started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.join()
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_ends_a_receive(ends: Ends) -> None:
    with pytest.raises(KeyboardInterrupt):
        ends.client.recv(SECONDS)


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_ends_a_call(ends: Ends) -> None:
    with pytest.raises(KeyboardInterrupt):
        ends.client.call(b"never answered", SECONDS)


@pytest.mark.parametrize("way", ["send", "call"])
@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_ends_a_long_message_that_nobody_takes(name: str, way: str) -> None:
    ends = Ends(name, arena_limit=1 << 20)
    with pytest.raises(KeyboardInterrupt):
        getattr(ends.client, way)(bytes(5 << 20))
    ends.client.send(b"next")
    assert ends.server.recv(SECONDS) == b"next"  # what was given up is never seen
    ends.client.close()


# ---- addresses


def test_addresses_that_make_no_sense_are_value_errors() -> None:
    for wrong in ("", "http://x", "a\0b", "x" * 500):
        with pytest.raises(ValueError, match=r"address|scheme|long|NUL"):
            orion_shm.connect(wrong)
        with pytest.raises(ValueError, match=r"address|scheme|long|NUL"):
            orion_shm.listen(wrong)
    with pytest.raises(ValueError, match="arena_limit"):
        orion_shm.listen("x", arena_limit=0)
    with pytest.raises(ValueError, match="message_limit"):
        orion_shm.connect("x", message_limit=0)
    for wrong in ("tcp://host", "tcp://host:http", "ucx://[::1]:70000", "tcp://::1:5"):
        with pytest.raises(ValueError, match=r"port|host"):
            orion_shm.connect(wrong)


def test_a_path_is_a_socket_that_goes_with_its_listener(tmp_path: Any) -> None:
    path = tmp_path / "socket"
    with orion_shm.listen(path) as listener:
        assert path.exists()
        with pytest.raises(ConnectionRefusedError):
            orion_shm.listen(path)
        with pytest.raises(TimeoutError):
            orion_shm.connect(path, 0.05)
        with pytest.raises(TimeoutError):
            listener.accept(0.05)
    assert not path.exists()
    assert listener.closed
    with pytest.raises(ValueError, match="closed"):
        listener.accept()


def test_nothing_is_left_open(name: str) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    Ends(name).client.close()
    gc.collect()
    before = opened()
    for _ in range(20):
        ends = Ends(name)
        ends.client.send_array(np.ones(100_000))
        kept = ends.server.recv(SECONDS)
        ends.client.close()
        ends.server.close()
        del ends
    assert kept[0] == 1
    gc.collect()
    assert opened() == before
