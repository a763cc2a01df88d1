/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What generated client code may use: entering the library, handles on the wire, and one record out, one reply in.
 */
#ifndef ORION_CLIENT_STUB_H
#define ORION_CLIENT_STUB_H

#include "orion_generated/orion_cuda.h"

#include "base/status.h"
#include "wire/cursor.h"
#include "wire/record.h"

#include <stddef.h>
#include <stdint.h>

typedef struct orion_session orion_session_t;

/* The kinds of handle. The number is part of the handle's value. */
typedef enum {
    ORION_KIND_STREAM = 1,
    ORION_KIND_EVENT,
    ORION_KIND_MODULE,
    ORION_KIND_LIBRARY,
    ORION_KIND_KERNEL,
    ORION_KIND_FUNCTION,
    ORION_KIND_CONTEXT,
    ORION_KIND_POOL,
    ORION_KIND_LINK,
    ORION_KIND_END
} orion_kind_t;

typedef enum {
    ORION_NEEDS_NOTHING, /* answers even before cuInit and after an error */
    ORION_NEEDS_INIT,
    ORION_NEEDS_CONTEXT /* a live context is current for this thread, and no sticky error */
} orion_needs_t;

/* Every entry point begins here. */
CUresult orion_enter(orion_needs_t needs, orion_session_t **session_p);

/* Live handle -> its number on the wire (generation << 32 | index), or the error CUDA has for a dead one. */
CUresult orion_handle_wire(orion_session_t *session, orion_kind_t kind, const void *handle, uint64_t *wire_p);
/* The same for streams, where NULL, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD mean something. */
CUresult orion_stream_wire(orion_session_t *session, CUstream stream, CUstream default_stream, uint64_t *wire_p);
/* Picks index and generation of a new object. Give it back with drop when its creation failed or it was destroyed. */
CUresult orion_handle_new(orion_session_t *session, orion_kind_t kind, void **handle_p, uint64_t *wire_p);
void orion_handle_drop(orion_session_t *session, orion_kind_t kind, void *handle);

/* For addresses that a call writes or reads without a copy of ours: CUDA_ERROR_INVALID_VALUE when [address, +bytes)
 * leaves what this process has allocated. */
CUresult orion_check_range(orion_session_t *session, CUdeviceptr address, size_t bytes);
/* The same for rows of `width` bytes, `pitch` apart. */
CUresult orion_check_rows(orion_session_t *session, CUdeviceptr address, size_t pitch, size_t width, size_t height);
/* A product that does not wrap: nothing is that long, so the range check refuses it. */
static inline size_t orion_times(size_t count, size_t bytes)
{
    size_t product;
    return __builtin_mul_overflow(count, bytes, &product) ? SIZE_MAX : product;
}

/* One record on its way. From begin to post or wait this thread holds the producer lock: validate before. */
typedef struct orion_call {
    orion_session_t *session;
    orion_cursor_t cursor; /* over exactly the payload, inside the ring; not zeroed */
    uint32_t slot;
    uint32_t sequence;
    uint16_t opcode;
    uint16_t shared; /* the slot is lent for this call only */
} orion_call_t;

CUresult orion_call_begin(orion_session_t *session, orion_call_t *call, uint16_t opcode, uint32_t payload_bytes,
                          int wants_reply);
/* Publishes and does not wait. */
CUresult orion_call_post(orion_call_t *call);
/* Publishes and waits: the server's result. The cursor covers the reply's data until this thread's next call. */
CUresult orion_call_wait(orion_call_t *call, orion_cursor_t *reply_p);

/* CUDA_ERROR_NOT_SUPPORTED, logged once for each name. */
CUresult orion_unserved(const char *name);

#endif
