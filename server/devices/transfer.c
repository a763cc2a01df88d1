/* SPDX-License-Identifier: Apache-2.0 */
/* Copies and fills; see transfer.h. */
#include "transfer.h"

#include <string.h>

#define ON_CALLER (1u << 20) /* longest transfer that holds up the caller: some 50 us */
#define UNDER_LOCK 4096u     /* so short that an operation would cost more than the transfer */
#define PART (1u << 20)      /* what one thread takes at a time */
#define WIDTH 4u             /* threads that one transfer can use; more do not make memory faster */
#define WRITE_LIMIT (32u << 10)

static void *pointer(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static void fill_row(unsigned char *p, uint32_t value, uint32_t element, uint64_t bytes)
{
    const unsigned char *v = (const unsigned char *)&value;
    if (element == 1 || (v[0] == v[1] && (element == 2 || (v[0] == v[2] && v[0] == v[3])))) {
        memset(p, v[0], bytes);
    } else if (element == 2) {
        uint16_t *q = (uint16_t *)p, half = (uint16_t)value;
        for (uint64_t i = 0; i < bytes / 2; i++)
            q[i] = half;
    } else {
        uint32_t *q = (uint32_t *)p;
        for (uint64_t i = 0; i < bytes / 4; i++)
            q[i] = value;
    }
}

static int is_shared(const orion_queue_t *queue, uint64_t address)
{
    return address - queue->shared[0].base < queue->shared[0].bytes ||
           address - queue->shared[1].base < queue->shared[1].bytes;
}

static void piece(orion_queue_t *queue, const orion_transfer_t *t, uint64_t dst, uint64_t src, uint64_t bytes)
{
    if (t->kind == ORION_TRANSFER_FILL) {
        fill_row(pointer(dst), t->value, t->element, bytes);
        return;
    }
    const int to_client = is_shared(queue, dst), from_client = is_shared(queue, src);
    if (to_client && !from_client) /* one of the two only: they cannot overlap */
        orion_copy_to_peer(&queue->copier, pointer(dst), pointer(src), bytes);
    else if (from_client && !to_client)
        orion_copy_from_peer(pointer(dst), pointer(src), bytes);
    else if (t->parts == 1)
        memmove(pointer(dst), pointer(src), bytes);
    else
        memcpy(pointer(dst), pointer(src), bytes);
}

static void do_part(orion_queue_t *queue, const orion_transfer_t *t, uint64_t part)
{
    uint64_t first = part * t->part;
    if (t->height == 1) {
        uint64_t left = t->width - first;
        piece(queue, t, t->dst + first, t->src + first, left < t->part ? left : t->part);
        return;
    }
    uint64_t end = t->height - first < t->part ? t->height : first + t->part;
    for (uint64_t row = first; row < end; row++)
        piece(queue, t, t->dst + row * t->dst_pitch, t->src + row * t->src_pitch, t->width);
}

static int overlaps(const orion_transfer_t *t)
{
    uint64_t dst_span = (t->height - 1) * t->dst_pitch + t->width;
    uint64_t src_span = (t->height - 1) * t->src_pitch + t->width;
    return t->dst < t->src + src_span && t->src < t->dst + dst_span;
}

/* One row if the rows touch; then parts. */
static void plan(orion_transfer_t *t)
{
    if (t->height > 1 && t->dst_pitch == t->width && (t->kind == ORION_TRANSFER_FILL || t->src_pitch == t->width)) {
        t->width *= t->height;
        t->height = 1;
    }
    t->next = 0;
    uint64_t units = t->height == 1 ? t->width : t->height;
    t->part = t->height == 1 || t->width >= PART ? (t->height == 1 ? PART : 1) : PART / t->width;
    if (t->kind == ORION_TRANSFER_COPY && overlaps(t))
        t->part = units;
    t->parts = (units + t->part - 1) / t->part;
}

static orion_op_t *op_of(orion_job_t *job)
{
    return (orion_op_t *)((char *)job - offsetof(orion_op_t, job));
}

static int job_run(orion_job_t *job, orion_pool_thread_t *thread)
{
    orion_queue_t *queue = op_of(job)->queue;
    orion_transfer_t *t = &op_of(job)->u.transfer;
    for (;;) {
        uint64_t part = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED);
        if (part >= t->parts)
            return 1;
        do_part(queue, t, part);
        if (orion_pool_starving(thread->pool))
            return 0;
    }
}

static void job_finish(orion_job_t *job, orion_pool_thread_t *thread)
{
    (void)thread;
    orion_queue_complete(op_of(job), CUDA_SUCCESS);
}

