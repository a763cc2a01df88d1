/* SPDX-License-Identifier: Apache-2.0 */
/* The one session of this process, and what a thread of it owns. */
#ifndef ORION_CLIENT_SESSION_H
#define ORION_CLIENT_SESSION_H

#include "lock.h"
#include "stub.h"

#include "orion_generated/blobs.h"

#include "transport/link.h"
#include "wire/hello.h"

#define ORION_SLOTS_MAX 128

enum { /* orion_session.state */
       ORION_SESSION_NONE = 0,
       ORION_SESSION_READY,
       ORION_SESSION_CLOSED, /* said goodbye at exit */
       ORION_SESSION_FORKED  /* this is a child; the session belongs to the parent */
};

struct orion_session {
    uint32_t gate; /* 0: ready and no sticky error; the only word that the fast path reads */
    uint32_t state;
    int32_t sticky;      /* CUresult that every later call answers */
    int32_t init_result; /* of the last cuInit that failed */
    orion_lock_t producer;
    orion_link_t *link;
    uint32_t epoch; /* from 1, counts resets of the primary context: objects of an earlier epoch are gone */
    uint32_t device_count;
    orion_welcome_t welcome;
    orion_device_blob_t device; /* what cuInit learns in one round trip; never changes afterwards */
    int pid;
};

extern orion_session_t orion_the_session;

/* What a thread owns. Kept on the heap so that the static TLS block stays at two words. */
typedef struct orion_thread {
    uint32_t slot;     /* reply slot, ORION_SLOT_NONE: none left, shares the last one */
    uint32_t sequence; /* of its last call */
    void *stack[64];   /* contexts below the current one, see context.c */
    uint32_t depth;
    uint8_t *copy; /* of a reply that came through the shared slot */
} orion_thread_t;

CUresult orion_session_open(void);
/* The peer is gone or spoke nonsense: makes the error sticky and says so once. */
CUresult orion_session_lost(orion_session_t *session, orion_status_t status);
void orion_session_set_sticky(orion_session_t *session, CUresult result);
void orion_session_clear_sticky(orion_session_t *session);
static inline CUresult orion_session_sticky(const orion_session_t *session)
{
    return (CUresult)__atomic_load_n(&session->sticky, __ATOMIC_RELAXED);
}

/* thread.c */
orion_thread_t *orion_thread_self(orion_session_t *session); /* NULL: no memory */
uint32_t orion_thread_slot(orion_session_t *session);        /* the slot that names this thread's default stream */
uint8_t *orion_thread_copy(orion_session_t *session);        /* ORION_REPLY_DATA bytes, or NULL */
uint32_t orion_slot_lend(orion_session_t *session, uint32_t *sequence_p);
void orion_slot_return(orion_session_t *session, uint32_t sequence);
void orion_threads_forget_after_fork(void);

static inline CUresult orion_status_result(orion_status_t status)
{
    switch (status) {
    case ORION_OK:
        return CUDA_SUCCESS;
    case ORION_NO_MEMORY:
        return CUDA_ERROR_OUT_OF_MEMORY;
    case ORION_INVALID:
        return CUDA_ERROR_INVALID_VALUE;
    case ORION_TOO_BIG:
        return CUDA_ERROR_INVALID_VALUE;
    case ORION_AGAIN:
    case ORION_TIMEOUT:
        return CUDA_ERROR_NOT_READY;
    default:
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
}

#endif
