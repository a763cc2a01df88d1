# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
"""Channels between two processes: the C core (csrc/channel) as Python objects. See docs/orion_shm.md."""

import pickle
import sys

cimport cython

from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from orion_shm._c cimport *

from orion_shm import _messages

cdef object _dumps = pickle.dumps, _loads = pickle.loads

# What a message's bytes are; `_messages` reads and writes all but the first.
cdef enum:
    TAG_BYTES = 0
    TAG_ARRAY = 1
    TAG_OBJECT = 2
    TAG_CUDA = 3
    TAG_PICKLE = 4

cdef enum:
    LOOK_NS = 2000          # the GIL is kept for so long: giving it up and having it back costs some 100 ns
    LONG_BYTES = 65536      # copied without the GIL
    SLICE_NS = 100000000    # then signals are looked after
    WHY_BYTES = 400


include "_waits.pxi"
include "_parcel.pxi"


cdef bint _is_like(uint32_t tag, int wanted) noexcept:
    """May a message of this tag come where `wanted` (-1: anything) is waited for?"""
    return wanted < 0 or tag == <uint32_t>wanted or (
        (wanted == TAG_ARRAY and tag == TAG_CUDA) or (wanted == TAG_OBJECT and tag == TAG_PICKLE))


cdef class Channel:
    """One end of a duplex channel between two processes. Made by `connect` and `Listener.accept`.

    Any thread may use it. A forked child may not: it gets RuntimeError. Timeouts are seconds, None for no limit;
    TimeoutError means that nothing was done. BrokenPipeError and EOFError say that the other side closed the channel,
    ConnectionResetError that it died, `ProtocolError` that it wrote nonsense, ValueError that this side has closed it.
    """

    cdef orion_channel_t *channel
    cdef readonly str address
    cdef readonly bint allow_pickle
    cdef bint over_network
    cdef object aio
    cdef object __weakref__

    def __dealloc__(self):
        with nogil:  # over tcp what was sent may take a moment to arrive
            orion_channel_free(self.channel)

    def __repr__(self):
        return f"<orion_shm.Channel {self.address} {'closed' if self.closed else 'open'}>"

    # ---- failures

    cdef object _error(self, orion_status_t status, bint receiving):
        cdef bool clean = False
        why = orion_channel_why(self.channel, &clean).decode("utf-8", "replace")
        if status == ORION_TIMEOUT:
            return TimeoutError(f"{self.address}: nothing came in time" if receiving
                                else f"{self.address}: the other process did not take or answer it in time")
        if status == ORION_PEER_GONE:
            text = f"{self.address}: {why}"
            if clean:
                return EOFError(text) if receiving else BrokenPipeError(text)
            return ConnectionResetError(text)
        if status == ORION_PROTOCOL:
            return ProtocolError(f"{self.address}: {why}")
        if status == ORION_NO_MEMORY:
            return MemoryError(f"{self.address}: {why or 'no room in the arena; see arena_limit'}")
        if status == ORION_TOO_BIG:
            limit = orion_channel_message_limit(self.channel)
            return ValueError(f"{self.address}: the other side takes messages of at most {limit} bytes; "
                              f"raise message_limit there")
        if status == ORION_INVALID and "fork" in why:
            return RuntimeError(f"{self.address}: {why}; open a channel of the child's own")
        if status == ORION_INVALID:
            return ValueError(f"{self.address}: {why or 'wrong argument'}")
        return OSError(f"{self.address}: {why}")

    # ---- sending

    cdef int _put(self, uint32_t tag, const void *data, size_t bytes, orion_bulk_t *bulk, int64_t timeout_ns) except -1:
        cdef int64_t deadline, wait
        cdef orion_status_t status
        status = orion_channel_send(self.channel, tag, data, bytes, bulk, 0)
        if status == ORION_OK:
            return 0
        if status == ORION_TIMEOUT and timeout_ns != 0:
            deadline = _deadline(timeout_ns)
            while status == ORION_TIMEOUT:
                wait = _slice(deadline)
                with nogil:
                    status = orion_channel_send(self.channel, tag, data, bytes, bulk, wait)
                _raise_what_is_set()
                if status == ORION_TIMEOUT:
                    PyErr_CheckSignals()
                    if wait == 0:
                        break
        if status != ORION_OK:
            raise self._error(status, False)
        return 0

    cdef int _put_large(self, uint32_t tag, const void *data, size_t bytes, orion_bulk_t *bulk,
                        int64_t timeout_ns) except -1:
        """Without the GIL from the start, and in one go: what is given up half-way begins again from its start."""
        cdef orion_status_t status
        with nogil:
            status = orion_channel_send(self.channel, tag, data, bytes, bulk, timeout_ns)
        _raise_what_is_set()
        if status != ORION_OK:
            raise self._error(status, False)
        return 0

    cdef int _post(self, _Parcel parcel, int64_t timeout_ns) except -1:
        if parcel.is_copied_long() or (parcel.bulk != NULL and self.over_network):
            return self._put_large(parcel.tag, parcel.data, parcel.bytes, parcel.bulk, timeout_ns)
        return self._put(parcel.tag, parcel.data, parcel.bytes, parcel.bulk, timeout_ns)

    cdef int _send(self, object data, int64_t timeout_ns) except -1:
        if type(data) is bytes and PyBytes_GET_SIZE(data) <= ORION_CHANNEL_INLINE:
            return self._put(TAG_BYTES, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL, timeout_ns)
        return self._post(_pack(self, data), timeout_ns)

    def send(self, data not None, timeout=None):
        """Sends the bytes of any contiguous buffer. A NumPy array arrives as an array (`send_array`).

        Returns when `data` may be changed again; small messages are then on their way, not received. Raises
        TimeoutError when the other side does not read, BrokenPipeError or ConnectionResetError when it is gone.
        """
        self._send(data, _ns(timeout))

    def send_array(self, array not None, timeout=None):
        """Sends an array: NumPy, any PEP 3118 buffer or DLPack tensor in host memory, or a CUDA array.

        Shape and dtype go along. An array of `empty` of this channel (or a view of one) is handed over without a copy;
        do not write to it before the other side is done. Others are copied once. Of a CUDA array an IPC handle is
        sent. Raises TypeError for dtypes that hold Python objects.
        """
        self._post(_pack_array(self, array), _ns(timeout))

    def send_object(self, value, timeout=None):
        """Sends any object that pickle can; its large buffers (NumPy arrays, ...) go beside the pickle, copied once.

        The other side reads it only if its channel was opened with allow_pickle=True.
        """
        self._post(_pack_object(self, value), _ns(timeout))

    # ---- memory

    cdef _Block _block(self, Py_ssize_t bytes, int64_t timeout_ns):
        """None: no room now."""
        cdef _Block block = _Block.__new__(_Block)
        cdef orion_status_t status
        with nogil:
            status = orion_block_create(self.channel, bytes if bytes > 0 else 1, timeout_ns, &block.block)
        _raise_what_is_set()
        if status == ORION_TIMEOUT or status == ORION_NO_MEMORY:
            return None
        if status != ORION_OK:
            raise self._error(status, False)
        block.bytes = bytes
        block.channel = self
        return block

    def empty(self, shape, dtype="float64", timeout=0.0):
        """A NumPy array in memory that both sides see, uninitialised; `send_array` then copies nothing.

        Waits at most `timeout` seconds for the other side to give memory back. Raises MemoryError when the arena
        (see arena_limit) has no room, TypeError for dtypes that hold Python objects.
        """
        dtype, bytes = _messages.measure(shape, dtype)
        block = self._block(bytes, _ns(timeout))
        if block is None:
            raise MemoryError(
                f"{self.address}: no room for {bytes} bytes in the arena: drop arrays, or raise arena_limit"
            )
        return _messages.numpy().ndarray(shape, dtype, block)

    # ---- receiving

    cdef orion_status_t _take(self, int64_t timeout_ns, orion_message_t *message, PyObject **room_p) except *:
        """room_p: a new reference goes there to the bytes that a long message was copied into while it came."""
        cdef orion_status_t status = orion_channel_receive(self.channel, 0, message)
        cdef int64_t deadline, wait
        cdef bytes room = None
        cdef char *to = NULL
        cdef size_t capacity = 0
        if status != ORION_TIMEOUT or timeout_ns == 0:
            return status
        if orion_channel_ready(self.channel, LOOK_NS):
            status = orion_channel_receive(self.channel, 0, message)
            if status != ORION_TIMEOUT:
                return status
        deadline = _deadline(timeout_ns)
        while True:
            wait = _slice(deadline)
            with nogil:
                if room_p != NULL:
                    status = orion_channel_receive_into(self.channel, wait, to, capacity, message)
                else:
                    status = orion_channel_receive(self.channel, wait, message)
            if status == ORION_TOO_BIG:
                if message.tag == TAG_BYTES:
                    room = PyBytes_FromStringAndSize(NULL, message.bulk.bytes)
                    to = PyBytes_AS_STRING(room)
                    capacity = PyBytes_GET_SIZE(room)
                else:
                    room_p = NULL
                continue
            if status == ORION_TIMEOUT:
                _raise_what_is_set()
            if status == ORION_OK and to != NULL and message.bulk.data == to:
                Py_INCREF(room)
                room_p[0] = <PyObject *>room
            if status != ORION_TIMEOUT or wait == 0:
                return status
            PyErr_CheckSignals()

    cdef object _decode(self, orion_message_t *message, PyObject *room):
        """The object that a message carries; gives the message back. room: of _take; the reference is taken over."""
        cdef object result
        cdef char *to
        if room != NULL:
            return self._decode_room(message, _owned(room))
        if message.tag == TAG_BYTES:
            if message.bytes < LONG_BYTES:
                result = PyBytes_FromStringAndSize(<char *>message.data, message.bytes)
            else:
                result = PyBytes_FromStringAndSize(NULL, message.bytes)
                to = PyBytes_AS_STRING(result)
                with nogil:
                    memcpy(to, message.data, message.bytes)
            orion_message_release(message)
            return result
        if message.data == message.bulk.data:
            head = b""  # the bulk is the message
        else:
            head = PyBytes_FromStringAndSize(<char *>message.data, message.bytes)
        if message.bulk.data != NULL:
            return _messages.decode(self, message.tag, head, _hold(message))
        if message.tag == TAG_PICKLE and self.allow_pickle:
            return _loads(head)
        return _messages.decode(self, message.tag, head, None)

    cdef object _decode_room(self, orion_message_t *message, bytes room):
        """Of a message whose bulk was copied; another thread may have taken the one that it was made for."""
        if message.tag == TAG_BYTES:
            return room if <size_t>PyBytes_GET_SIZE(room) == message.bytes else room[:message.bytes]
        head = b"" if message.data == message.bulk.data else PyBytes_FromStringAndSize(<char *>message.data,
                                                                                       message.bytes)
        return _messages.decode(self, message.tag, head, memoryview(room)[:message.bulk.bytes])

    cdef object _recv(self, object timeout, int wanted, str what):
        cdef orion_message_t message
        cdef PyObject *room = NULL
        cdef orion_status_t status = self._take(_ns(timeout), &message, &room)
        if status != ORION_OK:
            raise self._error(status, True)
        self._refuse(&message)
        if not _is_like(message.tag, wanted):
            orion_message_release(&message)
            if room != NULL:
                _owned(room)
            raise TypeError(f"{self.address}: the message that came, and is dropped, is no {what}")
        return self._decode(&message, room)

    cdef int _refuse(self, orion_message_t *message) except -1:
        """A call that nobody serves here fails at once over there."""
        cdef bytes text = b"this process receives messages and does not serve calls"
        if message.kind == ORION_MESSAGE_CALL:
            orion_channel_reply(self.channel, message, ORION_MESSAGE_ERROR, TAG_BYTES, PyBytes_AS_STRING(text),
                                PyBytes_GET_SIZE(text), NULL, 0)
        return 0

    def recv(self, timeout=None):
        """The next message: bytes, a NumPy array (read-only, a view of memory that both sides see), an object.

        Raises TimeoutError, EOFError when the other side has closed and everything was read, ConnectionResetError
        when it died, ValueError for an object on a channel without allow_pickle.
        """
        return self._recv(timeout, -1, "")

    def recv_view(self, timeout=None):
        """The next message, which must be bytes, as a read-only memoryview: long ones without a copy."""
        cdef orion_message_t message
        cdef orion_status_t status = self._take(_ns(timeout), &message, NULL)
        if status != ORION_OK:
            raise self._error(status, True)
        self._refuse(&message)
        if message.tag != TAG_BYTES:
            orion_message_release(&message)
            raise TypeError(f"{self.address}: the message that came, and is dropped, is no bytes")
        if message.bulk.data != NULL:
            return memoryview(_hold(&message))
        return memoryview(self._decode(&message, NULL))

    def recv_array(self, timeout=None):
        """The next message, which must be an array (else TypeError, and it is dropped)."""
        return self._recv(timeout, TAG_ARRAY, "array")

    def recv_object(self, timeout=None):
        """The next message, which must be of `send_object` (else TypeError, and it is dropped)."""
        return self._recv(timeout, TAG_OBJECT, "object")

    def __iter__(self):
        return self

    def __next__(self):
        """Messages until the other side closes the channel."""
        try:
            return self._recv(None, -1, "")
        except EOFError:
            raise StopIteration from None

    # ---- calls

    cdef uint64_t _begin(self, uint32_t tag, const void *data, size_t bytes, orion_bulk_t *bulk,
                         int64_t timeout_ns) except? 0:
        cdef uint64_t call = 0
        cdef int64_t deadline, wait
        cdef orion_status_t status = ORION_TIMEOUT
        if bulk == NULL and bytes <= ORION_CHANNEL_INLINE:
            status = orion_channel_call_begin(self.channel, tag, data, bytes, NULL, 0, &call)
            if status == ORION_OK:
                return call
        if status == ORION_TIMEOUT:
            deadline = _deadline(timeout_ns)
            while status == ORION_TIMEOUT:
                wait = _slice(deadline) if bulk == NULL else timeout_ns
                with nogil:
                    status = orion_channel_call_begin(self.channel, tag, data, bytes, bulk, wait, &call)
                if status == ORION_OK and error_set() != NULL:
                    orion_channel_call_cancel(self.channel, call)
                _raise_what_is_set()
                if status == ORION_TIMEOUT:
                    PyErr_CheckSignals()
                if bulk != NULL or wait == 0:
                    break
        if status != ORION_OK:
            raise self._error(status, False)
        return call

    cdef uint64_t _begin_with(self, _Parcel parcel, int64_t timeout_ns) except? 0:
        return self._begin(parcel.tag, parcel.data, parcel.bytes, parcel.bulk, timeout_ns)

    cdef object _finish(self, uint64_t call, int64_t timeout_ns):
        cdef orion_message_t message
        cdef orion_status_t status = ORION_TIMEOUT
        cdef int64_t deadline, wait
        if orion_channel_call_ready(self.channel, call, LOOK_NS):
            status = orion_channel_call_await(self.channel, call, 0, &message)
        else:
            deadline = _deadline(timeout_ns)
            try:
                while True:
                    wait = _slice(deadline)
                    with nogil:
                        status = orion_channel_call_await(self.channel, call, wait, &message)
                    if status != ORION_TIMEOUT or wait == 0:
                        break
                    PyErr_CheckSignals()
            finally:
                if status == ORION_TIMEOUT:
                    orion_channel_call_cancel(self.channel, call)
        if status != ORION_OK:
            raise self._error(status, False)
        return self._answer(&message)

    cdef object _answer(self, orion_message_t *message):
        cdef bint failed = message.kind == ORION_MESSAGE_ERROR
        result = self._decode(message, NULL)
        if failed:
            raise RemoteError(result.decode("utf-8", "replace") if isinstance(result, bytes) else str(result))
        return result

    def call(self, data not None, timeout=None):
        """Sends bytes or an array to the other side's `serve` and returns what its handler returned.

        Raises RemoteError when the handler raised, TimeoutError when there is no answer in time (the other side may
        still carry the call out), BrokenPipeError or ConnectionResetError when the other side is gone.
        """
        cdef int64_t timeout_ns = _ns(timeout)
        cdef int64_t deadline
        cdef uint64_t call
        if type(data) is bytes and timeout_ns < 0:
            call = self._begin(TAG_BYTES, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL, timeout_ns)
            return self._finish(call, timeout_ns)
        deadline = _deadline(timeout_ns)
        call = self._begin_with(_pack(self, data), timeout_ns)
        return self._finish(call, timeout_ns if deadline < 0 else max(0, deadline - _now()))

    def call_object(self, value, timeout=None):
        """`call` with any object that pickle can; both ends need allow_pickle=True."""
        cdef int64_t timeout_ns = _ns(timeout)
        cdef int64_t deadline = _deadline(timeout_ns)
        cdef uint64_t call = self._begin_with(_pack_object(self, value), timeout_ns)
        return self._finish(call, timeout_ns if deadline < 0 else max(0, deadline - _now()))

    cdef int _reply_raw(self, const orion_message_t *request, orion_message_kind_t kind, uint32_t tag,
                        const void *data, size_t bytes, orion_bulk_t *bulk) except -1:
        cdef orion_status_t status
        if bulk == NULL and bytes <= ORION_CHANNEL_INLINE:
            status = orion_channel_reply(self.channel, request, kind, tag, data, bytes, NULL, 0)
        else:  # it may wait for room
            with nogil:
                status = orion_channel_reply(self.channel, request, kind, tag, data, bytes, bulk, -1)
            _raise_what_is_set()
        if status != ORION_OK:
            raise self._error(status, False)
        return 0

    cdef int _reply(self, const orion_message_t *request, object value, bint as_object) except -1:
        cdef _Parcel parcel
        if as_object:
            parcel = _pack_object(self, value)
        elif value is None or type(value) is bytes:
            value = value or b""
            return self._reply_raw(request, ORION_MESSAGE_REPLY, TAG_BYTES, PyBytes_AS_STRING(value),
                                   PyBytes_GET_SIZE(value), NULL)
        else:
            parcel = _pack(self, value)
        return self._reply_raw(request, ORION_MESSAGE_REPLY, parcel.tag, parcel.data, parcel.bytes, parcel.bulk)

    def serve(self, handler, timeout=None):
        """Answers calls with `handler(data)` until the other side closes the channel; returns how many messages came.

        What the handler returns (bytes, an array, None for nothing; for a call of `call_object` any object) is the
        answer. Where it raises, the caller gets RemoteError and serving goes on. A message of `send` goes to the
        handler, too; there nobody waits, and what it raises ends serving. TimeoutError: no message for `timeout`
        seconds. Several threads may serve one channel.
        """
        cdef orion_message_t message, request
        cdef orion_status_t status
        cdef int64_t timeout_ns = _ns(timeout)
        cdef uint64_t count = 0
        cdef bool clean = False
        cdef bint as_object
        cdef PyObject *room
        while True:
            room = NULL
            status = self._take(timeout_ns, &message, &room)
            if status != ORION_OK:
                if status == ORION_PEER_GONE:
                    orion_channel_why(self.channel, &clean)
                    if clean:
                        return count
                raise self._error(status, True)
            count += 1
            as_object = _is_like(message.tag, TAG_OBJECT)
            if message.kind != ORION_MESSAGE_CALL:
                handler(self._decode(&message, room))
                continue
            _copy_request(&request, &message)
            try:
                value = handler(self._decode(&message, room))
                self._reply(&request, value, as_object)
            except (BrokenPipeError, ConnectionError):
                if orion_channel_state(self.channel) == ORION_OK:
                    self._explain(&request)
            except Exception:
                self._explain(&request)
            except BaseException:
                self._explain(&request)
                raise

    cdef int _explain(self, const orion_message_t *request) except -1:
        """The exception that is being handled goes to the caller."""
        error = sys.exc_info()[1]
        text = f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:ORION_CHANNEL_INLINE]
        if orion_channel_state(self.channel) == ORION_OK:
            orion_channel_reply(self.channel, request, ORION_MESSAGE_ERROR, TAG_BYTES, PyBytes_AS_STRING(text),
                                PyBytes_GET_SIZE(text), NULL, 0)
        return 0

    # ---- event loops

    def fileno(self):
        """A descriptor that an event loop can wait on while something is armed; -1 when closed. See `arecv`."""
        return orion_channel_fd(self.channel)

    def _try_recv(self):
        """(message,), or None when there is none. For `_aio`."""
        cdef orion_message_t message
        cdef orion_status_t status = self._take(0, &message, NULL)
        if status == ORION_TIMEOUT:
            return None
        if status != ORION_OK:
            raise self._error(status, True)
        self._refuse(&message)
        return (self._decode(&message, NULL),)

    def _try_send(self, data):
        """Sends at once, or raises TimeoutError."""
        self._send(data, 0)

    def _call_begin(self, data):
        return self._begin_with(_pack(self, data), 0)

    def _call_try(self, uint64_t call):
        """(answer,), or None when it is not there."""
        cdef orion_message_t message
        cdef orion_status_t status = orion_channel_call_await(self.channel, call, 0, &message)
        if status == ORION_TIMEOUT:
            return None
        if status != ORION_OK:
            raise self._error(status, False)
        return (self._answer(&message),)

    def _call_cancel(self, uint64_t call):
        orion_channel_call_cancel(self.channel, call)

    def _arm(self):
        """False: something is there already."""
        return orion_channel_arm(self.channel) == ORION_OK

    def _call_arm(self, uint64_t call):
        return orion_channel_call_arm(self.channel, call) == ORION_OK

    def _disarm(self):
        orion_channel_disarm(self.channel)

    cdef object _loop_side(self):
        if self.aio is None:
            from orion_shm import _aio

            self.aio = _aio.Waiter(self)
        return self.aio

    async def arecv(self):
        """`recv` for asyncio. Several tasks of one loop may wait; cancelling one loses no message."""
        return await self._loop_side().recv()

    async def asend(self, data):
        """`send` for asyncio; while the other side does not read, a thread waits."""
        await self._loop_side().send(data)

    async def acall(self, data):
        """`call` for asyncio. Up to 32 calls may be open at once."""
        return await self._loop_side().call(data)

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self._loop_side().recv()
        except EOFError:
            raise StopAsyncIteration from None

    # ---- the end

    @property
    def closed(self):
        """Has this side closed it, or the other one gone? What the other side sent before can still be received."""
        return self.channel == NULL or orion_channel_state(self.channel) != ORION_OK

    @property
    def transport(self):
        """What carries the messages: "shm", "tcp", "tls" (tcp, encrypted) or "ucx"."""
        return orion_channel_transport(self.channel).decode("ascii")

    @property
    def peer_pid(self):
        """The other process, as this one sees it; None if that is not known, as over tcp and ucx."""
        return orion_channel_peer_pid(self.channel) or None

    def close(self):
        """Ends the channel for both sides; threads that wait in it wake. Arrays that were received stay valid."""
        if self.aio is not None:
            self.aio.close()
        with nogil:
            orion_channel_shutdown(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def __reduce__(self):
        raise TypeError("a channel cannot be pickled: connect in the other process")


cdef void _copy_request(orion_message_t *to, const orion_message_t *message) noexcept:
    """What reply needs of a call; the large rest of the struct stays where it is."""
    memcpy(to, message, <size_t>(<const char *>_copy_of(message) - <const char *>message))


cdef extern from *:
    """
    static const void *orion_message_copy_of(const orion_message_t *message) { return message->copy; }
    """
    const void *_copy_of "orion_message_copy_of"(const orion_message_t *) noexcept nogil


include "_opening.pxi"
