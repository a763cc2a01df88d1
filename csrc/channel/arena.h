/* SPDX-License-Identifier: Apache-2.0 */
/* Who has which piece of the extents of an arena: first fit from low addresses, so that what was used last, and is warm
 * in caches and page tables, is used next. Private bookkeeping; the memory itself is never touched here. */
#ifndef ORION_CHANNEL_ARENA_H
#define ORION_CHANNEL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct orion_span {
    struct orion_span *before, *after; /* neighbours in the extent */
    uint64_t offset, bytes;
    uint32_t extent;
    bool used;
} orion_span_t;

typedef struct orion_arena {
    orion_span_t **first; /* of each extent */
    uint32_t extents, extents_max;
    orion_span_t *spare; /* descriptors to be used again, linked by `after` */
} orion_arena_t;

/* false: no memory for the bookkeeping. */
bool orion_arena_init(orion_arena_t *arena, uint32_t extents_max);
void orion_arena_fini(orion_arena_t *arena);

/* One more extent, all of it free; its number is arena->extents before the call. */
bool orion_arena_extend(orion_arena_t *arena, uint64_t bytes);

/* `bytes`, rounded up to ORION_BLOCK_ALIGN; NULL when no free piece is that long. */
orion_span_t *orion_arena_take(orion_arena_t *arena, uint64_t bytes);
void orion_arena_give(orion_arena_t *arena, orion_span_t *span);

#endif
