/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table per kind: chunks that never move, so that lookups need no lock; a queue of free indices, first in first out,
 * so that a number is not used again soon.
 */
#include "handles.h"

#include "lock.h"
#include "session.h"

#include <stdlib.h>

#define CHUNK_BITS 8
#define CHUNK_ENTRIES (1u << CHUNK_BITS)
#define CHUNKS 4096   /* a million live objects of a kind */
#define IDLE_LEAST 64 /* freed indices wait here before they are used again */

typedef struct {
    uint32_t generation; /* of the live object; 0: none */
    uint32_t last;       /* generation most recently used */
    uint32_t next_free;
    void *object;
} entry_t;

typedef struct {
    orion_lock_t lock;
    entry_t *chunks[CHUNKS];
    uint32_t used; /* indices ever handed out; 0 is never */
    uint32_t first_free, last_free, free_count;
} table_t;

static table_t tables[ORION_KIND_END];

static entry_t *entry_at(table_t *table, uint32_t index)
{
    if (index >> CHUNK_BITS >= CHUNKS)
        return NULL;
    /* acquire: pairs with the release in grow() */
    entry_t *chunk = __atomic_load_n(&table->chunks[index >> CHUNK_BITS], __ATOMIC_ACQUIRE);
    return chunk ? &chunk[index & (CHUNK_ENTRIES - 1)] : NULL;
}

CUresult orion_kind_error(orion_kind_t kind)
{
    return kind == ORION_KIND_CONTEXT ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_HANDLE;
}

static entry_t *live_entry(orion_kind_t kind, const void *handle)
{
    uint64_t number = orion_handle_number(handle);
    if (orion_handle_kind(handle) != kind)
        return NULL;
    entry_t *entry = entry_at(&tables[kind], (uint32_t)number);
    /* acquire: pairs with the release in orion_handle_new() and orion_handle_set_object() */
    if (!entry || __atomic_load_n(&entry->generation, __ATOMIC_ACQUIRE) != (uint32_t)(number >> 32) || !(number >> 32))
        return NULL;
    return entry;
}

CUresult orion_handle_wire(orion_session_t *session, orion_kind_t kind, const void *handle, uint64_t *wire_p)
{
    (void)session;
    if (!live_entry(kind, handle))
        return orion_kind_error(kind);
    *wire_p = orion_handle_number(handle);
    return CUDA_SUCCESS;
}

CUresult orion_stream_wire(orion_session_t *session, CUstream stream, CUstream default_stream, uint64_t *wire_p)
{
    if (!stream)
        stream = default_stream;
    if (stream == CU_STREAM_LEGACY)
        *wire_p = 0;
    else if (stream == CU_STREAM_PER_THREAD)
        *wire_p = ORION_STREAM_PER_THREAD_WIRE | orion_thread_slot(session);
    else
        return orion_handle_wire(session, ORION_KIND_STREAM, stream, wire_p);
    return CUDA_SUCCESS;
}

static int grow(table_t *table, uint32_t index)
{
    if (index >> CHUNK_BITS >= CHUNKS)
        return 0;
    entry_t **slot = &table->chunks[index >> CHUNK_BITS];
    if (*slot)
        return 1;
    entry_t *chunk = calloc(CHUNK_ENTRIES, sizeof *chunk);
    if (!chunk)
        return 0;
    __atomic_store_n(slot, chunk, __ATOMIC_RELEASE);
    return 1;
}

CUresult orion_handle_new(orion_session_t *session, orion_kind_t kind, void **handle_p, uint64_t *wire_p)
{
    table_t *table = &tables[kind];
    uint32_t index;
    (void)session;

    orion_lock(&table->lock);
    if (table->free_count > IDLE_LEAST) {
        index = table->first_free;
        table->first_free = entry_at(table, index)->next_free;
        table->free_count--;
    } else {
        index = table->used + 1;
        if (!grow(table, index)) {
            orion_unlock(&table->lock);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        table->used = index;
    }
    entry_t *entry = entry_at(table, index);
    entry->last = entry->last == 0xffff ? 1 : entry->last + 1;
    entry->object = NULL;
    __atomic_store_n(&entry->generation, entry->last, __ATOMIC_RELEASE);
    uint64_t number = (uint64_t)entry->last << 32 | index;
    orion_unlock(&table->lock);

    *handle_p = (void *)(uintptr_t)(ORION_HANDLE_TAG | (uint64_t)kind << 56 | number);
    *wire_p = number;
    return CUDA_SUCCESS;
}

void orion_handle_drop(orion_session_t *session, orion_kind_t kind, void *handle)
{
    table_t *table = &tables[kind];
    uint32_t index = (uint32_t)orion_handle_number(handle);
    (void)session;

    orion_lock(&table->lock);
    entry_t *entry = live_entry(kind, handle);
    if (entry) {
        __atomic_store_n(&entry->generation, 0, __ATOMIC_RELEASE);
        entry->object = NULL;
        entry->next_free = 0;
        if (table->free_count++)
            entry_at(table, table->last_free)->next_free = index;
        else
            table->first_free = index;
        table->last_free = index;
    }
    orion_unlock(&table->lock);
}

void *orion_handle_object(orion_kind_t kind, const void *handle)
{
    entry_t *entry = live_entry(kind, handle);
    return entry ? __atomic_load_n(&entry->object, __ATOMIC_ACQUIRE) : NULL;
}

void orion_handle_set_object(orion_kind_t kind, const void *handle, void *object)
{
    entry_t *entry = live_entry(kind, handle);
    if (entry)
        __atomic_store_n(&entry->object, object, __ATOMIC_RELEASE);
}

void orion_handle_each(orion_kind_t kind, void (*visit)(void *argument, void *handle, void *object), void *argument)
{
    table_t *table = &tables[kind];
    uint32_t used = __atomic_load_n(&table->used, __ATOMIC_ACQUIRE);
    for (uint32_t index = 1; index <= used; index++) {
        entry_t *entry = entry_at(table, index);
        uint32_t generation = entry ? __atomic_load_n(&entry->generation, __ATOMIC_ACQUIRE) : 0;
        if (generation)
            visit(argument,
                  (void *)(uintptr_t)(ORION_HANDLE_TAG | (uint64_t)kind << 56 | (uint64_t)generation << 32 | index),
                  entry->object);
    }
}
