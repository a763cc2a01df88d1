/* SPDX-License-Identifier: Apache-2.0 */
/* Allocating and freeing in step with the work that uses the memory. Any thread. */
#include "host.h"

#include <stdlib.h>

/* A free that waits for work: of all streams (stream NULL and no list) or in the order of one. */
typedef struct orion_pending_free {
    orion_device_t *device;
    orion_stream_t *stream;
    uint64_t address;
    orion_done_fn done;
    void *arg;
    int reused; /* an allocation in the same stream took the memory over */
    struct orion_pending_free *next, *previous;
} pending_free_t;

CUresult orion_host_mem_alloc(orion_device_t *device, uint64_t bytes, uint64_t *address_p)
{
    orion_queue_lock(&device->queue);
    CUresult result = orion_queue_refusal(&device->queue);
    orion_queue_unlock(&device->queue);
    return result == CUDA_SUCCESS ? orion_heap_alloc(&device->heap, bytes, ORION_BLOCK_MEMORY, address_p) : result;
}

static void free_finish(void *arg, CUresult result)
{
    (void)result;
    pending_free_t *pending = arg;
    orion_heap_retire(&pending->device->heap, pending->address);
    if (pending->done)
        pending->done(pending->arg, CUDA_SUCCESS);
    free(pending);
}

CUresult orion_host_mem_free(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg)
{
    pending_free_t *pending = malloc(sizeof *pending);
    if (!pending)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *pending = (pending_free_t){.device = device, .address = address, .done = done, .arg = arg};
    CUresult result = orion_heap_doom(&device->heap, address, ORION_BLOCK_MEMORY);
    if (result == CUDA_SUCCESS) {
        result = orion_queue_fence(&device->queue, free_finish, pending);
        if (result == CUDA_SUCCESS)
            return result;
        orion_heap_undoom(&device->heap, address);
    }
    free(pending);
    return result;
}

static void unlist(pending_free_t *pending)
{
    *(pending->previous ? &pending->previous->next : &pending->stream->frees) = pending->next;
    if (pending->next)
        pending->next->previous = pending->previous;
}

static void free_async_finish(void *arg, CUresult result)
{
    (void)result;
    pending_free_t *pending = arg;
    orion_queue_t *queue = &pending->device->queue;
    orion_queue_lock(queue);
    int reused = pending->reused;
    if (!reused)
        unlist(pending);
    orion_queue_unlock(queue);
    if (!reused) {
        orion_heap_retire(&pending->device->heap, pending->address);
        if (pending->done)
            pending->done(pending->arg, CUDA_SUCCESS);
    }
    free(pending);
}

CUresult orion_host_mem_free_async(orion_device_t *device, orion_stream_t *stream, uint64_t address, orion_done_fn done,
                                   void *arg)
{
    orion_queue_t *queue = &device->queue;
    pending_free_t *pending = malloc(sizeof *pending);
    if (!pending)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = orion_heap_doom(&device->heap, address, ORION_BLOCK_MEMORY);
    if (result != CUDA_SUCCESS)
        goto err_free;
    orion_queue_lock(queue);
    stream = orion_queue_stream(queue, stream);
    *pending = (pending_free_t){.device = device, .stream = stream, .address = address, .done = done, .arg = arg};
    orion_op_t *op = orion_op_new(queue, ORION_OP_NOTIFY, free_async_finish, pending);
    if (!op) {
        orion_queue_unlock(queue);
        result = CUDA_ERROR_OUT_OF_MEMORY;
        orion_heap_undoom(&device->heap, address);
        goto err_free;
    }
    pending->next = stream->frees;
    if (stream->frees)
        stream->frees->previous = pending;
    stream->frees = pending;
    orion_queue_push(queue, stream, op);
    orion_queue_advance(queue);
    orion_queue_unlock(queue);
    return CUDA_SUCCESS;
err_free:
    free(pending);
    return result;
}

/* Memory whose free still waits in this stream is free for what comes later in the same stream. */
static int reuse(orion_device_t *device, orion_stream_t *stream, uint64_t bytes, int exact, uint64_t *address_p)
{
    orion_queue_t *queue = &device->queue;
    orion_queue_lock(queue);
    pending_free_t *pending = orion_queue_stream(queue, stream)->frees;
    while (pending && !orion_heap_revive(&device->heap, pending->address, bytes, exact))
        pending = pending->next;
    if (!pending) {
        orion_queue_unlock(queue);
        return 0;
    }
    unlist(pending);
    pending->reused = 1; /* from here on its finish, on any thread, only frees the note */
    *address_p = pending->address;
    orion_done_fn done = pending->done;
    void *arg = pending->arg;
    orion_queue_unlock(queue);
    if (done)
        done(arg, CUDA_SUCCESS);
    return 1;
}

CUresult orion_host_mem_alloc_async(orion_device_t *device, orion_stream_t *stream, uint64_t bytes, uint64_t *address_p)
{
    CUresult result = orion_host_status(device, NULL, 0);
    if (result != CUDA_SUCCESS)
        return result;
    if (bytes && reuse(device, stream, bytes, 1, address_p))
        return CUDA_SUCCESS;
    result = orion_host_mem_alloc(device, bytes, address_p);
    if (result == CUDA_ERROR_OUT_OF_MEMORY && reuse(device, stream, bytes, 0, address_p))
        return CUDA_SUCCESS;
    return result;
}

CUresult orion_host_mem_info(orion_device_t *device, uint64_t *free_p, uint64_t *total_p)
{
    uint64_t used, dying, granted;
    orion_heap_usage(&device->heap, &used, &dying, &granted);
    *total_p = device->heap.limit;
    *free_p = used < device->heap.limit ? device->heap.limit - used : 0;
    return CUDA_SUCCESS;
}

int orion_host_mem_trim(orion_device_t *device)
{
    return orion_heap_trim(&device->heap);
}

CUresult orion_host_mem_find(orion_device_t *device, uint64_t address, uint64_t *base_p, uint64_t *bytes_p)
{
    return orion_heap_find(&device->heap, address, base_p, bytes_p);
}

CUresult orion_host_mem_share(orion_device_t *device, uint64_t address, orion_ipc_handle_t *handle_p)
{
    return orion_heap_share(&device->heap, address, handle_p);
}

CUresult orion_host_mem_open(orion_device_t *device, const orion_ipc_handle_t *handle, uint64_t *address_p,
                             uint64_t *bytes_p)
{
    const CUresult result = orion_host_status(device, NULL, 0);
    return result == CUDA_SUCCESS ? orion_heap_open(&device->heap, handle, address_p, bytes_p) : result;
}

typedef struct closing {
    orion_device_t *device;
    uint64_t address;
    orion_done_fn done;
    void *arg;
} closing_t;

static void close_finish(void *arg, CUresult result)
{
    closing_t *closing = arg;
    (void)result;
    result = orion_heap_close(&closing->device->heap, closing->address);
    if (closing->done)
        closing->done(closing->arg, result);
    free(closing);
}

CUresult orion_host_mem_close(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg)
{
    closing_t *closing = malloc(sizeof *closing);
    if (!closing)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *closing = (closing_t){device, address, done, arg};
    const CUresult result = orion_queue_fence(&device->queue, close_finish, closing);
    if (result != CUDA_SUCCESS)
        free(closing);
    return result;
}
