/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of functions and kernels since they were found. */
#include "context.h"
#include "device.h"
#include "objects.h"
#include "orion_generated/hand.h"

#include <string.h>

static CUresult find(CUfunction handle, orion_function_t **function_p)
{
    orion_session_t *session;
    CUresult result = orion_enter(ORION_NEEDS_INIT, &session);
    return result ? result : orion_function_resolve(session, handle, function_p);
}

CUresult orion_hand_cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{
    orion_function_t *function;
    CUresult result = find(hfunc, &function);
    if (result)
        return result;
    if (!pi || (unsigned)attrib >= ORION_FUNCTION_ATTRIBUTES)
        return CUDA_ERROR_INVALID_VALUE;
    *pi = function->attributes[attrib];
    return CUDA_SUCCESS;
}

/* Dynamic shared memory may be raised up to what the device can give beside the static part. */
static CUresult set_dynamic_shared(orion_function_t *function, int value)
{
    int most = orion_device_attribute(&orion_the_session, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) -
               function->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES];
    if (value < 0 || value > most)
        return CUDA_ERROR_INVALID_VALUE;
    function->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES] = value;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{
    orion_function_t *function;
    CUresult result = find(hfunc, &function);
    if (result)
        return result;
    switch (attrib) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        result = set_dynamic_shared(function, value);
        if (!result && orion_handle_kind(hfunc) == ORION_KIND_KERNEL)
            ((orion_kernel_t *)orion_handle_object(ORION_KIND_KERNEL, hfunc))->max_dynamic_shared = value;
        return result;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
        function->attributes[attrib] = value; /* preferences */
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult orion_hand_cuKernelGetAttribute(int *pi, CUfunction_attribute attrib, CUkernel kernel, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : orion_hand_cuFuncGetAttribute(pi, attrib, (CUfunction)kernel);
}

CUresult orion_hand_cuKernelSetAttribute(CUfunction_attribute attrib, int val, CUkernel kernel, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : orion_hand_cuFuncSetAttribute((CUfunction)kernel, attrib, val);
}

CUresult orion_hand_cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config)
{
    orion_function_t *function;
    (void)config; /* a preference without effect on our devices */
    return find(hfunc, &function);
}

CUresult orion_hand_cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice dev)
{
    orion_session_t *session;
    CUresult result = orion_device_check(dev, &session);
    return result ? result : orion_hand_cuFuncSetCacheConfig((CUfunction)kernel, config);
}

CUresult orion_hand_cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig config)
{
    orion_function_t *function;
    (void)config;
    return find(hfunc, &function);
}

CUresult orion_hand_cuFuncGetModule(CUmodule *hmod, CUfunction hfunc)
{
    orion_function_t *function;
    CUresult result = find(hfunc, &function);
    if (result)
        return result;
    if (!hmod)
        return CUDA_ERROR_INVALID_VALUE;
    *hmod = function->module->handle;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuFuncGetName(const char **name, CUfunction hfunc)
{
    orion_function_t *function;
    CUresult result = find(hfunc, &function);
    if (result)
        return result;
    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    *name = function->name;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuFuncGetParamInfo(CUfunction func, size_t paramIndex, size_t *paramOffset, size_t *paramSize)
{
    orion_function_t *function;
    CUresult result = find(func, &function);
    if (result)
        return result;
    if (!paramOffset || paramIndex >= function->parameter_count)
        return CUDA_ERROR_INVALID_VALUE; /* how callers find the end of the list */
    *paramOffset = function->parameters[paramIndex].offset;
    if (paramSize)
        *paramSize = function->parameters[paramIndex].size;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuKernelGetParamInfo(CUkernel kernel, size_t paramIndex, size_t *paramOffset, size_t *paramSize)
{
    return orion_hand_cuFuncGetParamInfo((CUfunction)kernel, paramIndex, paramOffset, paramSize);
}

CUresult orion_hand_cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction hfunc)
{
    orion_function_t *function;
    CUresult result = find(hfunc, &function);
    if (result)
        return result;
    if (!state)
        return CUDA_ERROR_INVALID_VALUE;
    *state = CU_FUNCTION_LOADING_STATE_LOADED;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuFuncLoad(CUfunction hfunc)
{
    orion_function_t *function;
    return find(hfunc, &function);
}
