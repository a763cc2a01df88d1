# SPDX-License-Identifier: Apache-2.0
"""The ways by which two Python processes pass messages, all under one interface; side 0 asks, side 1 answers.

A wire is made before the fork (what must be inherited is made there), and opened on each side after it. A message
given to `receive` lands in memory of the receiver's own, or is a view of memory that both share, where the package
offers that. Each wire is used the fastest way that its documentation shows.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import socket
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

STOP = b"enough"
Exchange = Callable[[], None]  # returns when the other side has called it, too


class Wire:
    """Messages are bytes-like. Objects and arrays go as the package sends them, else as pickles and buffers."""

    name: ClassVar[str]
    kind: ClassVar[
        str
    ]  # "polls": takes a processor while it waits; "blocks"; "both": looks for a while, then sleeps
    package: ClassVar[str] = ""  # what has to be installed
    largest: ClassVar[int] = 64 << 20
    reopens: ClassVar[bool] = True

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.tag = os.path.basename(folder)  # in the names of what packages make elsewhere
        self.opened = 0

    def path(self, name: str) -> str:
        return os.path.join(self.folder, f"{name}.{self.opened}")

    def open(self, side: int, exchange: Exchange) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def send(self, data: Any) -> None:
        raise NotImplementedError

    def receive(self) -> Any:
        raise NotImplementedError

    def call(self, data: Any) -> Any:
        self.send(data)
        return self.receive()

    def answers(self, count: int) -> None:
        """Answers so many calls with what they bring."""
        for _ in range(count):
            self.send(self.receive())

    def called(self) -> None:
        """Side 0, after the calls that the other side answers in one go."""

    def send_object(self, value: object) -> None:
        self.send(pickle.dumps(value, protocol=5))

    def receive_object(self) -> Any:
        return pickle.loads(self.receive())

    def empty(self, count: int) -> np.ndarray[Any, Any] | None:
        """An array of float32 in memory that both sides see, if the package has such."""
        return None

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.send(memoryview(array).cast("B"))

    def receive_array(self) -> np.ndarray[Any, Any]:
        return np.frombuffer(self.receive(), dtype=np.float32)


class OrionChannel(Wire):
    name = "orion_shm"
    kind = "both"

    def open(self, side: int, exchange: Exchange) -> None:
        import orion_shm

        self.opened += 1
        if side == 1:
            with orion_shm.listen(self.path("orion"), allow_pickle=True) as listener:
                exchange()
                self.channel = listener.accept()
        else:
            exchange()
            self.channel = orion_shm.connect(self.path("orion"), allow_pickle=True)
        self.send, self.receive = self.channel.send, self.channel.recv  # type: ignore[method-assign]
        self.call = self.channel.call  # type: ignore[method-assign]
        self.send_object, self.receive_object = (  # type: ignore[method-assign]
            self.channel.send_object,
            self.channel.recv_object,
        )
        self.send_array, self.receive_array = (  # type: ignore[method-assign]
            self.channel.send_array,
            self.channel.recv_array,
        )

    def answers(self, count: int) -> None:
        try:
            self.channel.serve(_echo)
        except StopIteration:
            return

    def called(self) -> None:
        self.channel.send(STOP)

    def empty(self, count: int) -> np.ndarray[Any, Any] | None:
        shared: np.ndarray[Any, Any] = self.channel.empty(count, np.float32)
        return shared

    def close(self) -> None:
        self.channel.close()


def _echo(data: Any) -> Any:
    """A handler of `serve`, which goes on until one raises for a message that nobody waits for."""
    if data == STOP:
        raise StopIteration
    return data


class UnixSocket(Wire):
    name = "unix socket"
    kind = "blocks"

    def open(self, side: int, exchange: Exchange) -> None:
        self.opened += 1
        if side == 1:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(self.path("socket"))
                listener.listen(1)
                exchange()
                self.socket = listener.accept()[0]
        else:
            exchange()
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(self.path("socket"))
        for which in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, which, 4 << 20)
        self.read = self.socket.makefile(
            "rb", buffering=65536
        ).read  # a stream: small messages come in batches

    def close(self) -> None:
        self.socket.close()

    def send(self, data: Any) -> None:
        length = len(data).to_bytes(8, "little")
        if len(data) < 65536:
            self.socket.sendall(length + data)
        else:
            self.socket.sendall(length)
            self.socket.sendall(data)

    def receive(self) -> Any:
        return self.read(int.from_bytes(self.read(8), "little"))


class Pipe(Wire):
    name = "mp.Pipe"
    kind = "blocks"
    reopens = False

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.ends = multiprocessing.Pipe()

    def open(self, side: int, exchange: Exchange) -> None:
        exchange()
        end = self.ends[side]
        self.send, self.receive = end.send_bytes, end.recv_bytes  # type: ignore[method-assign]
        self.send_object, self.receive_object = end.send, end.recv  # type: ignore[method-assign]

    def close(self) -> None:
        for end in self.ends:
            end.close()


class Queues(Wire):
    """A queue each way; everything is pickled, and that is the package's own way."""

    reopens = False

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.queues = (self.make(), self.make())

    def make(self) -> Any:
        raise NotImplementedError

    def open(self, side: int, exchange: Exchange) -> None:
        exchange()
        self.out, self.into = self.queues[side], self.queues[1 - side]

    def close(self) -> None:
        pass

    def send(self, data: Any) -> None:
        self.out.put(data if isinstance(data, bytes) else bytes(data))

    def receive(self) -> Any:
        return self.into.get()

    def send_object(self, value: object) -> None:
        self.out.put(value)

    receive_object = receive

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.out.put(array)

    receive_array = receive


