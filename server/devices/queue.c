/* SPDX-License-Identifier: Apache-2.0 */
/* The stream engine of the devices; queue.h tells the rules. Everything here runs with the queue's lock held unless
 * it says otherwise; call_done() lets go of it around a callback, so state is read again afterwards. */
#include "board.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t orion_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void orion_queue_unlock(orion_queue_t *queue)
{
    int wake = queue->wake;
    queue->wake = 0;
    pthread_mutex_unlock(&queue->lock);
    if (wake)
        orion_pool_wake(queue->pool);
}

orion_stream_t *orion_queue_stream(orion_queue_t *queue, orion_stream_t *stream)
{
    return stream ? stream : &queue->legacy;
}

int orion_queue_idle(const orion_queue_t *queue, const orion_stream_t *stream)
{
    if (stream->head)
        return 0;
    if (stream == &queue->legacy)
        return queue->active_blocking == 0;
    return !stream->blocking || !queue->legacy.head;
}

/* Whether work of the stream is unfinished; who only waits for work is none. */
static int is_busy(const orion_stream_t *stream)
{
    for (const orion_op_t *op = stream->head; op; op = op->next)
        if (!op->passive && op->kind != ORION_OP_FENCE && !__atomic_load_n(&op->finished, __ATOMIC_ACQUIRE))
            return 1;
    return 0;
}

int orion_queue_quiet(const orion_queue_t *queue, const orion_stream_t *stream)
{
    if (is_busy(stream))
        return 0;
    if (stream != &queue->legacy)
        return 1;
    for (const orion_stream_t *other = queue->active; other; other = other->active_next)
        if (other->blocking && is_busy(other))
            return 0;
    return 1;
}

/* Puts a stream on the list of those whose head may be ready. */
static void look(orion_queue_t *queue, orion_stream_t *stream)
{
    if (stream->queued)
        return;
    stream->queued = 1;
    stream->work_next = NULL;
    *(queue->work_tail ? &queue->work_tail->work_next : &queue->work_head) = stream;
    queue->work_tail = stream;
}

static void activate(orion_queue_t *queue, orion_stream_t *stream)
{
    stream->active_previous = NULL;
    stream->active_next = queue->active;
    if (queue->active)
        queue->active->active_previous = stream;
    queue->active = stream;
    if (stream->blocking && stream != &queue->legacy)
        queue->active_blocking++;
}

static void deactivate(orion_queue_t *queue, orion_stream_t *stream)
{
    *(stream->active_previous ? &stream->active_previous->active_next : &queue->active) = stream->active_next;
    if (stream->active_next)
        stream->active_next->active_previous = stream->active_previous;
    if (stream->blocking && stream != &queue->legacy)
        queue->active_blocking--;
}

void orion_queue_free_stream(orion_queue_t *queue, orion_stream_t *stream)
{
    *(stream->previous ? &stream->previous->next : &queue->streams) = stream->next;
    if (stream->next)
        stream->next->previous = stream->previous;
    free(stream);
}

void orion_queue_call(orion_queue_t *queue, orion_op_t *op)
{
    op->next = NULL;
    *(queue->calls_tail ? &queue->calls_tail->next : &queue->calls_head) = op;
    queue->calls_tail = op;
}

static void call_done(orion_queue_t *queue, orion_op_t *op, CUresult result)
{
    if (op->kind != ORION_OP_GATE) /* release: pairs with is_busy(); the work before the callback */
        __atomic_store_n(&op->finished, 1, __ATOMIC_RELEASE);
    if (!op->done)
        return;
    orion_done_fn done = op->done;
    void *arg = op->arg;
    orion_queue_unlock(queue);
    done(arg, result);
    orion_queue_lock(queue);
}

/* The head is done: what may that make ready? The stream may be gone afterwards. */
void orion_queue_retire(orion_queue_t *queue, orion_stream_t *stream)
{
    orion_op_t *op = stream->head;
    stream->head = op->next;
    stream->running = 0;
    orion_op_unref(queue, op);
    queue->pending--;
    if (stream->head) {
        look(queue, stream);
    } else {
        stream->tail = NULL;
        deactivate(queue, stream);
    }
    if (stream == &queue->legacy) {
        for (orion_stream_t *other = queue->active; other; other = other->active_next)
            if (other->blocking && !other->running)
                look(queue, other);
    } else if (stream->blocking && queue->legacy.head && !queue->legacy.running) {
        look(queue, &queue->legacy);
    }
    if (stream->destroyed && !stream->head && !stream->queued)
        orion_queue_free_stream(queue, stream);
    if (queue->room && queue->pending <= queue->room->count) {
        orion_queue_call(queue, queue->room);
        queue->room = NULL;
    }
    if (queue->pending == 0)
        pthread_cond_broadcast(&queue->empty);
}

void orion_queue_finish_mark(orion_queue_t *queue, orion_op_t *mark)
{
    __atomic_store_n(&mark->finished, 1, __ATOMIC_RELEASE);
    mark->time_ns = orion_now_ns();
    if (mark->board)
        orion_board_publish(mark);
    orion_op_t *waiter = mark->waiters;
    mark->waiters = NULL;
    while (waiter) {
        orion_op_t *next = waiter->wait_next;
        waiter->wait_next = NULL;
        if (waiter->stream)
            look(queue, waiter->stream);
        else
            orion_queue_call(queue, waiter);
        waiter = next;
    }
}

