/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies by place. Pageable memory to the device returns as soon as it is staged, as CUDA does it; anything to pageable
 * memory is complete on return; pinned memory is copied by the server without a detour.
 */
#include "copy.h"

#include "arena.h"
#include "bulk.h"
#include "orion_generated/calls.h"
#include "ranges.h"
#include "shm/range.h"

#include <string.h>

CUresult orion_copy_place(orion_session_t *session, uint64_t address, uint64_t bytes, int must_be_device,
                          orion_place_t *place_p)
{
    const orion_welcome_t *welcome = &session->welcome;
    orion_range_t range;

    if (orion_ranges_find(address, &range)) {
        if (bytes > range.bytes - (address - range.base))
            return CUDA_ERROR_INVALID_VALUE;
        switch (range.kind) {
        case ORION_RANGE_DEVICE:
        case ORION_RANGE_GLOBAL:
        case ORION_RANGE_OPENED:
            *place_p = ORION_PLACE_DEVICE;
            return CUDA_SUCCESS;
        case ORION_RANGE_PINNED:
        case ORION_RANGE_MANAGED:
            *place_p = ORION_PLACE_ARENA;
            return CUDA_SUCCESS;
        default:
            break;
        }
    } else if (welcome->range_base && address - welcome->range_base < welcome->arena_bytes) {
        return CUDA_ERROR_INVALID_VALUE; /* arena, but freed */
    } else if (welcome->range_base && address - welcome->range_base < ORION_RANGE_BYTES) {
        /* Device memory that no call of ours returned, such as a variable whose address a kernel took. */
        *place_p = ORION_PLACE_DEVICE;
        return CUDA_SUCCESS;
    }
    *place_p = ORION_PLACE_HOST;
    return must_be_device ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult orion_check_range(orion_session_t *session, CUdeviceptr address, size_t bytes)
{
    orion_place_t place;
    return bytes ? orion_copy_place(session, address, bytes, 1, &place) : CUDA_SUCCESS;
}

CUresult orion_check_rows(orion_session_t *session, CUdeviceptr address, size_t pitch, size_t width, size_t height)
{
    size_t bytes;
    if (!width || !height)
        return CUDA_SUCCESS;
    if ((pitch < width && height > 1) || __builtin_mul_overflow(pitch, height - 1, &bytes) ||
        __builtin_add_overflow(bytes, width, &bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return orion_check_range(session, address, bytes);
}

CUresult orion_copy(orion_session_t *session, uint64_t to, orion_place_t to_place, uint64_t from,
                    orion_place_t from_place, size_t bytes, uint64_t stream, int wait)
{
    CUresult result;

    if (!bytes)
        return CUDA_SUCCESS;
    if (to_place == ORION_PLACE_HOST && from_place == ORION_PLACE_HOST) {
        result = orion_call_orionStreamBarrier(session, stream);
        if (!result)
            memmove((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
        return result;
    }
    if (to_place == ORION_PLACE_HOST) {
        orion_rows_t row = {(void *)(uintptr_t)to, bytes, bytes, bytes};
        return orion_bulk_out(session, &row, from, bytes, stream);
    }
    if (from_place == ORION_PLACE_HOST)
        result = orion_bulk_in(session, to, (const void *)(uintptr_t)from, bytes, stream);
    else
        result = orion_post_orionCopy(session, to, from, bytes, stream);
    int touches_arena = to_place == ORION_PLACE_ARENA || from_place == ORION_PLACE_ARENA;
    if (!result && wait && touches_arena)
        result = orion_call_orionStreamBarrier(session, stream);
    return result;
}
