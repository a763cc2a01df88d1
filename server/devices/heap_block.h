/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks and extents, for the two files that handle them: heap.c divides memory, heap_share.c shows it to others. */
#ifndef ORION_DEVICES_HEAP_BLOCK_H
#define ORION_DEVICES_HEAP_BLOCK_H

#include "heap.h"

typedef struct orion_heap_share {
    orion_ipc_handle_t handle; /* what was given out, or what the memory was opened with */
    uint64_t id;               /* the broker's name of it */
    uint32_t party;            /* of this opening */
    int moved;                 /* the block has left its extent for memory of its own, at the same address */
} orion_heap_share_t;

typedef struct orion_block {
    orion_tree_node_t node; /* in by_size when free, else in by_address */
    uint64_t address, bytes;
    uint64_t asked; /* what mem_find says */
    orion_block_use_t use;
    struct orion_block *next, *previous; /* neighbours in the extent */
    orion_extent_t *extent;
    orion_heap_share_t *share; /* other processes may see it, or it is theirs */
} orion_block_t;

struct orion_extent {
    uint64_t address, bytes;
    orion_block_t *first, *last;
    orion_extent_t *next;
    int foreign; /* memory of another process: one block, granted to nobody here */
};

typedef CUresult (*orion_map_fn)(void *arg, uint64_t address, uint64_t bytes);

static inline uint64_t orion_round_up(uint64_t value, uint64_t to)
{
    return (value + to - 1) / to * to;
}

static inline orion_block_t *orion_block_of(orion_tree_node_t *node)
{
    return (orion_block_t *)node; /* its first member */
}

/* --- with the lock held --- */

/* Finds room for an extent between the others, has it mapped, and makes it one block, which is in no tree yet. */
CUresult orion_heap_extend(orion_heap_t *heap, uint64_t bytes, orion_map_fn map, void *arg, orion_block_t **block_p);
/* Gives an extent back; its blocks are the caller's. */
void orion_heap_withdraw(orion_heap_t *heap, orion_extent_t *extent);
/* The block, not a free one, that begins at the address; NULL. */
orion_block_t *orion_heap_allocated(orion_heap_t *heap, uint64_t address);

/* heap_share.c: the block is no longer shown to anybody new and is part of its extent again. 0: it cannot be. */
int orion_heap_unshare(orion_heap_t *heap, orion_block_t *block);
/* The extent goes, and the block with it. */
void orion_heap_share_gone(orion_heap_t *heap, orion_block_t *block);

#endif
