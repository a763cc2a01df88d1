/* SPDX-License-Identifier: Apache-2.0 */
/* What an address is: answered from the table of ranges. */
#include "arena.h"
#include "context.h"
#include "device.h"
#include "orion_generated/hand.h"
#include "pool.h"
#include "ranges.h"

#include <string.h>

#define LOCALITY_DOMAIN_ORDINAL 22 /* CUDA 13.1 and later */
#define PUT(type, value) (*(type *)data = (type)(value), CUDA_SUCCESS)

static int at_device(const orion_range_t *range)
{
    return range->kind == ORION_RANGE_DEVICE || range->kind == ORION_RANGE_GLOBAL || range->kind == ORION_RANGE_OPENED;
}

static int shared(const orion_range_t *range)
{
    return range->kind == ORION_RANGE_PINNED || range->kind == ORION_RANGE_MANAGED;
}

/* One attribute of an address inside of range. */
static CUresult get(void *data, CUpointer_attribute attribute, uint64_t address, const orion_range_t *range)
{
    switch ((unsigned)attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        return PUT(CUcontext, orion_context_primary()->handle);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        return PUT(unsigned,
                   at_device(range) || range->kind == ORION_RANGE_MANAGED ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        return at_device(range) || shared(range) ? PUT(CUdeviceptr, address) : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        return at_device(range) ? CUDA_ERROR_INVALID_VALUE : PUT(uint64_t, address);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        return PUT(unsigned, 0);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
        return PUT(uint64_t, range->id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        return PUT(unsigned, range->kind == ORION_RANGE_MANAGED);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        return PUT(int, 0);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        return PUT(unsigned, orion_range_is_shareable(range));
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        return PUT(unsigned, 0);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
        return PUT(CUdeviceptr, range->base);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
        return PUT(size_t, range->bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
        return PUT(unsigned, at_device(range) || shared(range));
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        return PUT(uint64_t, 0);
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        return PUT(unsigned, CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        return PUT(CUmemoryPool, range->kind == ORION_RANGE_DEVICE ? orion_pool_handle(range->flags) : NULL);
    case LOCALITY_DOMAIN_ORDINAL:
        return PUT(int, -1); /* not bound to one */
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult orion_hand_cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr ptr)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!data || !orion_ranges_find(ptr, &range))
        return CUDA_ERROR_INVALID_VALUE;
    return get(data, attribute, ptr, &range);
}

/* Unlike the single query this one succeeds for any pointer: what is unknown or does not apply is zero. */
static CUresult get_default(void *data, CUpointer_attribute attribute)
{
    switch ((unsigned)attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        return PUT(int, CU_DEVICE_INVALID);
    case LOCALITY_DOMAIN_ORDINAL:
        return PUT(int, -1);
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        return PUT(uint64_t, 0);
    default:
        return PUT(unsigned, 0);
    }
}

CUresult orion_hand_cuPointerGetAttributes(unsigned int numAttributes, CUpointer_attribute *attributes, void **data,
                                           CUdeviceptr ptr)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!numAttributes || !attributes || !data)
        return CUDA_ERROR_INVALID_VALUE;
    int known = orion_ranges_find(ptr, &range);
    for (unsigned i = 0; i < numAttributes; i++) {
        if (!data[i])
            return CUDA_ERROR_INVALID_VALUE;
        if (!known || get(data[i], attributes[i], ptr, &range))
            get_default(data[i], attributes[i]);
    }
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr ptr)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!value || !orion_ranges_find(ptr, &range))
        return CUDA_ERROR_INVALID_VALUE;
    /* Copies of this memory are synchronous enough already; nothing else can be set. */
    return attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Managed memory has one home, so advice and prefetches have nothing to do but to check their arguments. */
static CUresult check_managed(CUdeviceptr address, size_t bytes)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!bytes || !orion_ranges_find(address, &range) || range.kind != ORION_RANGE_MANAGED ||
        bytes > range.bytes - (address - range.base))
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device)
{
    (void)advice;
    (void)device;
    return check_managed(devPtr, count);
}

CUresult orion_hand_cuMemAdvise_v2(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUmemLocation location)
{
    (void)advice;
    (void)location;
    return check_managed(devPtr, count);
}

CUresult orion_hand_cuMemPrefetchAsync(CUstream default_stream, CUdeviceptr devPtr, size_t count, CUdevice dstDevice,
                                       CUstream hStream)
{
    (void)default_stream;
    (void)dstDevice;
    (void)hStream;
    return check_managed(devPtr, count);
}

CUresult orion_hand_cuMemPrefetchAsync_v2(CUstream default_stream, CUdeviceptr devPtr, size_t count,
                                          CUmemLocation location, unsigned int flags, CUstream hStream)
{
    (void)default_stream;
    (void)location;
    (void)hStream;
    return flags ? CUDA_ERROR_INVALID_VALUE : check_managed(devPtr, count);
}

CUresult orion_hand_cuMemRangeGetAttribute(void *data, size_t dataSize, CUmem_range_attribute attribute,
                                           CUdeviceptr devPtr, size_t count)
{
    CUresult result = check_managed(devPtr, count);
    if (result)
        return result;
    if (!data || dataSize < 4 || dataSize % 4)
        return CUDA_ERROR_INVALID_VALUE;
    int value = attribute == CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY ? 0 : CU_DEVICE_INVALID;
    for (size_t i = 0; i < dataSize / 4; i++)
        ((int *)data)[i] = value;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuStreamAttachMemAsync(CUstream default_stream, CUstream hStream, CUdeviceptr dptr, size_t length,
                                           unsigned int flags)
{
    orion_session_t *session;
    orion_range_t range;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, hStream, default_stream, &wire);
    if (result)
        return result;
    if (flags > CU_MEM_ATTACH_SINGLE || !orion_ranges_find(dptr, &range) || range.kind != ORION_RANGE_MANAGED ||
        length > range.bytes)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS; /* every stream sees managed memory anyway */
}
