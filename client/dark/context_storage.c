/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values that the runtime keeps with a context, one for each copy of it in the process. A lookup precedes nearly every
 * runtime call, so it takes no lock: entries never move, and a key is stored after its value.
 */
#include "context.h"
#include "dark/table.h"

#include <stdlib.h>

#define ENTRIES 16

typedef void (*destructor_t)(CUcontext context, void *key, void *value);

struct orion_storage_entry {
    struct orion_storage_entry *next;
    void *keys[ENTRIES];
    void *values[ENTRIES];
    destructor_t destructors[ENTRIES];
};

typedef struct orion_storage_entry chunk_t;

static CUresult get(void **value_p, CUcontext handle, void *key)
{
    orion_context_t *context = orion_tls.current;
    if (handle && !(context = orion_context_find(handle)))
        context = NULL;
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!key)
        return CUDA_ERROR_INVALID_VALUE;
    /* acquire: pairs with the releases in put(); chunks are never freed */
    for (chunk_t *chunk = __atomic_load_n(&context->storage, __ATOMIC_ACQUIRE); chunk;
         chunk = __atomic_load_n(&chunk->next, __ATOMIC_ACQUIRE)) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            if (__atomic_load_n(&chunk->keys[i], __ATOMIC_ACQUIRE) == key) {
                *value_p = __atomic_load_n(&chunk->values[i], __ATOMIC_RELAXED);
                return CUDA_SUCCESS;
            }
        }
    }
    *value_p = NULL;
    return CUDA_ERROR_INVALID_HANDLE;
}

/* The entry of a key, or with key NULL a free one. The lock is held. */
static chunk_t *find(orion_context_t *context, const void *key, unsigned *index_p)
{
    for (chunk_t *chunk = context->storage; chunk; chunk = chunk->next) {
        for (unsigned i = 0; i < ENTRIES; i++) {
            if (chunk->keys[i] == key) {
                *index_p = i;
                return chunk;
            }
        }
    }
    return NULL;
}

static CUresult put(CUcontext handle, void *key, void *value, destructor_t destructor)
{
    orion_context_t *context;
    unsigned i;
    CUresult result = orion_context_resolve(handle, &context);
    if (result)
        return result;
    if (!key)
        return CUDA_ERROR_INVALID_VALUE;
    orion_lock(&context->storage_lock);
    chunk_t *chunk = find(context, key, &i);
    if (!chunk)
        chunk = find(context, NULL, &i);
    if (!chunk && (chunk = calloc(1, sizeof *chunk))) {
        i = 0;
        chunk->next = context->storage;
        __atomic_store_n(&context->storage, chunk, __ATOMIC_RELEASE);
    }
    if (chunk) {
        chunk->destructors[i] = destructor;
        __atomic_store_n(&chunk->values[i], value, __ATOMIC_RELAXED);
        __atomic_store_n(&chunk->keys[i], key, __ATOMIC_RELEASE);
    }
    orion_unlock(&context->storage_lock);
    return chunk ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult del(CUcontext handle, void *key)
{
    orion_context_t *context;
    unsigned i;
    CUresult result = orion_context_resolve(handle, &context);
    if (result)
        return result;
    orion_lock(&context->storage_lock);
    chunk_t *chunk = key ? find(context, key, &i) : NULL;
    if (chunk)
        __atomic_store_n(&chunk->keys[i], NULL, __ATOMIC_RELEASE);
    orion_unlock(&context->storage_lock);
    return chunk ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

/* One at a time, without the lock while the destructor runs: it may call back into us. */
void orion_storage_clear(orion_context_t *context)
{
    for (;;) {
        void *key = NULL, *value = NULL;
        destructor_t destructor = NULL;
        orion_lock(&context->storage_lock);
        for (chunk_t *chunk = context->storage; chunk && !key; chunk = chunk->next) {
            for (unsigned i = 0; i < ENTRIES && !key; i++) {
                key = chunk->keys[i];
                value = chunk->values[i];
                destructor = chunk->destructors[i];
                if (key)
                    __atomic_store_n(&chunk->keys[i], NULL, __ATOMIC_RELEASE);
            }
        }
        orion_unlock(&context->storage_lock);
        if (!key)
            return;
        if (destructor)
            destructor(context->handle, key, value);
    }
}

ORION_DARK_SLOT(context_storage, 3)

/* The one table without a size. */
orion_dark_word_t orion_dark_context_storage[] = {put, del, get, context_storage_slot_3};
