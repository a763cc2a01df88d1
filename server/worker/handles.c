/* SPDX-License-Identifier: Apache-2.0 */
/* Handle tables: chunks of entries made at their first use and freed with the table, so that a find needs no lock. */
#include "worker/handles.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define CHUNK 1024u
#define CLAIMED ((void *)(uintptr_t)1) /* reserved: no object yet */

typedef struct {
    _Atomic(void *) object; /* NULL: free */
    _Atomic uint32_t generation;
} entry_t;

struct orion_handles {
    pthread_mutex_t lock; /* changes only */
    uint32_t chunks;
    _Atomic(entry_t *) chunk[];
};

orion_handles_t *orion_handles_new(uint32_t most)
{
    const uint32_t chunks = most / CHUNK + 1;
    orion_handles_t *table = calloc(1, sizeof *table + chunks * sizeof table->chunk[0]);
    if (!table)
        return NULL;
    pthread_mutex_init(&table->lock, NULL);
    table->chunks = chunks;
    return table;
}

void orion_handles_free(orion_handles_t *table)
{
    if (!table)
        return;
    for (uint32_t i = 0; i < table->chunks; i++)
        free(atomic_load(&table->chunk[i]));
    pthread_mutex_destroy(&table->lock);
    free(table);
}

static entry_t *entry_at(orion_handles_t *table, uint64_t wire)
{
    const uint32_t index = (uint32_t)wire;
    if (index / CHUNK >= table->chunks)
        return NULL;
    /* acquire: pairs with the release in entry_made(); the zeroed chunk before its pointer */
    entry_t *chunk = atomic_load_explicit(&table->chunk[index / CHUNK], memory_order_acquire);
    return chunk ? &chunk[index % CHUNK] : NULL;
}

static entry_t *entry_made(orion_handles_t *table, uint64_t wire)
{
    const uint32_t index = (uint32_t)wire;
    entry_t *entry = entry_at(table, wire);
    if (entry || index / CHUNK >= table->chunks)
        return entry;
    entry_t *chunk = calloc(CHUNK, sizeof *chunk);
    if (!chunk)
        return NULL;
    atomic_store_explicit(&table->chunk[index / CHUNK], chunk, memory_order_release);
    return &chunk[index % CHUNK];
}

void *orion_handles_find(orion_handles_t *table, uint64_t wire)
{
    entry_t *entry = entry_at(table, wire);
    if (!entry)
        return NULL;
    /* acquire: pairs with the release in orion_handles_put(); the object's bytes and generation before its pointer */
    void *object = atomic_load_explicit(&entry->object, memory_order_acquire);
    if (object == NULL || object == CLAIMED)
        return NULL;
    return atomic_load_explicit(&entry->generation, memory_order_relaxed) == wire >> 32 ? object : NULL;
}

bool orion_handles_claim(orion_handles_t *table, uint64_t wire)
{
    bool claimed = false;
    pthread_mutex_lock(&table->lock);
    entry_t *entry = entry_made(table, wire);
    if (entry && atomic_load_explicit(&entry->object, memory_order_relaxed) == NULL) {
        atomic_store_explicit(&entry->generation, (uint32_t)(wire >> 32), memory_order_relaxed);
        atomic_store_explicit(&entry->object, CLAIMED, memory_order_relaxed);
        claimed = true;
    }
    pthread_mutex_unlock(&table->lock);
    return claimed;
}

void orion_handles_put(orion_handles_t *table, uint64_t wire, void *object)
{
    entry_t *entry = entry_at(table, wire);
    if (entry)
        atomic_store_explicit(&entry->object, object, memory_order_release);
}

void orion_handles_abandon(orion_handles_t *table, uint64_t wire)
{
    entry_t *entry = entry_at(table, wire);
    if (entry)
        atomic_store_explicit(&entry->object, NULL, memory_order_release);
}

void *orion_handles_take(orion_handles_t *table, uint64_t wire)
{
    pthread_mutex_lock(&table->lock);
    void *object = orion_handles_find(table, wire);
    if (object)
        orion_handles_abandon(table, wire);
    pthread_mutex_unlock(&table->lock);
    return object;
}

void orion_handles_forget(orion_handles_t *table, const void *gone)
{
    pthread_mutex_lock(&table->lock); /* else an index that is taken and claimed meanwhile would become free */
    for (uint32_t c = 0; c < table->chunks; c++) {
        entry_t *chunk = atomic_load_explicit(&table->chunk[c], memory_order_acquire);
        for (uint32_t i = 0; chunk && i < CHUNK; i++) {
            void *object = atomic_load_explicit(&chunk[i].object, memory_order_acquire);
            if (object == NULL || object == CLAIMED || (gone && object != gone))
                continue;
            atomic_store_explicit(&chunk[i].object, NULL, memory_order_release);
        }
    }
    pthread_mutex_unlock(&table->lock);
}
