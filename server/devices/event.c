/* SPDX-License-Identifier: Apache-2.0 */
/* Events. Each record makes a mark (an operation with references of its own), so that who waits for one record is
 * not touched by the next. Any thread. */
#include "board.h"

#include <stdlib.h>

CUresult orion_event_create(orion_queue_t *queue, uint32_t flags, orion_event_t **event_p)
{
    const uint32_t known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
    if (flags & ~known || (flags & CU_EVENT_INTERPROCESS && !(flags & CU_EVENT_DISABLE_TIMING)))
        return CUDA_ERROR_INVALID_VALUE;
    orion_event_t *event = calloc(1, sizeof *event);
    if (!event)
        return CUDA_ERROR_OUT_OF_MEMORY;
    event->timing = !(flags & CU_EVENT_DISABLE_TIMING);
    event->interprocess = (flags & CU_EVENT_INTERPROCESS) != 0;
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result == CUDA_SUCCESS) {
        event->next = queue->events;
        if (queue->events)
            queue->events->previous = event;
        queue->events = event;
        *event_p = event;
    }
    orion_queue_unlock(queue);
    if (result != CUDA_SUCCESS)
        free(event);
    return result;
}

void orion_event_destroy(orion_queue_t *queue, orion_event_t *event)
{
    if (!event)
        return;
    orion_queue_lock(queue);
    *(event->previous ? &event->previous->next : &queue->events) = event->next;
    if (event->next)
        event->next->previous = event->previous;
    orion_op_unref(queue, event->mark);
    orion_board_unref(event->board);
    orion_queue_unlock(queue);
    free(event);
}

CUresult orion_event_record(orion_queue_t *queue, orion_event_t *event, orion_stream_t *stream)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result != CUDA_SUCCESS)
        goto out;
    stream = orion_queue_stream(queue, stream);
    orion_op_t *mark = event->mark;
    int idle = orion_queue_idle(queue, stream);
    if (!mark || mark->refs > 1 || !idle || event->board) {
        mark = orion_op_new(queue, ORION_OP_RECORD, NULL, NULL);
        if (!mark) {
            result = CUDA_ERROR_OUT_OF_MEMORY;
            goto out;
        }
        orion_op_unref(queue, event->mark);
        event->mark = mark;
    }
    if (event->board) {
        orion_board_record(event->board, mark);
        event->seen = (uint64_t)event->board->party << ORION_RECORD_PARTY | event->board->last;
    }
    if (idle) {
        orion_queue_finish_mark(queue, mark);
        goto out;
    }
    mark->refs++; /* the stream's */
    orion_queue_push(queue, stream, mark);
    orion_queue_advance(queue);
out:
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_event_wait(orion_queue_t *queue, orion_stream_t *stream, orion_event_t *event)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result == CUDA_SUCCESS)
        result = orion_board_refresh(queue, event);
    orion_op_t *mark = event->mark;
    stream = orion_queue_stream(queue, stream);
    if (result != CUDA_SUCCESS || !mark || mark->finished || mark->stream == stream)
        goto out; /* nothing to wait for, or the stream's own order does it */
    orion_op_t *op = orion_op_new(queue, ORION_OP_WAIT, NULL, NULL);
    if (!op) {
        result = CUDA_ERROR_OUT_OF_MEMORY;
        goto out;
    }
    op->target = mark;
    mark->refs++;
    orion_queue_push(queue, stream, op);
    orion_queue_advance(queue);
out:
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_event_query(orion_queue_t *queue, orion_event_t *event)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result == CUDA_SUCCESS)
        result = orion_board_refresh(queue, event);
    if (result == CUDA_SUCCESS && event->mark && !event->mark->finished)
        result = CUDA_ERROR_NOT_READY;
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_event_notify(orion_queue_t *queue, orion_event_t *event, orion_done_fn done, void *arg)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue) ? CUDA_SUCCESS : orion_board_refresh(queue, event);
    if (result != CUDA_SUCCESS) {
        orion_queue_unlock(queue);
        return result;
    }
    orion_op_t *mark = event->mark;
    if (!mark || mark->finished) {
        result = orion_queue_refusal(queue);
        orion_queue_unlock(queue);
        if (done)
            done(arg, result);
        return CUDA_SUCCESS;
    }
    orion_op_t *op = orion_op_new(queue, ORION_OP_NOTIFY, done, arg);
    result = op ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    if (op) {
        op->waiting = 1;
        op->wait_next = mark->waiters;
        mark->waiters = op;
    }
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_event_elapsed(orion_queue_t *queue, orion_event_t *start, orion_event_t *end, float *ms_p)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result != CUDA_SUCCESS)
        goto out;
    if (!start->timing || !end->timing || !start->mark || !end->mark) {
        result = CUDA_ERROR_INVALID_HANDLE;
    } else if (!start->mark->finished || !end->mark->finished) {
        result = CUDA_ERROR_NOT_READY;
    } else {
        int64_t ns = (int64_t)(end->mark->time_ns - start->mark->time_ns);
        *ms_p = (float)((double)ns * 1e-6);
    }
out:
    orion_queue_unlock(queue);
    return result;
}
