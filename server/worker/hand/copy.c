/* SPDX-License-Identifier: Apache-2.0 */
/* Copies. A staging chunk is always published as done, whatever became of the copy: a client thread may wait for it. */
#include "worker/hand/hand.h"

#include "shm/layout.h"

#include <stdlib.h>
#include <string.h>

#define OUT_MOST 4032u /* of orionCopyOut; the spec bounds its reply likewise */

CUresult orion_serve_orionCopyIn(orion_worker_t *w, CUdeviceptr dst, orion_stream_t *stream, unsigned int bytes,
                                 const void *data)
{
    if (bytes == 0)
        return CUDA_SUCCESS;
    if (!orion_worker_owns(w, dst, bytes))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    orion_stats_add(&w->stats->bytes, bytes);
    return w->ops->write(w->device, stream, dst, data, bytes);
}

typedef struct {
    orion_worker_t *worker;
    uint32_t stage, sequence;
    uint32_t out; /* bytes for the client; 0: on their way in */
} staged_t;

static void staged_done(void *arg, CUresult result)
{
    staged_t *staged = arg;
    orion_worker_device_failed(staged->worker, result);
    if (staged->out && result == CUDA_SUCCESS)
        orion_port_stage_give(staged->worker->port, staged->stage, staged->sequence, staged->out);
    else
        orion_port_stage_done(staged->worker->port, staged->stage, staged->sequence);
    free(staged);
}

/* One direction or the other between a chunk and device memory. */
static CUresult copy_staged(orion_worker_t *w, CUdeviceptr address, orion_stream_t *stream, uint32_t bytes,
                            uint32_t stage, uint32_t sequence, bool in)
{
    CUresult result = CUDA_ERROR_ILLEGAL_ADDRESS;
    void *chunk = orion_port_stage(w->port, stage);
    if (!chunk)
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes > ORION_STAGE_BYTES || !orion_worker_owns(w, address, bytes))
        goto err_publish;
    staged_t *staged = malloc(sizeof *staged);
    result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!staged)
        goto err_publish;
    *staged = (staged_t){w, stage, sequence, in ? 0 : bytes};
    orion_stats_add(&w->stats->bytes, bytes);
    const uint64_t at = (uint64_t)(uintptr_t)chunk;
    result = w->ops->copy(w->device, stream, in ? address : at, in ? at : address, bytes, staged_done, staged);
    if (result == CUDA_SUCCESS)
        return result;
    free(staged);

err_publish:
    orion_port_stage_done(w->port, stage, sequence);
    return result;
}

CUresult orion_serve_orionCopyInStage(orion_worker_t *w, CUdeviceptr dst, orion_stream_t *stream, unsigned int bytes,
                                      unsigned int stage, unsigned int stage_sequence)
{
    return copy_staged(w, dst, stream, bytes, stage, stage_sequence, true);
}

CUresult orion_serve_orionCopyOutStage(orion_worker_t *w, CUdeviceptr src, orion_stream_t *stream, unsigned int bytes,
                                       unsigned int stage, unsigned int stage_sequence)
{
    return copy_staged(w, src, stream, bytes, stage, stage_sequence, false);
}

typedef struct {
    orion_worker_t *worker;
    orion_ticket_t ticket;
    uint32_t bytes;
    unsigned char data[];
} out_t;

static void out_done(void *arg, CUresult result)
{
    out_t *out = arg;
    orion_worker_device_failed(out->worker, result);
    orion_reply_orionCopyOut(out->worker, out->ticket, result, out->data, result == CUDA_SUCCESS ? out->bytes : 0);
    free(out);
}

CUresult orion_serve_orionCopyOut(orion_worker_t *w, orion_ticket_t ticket, CUdeviceptr src, orion_stream_t *stream,
                                  unsigned int bytes)
{
    if (bytes > OUT_MOST || !orion_worker_owns(w, src, bytes))
        return CUDA_ERROR_INVALID_VALUE;
    out_t *out = malloc(sizeof *out + bytes);
    if (!out)
        return CUDA_ERROR_OUT_OF_MEMORY;
    out->worker = w;
    out->ticket = ticket;
    out->bytes = bytes;
    orion_stats_add(&w->stats->bytes, bytes);
    const CUresult result = w->ops->copy(w->device, stream, (uint64_t)(uintptr_t)out->data, src, bytes, out_done, out);
    if (result == CUDA_SUCCESS)
        return ORION_DEFERRED;
    free(out);
    return result;
}

CUresult orion_serve_orionCopy(orion_worker_t *w, CUdeviceptr dst, CUdeviceptr src, size_t bytes,
                               orion_stream_t *stream)
{
    if (bytes == 0)
        return CUDA_SUCCESS;
    if (!orion_worker_owns(w, dst, bytes) || !orion_worker_owns(w, src, bytes))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    orion_stats_add(&w->stats->bytes, bytes);
    return w->ops->copy(w->device, stream, dst, src, bytes, orion_quiet_done, w);
}

bool orion_worker_owns_rows(orion_worker_t *w, uint64_t address, uint64_t pitch, uint64_t width, uint64_t height)
{
    uint64_t bytes;
    if (pitch < width && height > 1)
        return false;
    if (__builtin_mul_overflow(pitch, height - 1, &bytes) || __builtin_add_overflow(bytes, width, &bytes))
        return false;
    return orion_worker_owns(w, address, bytes);
}

CUresult orion_serve_orionCopy2D(orion_worker_t *w, CUdeviceptr dst, size_t dpitch, CUdeviceptr src, size_t spitch,
                                 size_t width, size_t height, orion_stream_t *stream)
{
    if (width == 0 || height == 0)
        return CUDA_SUCCESS;
    if (!orion_worker_owns_rows(w, dst, dpitch, width, height) ||
        !orion_worker_owns_rows(w, src, spitch, width, height))
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    orion_stats_add(&w->stats->bytes, width * height);
    return w->ops->copy_2d(w->device, stream, dst, dpitch, src, spitch, width, height, orion_quiet_done, w);
}
