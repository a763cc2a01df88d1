/* SPDX-License-Identifier: Apache-2.0 */
/* The queue as a whole: made, waited for, dropped, emptied. Called without the lock. */
#include "board.h"

#include <stdlib.h>
#include <string.h>

int orion_queue_init(orion_queue_t *queue, orion_pool_t *pool)
{
    memset(queue, 0, sizeof *queue);
    queue->pool = pool;
    queue->legacy.blocking = 1;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
#ifdef PTHREAD_MUTEX_ADAPTIVE_NP
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP); /* held for tens of nanoseconds */
#endif
    pthread_mutex_init(&queue->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    pthread_cond_init(&queue->empty, NULL);
    pthread_cond_init(&queue->listen, NULL);
    return 1;
}

CUresult orion_queue_fence(orion_queue_t *queue, orion_done_fn done, void *arg)
{
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    orion_queue_lock(queue);
    uint32_t streams = 0;
    for (orion_stream_t *stream = queue->active; stream; stream = stream->active_next)
        streams++;
    if (!orion_op_reserve(queue, streams + 1))
        goto out;
    orion_op_t *parent = orion_op_new(queue, ORION_OP_NOTIFY, done, arg);
    for (orion_stream_t *stream = queue->active; stream; stream = stream->active_next) {
        orion_op_t *fence = orion_op_new(queue, ORION_OP_FENCE, NULL, NULL);
        fence->target = parent;
        parent->refs++;
        parent->count++;
        orion_queue_push(queue, stream, fence);
    }
    if (streams == 0)
        orion_queue_call(queue, parent);
    else
        orion_op_unref(queue, parent); /* the fences hold it */
    orion_queue_advance(queue);
    result = CUDA_SUCCESS;
out:
    orion_queue_unlock(queue);
    return result;
}

void orion_queue_drop(orion_queue_t *queue, CUresult drop)
{
    orion_queue_lock(queue);
    queue->drop = drop;
    while (queue->gates) {
        orion_op_t *gate = queue->gates;
        queue->gates = gate->gate_next;
        if (queue->gates)
            queue->gates->gate_previous = NULL;
        queue->closed_gates--;
        gate->opened = 1;
        if (gate->parked) {
            gate->parked = 0;
            orion_queue_retire(queue, gate->stream);
        }
        orion_op_unref(queue, gate);
    }
    orion_board_abandon(queue);
    orion_queue_advance(queue);
    orion_queue_unlock(queue);
}

void orion_queue_wait_empty(orion_queue_t *queue)
{
    orion_queue_lock(queue);
    while (queue->pending || queue->calls_head || queue->calling)
        pthread_cond_wait(&queue->empty, &queue->lock);
    orion_queue_unlock(queue);
}

/* Nothing is pending; streams may still be on the list to look at. */
void orion_queue_clear(orion_queue_t *queue)
{
    orion_queue_lock(queue);
    queue->work_head = queue->work_tail = NULL;
    queue->legacy.queued = 0;
    while (queue->streams)
        orion_queue_free_stream(queue, queue->streams);
    while (queue->events) {
        orion_event_t *event = queue->events;
        queue->events = event->next;
        orion_op_unref(queue, event->mark);
        orion_board_unref(event->board);
        free(event);
    }
    queue->status = queue->drop = CUDA_SUCCESS;
    queue->text[0] = 0;
    orion_queue_unlock(queue);
}

void orion_queue_fini(orion_queue_t *queue)
{
    orion_board_stop(queue);
    orion_queue_clear(queue);
    while (queue->free_ops) {
        orion_op_t *op = queue->free_ops;
        queue->free_ops = op->next;
        if (op->payload_capacity)
            free(op->payload);
        free(op);
    }
    pthread_cond_destroy(&queue->empty);
    pthread_cond_destroy(&queue->listen);
    pthread_mutex_destroy(&queue->lock);
}
