/* SPDX-License-Identifier: Apache-2.0 */
/* The primary context: retained, released, reset; asked about hundreds of times a step. */
#include "context.h"

#include "device.h"
#include "orion_generated/hand.h"

CUresult orion_hand_cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!pctx)
        return CUDA_ERROR_INVALID_VALUE;
    if (!orion_context_primary()->handle)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = orion_session_sticky(session);
    if (!result)
        result = orion_context_retain_primary(session);
    if (!result)
        *pctx = orion_context_primary()->handle;
    return result;
}

CUresult orion_hand_cuDevicePrimaryCtxRelease_v2(CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : orion_context_release_primary(session);
}

CUresult orion_hand_cuDevicePrimaryCtxReset_v2(CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : orion_context_reset_primary(session);
}

CUresult orion_hand_cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (flags & ~ORION_CONTEXT_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    orion_context_primary()->flags = flags;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    if (result)
        return result;
    if (!flags || !active)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = orion_context_primary()->flags;
    *active = (int)orion_context_primary()->alive;
    return CUDA_SUCCESS;
}
