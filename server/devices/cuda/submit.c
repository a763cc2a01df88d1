/* SPDX-License-Identifier: Apache-2.0 */
/* Handing operations over, in the order of their coming: at once, or through the backlog. */
#include "cuda/device.h"

#include <stdlib.h>
#include <string.h>

/* Operations that tell somebody something do so even when the device has failed. */
static bool only_tells(const orion_cuda_op_t *op)
{
    return op->kind == OP_NOTIFY || op->kind == OP_NOTIFY_EVENT || op->kind == OP_FENCE || op->kind == OP_SUBMITTED ||
           op->kind == OP_FREE_ORDERED;
}

static size_t payload_of(const orion_cuda_op_t *op)
{
    return op->kind == OP_LAUNCH ? op->u.launch.bytes : op->kind == OP_WRITE ? op->u.write.bytes : 0;
}

static orion_event_t *event_of(const orion_cuda_op_t *op)
{
    return op->kind == OP_RECORD || op->kind == OP_WAIT || op->kind == OP_NOTIFY_EVENT ? op->u.event : NULL;
}

/* The backlog's own copy. */
static CUresult postpone(orion_device_t *device, const orion_cuda_op_t *op)
{
    const size_t bytes = payload_of(op);
    orion_cuda_op_t *kept = malloc(sizeof *kept + bytes);
    if (!kept)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *kept = *op;
    kept->next = NULL;
    if (op->kind == OP_LAUNCH) {
        memcpy(kept + 1, op->u.launch.params, bytes);
        kept->u.launch.params = kept + 1;
    } else if (op->kind == OP_WRITE) {
        memcpy(kept + 1, op->u.write.data, bytes);
        kept->u.write.data = kept + 1;
    }
    orion_event_t *event = event_of(op);
    if (event)
        __atomic_fetch_add(&event->references, 1, __ATOMIC_RELAXED);
    if (op->kind == OP_RECORD)
        __atomic_fetch_add(&event->held, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&device->lock);
    op->stream->held++;
    device->pending++;
    orion_cuda_account(device);
    *device->backlog_last = kept;
    device->backlog_last = &kept->next;
    pthread_cond_signal(&device->carry);
    pthread_mutex_unlock(&device->lock);
    return CUDA_SUCCESS;
}

CUresult orion_cuda_submit(orion_device_t *device, orion_cuda_op_t *op)
{
    CUresult result = orion_cuda_sticky(device);
    if (result != CUDA_SUCCESS && only_tells(op)) {
        if (op->done)
            op->done(op->arg, result);
        return CUDA_SUCCESS;
    }
    if (result != CUDA_SUCCESS)
        return result;
    if (!op->stream)
        op->stream = &device->legacy;
    pthread_mutex_lock(&device->submit_lock);
    pthread_mutex_lock(&device->lock);
    const bool full = device->pending >= ORION_CUDA_OPERATIONS && !only_tells(op);
    const bool direct = !device->backlog && !device->carrying && device->in_driver < ORION_CUDA_DIRECT &&
                        (op->kind != OP_LAUNCH || orion_cuda_has_turn(device));
    result = device->dropping ? CUDA_ERROR_CONTEXT_IS_DESTROYED : full ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
    pthread_mutex_unlock(&device->lock);
    if (result == CUDA_SUCCESS) {
        result = direct ? orion_cuda_perform(device, op, false) : CUDA_ERROR_NOT_READY;
        if (result == CUDA_ERROR_NOT_READY)
            result = postpone(device, op);
    }
    pthread_mutex_unlock(&device->submit_lock);
    return result;
}

static void forget(orion_device_t *device, orion_cuda_op_t *op)
{
    orion_event_t *event = event_of(op);
    if (op->kind == OP_RECORD)
        __atomic_fetch_sub(&event->held, 1, __ATOMIC_RELEASE);
    if (event)
        orion_cuda_event_unref(device, event);
    free(op);
}

