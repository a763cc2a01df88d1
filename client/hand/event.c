/* SPDX-License-Identifier: Apache-2.0 */
/* Events: made and destroyed without waiting. */
#include "objects.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

/* What the handle of an event stands for when other processes may know it; all others have no object. */
static char interprocess;
void *const orion_event_interprocess = &interprocess;

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
    if (Flags & CU_EVENT_INTERPROCESS && !session->device.attributes[CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED])
        return CUDA_ERROR_NOT_SUPPORTED;
    result = orion_handle_new(session, ORION_KIND_EVENT, &handle, &wire);
    if (result)
        return result;
    result = orion_post_cuEventCreate(session, wire, Flags);
    if (result) {
        orion_handle_drop(session, ORION_KIND_EVENT, handle);
        return result;
    }
    if (Flags & CU_EVENT_INTERPROCESS)
        orion_handle_set_object(ORION_KIND_EVENT, handle, orion_event_interprocess);
    *phEvent = handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuEventRecordWithFlags(CUstream default_stream, CUevent hEvent, CUstream hStream,
                                           unsigned int flags)
{
    orion_session_t *session;
    uint64_t event, stream;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_handle_wire(session, ORION_KIND_EVENT, hEvent, &event);
    if (!result)
        result = orion_stream_wire(session, hStream, default_stream, &stream);
    if (result)
        return result;
    if (flags & ~(unsigned)CU_EVENT_RECORD_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    result = flags ? orion_post_cuEventRecordWithFlags(session, event, stream, flags)
                   : orion_post_cuEventRecord(session, event, stream);
    if (result || !orion_handle_object(ORION_KIND_EVENT, hEvent))
        return result;
    /* The program may now tell another process that the event is recorded, and that asks a worker of its own. */
    return orion_call_orionSubmitted(session);
}

CUresult orion_hand_cuEventRecord(CUstream default_stream, CUevent hEvent, CUstream hStream)
{
    return orion_hand_cuEventRecordWithFlags(default_stream, hEvent, hStream, 0);
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
