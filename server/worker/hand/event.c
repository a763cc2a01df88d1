/* SPDX-License-Identifier: Apache-2.0 */
/* Events. */
#include "worker/hand/hand.h"

#include <stdlib.h>

CUresult orion_serve_cuEventCreate(orion_worker_t *w, orion_event_t **phEvent, unsigned int Flags)
{
    return w->ops->event_create(w->device, Flags, phEvent);
}

typedef struct {
    orion_worker_t *worker;
    orion_event_t *event;
} gone_t;

static void destroy_later(void *arg)
{
    gone_t *gone = arg;
    orion_worker_t *w = gone->worker;
    pthread_rwlock_wrlock(&w->jobs);
    w->ops->event_destroy(w->device, gone->event);
    pthread_rwlock_unlock(&w->jobs);
    free(gone);
}

/* Its handle has gone, but a job that shares it may have found it before that. */
CUresult orion_serve_cuEventDestroy_v2(orion_worker_t *w, orion_event_t *hEvent)
{
    if (!orion_executor_busy(w->executor)) {
        w->ops->event_destroy(w->device, hEvent);
        return CUDA_SUCCESS;
    }
    gone_t *gone = malloc(sizeof *gone);
    if (gone) {
        *gone = (gone_t){w, hEvent};
        if (orion_executor_submit(w->executor, 0, destroy_later, gone) == ORION_OK)
            return CUDA_SUCCESS;
        free(gone);
    }
    return CUDA_SUCCESS; /* it goes with the context */
}

CUresult orion_serve_cuEventRecord(orion_worker_t *w, orion_event_t *hEvent, orion_stream_t *hStream)
{
    return w->ops->event_record(w->device, hEvent, hStream);
}

CUresult orion_serve_cuEventRecordWithFlags(orion_worker_t *w, orion_event_t *hEvent, orion_stream_t *hStream,
                                            unsigned int flags)
{
    (void)flags; /* CU_EVENT_RECORD_EXTERNAL matters to a capture only */
    return w->ops->event_record(w->device, hEvent, hStream);
}

CUresult orion_serve_orionSubmitted(orion_worker_t *w, orion_ticket_t ticket)
{
    if (!w->ops->submitted_notify)
        return CUDA_SUCCESS;
    orion_deferred_t *deferred = orion_defer(w, ticket, orion_reply_orionSubmitted);
    if (!deferred)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return orion_deferred_begun(deferred, w->ops->submitted_notify(w->device, orion_deferred_done, deferred));
}

CUresult orion_serve_cuEventQuery(orion_worker_t *w, orion_event_t *hEvent)
{
    return w->ops->event_query(w->device, hEvent);
}

CUresult orion_serve_cuEventSynchronize(orion_worker_t *w, orion_ticket_t ticket, orion_event_t *hEvent)
{
    orion_deferred_t *deferred = orion_defer(w, ticket, orion_reply_cuEventSynchronize);
    if (!deferred)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return orion_deferred_begun(deferred, w->ops->event_notify(w->device, hEvent, orion_deferred_done, deferred));
}

CUresult orion_serve_cuEventElapsedTime_v2(orion_worker_t *w, float *pMilliseconds, orion_event_t *hStart,
                                           orion_event_t *hEnd)
{
    return w->ops->event_elapsed(w->device, hStart, hEnd, pMilliseconds);
}
