/* SPDX-License-Identifier: Apache-2.0 */
/* Allocator of device memory; see heap.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "heap_block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static CUresult anonymous_grant(void *self, uint64_t address, uint64_t bytes)
{
    (void)self;
    void *p = mmap((void *)(uintptr_t)address, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
}

static void anonymous_release(void *self, uint64_t address, uint64_t bytes)
{
    (void)self;
    mmap((void *)(uintptr_t)address, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

CUresult orion_heap_init(orion_heap_t *heap, const orion_device_config_t *config, char *why, size_t why_bytes)
{
    memset(heap, 0, sizeof *heap);
    heap->limit = config->memory_limit;
    if (!heap->limit)
        heap->limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    heap->granter = config->granter;
    heap->broker = config->broker;
    if (!heap->granter.grant) {
        heap->granter.grant = anonymous_grant;
        heap->granter.release = anonymous_release;
    }
    heap->base = config->heap_base;
    heap->bytes = config->heap_bytes / ORION_HEAP_PAGE * ORION_HEAP_PAGE;
    if (heap->base % ORION_HEAP_PAGE || (heap->base && !heap->bytes)) {
        snprintf(why, why_bytes, "heap range 0x%llx + 0x%llx: base must be a multiple of 2 MiB and size not 0",
                 (unsigned long long)heap->base, (unsigned long long)heap->bytes);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!heap->base) {
        if (!heap->bytes) /* room for fragmentation: address space costs nothing */
            heap->bytes = orion_round_up(heap->limit, ORION_HEAP_EXTENT) * 2 + (1ull << 30);
        char *p = mmap(NULL, heap->bytes + ORION_HEAP_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                       0);
        if (p == MAP_FAILED) {
            snprintf(why, why_bytes, "cannot reserve %llu MiB of address space for device memory: %m",
                     (unsigned long long)(heap->bytes >> 20));
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        uint64_t start = (uint64_t)(uintptr_t)p, base = orion_round_up(start, ORION_HEAP_PAGE);
        if (base > start)
            munmap(p, base - start);
        if (base < start + ORION_HEAP_PAGE)
            munmap((void *)(uintptr_t)(base + heap->bytes), start + ORION_HEAP_PAGE - base);
        heap->base = base;
        heap->own_range = 1;
    }
    pthread_mutex_init(&heap->lock, NULL);
    return CUDA_SUCCESS;
}

/* --- with the lock held --- */

/* What a block counts for: its pages are its own. */
static uint64_t held(const orion_block_t *block)
{
    return orion_round_up(block->asked, ORION_HEAP_ALIGN);
}

static void set_free(orion_heap_t *heap, orion_block_t *block)
{
    block->use = ORION_BLOCK_FREE;
    orion_tree_insert(&heap->by_size, &block->node, block->bytes, block->address);
}

CUresult orion_heap_extend(orion_heap_t *heap, uint64_t bytes, orion_map_fn map, void *arg, orion_block_t **block_p)
{
    orion_extent_t *extent = calloc(1, sizeof *extent);
    orion_block_t *block = calloc(1, sizeof *block);
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!extent || !block)
        goto err_free;
    orion_extent_t **at = &heap->extents;
    uint64_t address = heap->base;
    while (*at && (*at)->address - address < bytes) {
        address = orion_round_up((*at)->address + (*at)->bytes, ORION_HEAP_PAGE);
        at = &(*at)->next;
    }
    if (heap->base + heap->bytes - address < bytes)
        goto err_free;
    result = map(arg, address, bytes);
    if (result != CUDA_SUCCESS)
        goto err_free;
    *extent = (orion_extent_t){.address = address, .bytes = bytes, .first = block, .last = block, .next = *at};
    *at = extent;
    block->address = address;
    block->bytes = bytes;
    block->extent = extent;
    *block_p = block;
    return CUDA_SUCCESS;
err_free:
    free(block);
    free(extent);
    return result;
}

