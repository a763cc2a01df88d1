/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and events of other processes. A handle is 64 bytes that the server has made; nothing in it is looked at. */
#include "guard.h"
#include "objects.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"
#include "ranges.h"

#include <string.h>

#define OPEN_FLAGS CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
#define OPENED_KIND (1u << ORION_RANGE_OPENED)

static orion_lock_t opening; /* an open and a close of one address: the table of ranges has to end up right */

CUresult orion_hand_cuIpcGetMemHandle(CUipcMemHandle *pHandle, CUdeviceptr dptr)
{
    orion_session_t *session;
    orion_range_t range;
    unsigned char handle[sizeof *pHandle];
    uint32_t bytes;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pHandle || !orion_ranges_find(dptr, &range) || !orion_range_is_shareable(&range))
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_call_orionIpcShareMemory(session, range.base, handle, sizeof handle, &bytes);
    if (!result && bytes != sizeof handle)
        result = CUDA_ERROR_UNKNOWN;
    if (!result)
        memcpy(pHandle, handle, sizeof handle);
    return result;
}

CUresult orion_hand_cuIpcOpenMemHandle_v2(CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags)
{
    orion_session_t *session;
    orion_range_t range;
    CUdeviceptr address;
    size_t bytes;
    unsigned left;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pdptr || Flags & ~(unsigned)OPEN_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    orion_lock(&opening);
    result = orion_call_orionIpcOpenMemory(session, sizeof handle, &handle, &address, &bytes);
    if (result)
        goto out;
    if (!orion_ranges_find(address, &range) || range.kind != ORION_RANGE_OPENED) { /* not opened before */
        result = CUDA_ERROR_MAP_FAILED; /* the device's addresses are something else in this process */
        if (!orion_guard_take(session, address, bytes))
            goto err_close;
        result = CUDA_ERROR_OUT_OF_MEMORY;
        if (!orion_ranges_add(ORION_RANGE_OPENED, address, bytes, 0)) {
            orion_guard_give(session, address, bytes);
            goto err_close;
        }
        result = CUDA_SUCCESS;
    }
    *pdptr = address;
    goto out;

err_close:
    orion_call_orionIpcCloseMemory(session, address, &left);
out:
    orion_unlock(&opening);
    return result;
}

CUresult orion_hand_cuIpcCloseMemHandle(CUdeviceptr dptr)
{
    orion_session_t *session;
    orion_range_t range;
    unsigned left = 0;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    orion_lock(&opening);
    if (!orion_ranges_find(dptr, &range) || range.kind != ORION_RANGE_OPENED || range.base != dptr)
        result = CUDA_ERROR_INVALID_VALUE;
    else
        result = orion_call_orionIpcCloseMemory(session, dptr, &left);
    if (!result && !left && orion_ranges_remove(dptr, OPENED_KIND, &range))
        orion_guard_give(session, dptr, range.bytes);
    orion_unlock(&opening);
    return result;
}

CUresult orion_hand_cuIpcGetEventHandle(CUipcEventHandle *pHandle, CUevent event)
{
    orion_session_t *session;
    unsigned char handle[sizeof *pHandle];
    uint32_t bytes;
    uint64_t wire;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!pHandle)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_handle_wire(session, ORION_KIND_EVENT, event, &wire);
    if (!result)
        result = orion_call_orionIpcShareEvent(session, wire, handle, sizeof handle, &bytes);
    if (!result && bytes != sizeof handle)
        result = CUDA_ERROR_UNKNOWN;
    if (!result)
        memcpy(pHandle, handle, sizeof handle);
    return result;
}

CUresult orion_hand_cuIpcOpenEventHandle(CUevent *phEvent, CUipcEventHandle handle)
{
    orion_session_t *session;
    uint64_t wire;
    void *event;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!phEvent)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_handle_new(session, ORION_KIND_EVENT, &event, &wire);
    if (result)
        return result;
    result = orion_call_orionIpcOpenEvent(session, wire, sizeof handle, &handle);
    if (result) {
        orion_handle_drop(session, ORION_KIND_EVENT, event);
        return result;
    }
    orion_handle_set_object(ORION_KIND_EVENT, event, orion_event_interprocess);
    *phEvent = event;
    return CUDA_SUCCESS;
}