class MpQueue(Queues):
    name = "mp.Queue"
    kind = "blocks"

    def make(self) -> Any:
        return multiprocessing.Queue()

    def close(self) -> None:
        for each in self.queues:
            each.close()
            each.cancel_join_thread()


class FasterFifo(Queues):
    name = "faster-fifo"
    kind = "blocks"
    package = "faster-fifo"
    largest = 1 << 20  # of its ring, which it maps and fills before anything else

    def make(self) -> Any:
        import faster_fifo
        import faster_fifo_reduction  # noqa: F401 - how its queues reach another process

        return faster_fifo.Queue(8 << 20)

    def send(self, data: Any) -> None:
        value = data if isinstance(data, bytes) else bytes(data)
        while True:
            try:
                self.out.put(value, timeout=10)
                return
            except queue.Full:
                continue

    def receive(self) -> Any:
        return self.into.get(timeout=60)

    receive_object = receive_array = receive  # type: ignore[assignment]


class ZeroMq(Wire):
    name = "pyzmq"
    kind = "blocks"
    package = "pyzmq"

    def open(self, side: int, exchange: Exchange) -> None:
        import zmq

        self.opened += 1
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.PAIR)
        self.socket.set_hwm(0)
        self.socket.linger = 0
        address = f"ipc://{self.path('zmq')}"
        if side == 1:
            self.socket.bind(address)
        exchange()
        if side == 0:
            self.socket.connect(address)
        self.send, self.receive = self.socket.send, self.socket.recv  # type: ignore[method-assign]
        self.send_object, self.receive_object = (  # type: ignore[method-assign]
            self.socket.send_pyobj,
            self.socket.recv_pyobj,
        )

    def close(self) -> None:
        self.socket.close()
        self.context.term()

    def send_array(self, array: np.ndarray[Any, Any]) -> None:
        self.socket.send(array, copy=False)

    def receive_array(self) -> np.ndarray[Any, Any]:
        return np.frombuffer(self.socket.recv(copy=False).buffer, dtype=np.float32)


