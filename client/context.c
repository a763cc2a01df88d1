/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts, their life cycles, and each thread's stack of them. */
#include "context.h"

#include "arena.h"
#include "events.h"
#include "objects.h"
#include "orion_generated/calls.h"
#include "pool.h"
#include "ranges.h"

#include <stdlib.h>

__thread orion_tls_t orion_tls __attribute__((tls_model("initial-exec")));

static orion_context_t primary;
static orion_lock_t contexts_lock;
static uint32_t living; /* contexts that are alive */
static uint64_t next_id = 1;

orion_context_t *orion_context_primary(void)
{
    /* acquire: pairs with the release below */
    if (__atomic_load_n(&primary.handle, __ATOMIC_ACQUIRE))
        return &primary;
    orion_lock(&contexts_lock);
    if (!primary.handle) {
        void *handle;
        uint64_t wire;
        primary.is_primary = 1;
        primary.id = next_id++;
        if (!orion_handle_new(&orion_the_session, ORION_KIND_CONTEXT, &handle, &wire)) {
            orion_handle_set_object(ORION_KIND_CONTEXT, handle, &primary);
            __atomic_store_n(&primary.handle, (CUcontext)handle, __ATOMIC_RELEASE);
        }
    }
    orion_unlock(&contexts_lock);
    return &primary;
}

orion_context_t *orion_context_find(CUcontext handle)
{
    return orion_handle_object(ORION_KIND_CONTEXT, handle);
}

CUresult orion_context_resolve(CUcontext handle, orion_context_t **context_p)
{
    orion_context_t *context = handle ? orion_context_find(handle) : orion_tls.current;
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    *context_p = context;
    return CUDA_SUCCESS;
}

CUresult orion_context_create(orion_session_t *session, uint32_t flags, orion_context_t **context_p)
{
    uint64_t wire;
    void *handle;
    orion_context_t *context = calloc(1, sizeof *context);
    if (!context)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = orion_handle_new(session, ORION_KIND_CONTEXT, &handle, &wire);
    if (result) {
        free(context);
        return result;
    }
    context->handle = handle;
    context->flags = flags;
    context->references = 1;
    orion_lock(&contexts_lock);
    context->id = next_id++;
    context->alive = 1;
    living++;
    orion_unlock(&contexts_lock);
    orion_handle_set_object(ORION_KIND_CONTEXT, handle, context);
    *context_p = context;
    return CUDA_SUCCESS;
}

static void drop_handle(void *argument, void *handle, void *object)
{
    orion_kind_t *kind = argument;
    orion_handle_drop(&orion_the_session, *kind, handle);
    if (*kind == ORION_KIND_STREAM)
        free(object);
}

/* The last context is gone: the server frees streams, events, modules and memory. */
static CUresult reset_server(orion_session_t *session)
{
    static const orion_kind_t gone[] = {ORION_KIND_STREAM, ORION_KIND_EVENT};

    if (!orion_session_sticky(session))
        orion_call_cuCtxSynchronize(session);
    orion_events_drain(session);
    orion_arena_clear(session);
    CUresult result = orion_call_orionContextReset(session);
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        orion_kind_t kind = gone[i];
        orion_handle_each(kind, drop_handle, &kind);
    }
    orion_modules_forget(session);
    orion_ranges_clear();
    orion_pools_clear();
    /* release: a kernel bound in the old epoch is bound anew */
    __atomic_fetch_add(&session->epoch, 1, __ATOMIC_RELEASE);
    if (!result)
        orion_session_clear_sticky(session);
    return result;
}

/* Returns whether this was the last living context. */
static int bury(orion_context_t *context)
{
    orion_lock(&contexts_lock);
    int last = context->alive && --living == 0;
    context->alive = 0;
    context->references = 0;
    orion_unlock(&contexts_lock);
    return last;
}

CUresult orion_context_destroy(orion_session_t *session, orion_context_t *context)
{
    if (context->is_primary)
        return CUDA_ERROR_INVALID_CONTEXT;
    orion_storage_clear(context);
    int last = bury(context);
    orion_handle_drop(session, ORION_KIND_CONTEXT, context->handle);
    if (orion_tls.current == context)
        orion_context_pop(session, &context);
    /* The struct stays: other threads may have it as their current context and must find it dead. */
    return last ? reset_server(session) : CUDA_SUCCESS;
}

CUresult orion_context_retain_primary(orion_session_t *session)
{
    (void)session;
    orion_lock(&contexts_lock);
    if (!primary.alive) {
        primary.alive = 1;
        living++;
    }
    primary.references++;
    orion_unlock(&contexts_lock);
    return CUDA_SUCCESS;
}

CUresult orion_context_reset_primary(orion_session_t *session)
{
    orion_storage_clear(&primary);
    primary.flags = 0;
    return bury(&primary) ? reset_server(session) : CUDA_SUCCESS;
}

CUresult orion_context_release_primary(orion_session_t *session)
{
    orion_lock(&contexts_lock);
    uint32_t references = primary.references;
    if (references > 1)
        primary.references--;
    orion_unlock(&contexts_lock);
    if (references == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    return references == 1 ? orion_context_reset_primary(session) : CUDA_SUCCESS;
}

CUresult orion_context_push(orion_session_t *session, orion_context_t *context)
{
    orion_thread_t *thread = orion_thread_self(session);
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (orion_tls.current) {
        if (thread->depth == sizeof thread->stack / sizeof thread->stack[0])
            return CUDA_ERROR_OUT_OF_MEMORY;
        thread->stack[thread->depth++] = orion_tls.current;
    }
    orion_tls.current = context;
    return CUDA_SUCCESS;
}

CUresult orion_context_pop(orion_session_t *session, orion_context_t **context_p)
{
    orion_thread_t *thread = orion_thread_self(session);
    if (!thread)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!orion_tls.current)
        return CUDA_ERROR_INVALID_CONTEXT;
    *context_p = orion_tls.current;
    orion_tls.current = thread->depth ? thread->stack[--thread->depth] : NULL;
    return CUDA_SUCCESS;
}
