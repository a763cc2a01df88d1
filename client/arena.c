/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Divides the arena's extents. Small blocks share extents of 4 MiB, best fit; a block above 1 MiB gets an extent of
 * its own. An extent that has become free goes back to the server, but for one.
 */
#include "arena.h"

#include "orion_generated/calls.h"

#include <stdlib.h>
#include <string.h>

#define SHARED_EXTENT ((uint64_t)4 << 20)
#define BLOCK_MOST_SHARED ((uint64_t)1 << 20)
#define EXTENT_UNIT ((uint64_t)2 << 20) /* the server grants memory in these */
#define BLOCK_ALIGN 512u

typedef struct {
    uint64_t at, bytes;
} span_t;

typedef struct extent {
    struct extent *next;
    uint64_t offset, bytes;
    int shared;
    span_t *spans; /* free ones, sorted, never adjacent */
    size_t count, capacity;
} extent_t;

orion_arena_t orion_arena;
static orion_lock_t lock;
static extent_t *extents;

void orion_arena_init(const orion_session_t *session)
{
    const orion_welcome_t *welcome = &session->welcome;
    orion_arena = welcome->range_base ? (orion_arena_t){welcome->range_base, welcome->arena_bytes}
                                      : (orion_arena_t){0, 0};
}

static uint64_t round_to(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

static int put_span(extent_t *extent, span_t span)
{
    size_t at = 0;
    while (at < extent->count && extent->spans[at].at < span.at)
        at++;
    span_t *before = at ? &extent->spans[at - 1] : NULL;
    span_t *after = at < extent->count ? &extent->spans[at] : NULL;
    if (before && before->at + before->bytes == span.at) {
        before->bytes += span.bytes;
        if (after && before->at + before->bytes == after->at) {
            before->bytes += after->bytes;
            memmove(after, after + 1, (extent->count - at - 1) * sizeof *after);
            extent->count--;
        }
        return 1;
    }
    if (after && span.at + span.bytes == after->at) {
        after->at = span.at;
        after->bytes += span.bytes;
        return 1;
    }
    if (extent->count == extent->capacity) {
        size_t capacity = extent->capacity ? 2 * extent->capacity : 8;
        span_t *spans = realloc(extent->spans, capacity * sizeof *spans);
        if (!spans)
            return 0; /* the block stays unused until its extent goes */
        extent->spans = spans;
        extent->capacity = capacity;
    }
    memmove(&extent->spans[at + 1], &extent->spans[at], (extent->count - at) * sizeof span);
    extent->spans[at] = span;
    extent->count++;
    return 1;
}

static void release_extent(orion_session_t *session, extent_t *extent)
{
    for (extent_t **link = &extents; *link; link = &(*link)->next) {
        if (*link == extent) {
            *link = extent->next;
            break;
        }
    }
    orion_link_extent_unmap(session->link, extent->offset, extent->bytes);
    orion_post_orionArenaRelease(session, extent->offset);
    free(extent->spans);
    free(extent);
}

static CUresult add_extent(orion_session_t *session, uint64_t bytes, int shared, extent_t **extent_p)
{
    extent_t *extent = calloc(1, sizeof *extent);
    void *memory;
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    unsigned long long offset = 0;

    if (!extent)
        return result;
    result = orion_call_orionArenaExtend(session, bytes, 0, &offset);
    if (result)
        goto err_free;
    orion_status_t status = orion_link_extent_map(session->link, offset, bytes, &memory);
    if (status) {
        result = status == ORION_PEER_GONE ? orion_session_lost(session, status) : CUDA_ERROR_OUT_OF_MEMORY;
        orion_post_orionArenaRelease(session, offset);
        goto err_free;
    }
    extent->offset = offset;
    extent->bytes = bytes;
    extent->shared = shared;
    if (shared && !put_span(extent, (span_t){offset, bytes})) {
        extent->next = NULL;
        release_extent(session, extent);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    extent->next = extents;
    extents = extent;
    *extent_p = extent;
    return CUDA_SUCCESS;
err_free:
    free(extent);
    return result;
}

/* The smallest free span of the shared extents that holds the block. */
static int take_best(uint64_t bytes, uint64_t *offset_p)
{
    extent_t *best = NULL;
    size_t best_span = 0;
    for (extent_t *extent = extents; extent; extent = extent->next) {
        for (size_t i = 0; extent->shared && i < extent->count; i++) {
            if (extent->spans[i].bytes >= bytes && (!best || extent->spans[i].bytes < best->spans[best_span].bytes)) {
                best = extent;
                best_span = i;
            }
        }
    }
    if (!best)
        return 0;
    span_t *span = &best->spans[best_span];
    *offset_p = span->at;
    span->at += bytes;
    span->bytes -= bytes;
    if (!span->bytes) {
        memmove(span, span + 1, (best->count - best_span - 1) * sizeof *span);
        best->count--;
    }
    return 1;
}

CUresult orion_arena_alloc(orion_session_t *session, size_t bytes, void **memory_p)
{
    CUresult result = CUDA_SUCCESS;
    uint64_t offset = 0;
    extent_t *extent;

    if (!orion_arena.bytes)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!bytes || bytes > orion_arena.bytes)
        return bytes ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
    orion_lock(&lock);
    if (bytes > BLOCK_MOST_SHARED) {
        result = add_extent(session, round_to(bytes, EXTENT_UNIT), 0, &extent);
        if (!result)
            offset = extent->offset;
    } else if (!take_best(round_to(bytes, BLOCK_ALIGN), &offset)) {
        result = add_extent(session, SHARED_EXTENT, 1, &extent);
        if (result == CUDA_ERROR_OUT_OF_MEMORY) /* the last of the limit */
            result = add_extent(session, EXTENT_UNIT, 1, &extent);
        if (!result)
            take_best(round_to(bytes, BLOCK_ALIGN), &offset);
    }
    orion_unlock(&lock);
    if (!result)
        *memory_p = (void *)(uintptr_t)(orion_arena.base + offset);
    return result;
}

void orion_arena_free(orion_session_t *session, void *memory, size_t bytes)
{
    uint64_t offset = (uint64_t)(uintptr_t)memory - orion_arena.base;
    unsigned idle = 0;

    orion_lock(&lock);
    for (extent_t *extent = extents, *next; extent; extent = next) {
        next = extent->next;
        if (offset - extent->offset < extent->bytes) {
            if (!extent->shared) {
                release_extent(session, extent);
                break;
            }
            put_span(extent, (span_t){offset, round_to(bytes, BLOCK_ALIGN)});
        }
        /* One idle extent is kept for the next small block. */
        if (extent->shared && extent->count == 1 && extent->spans[0].bytes == extent->bytes && ++idle > 1)
            release_extent(session, extent);
    }
    orion_unlock(&lock);
}

void orion_arena_clear(orion_session_t *session)
{
    orion_lock(&lock);
    while (extents)
        release_extent(session, extents);
    orion_unlock(&lock);
}

/* The server remembers what it has shown: it answers 0 bytes when there is nothing new to map. */
CUresult orion_arena_expose(orion_session_t *session, uint64_t address)
{
    unsigned long long at = 0, bytes = 0;
    void *memory;

    orion_lock(&lock);
    CUresult result = orion_call_orionExpose(session, address, &at, &bytes);
    if (!result && bytes) {
        orion_status_t status = orion_link_extent_map(session->link, at, bytes, &memory);
        if (status)
            result = status == ORION_PEER_GONE ? orion_session_lost(session, status) : CUDA_ERROR_OUT_OF_MEMORY;
    }
    orion_unlock(&lock);
    return result;
}
