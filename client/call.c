/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One record out, one reply in. Any thread of the process runs this; the producer lock keeps records whole and in
 * program order. The lock is private to the process, so a dying client leaves nothing locked in shared memory.
 */
#include "session.h"

#include "context.h"
#include "events.h"
#include "orion_generated/opcodes.h"

#include <string.h>

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static CUresult enter_slowly(orion_needs_t needs, orion_session_t *session)
{
    if (needs == ORION_NEEDS_NOTHING)
        return CUDA_SUCCESS;
    uint32_t state = __atomic_load_n(&session->state, __ATOMIC_ACQUIRE);
    if (state == ORION_SESSION_CLOSED)
        return CUDA_ERROR_DEINITIALIZED;
    if (state != ORION_SESSION_READY)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (needs == ORION_NEEDS_INIT)
        return CUDA_SUCCESS;
    CUresult sticky = orion_session_sticky(session);
    if (sticky)
        return sticky;
    if (!orion_tls.current)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!__atomic_load_n(&orion_tls.current->alive, __ATOMIC_RELAXED))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    return CUDA_SUCCESS;
}

CUresult orion_enter(orion_needs_t needs, orion_session_t **session_p)
{
    orion_session_t *session = &orion_the_session;
    *session_p = session;
    /* acquire: pairs with the release in orion_session_open(), so that link and device are seen */
    if (likely(__atomic_load_n(&session->gate, __ATOMIC_ACQUIRE) == 0 && orion_tls.current && orion_tls.current->alive))
        return CUDA_SUCCESS;
    return enter_slowly(needs, session);
}

CUresult orion_call_begin(orion_session_t *session, orion_call_t *call, uint16_t opcode, uint32_t payload_bytes,
                          int wants_reply)
{
    orion_record_t *record;
    uint32_t bytes = orion_record_round(ORION_RECORD_HEADER + payload_bytes);

    if (unlikely(__atomic_load_n(&session->gate, __ATOMIC_ACQUIRE))) {
        CUresult result = enter_slowly(ORION_NEEDS_INIT, session);
        if (!result && orion_session_sticky(session) && opcode != ORION_OP_orionContextReset &&
            opcode != ORION_OP_orionGoodbye)
            result = orion_session_sticky(session);
        if (result)
            return result;
    }
    call->session = session;
    call->opcode = opcode;
    call->slot = ORION_SLOT_NONE;
    call->sequence = 0;
    call->shared = 0;
    if (wants_reply) {
        orion_thread_t *thread = orion_thread_self(session);
        if (unlikely(!thread))
            return CUDA_ERROR_OUT_OF_MEMORY;
        if (likely(thread->slot != ORION_SLOT_NONE)) {
            call->slot = thread->slot;
            call->sequence = ++thread->sequence;
        } else {
            call->shared = 1;
            call->slot = orion_slot_lend(session, &call->sequence);
        }
    }
    orion_lock(&session->producer);
    orion_status_t status = orion_link_claim(session->link, bytes, &record);
    if (unlikely(status)) {
        orion_unlock(&session->producer);
        if (call->shared)
            orion_slot_return(session, call->sequence);
        return orion_session_lost(session, status);
    }
    record->bytes = bytes;
    record->opcode = opcode;
    record->slot = (uint16_t)call->slot;
    record->sequence = call->sequence;
    record->epoch = session->welcome.epoch;
    call->cursor = orion_cursor_writer(orion_record_payload(record), bytes - ORION_RECORD_HEADER);
    return CUDA_SUCCESS;
}

/* Text that kernels printed is out by the time a call that waited for them returns. */
static int drains(uint16_t opcode)
{
    switch (opcode) {
    case ORION_OP_cuCtxSynchronize:
    case ORION_OP_cuStreamSynchronize:
    case ORION_OP_cuEventSynchronize:
    case ORION_OP_cuStreamQuery:
    case ORION_OP_cuEventQuery:
    case ORION_OP_orionStreamBarrier:
    case ORION_OP_orionCopyOut:
        return 1;
    default:
        return 0;
    }
}

static void publish(orion_call_t *call)
{
    orion_link_commit(call->session->link);
    orion_unlock(&call->session->producer);
}

CUresult orion_call_post(orion_call_t *call)
{
    publish(call);
    return CUDA_SUCCESS;
}

CUresult orion_call_wait(orion_call_t *call, orion_cursor_t *reply_p)
{
    orion_session_t *session = call->session;
    const orion_reply_t *reply;

    publish(call);
    orion_status_t status = orion_link_await(session->link, call->slot, call->sequence, &reply);
    if (unlikely(status)) {
        if (call->shared)
            orion_slot_return(session, call->sequence);
        return orion_session_lost(session, status);
    }
    /* The reply lies in memory that the server writes: read each word once. */
    CUresult result = (CUresult)reply->result, sticky = (CUresult)reply->sticky;
    uint32_t bytes = reply->bytes;
    if (unlikely(bytes > ORION_REPLY_DATA))
        bytes = 0;
    const void *data = reply->data;
    if (unlikely(call->shared)) {
        /* The next borrower of the slot overwrites it. */
        uint8_t *copy = orion_thread_copy(session);
        if (copy)
            memcpy(copy, data, bytes);
        else
            bytes = 0;
        data = copy;
        orion_slot_return(session, call->sequence);
    }
    *reply_p = orion_cursor_over(data, bytes);
    if (drains(call->opcode))
        orion_events_drain(session);
    if (unlikely(sticky)) {
        orion_session_set_sticky(session, sticky);
        if (!result)
            result = sticky;
    }
    return result;
}
