/* SPDX-License-Identifier: Apache-2.0 */
/* First fit over address-ordered lists, see arena.h. */
#include "channel/arena.h"

#include <stdlib.h>

#include "orion/channel.h"

bool orion_arena_init(orion_arena_t *arena, uint32_t extents_max)
{
    *arena = (orion_arena_t){.extents_max = extents_max};
    arena->first = calloc(extents_max, sizeof(*arena->first));
    return arena->first != NULL;
}

static void free_list(orion_span_t *span)
{
    while (span != NULL) {
        orion_span_t *after = span->after;
        free(span);
        span = after;
    }
}

void orion_arena_fini(orion_arena_t *arena)
{
    for (uint32_t i = 0; i < arena->extents; i++)
        free_list(arena->first[i]);
    free_list(arena->spare);
    free(arena->first);
    *arena = (orion_arena_t){0};
}

static orion_span_t *descriptor(orion_arena_t *arena)
{
    orion_span_t *span = arena->spare;
    if (span == NULL)
        return malloc(sizeof(*span));
    arena->spare = span->after;
    return span;
}

bool orion_arena_extend(orion_arena_t *arena, uint64_t bytes)
{
    if (arena->extents == arena->extents_max)
        return false;
    orion_span_t *span = descriptor(arena);
    if (span == NULL)
        return false;
    *span = (orion_span_t){.bytes = bytes, .extent = arena->extents};
    arena->first[arena->extents++] = span;
    return true;
}

orion_span_t *orion_arena_take(orion_arena_t *arena, uint64_t bytes)
{
    if (bytes == 0 || bytes > UINT64_MAX - ORION_BLOCK_ALIGN)
        return NULL;
    bytes = (bytes + ORION_BLOCK_ALIGN - 1) & ~(uint64_t)(ORION_BLOCK_ALIGN - 1);
    for (uint32_t i = 0; i < arena->extents; i++) {
        for (orion_span_t *span = arena->first[i]; span != NULL; span = span->after) {
            if (span->used || span->bytes < bytes)
                continue;
            if (span->bytes > bytes) {
                orion_span_t *rest = descriptor(arena);
                if (rest == NULL)
                    return NULL;
                *rest = (orion_span_t){.before = span,
                                       .after = span->after,
                                       .offset = span->offset + bytes,
                                       .bytes = span->bytes - bytes,
                                       .extent = i};
                if (rest->after != NULL)
                    rest->after->before = rest;
                span->after = rest;
                span->bytes = bytes;
            }
            span->used = true;
            return span;
        }
    }
    return NULL;
}

/* `span` swallows its neighbour behind it. */
static void join(orion_arena_t *arena, orion_span_t *span)
{
    orion_span_t *gone = span->after;
    span->bytes += gone->bytes;
    span->after = gone->after;
    if (span->after != NULL)
        span->after->before = span;
    gone->after = arena->spare;
    arena->spare = gone;
}

void orion_arena_give(orion_arena_t *arena, orion_span_t *span)
{
    span->used = false;
    if (span->after != NULL && !span->after->used)
        join(arena, span);
    if (span->before != NULL && !span->before->used)
        join(arena, span->before);
}
