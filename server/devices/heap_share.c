/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations that other processes see. A descriptor shows all of its file, so an allocation that is shared leaves the
 * extent, which it has in common with others, for a file of its own; one that fills its extent is shared as it is.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "heap_block.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static CUresult share_locked(orion_heap_t *heap, orion_block_t *block)
{
    orion_shared_t shared = {
        .kind = ORION_IPC_MEMORY, .address = block->address, .bytes = block->bytes, .asked = block->asked};
    int fd = -1;
    orion_heap_share_t *share = calloc(1, sizeof *share);
    if (!share)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = heap->broker.share(heap->broker.self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        goto err_free;
    share->moved = fd >= 0;
    if (share->moved)
        result = heap->broker.move(heap->broker.self, &shared, fd);
    if (result != CUDA_SUCCESS)
        goto err_unshare;
    share->handle = shared.handle;
    share->id = shared.id;
    block->share = share;
    return CUDA_SUCCESS;

err_unshare:
    heap->broker.unshare(heap->broker.self, shared.id);
err_free:
    free(share);
    return result;
}

CUresult orion_heap_share(orion_heap_t *heap, uint64_t address, orion_ipc_handle_t *handle_p)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    if (!heap->broker.share)
        return CUDA_ERROR_NOT_SUPPORTED;
    pthread_mutex_lock(&heap->lock);
    orion_tree_node_t *node = orion_tree_floor(&heap->by_address, address);
    orion_block_t *block = node ? orion_block_of(node) : NULL;
    if (block && block->use == ORION_BLOCK_MEMORY && address - block->address < block->asked)
        result = block->share ? CUDA_SUCCESS : share_locked(heap, block);
    if (result == CUDA_SUCCESS)
        *handle_p = block->share->handle;
    pthread_mutex_unlock(&heap->lock);
    return result;
}

int orion_heap_unshare(orion_heap_t *heap, orion_block_t *block)
{
    const orion_broker_t *broker = &heap->broker;
    /* one that fills its extent goes with it: the supervisor hears of that */
    if (block->share->moved &&
        broker->unmove(broker->self, block->share->id, block->address, block->bytes) != CUDA_SUCCESS)
        return 0;
    free(block->share);
    block->share = NULL;
    return 1;
}

void orion_heap_share_gone(orion_heap_t *heap, orion_block_t *block)
{
    if (block->use == ORION_BLOCK_OPENED)
        heap->broker.close(heap->broker.self, block->share->id, block->share->party);
    free(block->share);
    block->share = NULL;
}

typedef struct opening {
    uint64_t bytes;
    int fd;
} opening_t;

/* The extent is whole granules of addresses, of which the memory fills the first part. */
static CUresult map_opened(void *arg, uint64_t address, uint64_t bytes)
{
    const opening_t *opening = arg;
    void *want = (void *)(uintptr_t)address;
    if (mmap(want, opening->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, opening->fd, 0) == want)
        return CUDA_SUCCESS;
    mmap(want, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return CUDA_ERROR_MAP_FAILED;
}

CUresult orion_heap_open(orion_heap_t *heap, const orion_ipc_handle_t *handle, uint64_t *address_p, uint64_t *bytes_p)
{
    const orion_broker_t *broker = &heap->broker;
    orion_shared_t shared = {.kind = ORION_IPC_MEMORY, .handle = *handle};
    orion_block_t *block;
    int fd = -1;
    if (!broker->share)
        return CUDA_ERROR_NOT_SUPPORTED;
    CUresult result = broker->open(broker->self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        return result;
    orion_heap_share_t *share = calloc(1, sizeof *share);
    opening_t opening = {shared.bytes, fd};
    result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!share || fd < 0 || !shared.bytes || shared.bytes > heap->bytes)
        goto err_close;
    *share = (orion_heap_share_t){shared.handle, shared.id, shared.party, 0};
    pthread_mutex_lock(&heap->lock);
    result = orion_heap_extend(heap, orion_round_up(shared.bytes, ORION_HEAP_PAGE), map_opened, &opening, &block);
    if (result == CUDA_SUCCESS) {
        block->extent->foreign = 1;
        block->use = ORION_BLOCK_OPENED;
        block->asked = shared.asked <= shared.bytes ? shared.asked : shared.bytes;
        block->share = share;
        orion_tree_insert(&heap->by_address, &block->node, block->address, 0);
        *address_p = block->address;
        *bytes_p = block->asked;
    }
    pthread_mutex_unlock(&heap->lock);
    if (result != CUDA_SUCCESS)
        goto err_close;
    close(fd);
    return CUDA_SUCCESS;

err_close:
    broker->close(broker->self, shared.id, shared.party);
    free(share);
    if (fd >= 0)
        close(fd);
    return result;
}

CUresult orion_heap_close(orion_heap_t *heap, uint64_t address)
{
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&heap->lock);
    orion_block_t *block = orion_heap_allocated(heap, address);
    if (block && block->use == ORION_BLOCK_OPENED) {
        orion_tree_remove(&heap->by_address, &block->node);
        orion_heap_withdraw(heap, block->extent);
        orion_heap_share_gone(heap, block);
        free(block);
        result = CUDA_SUCCESS;
    }
    pthread_mutex_unlock(&heap->lock);
    return result;
}
