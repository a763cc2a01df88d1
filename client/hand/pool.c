/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory pools. All of them draw from the device's heap, which keeps nothing that was freed: a pool is a count of what
 * was allocated from it, a limit, and attributes that are kept and not acted on.
 */
#include "pool.h"

#include "context.h"
#include "device.h"
#include "handles.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <stdlib.h>

typedef struct pool {
    struct pool *next;
    CUmemoryPool handle; /* NULL: destroyed, and lives until its last allocation is freed */
    uint32_t number;
    uint64_t limit; /* 0: the device's memory */
    uint64_t used, peak_used, peak_reserved;
    int reuse[CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES + 1];
    uint64_t release_threshold;
} pool_t;

static orion_lock_t lock;
static pool_t *pools, *default_pool, *current_pool;
static uint32_t last_number;

/* Under lock. */
static CUresult new_pool(orion_session_t *session, uint64_t limit, pool_t **pool_p)
{
    uint64_t number;
    void *handle;
    pool_t *pool = calloc(1, sizeof *pool);
    if (!pool)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = orion_handle_new(session, ORION_KIND_POOL, &handle, &number);
    if (result) {
        free(pool);
        return result;
    }
    *pool = (pool_t){.next = pools, .handle = handle, .number = ++last_number, .limit = limit, .reuse = {0, 1, 1, 1}};
    orion_handle_set_object(ORION_KIND_POOL, handle, pool);
    pools = pool;
    *pool_p = pool;
    return CUDA_SUCCESS;
}

/* Under lock: there is a default pool from now on. */
static CUresult begin(orion_session_t *session)
{
    CUresult result = default_pool ? CUDA_SUCCESS : new_pool(session, 0, &default_pool);
    if (!current_pool)
        current_pool = default_pool;
    return result;
}

/* Under lock. */
static pool_t *find(CUmemoryPool handle)
{
    for (pool_t *pool = pools; handle && pool; pool = pool->next)
        if (pool->handle == handle)
            return pool;
    return NULL;
}

/* Under lock. */
static void drop_if_gone(pool_t *pool)
{
    if (pool->handle || pool->used)
        return;
    for (pool_t **at = &pools; *at; at = &(*at)->next)
        if (*at == pool) {
            *at = pool->next;
            break;
        }
    free(pool);
}

CUresult orion_pool_take(orion_session_t *session, CUmemoryPool handle, uint64_t bytes, uint32_t *number_p)
{
    orion_lock(&lock);
    CUresult result = begin(session);
    pool_t *pool = result || !handle ? current_pool : find(handle);
    if (!result && !pool)
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result && pool->limit && (bytes > pool->limit || pool->used > pool->limit - bytes))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!result) {
        pool->used += bytes;
        if (pool->used > pool->peak_used)
            pool->peak_used = pool->used;
        if (pool->used > pool->peak_reserved)
            pool->peak_reserved = pool->used;
        *number_p = pool->number;
    }
    orion_unlock(&lock);
    return result;
}

void orion_pool_give(uint32_t number, uint64_t bytes)
{
    orion_lock(&lock);
    for (pool_t *pool = number ? pools : NULL; pool; pool = pool->next)
        if (pool->number == number) {
            pool->used -= bytes <= pool->used ? bytes : pool->used;
            drop_if_gone(pool);
            break;
        }
    orion_unlock(&lock);
}

void orion_pools_clear(void)
{
    orion_lock(&lock);
    for (pool_t *pool = pools, *next; pool; pool = next) {
        next = pool->next;
        pool->used = 0;
        drop_if_gone(pool);
    }
    orion_unlock(&lock);
}

CUmemoryPool orion_pool_handle(uint32_t number)
{
    CUmemoryPool handle = NULL;
    orion_lock(&lock);
    for (const pool_t *pool = pools; pool; pool = pool->next)
        if (pool->number == number)
            handle = pool->handle;
    orion_unlock(&lock);
    return handle;
}

