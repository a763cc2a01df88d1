/* SPDX-License-Identifier: Apache-2.0 */
/* The runtime's own table: a primary context without activation, and how CUDA 11.8 loads modules. */
#include "context.h"
#include "dark/table.h"
#include "device.h"
#include "objects.h"
#include "orion_generated/hand.h"

#pragma GCC diagnostic ignored "-Woverride-init" /* slots that are used replace the unused ones */

static CUresult load_module(CUmodule *module_p, const void *wrapper)
{
    return orion_hand_cuModuleLoadData(module_p, wrapper);
}

static CUresult load_module_with(CUmodule *module_p, const void *wrapper, void *a, void *b, unsigned c)
{
    (void)a;
    (void)b;
    (void)c;
    CUresult result = orion_hand_cuModuleLoadData(module_p, wrapper);
    orion_module_t *module = result ? NULL : orion_handle_object(ORION_KIND_MODULE, *module_p);
    if (module)
        module->runtime = 1;
    return result;
}

static CUresult load_fatbin(const void *fatbin, CUmodule *module_p, void *a, void *b, unsigned c)
{
    (void)a;
    (void)b;
    (void)c;
    return orion_hand_cuModuleLoadData(module_p, fatbin);
}

static void unload_module(CUmodule module)
{
    orion_hand_cuModuleUnload(module);
}

/* The handle that cuDevicePrimaryCtxRetain returns later; the context stays as it is. */
static CUresult primary_context(CUcontext *context_p, CUdevice device)
{
    orion_session_t *session;
    CUresult result = orion_device_check(device, &session);
    if (result)
        return result;
    CUcontext handle = orion_context_primary()->handle;
    if (!context_p || !handle)
        return context_p ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
    *context_p = handle;
    return CUDA_SUCCESS;
}

static CUresult load_compilers(void)
{
    return CUDA_SUCCESS; /* the server has them */
}

ORION_DARK_TEN(cudart, )
ORION_DARK_TEN(cudart, 1)

orion_dark_word_t orion_dark_cudart[] = {
    ORION_DARK_TEN_WORDS(cudart, ), ORION_DARK_TEN_WORDS(cudart, 1), [0] = ORION_DARK_BYTES(13), [1] = load_module,
    [2] = primary_context,          [6] = load_module_with,          [7] = unload_module,        [8] = load_fatbin,
    [12] = load_compilers,
};
