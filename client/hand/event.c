/* SPDX-License-Identifier: Apache-2.0 */
/* Events: made and destroyed without waiting. */
#include "handles.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#define FLAGS (CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS)

CUresult orion_hand_cuEventCreate(CUevent *phEvent, unsigned int Flags)
{
    orion_session_t *session;
    uint64_t wire;
    void *handle;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!phEvent || Flags & ~(unsigned)FLAGS || (Flags & CU_EVENT_INTERPROCESS && !(Flags & CU_EVENT_DISABLE_TIMING)))
        return CUDA_ERROR_INVALID_VALUE;
    if (Flags & CU_EVENT_INTERPROCESS)
        return CUDA_ERROR_NOT_SUPPORTED;
    result = orion_handle_new(session, ORION_KIND_EVENT, &handle, &wire);
    if (result)
        return result;
    result = orion_post_cuEventCreate(session, wire, Flags);
    if (result) {
        orion_handle_drop(session, ORION_KIND_EVENT, handle);
        return result;
    }
    *phEvent = handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuEventDestroy_v2(CUevent hEvent)
{
    orion_session_t *session;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_handle_wire(session, ORION_KIND_EVENT, hEvent, &wire);
    if (result)
        return result;
    result = orion_post_cuEventDestroy_v2(session, wire);
    orion_handle_drop(session, ORION_KIND_EVENT, hEvent);
    return result;
}