static int start(orion_op_t *op, CUresult *result_p)
{
    (void)result_p;
    op->job.run = job_run;
    op->job.finish = job_finish;
    op->job.width = op->u.transfer.parts < WIDTH ? (uint32_t)op->u.transfer.parts : WIDTH;
    op->job.gang = 0;
    op->queue->wake |= orion_pool_submit(op->queue->pool, &op->job);
    return 0;
}

/* payload: bytes to take along if it cannot run now. */
static CUresult enqueue(orion_queue_t *queue, orion_stream_t *stream, orion_transfer_t *t, uint32_t payload,
                        orion_done_fn done, void *arg)
{
    plan(t);
    uint64_t bytes = t->width * t->height;
    orion_queue_lock(queue);
    CUresult result = orion_queue_refusal(queue);
    if (result != CUDA_SUCCESS)
        goto out;
    stream = orion_queue_stream(queue, stream);
    int idle = orion_queue_idle(queue, stream);
    if (idle && bytes <= UNDER_LOCK) {
        for (uint64_t part = 0; part < t->parts; part++)
            do_part(queue, t, part);
        orion_queue_unlock(queue);
        if (done)
            done(arg, CUDA_SUCCESS);
        return CUDA_SUCCESS;
    }
    result = CUDA_ERROR_OUT_OF_MEMORY;
    orion_op_t *op = orion_op_new(queue, ORION_OP_WORK, done, arg);
    if (!op)
        goto out;
    if (payload && !idle) {
        if (!orion_op_payload(op, pointer(t->src), payload)) {
            orion_op_unref(queue, op);
            goto out;
        }
        t->src = (uint64_t)(uintptr_t)op->payload;
    }
    op->u.transfer = *t;
    op->start = start;
    op->on_caller = bytes <= ON_CALLER;
    result = CUDA_SUCCESS;
    if (orion_queue_push(queue, stream, op)) {
        orion_queue_unlock(queue);
        for (uint64_t part = 0; part < t->parts; part++)
            do_part(queue, t, part);
        orion_queue_complete(op, CUDA_SUCCESS);
        return CUDA_SUCCESS;
    }
    orion_queue_advance(queue);
out:
    orion_queue_unlock(queue);
    return result;
}

CUresult orion_transfer_copy(orion_queue_t *queue, orion_stream_t *stream, uint64_t dst, uint64_t dst_pitch,
                             uint64_t src, uint64_t src_pitch, uint64_t width, uint64_t height, orion_done_fn done,
                             void *arg)
{
    if (height > 1 && (dst_pitch < width || src_pitch < width))
        return CUDA_ERROR_INVALID_VALUE;
    if (width == 0 || height == 0)
        return orion_stream_notify(queue, stream, done, arg);
    orion_transfer_t t = {.kind = ORION_TRANSFER_COPY,
                          .dst = dst,
                          .src = src,
                          .dst_pitch = dst_pitch,
                          .src_pitch = src_pitch,
                          .width = width,
                          .height = height};
    return enqueue(queue, stream, &t, 0, done, arg);
}

CUresult orion_transfer_write(orion_queue_t *queue, orion_stream_t *stream, uint64_t dst, const void *data,
                              uint32_t bytes)
{
    if (bytes > WRITE_LIMIT)
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes == 0)
        return CUDA_SUCCESS;
    orion_transfer_t t = {
        .kind = ORION_TRANSFER_COPY, .dst = dst, .src = (uint64_t)(uintptr_t)data, .width = bytes, .height = 1};
    return enqueue(queue, stream, &t, bytes, NULL, NULL);
}

CUresult orion_transfer_fill(orion_queue_t *queue, orion_stream_t *stream, uint64_t dst, uint32_t value,
                             uint32_t element, uint64_t pitch, uint64_t width, uint64_t height, orion_done_fn done,
                             void *arg)
{
    if ((element != 1 && element != 2 && element != 4) || dst % element || (height > 1 && pitch % element) ||
        width > UINT64_MAX / element || (height > 1 && pitch < width * element))
        return CUDA_ERROR_INVALID_VALUE;
    if (width == 0 || height == 0)
        return orion_stream_notify(queue, stream, done, arg);
    orion_transfer_t t = {.kind = ORION_TRANSFER_FILL,
                          .value = value,
                          .element = element,
                          .dst = dst,
                          .dst_pitch = pitch,
                          .width = width * element,
                          .height = height};
    return enqueue(queue, stream, &t, 0, done, arg);
}
