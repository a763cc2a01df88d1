/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory. The server allocates; the client remembers each range, to answer questions about pointers. */
#include "arena.h"
#include "context.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "ranges.h"

#define PITCH_ALIGN 512u
#define DEVICE_KINDS (1u << ORION_RANGE_DEVICE)

CUresult orion_hand_cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{
    orion_session_t *session;
    CUdeviceptr address;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!dptr || !bytesize)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_call_cuMemAlloc_v2(session, &address, bytesize);
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
    if (range.kind == ORION_RANGE_DEVICE)
        return orion_post_cuMemFree_v2(session, dptr);
    result = orion_call_cuCtxSynchronize(session);
    orion_arena_free(session, (void *)(uintptr_t)dptr, range.bytes);
    return result;
}

CUresult orion_hand_cuMemAllocAsync(CUstream default_stream, CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{
    orion_session_t *session;
    CUdeviceptr address;
    uint64_t stream;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!dptr || !bytesize)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_stream_wire(session, hStream, default_stream, &stream);
    if (!result)
        result = orion_call_cuMemAllocAsync(session, &address, bytesize, stream);
    if (result)
        return result;
    if (!orion_ranges_add(ORION_RANGE_DEVICE, address, bytesize, 0)) {
        orion_post_cuMemFreeAsync(session, address, stream);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *dptr = address;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemFreeAsync(CUstream default_stream, CUdeviceptr dptr, CUstream hStream)
{
    orion_session_t *session;
    uint64_t stream;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_stream_wire(session, hStream, default_stream, &stream);
    if (result)
        return result;
    if (!orion_ranges_remove(dptr, DEVICE_KINDS, NULL))
        return CUDA_ERROR_INVALID_VALUE;
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
