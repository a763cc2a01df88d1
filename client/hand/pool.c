/* SPDX-License-Identifier: Apache-2.0 */
/* The device's one memory pool. Stream-ordered allocations come from the device's heap; attributes are kept, not acted on. */
#include "context.h"
#include "device.h"
#include "handles.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#define ATTRIBUTES 16

static orion_lock_t lock;
static CUmemoryPool pool;
static uint64_t attributes[ATTRIBUTES] = {
    [CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES] = 1,
    [CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC] = 1,
    [CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES] = 1,
};

static CUresult get_pool(orion_session_t *session, CUmemoryPool *pool_p)
{
    uint64_t number;
    void *handle;
    CUresult result = CUDA_SUCCESS;
    orion_lock(&lock);
    if (!pool) {
        result = orion_handle_new(session, ORION_KIND_POOL, &handle, &number);
        if (!result)
            pool = handle;
    }
    orion_unlock(&lock);
    if (!result)
        *pool_p = pool;
    return result;
}

static CUresult check(CUmemoryPool wanted)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    return wanted && wanted == pool ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_hand_cuDeviceGetDefaultMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    return pool_out ? get_pool(session, pool_out) : CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_hand_cuDeviceGetMemPool(CUmemoryPool *pool_out, CUdevice dev)
{
    return orion_hand_cuDeviceGetDefaultMemPool(pool_out, dev);
}

CUresult orion_hand_cuDeviceSetMemPool(CUdevice dev, CUmemoryPool wanted)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : check(wanted);
}

CUresult orion_hand_cuMemPoolTrimTo(CUmemoryPool wanted, size_t minBytesToKeep)
{
    (void)minBytesToKeep; /* freed memory is never kept */
    return check(wanted);
}

static int is_u64(CUmemPool_attribute attribute)
{
    return attribute >= CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
}

CUresult orion_hand_cuMemPoolSetAttribute(CUmemoryPool wanted, CUmemPool_attribute attr, void *value)
{
    CUresult result = check(wanted);
    if (result)
        return result;
    if (!value || (unsigned)attr >= ATTRIBUTES)
        return CUDA_ERROR_INVALID_VALUE;
    attributes[attr] = is_u64(attr) ? *(cuuint64_t *)value : (uint64_t)*(int *)value;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemPoolGetAttribute(CUmemoryPool wanted, CUmemPool_attribute attr, void *value)
{
    CUresult result = check(wanted);
    if (result)
        return result;
    if (!value || (unsigned)attr >= ATTRIBUTES)
        return CUDA_ERROR_INVALID_VALUE;
    if (is_u64(attr))
        *(cuuint64_t *)value = attributes[attr];
    else
        *(int *)value = (int)attributes[attr];
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemAllocFromPoolAsync(CUstream default_stream, CUdeviceptr *dptr, size_t bytesize,
                                            CUmemoryPool wanted, CUstream hStream)
{
    CUresult result = check(wanted);
    return result ? result : orion_hand_cuMemAllocAsync(default_stream, dptr, bytesize, hStream);
}
