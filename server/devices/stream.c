/* SPDX-License-Identifier: Apache-2.0 */
/* Streams, their notifications and host gates on top of the queue. Any thread. */
#include "queue.h"

#include <stdlib.h>

CUresult orion_stream_create(orion_queue_t *queue, uint32_t flags, orion_stream_t **stream_p)
{
    if (flags & ~(uint32_t)CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    orion_stream_t *stream = calloc(1, sizeof *stream);
    if (!stream)
        return CUDA_ERROR_OUT_OF_MEMORY;
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result == CUDA_SUCCESS) {
        stream->next = queue->streams;
        if (queue->streams)
            queue->streams->previous = stream;
        queue->streams = stream;
        *stream_p = stream;
    }
    orion_queue_unlock(queue);
    if (result != CUDA_SUCCESS)
        free(stream);
    return result;
}

void orion_stream_destroy(orion_queue_t *queue, orion_stream_t *stream)
{
    if (!stream)
        return; /* the legacy stream is no one's to destroy */
    orion_queue_lock(queue);
    stream->destroyed = 1;
    if (!stream->head && !stream->queued)
        orion_queue_free_stream(queue, stream);
    orion_queue_unlock(queue);
}

CUresult orion_stream_query(orion_queue_t *queue, orion_stream_t *stream)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result == CUDA_SUCCESS && !orion_queue_quiet(queue, orion_queue_stream(queue, stream)))
        result = CUDA_ERROR_NOT_READY;
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_stream_notify(orion_queue_t *queue, orion_stream_t *stream, orion_done_fn done, void *arg)
{
    CUresult result;
    orion_queue_lock(queue);
    int ordinary = stream != NULL; /* what it waits for is only what the stream itself was given */
    stream = orion_queue_stream(queue, stream);
    if (ordinary ? !stream->head : orion_queue_idle(queue, stream)) {
        result = orion_queue_refusal(queue);
        orion_queue_unlock(queue);
        if (done)
            done(arg, result);
        return CUDA_SUCCESS;
    }
    orion_op_t *op = orion_op_new(queue, ORION_OP_NOTIFY, done, arg);
    result = op ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    if (op) {
        op->passive = (uint8_t)ordinary;
        orion_queue_push(queue, stream, op);
        orion_queue_advance(queue);
    }
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_stream_gate(orion_queue_t *queue, orion_stream_t *stream, orion_done_fn reached, void *arg,
                           orion_gate_t **gate_p)
{
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result != CUDA_SUCCESS)
        goto out;
    result = CUDA_ERROR_OUT_OF_MEMORY;
    orion_op_t *gate = orion_op_new(queue, ORION_OP_GATE, reached, arg);
    if (!gate)
        goto out;
    gate->refs++; /* the handle's */
    gate->gate_previous = NULL;
    gate->gate_next = queue->gates;
    if (queue->gates)
        queue->gates->gate_previous = gate;
    queue->gates = gate;
    queue->closed_gates++;
    *gate_p = (orion_gate_t *)gate; /* before the callback, which may open it */
    orion_queue_push(queue, orion_queue_stream(queue, stream), gate);
    orion_queue_advance(queue);
    result = CUDA_SUCCESS;
out:
    orion_queue_unlock(queue);
    return result;
}

void orion_stream_gate_open(orion_queue_t *queue, orion_gate_t *handle)
{
    orion_op_t *gate = (orion_op_t *)handle;
    orion_queue_lock(queue);
    *(gate->gate_previous ? &gate->gate_previous->gate_next : &queue->gates) = gate->gate_next;
    if (gate->gate_next)
        gate->gate_next->gate_previous = gate->gate_previous;
    queue->closed_gates--;
    gate->opened = 1;
    if (gate->parked) {
        gate->parked = 0;
        orion_stream_t *stream = gate->stream;
        orion_op_unref(queue, gate);
        orion_queue_retire(queue, stream);
        orion_queue_advance(queue);
    } else {
        orion_op_unref(queue, gate);
    }
    orion_queue_unlock(queue);
}

CUresult orion_queue_room(orion_queue_t *queue, uint64_t pending, orion_done_fn done, void *arg)
{
    CUresult result = CUDA_SUCCESS;
    orion_queue_lock(queue);
    if (queue->pending <= pending) {
        orion_queue_unlock(queue);
        if (done)
            done(arg, CUDA_SUCCESS);
        return CUDA_SUCCESS;
    }
    orion_op_t *op = queue->room ? NULL : orion_op_new(queue, ORION_OP_NOTIFY, done, arg);
    if (op) {
        op->count = pending > UINT32_MAX ? UINT32_MAX : (uint32_t)pending;
        queue->room = op;
    } else {
        result = queue->room ? CUDA_ERROR_NOT_READY : CUDA_ERROR_OUT_OF_MEMORY;
    }
    orion_queue_unlock(queue);
    return result;
}
