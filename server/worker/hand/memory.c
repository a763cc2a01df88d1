/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory and the arena: what is charged, found and given back. */
#include "worker/hand/hand.h"

#include <stdlib.h>

/*
 * An allocation that finds the device full while frees still wait for running work is answered after that work: the
 * client's cuMemFree has returned long ago, and on a GPU it would have waited.
 */
typedef struct {
    orion_worker_t *worker;
    orion_ticket_t ticket;
    orion_stream_t *stream;
    uint64_t bytes;
    bool ordered; /* cuMemAllocAsync */
    bool waited;  /* all earlier work has ended: any memory will do, and the stream may be gone */
} request_t;

static void answer(const request_t *r, CUresult result, CUdeviceptr dptr)
{
    if (r->ordered)
        orion_reply_cuMemAllocAsync(r->worker, r->ticket, result, dptr);
    else
        orion_reply_cuMemAlloc_v2(r->worker, r->ticket, result, dptr);
}

/* The bytes are charged; on success the charge belongs to the range and is given back when the range goes. */
static CUresult allocate(const request_t *r, CUdeviceptr *dptr)
{
    orion_worker_t *w = r->worker;
    uint64_t address;
    const CUresult result = r->ordered && !r->waited ? w->ops->mem_alloc_async(w->device, r->stream, r->bytes, &address)
                                                     : w->ops->mem_alloc(w->device, r->bytes, &address);
    if (result != CUDA_SUCCESS)
        return result;
    const orion_range_t range = {.base = address, .bytes = r->bytes, .charged = r->bytes, .kind = ORION_RANGE_HEAP};
    if (!orion_ledger_insert(&w->ledger, &range)) {
        w->ops->mem_free(w->device, address, NULL, NULL);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *dptr = address;
    return CUDA_SUCCESS;
}

static void allocate_again(void *arg, CUresult result)
{
    request_t *r = arg;
    CUdeviceptr dptr = 0;
    if (result == CUDA_SUCCESS)
        result = allocate(r, &dptr);
    if (result != CUDA_SUCCESS)
        orion_ledger_refund(r->worker, r->bytes);
    answer(r, result, dptr);
    free(r);
}

static CUresult serve_alloc(const request_t *r)
{
    orion_worker_t *w = r->worker;
    CUdeviceptr dptr;
    CUresult result = allocate(r, &dptr);
    if (result == CUDA_SUCCESS) {
        answer(r, result, dptr);
        return ORION_DEFERRED;
    }
    if (result != CUDA_ERROR_OUT_OF_MEMORY || atomic_load_explicit(&w->frees, memory_order_relaxed) == 0)
        return result;
    request_t *later = malloc(sizeof *later);
    if (!later)
        return result;
    *later = *r;
    later->waited = true;
    if (w->ops->synchronize_notify(w->device, allocate_again, later) == CUDA_SUCCESS)
        return ORION_DEFERRED;
    free(later);
    return result;
}

CUresult orion_serve_cuMemAlloc_v2(orion_worker_t *w, orion_ticket_t ticket, size_t bytesize)
{
    return serve_alloc(&(request_t){.worker = w, .ticket = ticket, .bytes = bytesize});
}

CUresult orion_serve_cuMemAllocAsync(orion_worker_t *w, orion_ticket_t ticket, size_t bytesize, orion_stream_t *hStream)
{
    return serve_alloc(
        &(request_t){.worker = w, .ticket = ticket, .stream = hStream, .bytes = bytesize, .ordered = true});
}

static void freed(void *arg, CUresult result)
{
    orion_worker_t *w = arg;
    (void)result; /* the memory is free either way */
    atomic_fetch_sub_explicit(&w->frees, 1, memory_order_relaxed);
}

CUresult orion_serve_cuMemFree_v2(orion_worker_t *w, CUdeviceptr dptr)
{
    if (!orion_ledger_remove(&w->ledger, dptr, ORION_RANGE_HEAP, NULL))
        return CUDA_ERROR_INVALID_VALUE;
    atomic_fetch_add_explicit(&w->frees, 1, memory_order_relaxed);
    const CUresult result = w->ops->mem_free(w->device, dptr, freed, w);
    if (result != CUDA_SUCCESS)
        freed(w, result);
    return result;
}

CUresult orion_serve_cuMemFreeAsync(orion_worker_t *w, CUdeviceptr dptr, orion_stream_t *hStream)
{
    if (!orion_ledger_remove(&w->ledger, dptr, ORION_RANGE_HEAP, NULL))
        return CUDA_ERROR_INVALID_VALUE;
    atomic_fetch_add_explicit(&w->frees, 1, memory_order_relaxed);
    const CUresult result = w->ops->mem_free_async(w->device, hStream, dptr, freed, w);
    if (result != CUDA_SUCCESS)
        freed(w, result);
    return result;
}

CUresult orion_serve_cuMemGetInfo_v2(orion_worker_t *w, size_t *free_p, size_t *total_p)
{
    const uint64_t limit = orion_ledger_limit(&w->ledger), used = orion_ledger_used(&w->ledger);
    *total_p = limit;
    *free_p = used < limit ? limit - used : 0; /* it may have been lowered below what is used */
    return CUDA_SUCCESS;
}

/* The dispatch has charged the bytes. */
CUresult orion_serve_orionArenaExtend(orion_worker_t *w, orion_ticket_t ticket, unsigned long long bytes,
                                      unsigned int flags)
{
    uint64_t offset;
    (void)flags;
    const CUresult result = orion_arena_extend(&w->extents, bytes, &offset);
    if (result != CUDA_SUCCESS)
        return result;
    const orion_range_t range = {
        .base = w->extents.base + offset, .bytes = bytes, .charged = bytes, .kind = ORION_RANGE_ARENA};
    if (!orion_ledger_insert(&w->ledger, &range)) {
        uint64_t released;
        orion_arena_release(&w->extents, offset, &released);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    orion_reply_orionArenaExtend(w, ticket, CUDA_SUCCESS, offset);
    return ORION_DEFERRED;
}

CUresult orion_serve_orionArenaRelease(orion_worker_t *w, unsigned long long offset)
{
    uint64_t bytes;
    if (!orion_ledger_remove(&w->ledger, w->extents.base + offset, ORION_RANGE_ARENA, NULL))
        return CUDA_ERROR_INVALID_VALUE;
    return orion_arena_release(&w->extents, offset, &bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_serve_orionExpose(orion_worker_t *w, CUdeviceptr address, unsigned long long *offset,
                                 unsigned long long *bytes)
{
    uint64_t at, size;
    if (!orion_worker_owns(w, address, 1))
        return CUDA_ERROR_INVALID_VALUE;
    const CUresult result = orion_heap_expose(&w->extents, address, &at, &size);
    if (result != CUDA_SUCCESS)
        return result;
    *offset = at;
    *bytes = size;
    return CUDA_SUCCESS;
}
