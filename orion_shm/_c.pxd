# SPDX-License-Identifier: Apache-2.0
"""The C core of channels (orion/channel.h says what each does), and of libc and Python what Cython does not bring."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "stdbool.h":
    ctypedef bint bool "bool"

cdef extern from "orion/status.h":
    ctypedef enum orion_status_t:
        ORION_OK
        ORION_AGAIN
        ORION_TIMEOUT
        ORION_PEER_GONE
        ORION_PROTOCOL
        ORION_NO_MEMORY
        ORION_INVALID
        ORION_SYSTEM
        ORION_REFUSED
        ORION_VERSION
        ORION_TOO_BIG

cdef extern from "orion/channel.h" nogil:
    enum: ORION_CHANNEL_INLINE

    ctypedef struct orion_channel_t
    ctypedef struct orion_listener_t
    ctypedef struct orion_block_t
    ctypedef struct orion_held_t
    ctypedef struct orion_channel_options_t:
        uint64_t arena_limit
        uint64_t message_limit
        bool any_user
        const char *token
        bool insecure
        bool (*keep_waiting)() noexcept
    ctypedef struct orion_bulk_t:
        const void *data
        size_t bytes
        orion_block_t *block
    ctypedef enum orion_message_kind_t:
        ORION_MESSAGE_SEND
        ORION_MESSAGE_CALL
        ORION_MESSAGE_REPLY
        ORION_MESSAGE_ERROR
    ctypedef struct _bulk_t:
        const void *data
        size_t bytes
    ctypedef struct orion_message_t:
        orion_message_kind_t kind
        uint32_t tag
        const void *data
        size_t bytes
        _bulk_t bulk

    orion_status_t orion_listener_open(const char *, const orion_channel_options_t *, orion_listener_t **, char *, size_t)
    orion_status_t orion_listener_accept(orion_listener_t *, int64_t, orion_channel_t **, char *, size_t)
    int orion_listener_fd(const orion_listener_t *)
    const char *orion_listener_address(const orion_listener_t *)
    void orion_listener_shutdown(orion_listener_t *)
    void orion_listener_free(orion_listener_t *)
    orion_status_t orion_channel_connect(const char *, const orion_channel_options_t *, int64_t, orion_channel_t **, char *, size_t)
    orion_status_t orion_block_create(orion_channel_t *, size_t, int64_t, orion_block_t **)
    void *orion_block_data(const orion_block_t *)
    void orion_block_free(orion_block_t *)
    orion_status_t orion_channel_send(orion_channel_t *, uint32_t, const void *, size_t, const orion_bulk_t *, int64_t)
    orion_status_t orion_channel_receive(orion_channel_t *, int64_t, orion_message_t *)
    orion_status_t orion_channel_receive_into(orion_channel_t *, int64_t, void *, size_t, orion_message_t *)
    void orion_message_release(orion_message_t *)
    orion_status_t orion_message_hold(orion_message_t *, orion_held_t **)
    void orion_held_release(orion_held_t *)
    orion_status_t orion_channel_call_begin(orion_channel_t *, uint32_t, const void *, size_t, const orion_bulk_t *, int64_t, uint64_t *)
    orion_status_t orion_channel_call_await(orion_channel_t *, uint64_t, int64_t, orion_message_t *)
    void orion_channel_call_cancel(orion_channel_t *, uint64_t)
    orion_status_t orion_channel_reply(orion_channel_t *, const orion_message_t *, orion_message_kind_t, uint32_t, const void *, size_t, const orion_bulk_t *, int64_t)
    bint orion_channel_ready(orion_channel_t *, uint32_t)
    bint orion_channel_call_ready(orion_channel_t *, uint64_t, uint32_t)
    int orion_channel_fd(const orion_channel_t *)
    orion_status_t orion_channel_arm(orion_channel_t *)
    orion_status_t orion_channel_call_arm(orion_channel_t *, uint64_t)
    orion_status_t orion_channel_disarm(orion_channel_t *)
    uint64_t orion_channel_message_limit(const orion_channel_t *)
    orion_status_t orion_channel_state(orion_channel_t *)
    const char *orion_channel_why(const orion_channel_t *, bool *)
    int32_t orion_channel_peer_pid(const orion_channel_t *)
    const char *orion_channel_transport(const orion_channel_t *)
    void orion_channel_shutdown(orion_channel_t *)
    void orion_channel_free(orion_channel_t *)

cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"()  # without raising: the exception stays set
    void *error_set "PyErr_Occurred"()

cdef extern from "time.h" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int, timespec *)
    enum: CLOCK_MONOTONIC
