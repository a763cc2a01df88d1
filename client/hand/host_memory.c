/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host memory that the device knows: pinned and managed memory live in the arena, at one address for both sides.
 * Registered memory stays where it is and is copied through staging like any other.
 */
#include "arena.h"
#include "context.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "ranges.h"

#include <stdlib.h>

#define ALLOC_FLAGS (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define REGISTER_FLAGS                                                                          \
    (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY | \
     CU_MEMHOSTREGISTER_READ_ONLY)
#define PINNED_KINDS (1u << ORION_RANGE_PINNED | 1u << ORION_RANGE_HOST)

CUresult orion_hand_cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{
    orion_session_t *session;
    orion_range_kind_t kind = ORION_RANGE_PINNED;
    void *memory = NULL;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pp || !bytesize || Flags & ~(unsigned)ALLOC_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_arena_alloc(session, bytesize, &memory);
    if (result == CUDA_ERROR_NOT_SUPPORTED && !(Flags & CU_MEMHOSTALLOC_DEVICEMAP)) {
        /* No common addresses: ordinary memory does, copies are staged. */
        kind = ORION_RANGE_HOST;
        result = posix_memalign(&memory, 4096, bytesize) ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
    }
    if (result)
        return result;
    if (!orion_ranges_add(kind, (uint64_t)(uintptr_t)memory, bytesize, Flags)) {
        if (kind == ORION_RANGE_HOST)
            free(memory);
        else
            orion_arena_free(session, memory, bytesize);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *pp = memory;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemAllocHost_v2(void **pp, size_t bytesize)
{
    return orion_hand_cuMemHostAlloc(pp, bytesize, 0);
}

CUresult orion_hand_cuMemFreeHost(void *p)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    if (result)
        return result;
    if (!p || !orion_ranges_remove((uint64_t)(uintptr_t)p, PINNED_KINDS, &range))
        return CUDA_ERROR_INVALID_VALUE;
    if (range.kind == ORION_RANGE_HOST) {
        free(p);
        return CUDA_SUCCESS;
    }
    result = orion_call_cuCtxSynchronize(session); /* copies that use the memory may be under way */
    orion_arena_free(session, p, range.bytes);
    return result;
}

CUresult orion_hand_cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{
    orion_session_t *session;
    void *memory;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!dptr || !bytesize || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_arena_alloc(session, bytesize, &memory);
    if (result)
        return result;
    if (!orion_ranges_add(ORION_RANGE_MANAGED, (uint64_t)(uintptr_t)memory, bytesize, flags)) {
        orion_arena_free(session, memory, bytesize);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *dptr = (CUdeviceptr)(uintptr_t)memory;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemHostGetDevicePointer_v2(CUdeviceptr *pdptr, void *p, unsigned int Flags)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pdptr || Flags || !orion_ranges_find((uint64_t)(uintptr_t)p, &range))
        return CUDA_ERROR_INVALID_VALUE;
    if (range.kind != ORION_RANGE_PINNED && range.kind != ORION_RANGE_MANAGED)
        return range.kind == ORION_RANGE_DEVICE || range.kind == ORION_RANGE_GLOBAL ? CUDA_ERROR_INVALID_VALUE
                                                                                    : CUDA_ERROR_NOT_SUPPORTED;
    *pdptr = (CUdeviceptr)(uintptr_t)p;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemHostGetFlags(unsigned int *pFlags, void *p)
{
    orion_session_t *session;
    orion_range_t range;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pFlags || !orion_ranges_find((uint64_t)(uintptr_t)p, &range) || !(PINNED_KINDS & 1u << range.kind))
        return CUDA_ERROR_INVALID_VALUE;
    *pFlags = range.flags;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{
    orion_session_t *session;
    uint64_t base = (uint64_t)(uintptr_t)p;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!p || !bytesize || base + bytesize < base || Flags & ~(unsigned)REGISTER_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    if (Flags & (CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY))
        return CUDA_ERROR_NOT_SUPPORTED; /* the device cannot reach memory outside of the arena */
    if (orion_ranges_overlap(base, bytesize))
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    return orion_ranges_add(ORION_RANGE_REGISTERED, base, bytesize, Flags) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult orion_hand_cuMemHostUnregister(void *p)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    return orion_ranges_remove((uint64_t)(uintptr_t)p, 1u << ORION_RANGE_REGISTERED, NULL)
               ? CUDA_SUCCESS
               : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}
