/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adopted memory is pinned memory that came from elsewhere: the server maps the descriptor at the same address, so
 * copies need no staging and kernels may be given its pointers.
 */
#include "adopt.h"

#include "context.h"
#include "orion_generated/calls.h"
#include "ranges.h"

#include "transport/offer.h"

#include <stdio.h>

int32_t orion_adopt(uint64_t address, uint64_t bytes, int fd, char *why, size_t why_bytes)
{
    static orion_lock_t lock;
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (orion_ranges_overlap(address, bytes))
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    orion_lock(&lock);
    const orion_status_t status = orion_link_offer(session->link, address, bytes, fd);
    if (status == ORION_REFUSED)
        result = CUDA_ERROR_NOT_SUPPORTED;
    else if (status)
        result = orion_session_lost(session, status);
    if (!result)
        result = orion_call_orionArenaAdopt(session, address, bytes);
    orion_unlock(&lock);
    if (!result && !orion_ranges_add(ORION_RANGE_PINNED, address, bytes, CU_MEMHOSTALLOC_DEVICEMAP)) {
        orion_call_orionArenaDisown(session, address);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (result)
        snprintf(why, why_bytes,
                 "%llu MiB at 0x%llx cannot be shared with the server behind this one (CUDA error %d): pinned memory "
                 "is staged, mapped and managed memory are not to be had",
                 (unsigned long long)(bytes >> 20), (unsigned long long)address, (int)result);
    return result == CUDA_ERROR_MAP_FAILED ? CUDA_ERROR_NOT_SUPPORTED : result;
}

int32_t orion_disown(uint64_t address)
{
    orion_session_t *session;
    const CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!orion_ranges_remove(address, 1u << ORION_RANGE_PINNED, NULL))
        return CUDA_ERROR_INVALID_VALUE;
    return orion_call_orionArenaDisown(session, address);
}
