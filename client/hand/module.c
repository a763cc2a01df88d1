/* SPDX-License-Identifier: Apache-2.0 */
/* Modules of a context. */
#include "context.h"
#include "file.h"
#include "jit.h"
#include "objects.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <stdlib.h>
#include <string.h>

static CUresult load(CUmodule *module_p, const void *code, size_t limit)
{
    orion_session_t *session;
    orion_image_t image;
    orion_module_t *module;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (result)
        return result;
    if (!module_p || !code)
        return CUDA_ERROR_INVALID_VALUE;
    orion_image_status_t status = orion_image_read(&image, code, limit, orion_image_target(session));
    result = orion_image_result(&image, status);
    if (!result)
        result = orion_module_load(session, &image, NULL, &module);
    orion_image_fini(&image);
    if (!result)
        *module_p = module->handle;
    return result;
}

CUresult orion_hand_cuModuleLoadData(CUmodule *module, const void *image)
{
    return load(module, image, SIZE_MAX);
}

CUresult orion_hand_cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
                                       CUjit_option *options, void **optionValues)
{
    orion_jit_logs_t logs;
    orion_jit_logs_find(&logs, numOptions, options, optionValues); /* empty: the compiler's words go to stderr */
    return load(module, image, SIZE_MAX);
}

CUresult orion_hand_cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin)
{
    return load(module, fatCubin, SIZE_MAX);
}

CUresult orion_hand_cuModuleLoad(CUmodule *module, const char *fname)
{
    void *data;
    size_t bytes;
    if (!module || !fname)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = orion_file_read(fname, &data, &bytes);
    if (result)
        return result;
    result = load(module, data, bytes + 1); /* the NUL behind the file ends PTX text */
    free(data);
    return result;
}

/* A live module and the session; modules of libraries are included. */
static CUresult find(CUmodule handle, orion_session_t **session_p, orion_module_t **module_p)
{
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, session_p);
    if (result)
        return result;
    *module_p = orion_handle_object(ORION_KIND_MODULE, handle);
    return *module_p ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult orion_hand_cuModuleUnload(CUmodule hmod)
{
    orion_session_t *session;
    orion_module_t *module;
    CUresult result = find(hmod, &session, &module);
    if (result)
        return result;
    if (module->library)
        return CUDA_ERROR_INVALID_HANDLE; /* cuLibraryUnload owns it */
    return orion_module_unload(session, module);
}

CUresult orion_hand_cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
    if (!mode)
        return CUDA_ERROR_INVALID_VALUE;
    const char *wanted = getenv("CUDA_MODULE_LOADING");
    *mode = wanted && !strcmp(wanted, "EAGER") ? CU_MODULE_EAGER_LOADING : CU_MODULE_LAZY_LOADING;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{
    orion_session_t *session;
    orion_module_t *module;
    orion_function_t *function;
    CUresult result = find(hmod, &session, &module);
    if (result)
        return result;
    if (!hfunc || !name)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_module_function(session, module, name, &function);
    if (!result)
        *hfunc = function->handle;
    return result;
}

CUresult orion_hand_cuModuleGetFunctionCount(unsigned int *count, CUmodule mod)
{
    orion_session_t *session;
    orion_module_t *module;
    CUresult result = find(mod, &session, &module);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = module->kernel_count;
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuModuleEnumerateFunctions(CUfunction *functions, unsigned int numFunctions, CUmodule mod)
{
    orion_session_t *session;
    orion_module_t *module;
    char *names;
    uint32_t count;
    CUresult result = find(mod, &session, &module);
    if (result)
        return result;
    if (!functions || !numFunctions)
        return CUDA_ERROR_INVALID_VALUE;
    result = orion_module_names(session, module, &names, &count);
    if (result)
        return result;
    const char *name = names;
    for (uint32_t i = 0; i < count && i < numFunctions && !result; i++, name += strlen(name) + 1) {
        orion_function_t *function;
        result = orion_module_function(session, module, name, &function);
        if (!result)
            functions[i] = function->handle;
    }
    free(names);
    return result;
}

CUresult orion_hand_cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name)
{
    orion_session_t *session;
    orion_module_t *module;
    CUresult result = find(hmod, &session, &module);
    if (result)
        return result;
    return orion_module_global(session, module, name, dptr, bytes);
}
