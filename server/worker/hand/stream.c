/* SPDX-License-Identifier: Apache-2.0 */
/* Streams. Waiting for one is a deferred answer: the loop goes on. */
#include "worker/hand/hand.h"

CUresult orion_serve_cuStreamCreate(orion_worker_t *w, orion_stream_t **phStream, unsigned int Flags)
{
    return w->ops->stream_create(w->device, Flags, 0, phStream);
}

CUresult orion_serve_cuStreamCreateWithPriority(orion_worker_t *w, orion_stream_t **phStream, unsigned int flags,
                                                int priority)
{
    return w->ops->stream_create(w->device, flags, priority, phStream);
}

CUresult orion_serve_cuStreamDestroy_v2(orion_worker_t *w, orion_stream_t *hStream)
{
    w->ops->stream_destroy(w->device, hStream);
    return CUDA_SUCCESS;
}

static CUresult notify(orion_worker_t *w, orion_ticket_t ticket, orion_stream_t *stream, orion_answer_fn answer)
{
    orion_deferred_t *deferred = orion_defer(w, ticket, answer);
    if (!deferred)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return orion_deferred_begun(deferred, w->ops->stream_notify(w->device, stream, orion_deferred_done, deferred));
}

CUresult orion_serve_cuStreamSynchronize(orion_worker_t *w, orion_ticket_t ticket, orion_stream_t *hStream)
{
    return notify(w, ticket, hStream, orion_reply_cuStreamSynchronize);
}

CUresult orion_serve_orionStreamBarrier(orion_worker_t *w, orion_ticket_t ticket, orion_stream_t *stream)
{
    return notify(w, ticket, stream, orion_reply_orionStreamBarrier);
}

CUresult orion_serve_cuStreamQuery(orion_worker_t *w, orion_stream_t *hStream)
{
    return w->ops->stream_query(w->device, hStream);
}

CUresult orion_serve_cuStreamWaitEvent(orion_worker_t *w, orion_stream_t *hStream, orion_event_t *hEvent,
                                       unsigned int Flags)
{
    (void)Flags; /* only the default exists */
    return w->ops->stream_wait_event(w->device, hStream, hEvent);
}
