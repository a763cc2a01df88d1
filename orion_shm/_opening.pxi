# SPDX-License-Identifier: Apache-2.0
# How channels begin: listeners, and connecting to one.

cdef class Listener:
    """Waits for processes to connect. Made by `listen`. Iterating accepts for ever."""

    cdef orion_listener_t *listener
    cdef readonly str address
    cdef readonly bint closed
    cdef bint allow_pickle

    def __dealloc__(self):
        orion_listener_free(self.listener)

    def accept(self, timeout=None):
        """The next process that connects, as a `Channel`. Raises TimeoutError, ValueError when it was closed."""
        cdef orion_channel_t *channel = NULL
        cdef char why[WHY_BYTES]
        cdef orion_status_t status = ORION_TIMEOUT
        cdef int64_t deadline = _deadline(_ns(timeout)), wait
        while True:
            wait = _slice(deadline)
            with nogil:
                status = orion_listener_accept(self.listener, wait, &channel, why, WHY_BYTES)
            if status != ORION_TIMEOUT or wait == 0:
                break
            PyErr_CheckSignals()
        if status != ORION_OK:
            raise _open_error(status, why)
        return _wrap(channel, self.address, self.allow_pickle)

    def fileno(self):
        """Readable when somebody connects."""
        return -1 if self.closed else orion_listener_fd(self.listener)

    def close(self):
        """Nobody can connect any more; threads in `accept` get ValueError. Channels are not affected."""
        self.closed = True
        orion_listener_shutdown(self.listener)

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.accept()
        except ValueError:
            raise StopIteration from None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


cdef Channel _wrap(orion_channel_t *channel, str address, bint allow_pickle):
    cdef Channel made = Channel.__new__(Channel)
    made.channel = channel
    made.address = address
    made.allow_pickle = allow_pickle
    made.over_network = made.transport != "shm"
    return made


cdef orion_channel_options_t _options(object arena_limit, object message_limit, bint any_user, object token,
                                      bint insecure) except *:
    """`token`: bytes that outlive the options, or None."""
    cdef orion_channel_options_t options
    if arena_limit < 1:
        raise ValueError(f"arena_limit is {arena_limit}: give a number of bytes")
    if message_limit is not None and message_limit < 1:
        raise ValueError(f"message_limit is {message_limit}: give a number of bytes")
    options.arena_limit = arena_limit
    options.message_limit = 0 if message_limit is None else message_limit
    options.any_user = any_user
    options.token = NULL if token is None else PyBytes_AS_STRING(token)
    options.insecure = insecure
    options.keep_waiting = _keep_waiting
    return options


def listen(address, *, allow_pickle=False, arena_limit=1 << 30, message_limit=None, any_user=False,
           token=None, insecure=False):
    """Listens at an address: "name" or "shm://name" (this user's processes on this host), "/path" of a socket, or
    "tcp://host:port" and "ucx://host:port" for other hosts, too; with port 0 `Listener.address` tells which one it is.

    allow_pickle: unpickle objects that the other side sends. Unpickling runs code of its choice: only where both
    processes are yours. arena_limit: bytes of memory for long messages, each way. message_limit: bytes of the longest
    message that this side takes (None: four times arena_limit, at least 64 MiB). any_user: let processes of other users
    connect to a name. Over tcp and ucx: token, "ID.SECRET" that the other side has, too (None: ORION_TOKEN of the
    environment; "": none); insecure: be reached from other hosts without one, or unencrypted. Raises
    ConnectionRefusedError when somebody listens there, ValueError for a wrong address or what may not be.
    """
    cdef char why[WHY_BYTES]
    cdef Listener made = Listener.__new__(Listener)
    cdef object secret = _messages.token(token)
    cdef orion_channel_options_t options = _options(arena_limit, message_limit, any_user, secret, insecure)
    cdef bytes where = _messages.address(address)
    made.closed = True
    cdef orion_status_t status = orion_listener_open(where, &options, &made.listener, why, WHY_BYTES)
    if status != ORION_OK:
        raise _open_error(status, why)
    made.closed = False
    made.address = orion_listener_address(made.listener).decode("utf-8")
    made.allow_pickle = allow_pickle
    return made


def connect(address, timeout=10.0, *, allow_pickle=False, arena_limit=1 << 30, message_limit=None, any_user=False,
            token=None, insecure=False):
    """Connects to a `listen` at this address; options as there. insecure: send unencrypted to another host.

    Raises ConnectionRefusedError when nobody listens or we may not connect, TimeoutError when nobody accepts within
    `timeout` seconds (None: no limit), ValueError for a wrong address or what may not be.
    """
    cdef char why[WHY_BYTES]
    cdef orion_channel_t *channel = NULL
    cdef object secret = _messages.token(token)
    cdef orion_channel_options_t options = _options(arena_limit, message_limit, any_user, secret, insecure)
    cdef bytes where = _messages.address(address)
    cdef const char *text = where
    cdef int64_t timeout_ns = _ns(timeout)
    cdef orion_status_t status
    with nogil:
        status = orion_channel_connect(text, &options, timeout_ns, &channel, why, WHY_BYTES)
    if status != ORION_OK:
        raise _open_error(status, why)
    return _wrap(channel, address if isinstance(address, str) else where.decode("utf-8", "replace"), allow_pickle)