static CUresult grow(orion_heap_t *heap, uint64_t bytes, orion_block_t **block_p)
{
    const CUresult result = orion_heap_extend(heap, bytes, heap->granter.grant, heap->granter.self, block_p);
    if (result == CUDA_SUCCESS)
        heap->granted += bytes;
    return result;
}

void orion_heap_withdraw(orion_heap_t *heap, orion_extent_t *extent)
{
    orion_extent_t **at = &heap->extents;
    while (*at != extent)
        at = &(*at)->next;
    *at = extent->next;
    if (extent->foreign) {
        anonymous_release(NULL, extent->address, extent->bytes);
    } else {
        heap->granted -= extent->bytes;
        heap->granter.release(heap->granter.self, extent->address, extent->bytes);
    }
    free(extent);
}

/* What nobody uses goes back: extents that are free, and the free end of others. 0: there was nothing. */
static int give_back(orion_heap_t *heap)
{
    int given = 0;
    for (orion_extent_t *extent = heap->extents, *next; extent; extent = next) {
        orion_block_t *end = extent->last;
        next = extent->next;
        if (end->use != ORION_BLOCK_FREE)
            continue;
        orion_tree_remove(&heap->by_size, &end->node);
        if (end->previous) {
            extent->last = end->previous;
            extent->last->next = NULL;
            extent->bytes -= end->bytes;
            heap->granted -= end->bytes;
            heap->granter.release(heap->granter.self, end->address, end->bytes);
        } else
            orion_heap_withdraw(heap, extent);
        free(end);
        given = 1;
    }
    return given;
}

/* Asks for more than is needed now, an eighth of what there is already: a small client shall not hold much, a large one
 * not many extents. Where that is refused, for half of it, and so on; in the end without what is granted and not used.
 * A large block has its extent for itself, just as large as it is: the extent goes with it, wherever it lies. */
static CUresult grow_for(orion_heap_t *heap, uint64_t bytes, orion_block_t **block_p)
{
    uint64_t ask = orion_round_up(heap->granted / 8, ORION_HEAP_PAGE);
    CUresult result;
    if (ask < ORION_HEAP_FIRST)
        ask = ORION_HEAP_FIRST;
    if (ask > ORION_HEAP_EXTENT)
        ask = ORION_HEAP_EXTENT;
    for (; bytes < ask / 2; ask = orion_round_up(ask / 2, ORION_HEAP_ALIGN)) {
        result = grow(heap, ask, block_p);
        if (result != CUDA_ERROR_OUT_OF_MEMORY)
            return result;
    }
    result = grow(heap, bytes, block_p);
    return result == CUDA_ERROR_OUT_OF_MEMORY && give_back(heap) ? grow(heap, bytes, block_p) : result;
}

/* Makes the block just large enough; what is left becomes a free block. Without memory for it the block stays, and
 * so does one that got an extent for itself: it can be shown to another process as it is. */
static void trim(orion_heap_t *heap, orion_block_t *block, uint64_t bytes)
{
    if (block->bytes == bytes || block->extent->bytes > ORION_HEAP_EXTENT)
        return;
    orion_block_t *rest = calloc(1, sizeof *rest);
    if (!rest)
        return;
    rest->address = block->address + bytes;
    rest->bytes = block->bytes - bytes;
    rest->extent = block->extent;
    rest->previous = block;
    rest->next = block->next;
    *(rest->next ? &rest->next->previous : &rest->extent->last) = rest;
    block->next = rest;
    block->bytes = bytes;
    set_free(heap, rest);
}

orion_block_t *orion_heap_allocated(orion_heap_t *heap, uint64_t address)
{
    orion_tree_node_t *node = orion_tree_floor(&heap->by_address, address);
    return node && orion_block_of(node)->address == address ? orion_block_of(node) : NULL;
}

/* An empty extent goes back, except that one of the usual size stays for the next allocation. */
static int worth_keeping(const orion_heap_t *heap, const orion_extent_t *empty)
{
    if (empty->bytes > ORION_HEAP_EXTENT)
        return 0;
    for (const orion_extent_t *extent = heap->extents; extent; extent = extent->next)
        if (extent != empty && extent->first->use == ORION_BLOCK_FREE && !extent->first->next)
            return 0;
    return 1;
}

