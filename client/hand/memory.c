/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory. The server allocates; the client remembers each range, to answer questions about pointers. */
#include "arena.h"
#include "context.h"
#include "guard.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "pool.h"
#include "ranges.h"

#define PITCH_ALIGN 512u
#define ATTEMPTS 16u
#define DEVICE_KINDS (1u << ORION_RANGE_DEVICE)

/* Memory whose addresses are free here as well. What collides is held until another place is found. */
static CUresult allocate(orion_session_t *session, CUdeviceptr *address_p, size_t bytes, const uint64_t *stream)
{
    CUdeviceptr useless[ATTEMPTS];
    unsigned count = 0;
    CUresult result;
    do {
        result = stream ? orion_call_cuMemAllocAsync(session, address_p, bytes, *stream)
                        : orion_call_cuMemAlloc_v2(session, address_p, bytes);
        if (result || orion_guard_take(session, *address_p, bytes))
            break;
        useless[count++] = *address_p;
        result = CUDA_ERROR_OUT_OF_MEMORY;
    } while (count < ATTEMPTS);
    while (count--) {
        if (stream)
            orion_post_cuMemFreeAsync(session, useless[count], *stream);
        else
            orion_post_cuMemFree_v2(session, useless[count]);
    }
    return result;
}

CUresult orion_hand_cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
    orion_session_t *session;
    CUdeviceptr address;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!dptr || !bytesize)
        return CUDA_ERROR_INVALID_VALUE;
    result = allocate(session, &address, bytesize, NULL);
    if (result)
        return result;
    if (!orion_ranges_add(ORION_RANGE_DEVICE, address, bytesize, 0)) {
        orion_post_cuMemFree_v2(session, address);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *dptr = address;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
                                       unsigned int ElementSizeBytes)
{
    if (!dptr || !pPitch || !WidthInBytes || !Height || WidthInBytes > SIZE_MAX - PITCH_ALIGN ||
        (ElementSizeBytes != 4 && ElementSizeBytes != 8 && ElementSizeBytes != 16))
        return CUDA_ERROR_INVALID_VALUE;
    size_t pitch = (WidthInBytes + PITCH_ALIGN - 1) / PITCH_ALIGN * PITCH_ALIGN, bytes;
    if (__builtin_mul_overflow(pitch, Height, &bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = orion_hand_cuMemAlloc_v2(dptr, bytes);
    if (!result)
        *pPitch = pitch;
    return result;
}

CUresult orion_hand_cuMemFree_v2(CUdeviceptr dptr)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!dptr)
        return CUDA_SUCCESS; /* cudaFree(0) comes through to here */
    if (!orion_ranges_remove(dptr, DEVICE_KINDS | 1u << ORION_RANGE_MANAGED, &range))
        return CUDA_ERROR_INVALID_VALUE;
    if (range.kind == ORION_RANGE_DEVICE) {
        orion_guard_give(session, dptr, range.bytes);
        orion_pool_give(range.flags, range.bytes);
        return orion_post_cuMemFree_v2(session, dptr);
    }
    result = orion_call_cuCtxSynchronize(session);
    orion_arena_free(session, (void *)(uintptr_t)dptr, range.bytes);
    return result;
}

/* From the pool, or from the device's current one. */
static CUresult allocate_ordered(CUstream default_stream, CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool,
                                 CUstream hStream)
{
    orion_session_t *session;
    CUdeviceptr address;
    uint64_t stream;
    uint32_t number;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!dptr || !bytesize)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_stream_wire(session, hStream, default_stream, &stream);
    if (!result)
        result = orion_pool_take(session, pool, bytesize, &number);
    if (result)
        return result;
    result = allocate(session, &address, bytesize, &stream);
    if (!result && !orion_ranges_add(ORION_RANGE_DEVICE, address, bytesize, number)) {
        orion_post_cuMemFreeAsync(session, address, stream);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (result)
        orion_pool_give(number, bytesize);
    else
        *dptr = address;
    return result;
}

CUresult orion_hand_cuMemAllocAsync(CUstream default_stream, CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
    return allocate_ordered(default_stream, dptr, bytesize, NULL, hStream);
}

CUresult orion_hand_cuMemAllocFromPoolAsync(CUstream default_stream, CUdeviceptr *dptr, size_t bytesize,
                                            CUmemoryPool pool, CUstream hStream)
{
    return pool ? allocate_ordered(default_stream, dptr, bytesize, pool, hStream) : CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_hand_cuMemFreeAsync(CUstream default_stream, CUdeviceptr dptr, CUstream hStream)
{
    orion_session_t *session;
    orion_range_t range;
    uint64_t stream;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, hStream, default_stream, &stream);
    if (result)
        return result;
    if (!orion_ranges_remove(dptr, DEVICE_KINDS, &range))
        return CUDA_ERROR_INVALID_VALUE;
    orion_guard_give(session, dptr, range.bytes);
    orion_pool_give(range.flags, range.bytes);
    return orion_post_cuMemFreeAsync(session, dptr, stream);
}

CUresult orion_hand_cuMemGetAddressRange_v2(CUdeviceptr *pbase, size_t *psize, CUdeviceptr dptr)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!orion_ranges_find(dptr, &range) || range.kind == ORION_RANGE_HOST || range.kind == ORION_RANGE_REGISTERED)
        return CUDA_ERROR_NOT_FOUND;
    if (pbase)
        *pbase = range.base;
    if (psize)
        *psize = range.bytes;
    return CUDA_SUCCESS;
}