/* One operation of the backlog. One that fails now has been accepted before: its callback gets the error, in order. */
static void carry(orion_device_t *device, orion_cuda_op_t *op)
{
    const CUresult result = orion_cuda_perform(device, op, true);
    if (result != CUDA_SUCCESS) {
        orion_cuda_entry_t *entry = calloc(1, sizeof *entry);
        if (entry) {
            entry->done = op->done;
            entry->arg = op->arg;
            entry->result = result;
        }
        orion_cuda_handed(device, op->stream, entry, true);
    }
    pthread_mutex_lock(&device->lock);
    op->stream->held--;
    device->pending--; /* it has been counted again when it was handed over */
    orion_cuda_account(device);
    device->carrying = false;
    pthread_mutex_unlock(&device->lock);
    forget(device, op);
}

void *orion_cuda_porter(void *self)
{
    orion_device_t *device = self;
    pthread_mutex_lock(&device->lock);
    for (;;) {
        orion_cuda_job_t *job = device->jobs;
        orion_cuda_op_t *op = device->backlog;
        if (job) {
            if (!(device->jobs = job->next))
                device->jobs_last = &device->jobs;
            pthread_mutex_unlock(&device->lock);
            orion_cuda_enter(device);
            job->run(device, job);
            free(job);
            pthread_mutex_lock(&device->lock);
        } else if (op && op->kind == OP_LAUNCH && !orion_cuda_has_turn(device)) {
            orion_cuda_await_turn(device);
        } else if (op) {
            if (!(device->backlog = op->next))
                device->backlog_last = &device->backlog;
            device->carrying = true;
            pthread_mutex_unlock(&device->lock);
            carry(device, op);
            pthread_mutex_lock(&device->lock);
        } else if (device->stopping) {
            break;
        } else {
            pthread_cond_wait(&device->carry, &device->lock);
        }
    }
    pthread_mutex_unlock(&device->lock);
    return NULL;
}

void orion_cuda_job(orion_device_t *device, orion_cuda_job_t *job)
{
    job->next = NULL;
    pthread_mutex_lock(&device->lock);
    *device->jobs_last = job;
    device->jobs_last = &job->next;
    pthread_cond_signal(&device->carry);
    pthread_mutex_unlock(&device->lock);
}

void orion_cuda_drop(orion_device_t *device, CUresult result)
{
    pthread_mutex_lock(&device->lock);
    orion_cuda_op_t *ops = device->backlog;
    device->backlog = NULL;
    device->backlog_last = &device->backlog;
    for (orion_cuda_op_t *op = ops; op; op = op->next) {
        op->stream->held--;
        device->pending--;
    }
    orion_cuda_account(device);
    orion_cuda_entry_t *entries = NULL, **last = &entries;
    for (orion_stream_t *stream = device->streams; stream; stream = stream->next) {
        if (!stream->first)
            continue;
        *last = stream->first;
        last = stream->last;
        stream->first = NULL;
        stream->last = &stream->first;
    }
    orion_cuda_waiter_t *waiters = device->waiters;
    device->waiters = NULL;
    const orion_done_fn room = device->room_done;
    device->room_done = NULL;
    pthread_mutex_unlock(&device->lock);

    while (entries) {
        orion_cuda_entry_t *entry = entries;
        entries = entry->next;
        orion_cuda_deliver(device, entry, result);
    }
    while (ops) {
        orion_cuda_op_t *op = ops;
        ops = op->next;
        if (op->kind == OP_GATE)
            op->done = NULL; /* told below */
        if (op->done)
            op->done(op->arg, result);
        forget(device, op);
    }
    while (waiters) {
        orion_cuda_waiter_t *waiter = waiters;
        waiters = waiter->next;
        waiter->done(waiter->arg, result);
        orion_cuda_cell_drop(device, waiter->cell);
        free(waiter);
    }
    if (room)
        room(device->room_arg, result);
}

CUresult orion_cuda_fence(orion_device_t *device, orion_done_fn done, void *arg)
{
    orion_cuda_op_t op = {.kind = OP_FENCE, .done = done, .arg = arg};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_submitted(orion_device_t *device, orion_done_fn done, void *arg)
{
    orion_cuda_op_t op = {.kind = OP_SUBMITTED, .done = done, .arg = arg};
    return orion_cuda_submit(device, &op);
}