static CUresult get_pool(CUmemoryPool *pool_out, CUdevice device, pool_t *const *which)
{
    orion_session_t *session;
    CUresult result = orion_device_check(device, &session);
    if (result)
        return result;
    if (!pool_out)
        return CUDA_ERROR_INVALID_VALUE;
    orion_lock(&lock);
    result = begin(session);
    if (!result)
        *pool_out = (*which)->handle;
    orion_unlock(&lock);
    return result;
}

CUresult orion_hand_cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
    return get_pool(pool_out, dev, &default_pool);
}

CUresult orion_hand_cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice dev)
{
    return get_pool(pool, dev, &current_pool);
}

CUresult orion_hand_cuDeviceSetMemPool(CUdevice dev, CUmemoryPool wanted)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    orion_lock(&lock);
    pool_t *pool = find(wanted);
    if (pool)
        current_pool = pool;
    orion_unlock(&lock);
    return pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_hand_cuMemPoolCreate(CUmemoryPool *pool_out, const CUmemPoolProps *props)
{
    orion_session_t *session;
    pool_t *pool;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!pool_out || !props)
        return CUDA_ERROR_INVALID_VALUE;
    if (props->allocType != CU_MEM_ALLOCATION_TYPE_PINNED || props->handleTypes != CU_MEM_HANDLE_TYPE_NONE ||
        props->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_NOT_SUPPORTED; /* of the host, managed, or for other processes */
    result = orion_device_check(props->location.id, &session);
    if (result)
        return result;
    orion_lock(&lock);
    result = begin(session);
    if (!result)
        result = new_pool(session, props->maxSize, &pool);
    if (!result)
        *pool_out = pool->handle;
    orion_unlock(&lock);
    return result;
}

/* Its allocations stay. */
CUresult orion_hand_cuMemPoolDestroy(CUmemoryPool wanted)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_lock(&lock);
    pool_t *pool = find(wanted);
    if (!pool || pool == default_pool) {
        result = CUDA_ERROR_INVALID_VALUE;
    } else {
        if (current_pool == pool)
            current_pool = default_pool;
        orion_handle_drop(session, ORION_KIND_POOL, wanted);
        pool->handle = NULL;
        drop_if_gone(pool);
    }
    orion_unlock(&lock);
    return result;
}

CUresult orion_hand_cuMemPoolTrimTo(CUmemoryPool wanted, size_t minBytesToKeep)
{
    orion_session_t *session;
    (void)minBytesToKeep; /* freed memory is never kept */
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_lock(&lock);
    const int known = find(wanted) != NULL;
    orion_unlock(&lock);
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Marks can be taken back to what is there now, which CUDA writes as 0; what is there now cannot be set. */
static CUresult set(pool_t *pool, CUmemPool_attribute attribute, const void *value)
{
    uint64_t *peak = attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH ? &pool->peak_used : &pool->peak_reserved;
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        pool->reuse[attribute] = *(const int *)value != 0;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        pool->release_threshold = *(const cuuint64_t *)value;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        if (*(const cuuint64_t *)value)
            return CUDA_ERROR_INVALID_VALUE;
        *peak = pool->used;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult get(const pool_t *pool, CUmemPool_attribute attribute, void *value)
{
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        *(int *)value = pool->reuse[attribute];
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        *(cuuint64_t *)value = pool->release_threshold;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT: /* nothing is kept: what is used is all there is */
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        *(cuuint64_t *)value = pool->used;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        *(cuuint64_t *)value = pool->peak_reserved;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        *(cuuint64_t *)value = pool->peak_used;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult orion_hand_cuMemPoolSetAttribute(CUmemoryPool wanted, CUmemPool_attribute attr, void *value)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_lock(&lock);
    pool_t *pool = find(wanted);
    result = pool && value ? set(pool, attr, value) : CUDA_ERROR_INVALID_VALUE;
    orion_unlock(&lock);
    return result;
}

CUresult orion_hand_cuMemPoolGetAttribute(CUmemoryPool wanted, CUmemPool_attribute attr, void *value)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    orion_lock(&lock);
    const pool_t *pool = find(wanted);
    result = pool && value ? get(pool, attr, value) : CUDA_ERROR_INVALID_VALUE;
    orion_unlock(&lock);
    return result;
}