/* The legacy stream's rule, both ways; see queue.h for why sequence numbers are enough. */
static int held_by_default_stream(const orion_queue_t *queue, const orion_stream_t *stream, const orion_op_t *op)
{
    if (!stream->blocking || op->passive || op->kind == ORION_OP_FENCE)
        return 0;
    if (stream != &queue->legacy)
        return queue->legacy.head && queue->legacy.head->sequence < op->sequence;
    if (queue->active_blocking == 0)
        return 0;
    for (const orion_stream_t *other = queue->active; other; other = other->active_next)
        if (other != stream && other->blocking && other->head->sequence < op->sequence)
            return 1;
    return 0;
}

static int is_ready(orion_queue_t *queue, orion_stream_t *stream, orion_op_t *op)
{
    if (held_by_default_stream(queue, stream, op))
        return 0;
    if (op->kind != ORION_OP_WAIT || op->target->finished)
        return 1;
    if (!op->waiting) {
        op->waiting = 1;
        op->wait_next = op->target->waiters;
        op->target->waiters = op;
    }
    return 0;
}

int orion_queue_push(orion_queue_t *queue, orion_stream_t *stream, orion_op_t *op)
{
    op->stream = stream;
    op->sequence = ++queue->sequence;
    queue->pending++;
    if (stream->head) {
        stream->tail->next = op;
        stream->tail = op;
        return 0; /* whoever finishes the one before looks at it */
    }
    stream->head = stream->tail = op;
    activate(queue, stream);
    if (op->on_caller && is_ready(queue, stream, op)) {
        stream->running = 1;
        return 1;
    }
    look(queue, stream);
    return 0;
}

static void run_gate(orion_queue_t *queue, orion_stream_t *stream, orion_op_t *gate, CUresult failed)
{
    gate->reached = 1;
    call_done(queue, gate, failed);
    if (gate->opened || failed || queue->drop)
        orion_queue_retire(queue, stream);
    else
        gate->parked = 1; /* the stream stays running until the gate is opened */
}

/* Starts the head of a stream if it may run; inline kinds are finished here. */
static void run_head(orion_queue_t *queue, orion_stream_t *stream)
{
    orion_op_t *op = stream->head;
    if (!op || stream->running || !is_ready(queue, stream, op))
        return;
    stream->running = 1;
    CUresult failed = orion_queue_refusal(queue);
    switch (op->kind) {
    case ORION_OP_WORK: {
        CUresult result = failed;
        if (!failed && !op->start(op, &result))
            return;
        if (failed && op->forget)
            op->forget(op);
        call_done(queue, op, result);
        break;
    }
    case ORION_OP_NOTIFY:
        call_done(queue, op, failed);
        break;
    case ORION_OP_RECORD:
        orion_queue_finish_mark(queue, op);
        break;
    case ORION_OP_WAIT:
        break;
    case ORION_OP_GATE:
        run_gate(queue, stream, op, failed);
        return;
    case ORION_OP_FENCE:
        if (--op->target->count == 0) {
            op->target->refs++; /* retire gives up the fence's reference */
            orion_queue_call(queue, op->target);
        }
        break;
    }
    orion_queue_retire(queue, stream);
}

/* One thread at a time makes the calls that belong to no stream, so they keep their order: the end of a reset comes
 * after all frees that were asked for before it. */
static void run_calls(orion_queue_t *queue)
{
    if (queue->calling)
        return;
    queue->calling = 1;
    while (queue->calls_head) {
        orion_op_t *op = queue->calls_head;
        queue->calls_head = op->next;
        if (!queue->calls_head)
            queue->calls_tail = NULL;
        call_done(queue, op, orion_queue_refusal(queue));
        orion_op_unref(queue, op);
    }
    queue->calling = 0;
    if (queue->pending == 0)
        pthread_cond_broadcast(&queue->empty);
}

void orion_queue_advance(orion_queue_t *queue)
{
    do {
        while (queue->work_head) {
            orion_stream_t *stream = queue->work_head;
            queue->work_head = stream->work_next;
            if (!queue->work_head)
                queue->work_tail = NULL;
            stream->queued = 0;
            if (stream->destroyed && !stream->head)
                orion_queue_free_stream(queue, stream);
            else
                run_head(queue, stream);
        }
        if (queue->calls_head)
            run_calls(queue);
    } while (queue->work_head);
}

/* --- without the lock --- */

void orion_queue_fail(orion_queue_t *queue, CUresult status, const char *text)
{
    orion_queue_lock(queue);
    if (queue->status == CUDA_SUCCESS) {
        queue->status = status;
        snprintf(queue->text, sizeof queue->text, "%s", text);
    }
    orion_queue_unlock(queue);
}

void orion_queue_complete(orion_op_t *op, CUresult result)
{
    orion_queue_t *queue = op->queue;
    __atomic_store_n(&op->finished, 1, __ATOMIC_RELEASE); /* pairs with is_busy() */
    if (op->done)
        op->done(op->arg, result);
    orion_queue_lock(queue);
    orion_queue_retire(queue, op->stream);
    orion_queue_advance(queue);
    orion_queue_unlock(queue);
}