static void free_block(orion_heap_t *heap, orion_block_t *block)
{
    heap->used -= held(block); /* it is a dying one */
    heap->dying -= held(block);
    const int was_shared = block->share != NULL;
    if (was_shared && !orion_heap_unshare(heap, block)) {
        block->asked = 0; /* it stays where it is, counts for nothing and is given to nobody */
        return;
    }
    orion_tree_remove(&heap->by_address, &block->node);
    orion_block_t *next = block->next, *previous = block->previous;
    if (next && next->use == ORION_BLOCK_FREE) {
        orion_tree_remove(&heap->by_size, &next->node);
        block->bytes += next->bytes;
        block->next = next->next;
        *(block->next ? &block->next->previous : &block->extent->last) = block;
        free(next);
    }
    if (previous && previous->use == ORION_BLOCK_FREE) {
        orion_tree_remove(&heap->by_size, &previous->node);
        previous->bytes += block->bytes;
        previous->next = block->next;
        *(previous->next ? &previous->next->previous : &previous->extent->last) = previous;
        free(block);
        block = previous;
    }
    set_free(heap, block);
    orion_extent_t *extent = block->extent;
    if (block->bytes == extent->bytes && (was_shared || !worth_keeping(heap, extent))) {
        orion_tree_remove(&heap->by_size, &block->node);
        orion_heap_withdraw(heap, extent);
        free(block);
    }
}

/* --- without it --- */

CUresult orion_heap_alloc(orion_heap_t *heap, uint64_t bytes, orion_block_use_t use, uint64_t *address_p)
{
    if (bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (bytes > heap->limit)
        return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t rounded = orion_round_up(bytes, ORION_HEAP_ALIGN);
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&heap->lock);
    if (heap->used >= heap->limit || bytes > heap->limit - heap->used)
        goto out;
    orion_block_t *block = NULL;
    orion_tree_node_t *node = orion_tree_ceiling(&heap->by_size, rounded, 0);
    if (node) {
        block = orion_block_of(node);
        orion_tree_remove(&heap->by_size, node);
    } else {
        result = grow_for(heap, rounded, &block);
        if (result != CUDA_SUCCESS)
            goto out;
    }
    trim(heap, block, rounded);
    block->use = use;
    block->asked = bytes;
    heap->used += held(block);
    orion_tree_insert(&heap->by_address, &block->node, block->address, 0);
    *address_p = block->address;
    result = CUDA_SUCCESS;
out:
    pthread_mutex_unlock(&heap->lock);
    return result;
}

