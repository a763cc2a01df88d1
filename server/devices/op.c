/* SPDX-License-Identifier: Apache-2.0 */
/* Operations come from a free list and go back to it with their payload buffers, so that a warm queue does not
 * allocate. Called with the queue's lock held. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

#define FREE_OPS_KEPT 4096u

static void op_free(orion_queue_t *queue, orion_op_t *op)
{
    if (op->payload_capacity > ORION_OP_KEEP) {
        free(op->payload);
        op->payload_capacity = 0;
    }
    if (queue->free_count >= FREE_OPS_KEPT) {
        if (op->payload_capacity)
            free(op->payload);
        free(op);
        return;
    }
    op->next = queue->free_ops;
    queue->free_ops = op;
    queue->free_count++;
}

int orion_op_reserve(orion_queue_t *queue, uint32_t count)
{
    while (queue->free_count < count) {
        orion_op_t *op = malloc(sizeof *op);
        if (!op)
            return 0;
        op->payload_capacity = 0;
        op->next = queue->free_ops;
        queue->free_ops = op;
        queue->free_count++;
    }
    return 1;
}

orion_op_t *orion_op_new(orion_queue_t *queue, orion_op_kind_t kind, orion_done_fn done, void *arg)
{
    if (kind != ORION_OP_FENCE && kind != ORION_OP_NOTIFY && queue->pending >= ORION_QUEUE_LIMIT)
        return NULL;
    if (!queue->free_ops && !orion_op_reserve(queue, 1))
        return NULL;
    orion_op_t *op = queue->free_ops;
    queue->free_ops = op->next;
    queue->free_count--;
    op->next = NULL;
    op->queue = queue;
    op->stream = NULL;
    op->done = done;
    op->arg = arg;
    op->kind = kind;
    op->refs = 1;
    op->on_caller = op->passive = op->finished = op->waiting = op->reached = op->parked = op->opened = 0;
    op->count = 0;
    op->target = op->waiters = op->wait_next = NULL;
    op->board = NULL;
    op->start = NULL;
    op->forget = NULL;
    op->payload_bytes = 0;
    if (!op->payload_capacity)
        op->payload = op->inline_payload;
    return op;
}

int orion_op_payload(orion_op_t *op, const void *data, uint32_t bytes)
{
    uint32_t room = op->payload_capacity ? op->payload_capacity : ORION_OP_INLINE;
    if (bytes > room) {
        uint32_t capacity = bytes > ORION_OP_KEEP ? bytes : ORION_OP_KEEP;
        void *larger = aligned_alloc(64, (capacity + 63u) & ~63u);
        if (!larger)
            return 0;
        if (op->payload_capacity)
            free(op->payload);
        op->payload = larger;
        op->payload_capacity = capacity;
    }
    op->payload_bytes = bytes;
    if (bytes)
        memcpy(op->payload, data, bytes);
    return 1;
}

void orion_op_unref(orion_queue_t *queue, orion_op_t *op)
{
    while (op && --op->refs == 0) {
        orion_op_t *target = op->target;
        op->target = NULL;
        op_free(queue, op);
        op = target;
    }
}
