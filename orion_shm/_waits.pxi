# SPDX-License-Identifier: Apache-2.0
# How failures of the C core are raised here, and how long a thread waits in it until signals are looked after.

class ProtocolError(ConnectionAbortedError):
    """The other side broke the protocol; the channel has ended."""


class RemoteError(RuntimeError):
    """The handler on the other side raised; the text is its exception."""


cdef bool _keep_waiting() noexcept with gil:
    """Asked by a thread that waits in C to send: Ctrl-C ends that."""
    return error_set() == NULL and check_signals() == 0


cdef int _raise_what_is_set() except -1:
    return -1 if error_set() != NULL else 0


cdef int64_t _now():
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <int64_t>t.tv_sec * 1000000000 + t.tv_nsec


cdef int64_t _ns(object timeout) except? -2:
    """None: no limit, -1. Else nanoseconds."""
    if timeout is None:
        return -1
    cdef double seconds = timeout
    if seconds != seconds or seconds < 0:
        raise ValueError(f"timeout is {timeout}: give seconds from 0 on, or None for no limit")
    return <int64_t>(seconds * 1e9) if seconds < 9e9 else -1


cdef int64_t _deadline(int64_t timeout_ns):
    return -1 if timeout_ns < 0 else _now() + timeout_ns


cdef int64_t _slice(int64_t deadline):
    """Time to wait now; 0: none left."""
    cdef int64_t left
    if deadline < 0:
        return SLICE_NS
    left = deadline - _now()
    return 0 if left <= 0 else (left if left < SLICE_NS else SLICE_NS)


cdef object _open_error(orion_status_t status, const char *why):
    text = why.decode("utf-8", "replace")
    if status == ORION_TIMEOUT:
        return TimeoutError(text)
    if status == ORION_REFUSED:
        return ConnectionRefusedError(text)
    if status == ORION_PEER_GONE:
        return ConnectionResetError(text)
    if status == ORION_PROTOCOL or status == ORION_VERSION:
        return ProtocolError(text)
    if status == ORION_NO_MEMORY:
        return MemoryError(text)
    if status == ORION_INVALID:
        return ValueError(text)
    return OSError(text)