CUresult orion_heap_doom(orion_heap_t *heap, uint64_t address, orion_block_use_t use)
{
    pthread_mutex_lock(&heap->lock);
    orion_block_t *block = orion_heap_allocated(heap, address);
    int ours = block && block->use == use;
    if (ours) {
        block->use = ORION_BLOCK_DYING;
        heap->dying += held(block);
    }
    pthread_mutex_unlock(&heap->lock);
    return ours ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void orion_heap_undoom(orion_heap_t *heap, uint64_t address)
{
    pthread_mutex_lock(&heap->lock);
    orion_block_t *block = orion_heap_allocated(heap, address);
    if (block && block->use == ORION_BLOCK_DYING) {
        block->use = ORION_BLOCK_MEMORY;
        heap->dying -= held(block);
    }
    pthread_mutex_unlock(&heap->lock);
}

int orion_heap_revive(orion_heap_t *heap, uint64_t address, uint64_t bytes, int exact)
{
    uint64_t rounded = orion_round_up(bytes, ORION_HEAP_ALIGN);
    pthread_mutex_lock(&heap->lock);
    orion_block_t *block = orion_heap_allocated(heap, address);
    int fits = block && block->use == ORION_BLOCK_DYING && !block->share &&
               (exact ? block->bytes == rounded : block->bytes >= rounded);
    if (fits) {
        heap->dying -= held(block);
        heap->used -= held(block);
        block->use = ORION_BLOCK_MEMORY;
        block->asked = bytes;
        heap->used += held(block);
    }
    pthread_mutex_unlock(&heap->lock);
    return fits;
}

void orion_heap_retire(orion_heap_t *heap, uint64_t address)
{
    pthread_mutex_lock(&heap->lock);
    orion_block_t *block = orion_heap_allocated(heap, address);
    if (block && block->use == ORION_BLOCK_DYING)
        free_block(heap, block);
    pthread_mutex_unlock(&heap->lock);
}

CUresult orion_heap_find(orion_heap_t *heap, uint64_t address, uint64_t *base_p, uint64_t *bytes_p)
{
    pthread_mutex_lock(&heap->lock);
    orion_tree_node_t *node = orion_tree_floor(&heap->by_address, address);
    orion_block_t *block = node ? orion_block_of(node) : NULL;
    int found = block && block->use != ORION_BLOCK_DYING && address - block->address < block->asked;
    if (found) {
        *base_p = block->address;
        *bytes_p = block->asked;
    }
    pthread_mutex_unlock(&heap->lock);
    return found ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

int orion_heap_trim(orion_heap_t *heap)
{
    pthread_mutex_lock(&heap->lock);
    const int given = give_back(heap);
    pthread_mutex_unlock(&heap->lock);
    return given;
}

void orion_heap_usage(orion_heap_t *heap, uint64_t *used_p, uint64_t *dying_p, uint64_t *granted_p)
{
    pthread_mutex_lock(&heap->lock);
    *used_p = heap->used;
    *dying_p = heap->dying;
    *granted_p = heap->granted;
    pthread_mutex_unlock(&heap->lock);
}

void orion_heap_reset(orion_heap_t *heap)
{
    pthread_mutex_lock(&heap->lock);
    while (heap->extents) {
        orion_block_t *block = heap->extents->first;
        while (block) {
            orion_block_t *next = block->next;
            if (block->share)
                orion_heap_share_gone(heap, block);
            free(block);
            block = next;
        }
        orion_heap_withdraw(heap, heap->extents);
    }
    heap->by_size.root = heap->by_address.root = NULL;
    heap->used = heap->dying = 0;
    pthread_mutex_unlock(&heap->lock);
}

void orion_heap_fini(orion_heap_t *heap)
{
    orion_heap_reset(heap);
    if (heap->own_range)
        munmap((void *)(uintptr_t)heap->base, heap->bytes);
    pthread_mutex_destroy(&heap->lock);
}

int orion_heap_check(orion_heap_t *heap, const char **why)
{
    uint64_t used = 0, granted = 0;
    *why = NULL;
    pthread_mutex_lock(&heap->lock);
    for (orion_extent_t *extent = heap->extents; extent && !*why; extent = extent->next) {
        uint64_t at = extent->address;
        orion_block_t *previous = NULL;
        granted += extent->foreign ? 0 : extent->bytes;
        if (extent->next && extent->next->address < extent->address + extent->bytes)
            *why = "extents overlap";
        for (orion_block_t *block = extent->first; block; previous = block, block = block->next) {
            if (block->address != at || block->previous != previous || block->extent != extent || !block->bytes)
                *why = "blocks do not tile their extent";
            if (block->use == ORION_BLOCK_FREE && previous && previous->use == ORION_BLOCK_FREE)
                *why = "free neighbours are not merged";
            if (block->use != ORION_BLOCK_FREE) {
                used += extent->foreign ? 0 : held(block);
                if (orion_heap_allocated(heap, block->address) != block)
                    *why = "an allocated block is not in the address tree";
            } else if (orion_tree_ceiling(&heap->by_size, block->bytes, block->address) != &block->node) {
                *why = "a free block is not in the size tree";
            }
            at += block->bytes;
        }
        if (extent->last != previous)
            *why = "an extent does not know its last block";
        if (at != extent->address + extent->bytes)
            *why = "blocks do not fill their extent";
    }
    if (!*why && (used != heap->used || granted != heap->granted))
        *why = "totals are off";
    pthread_mutex_unlock(&heap->lock);
    return *why == NULL;
}