class Cloudtoid(Wire):
    """Two queues. `try_receive` in a loop is its fastest way, and takes a processor."""

    name = "cloudtoid"
    kind = "polls"
    package = "cloudtoid-interprocess"
    largest = 1 << 20
    reopens = False

    def open(self, side: int, exchange: Exchange) -> None:
        from cloudtoid_interprocess import Publisher, Subscriber

        self.opened += 1
        names = [f"{self.tag}-{way}" for way in (0, 1)]
        capacity = 8 << 20
        self.subscriber = Subscriber(names[1 - side], capacity, self.folder)
        self.publisher = Publisher(names[side], capacity, self.folder)
        exchange()

    def close(self) -> None:
        self.publisher.close()
        self.subscriber.close()

    def send(self, data: Any) -> None:
        while not self.publisher.try_send(data):
            pass

    def receive(self) -> Any:
        take = self.subscriber.try_receive
        while (message := take()) is None:
            pass
        return message


class CloudtoidWaits(Cloudtoid):
    """The same, waiting in `receive`."""

    name = "cloudtoid, receive()"
    kind = "blocks"

    def receive(self) -> Any:
        while (message := self.subscriber.receive(10.0)) is None:
            pass
        return message


class Iceoryx(Wire):
    """Publish and subscribe, one service each way, polled; payloads are loaned, filled and sent, and copied out."""

    name = "iceoryx2"
    kind = "polls"
    package = "iceoryx2"
    reopens = False

    def open(self, side: int, exchange: Exchange) -> None:
        import ctypes

        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Error)
        self.ctypes, self.byte = ctypes, ctypes.c_char
        self.held: Any = None
        config = iox2.config.default()
        config.global_cfg.prefix = iox2.FileName.new(f"{self.tag}_")
        config.global_cfg.root_path = iox2.Path.new(f"{self.folder}/")
        self.node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
        services = [
            self.node.service_builder(iox2.ServiceName.new(f"{self.tag}-{way}"))
            .publish_subscribe(iox2.Slice[ctypes.c_uint8])
            .subscriber_max_buffer_size(64)
            .enable_safe_overflow(False)
            .open_or_create()
            for way in (0, 1)
        ]
        self.subscriber = services[1 - side].subscriber_builder().create()
        builder = services[side].publisher_builder().initial_max_slice_len(65536)
        builder = builder.allocation_strategy(iox2.AllocationStrategy.PowerOfTwo)
        self.publisher = builder.create()
        exchange()
        for each in (self.publisher, self.subscriber):
            getattr(each, "update_connections", lambda: None)()
        exchange()

    def close(self) -> None:
        self.publisher.delete()
        self.subscriber.delete()

    def send(self, data: Any) -> None:
        view = memoryview(data)
        sample = self.publisher.loan_slice_uninit(view.nbytes)
        start = data if isinstance(data, bytes) else self.ctypes.byref(self.byte.from_buffer(view))
        self.ctypes.memmove(sample.payload_ptr, start, view.nbytes)
        sample.assume_init().send()

    def take(self) -> Any:
        while (sample := self.subscriber.receive()) is None:
            pass
        return sample

    def receive_array(self) -> np.ndarray[Any, Any]:
        """A view of the shared sample, which is given back when the next array is asked for."""
        if self.held is not None:
            self.held.delete()
        self.held = self.take()
        return np.frombuffer(self.held.payload().as_memory_view(), dtype=np.float32)

    def receive(self) -> Any:
        sample = self.take()
        payload = sample.payload()
        message = self.ctypes.string_at(payload.data_ptr, payload.number_of_elements)
        sample.delete()
        return message


WIRES: dict[str, type[Wire]] = {
    "orion": OrionChannel,
    "unix": UnixSocket,
    "pipe": Pipe,
    "mp-queue": MpQueue,
    "faster-fifo": FasterFifo,
    "pyzmq": ZeroMq,
    "cloudtoid": Cloudtoid,
    "cloudtoid-waits": CloudtoidWaits,
    "iceoryx2": Iceoryx,
}


now = time.perf_counter_ns
