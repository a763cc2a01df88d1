/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts live on the client only: the server has one address space for the whole session. The primary context's
 * handle never changes; it is there before the context is active. Contexts made by cuCtxCreate are further names.
 */
#ifndef ORION_CLIENT_CONTEXT_H
#define ORION_CLIENT_CONTEXT_H

#include "session.h"

#define ORION_CONTEXT_FLAGS 0xffu /* CU_CTX_FLAGS_MASK */

typedef struct orion_context {
    CUcontext handle;
    uint32_t alive;      /* retained or created, and not destroyed */
    uint32_t references; /* primary: retains */
    uint32_t flags;
    uint32_t is_primary;
    uint64_t id;
    orion_lock_t storage_lock;
    struct orion_storage_entry *storage; /* dark/context_storage.c */
} orion_context_t;

typedef struct {
    orion_context_t *current;
    orion_thread_t *thread;
} orion_tls_t;

/* initial-exec: two words of the static TLS block, no call to __tls_get_addr on the path of every CUDA call. */
extern __thread orion_tls_t orion_tls __attribute__((tls_model("initial-exec")));

orion_context_t *orion_context_primary(void);
/* NULL for a value that is no context's handle; a destroyed one is found until its slot is used again. */
orion_context_t *orion_context_find(CUcontext handle);
/* handle NULL: the current one. CUDA_ERROR_INVALID_CONTEXT when there is none. */
CUresult orion_context_resolve(CUcontext handle, orion_context_t **context_p);

CUresult orion_context_create(orion_session_t *session, uint32_t flags, orion_context_t **context_p);
CUresult orion_context_destroy(orion_session_t *session, orion_context_t *context);
CUresult orion_context_retain_primary(orion_session_t *session);
CUresult orion_context_release_primary(orion_session_t *session);
/* Frees everything the server holds for contexts; libraries come back when they are next used. */
CUresult orion_context_reset_primary(orion_session_t *session);

CUresult orion_context_push(orion_session_t *session, orion_context_t *context);
CUresult orion_context_pop(orion_session_t *session, orion_context_t **context_p);

/* dark/context_storage.c: takes the entries out and calls their destructors. */
void orion_storage_clear(orion_context_t *context);

#endif
