/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries and kernels, which belong to no context. The server knows modules only: a library is loaded as one, and
 * again when a reset of the context took it away. Variables then have their initial values, as in CUDA.
 */
#include "objects.h"

#include <stdlib.h>
#include <string.h>

CUresult orion_library_load(orion_session_t *session, const void *code, int preserved, orion_library_t **library_p)
{
    void *handle;
    uint64_t number;
    orion_module_t *module;
    CUresult result;

    orion_library_t *library = calloc(1, sizeof *library);
    if (!library)
        return CUDA_ERROR_OUT_OF_MEMORY;
    orion_image_status_t status = orion_image_read(&library->image, code, SIZE_MAX, orion_image_target(session));
    if (!status && !preserved)
        status = orion_image_keep(&library->image);
    result = orion_image_result(&library->image, status);
    if (result)
        goto err_free;
    result = orion_handle_new(session, ORION_KIND_LIBRARY, &handle, &number);
    if (result)
        goto err_free;
    library->handle = handle;
    library->preserved = preserved;
    library->epoch = session->epoch - 1; /* not loaded yet */
    result = orion_library_bind(session, library, &module);
    if (result)
        goto err_handle;
    orion_handle_set_object(ORION_KIND_LIBRARY, handle, library);
    *library_p = library;
    return CUDA_SUCCESS;
err_handle:
    orion_handle_drop(session, ORION_KIND_LIBRARY, handle);
err_free:
    orion_image_fini(&library->image);
    free(library);
    return result;
}

CUresult orion_library_bind(orion_session_t *session, orion_library_t *library, orion_module_t **module_p)
{
    CUresult result = CUDA_SUCCESS;
    orion_lock(&library->lock);
    if (library->epoch != session->epoch || !library->module) {
        uint32_t epoch = session->epoch;
        orion_module_t *module;
        result = orion_module_load(session, &library->image, library, &module);
        if (!result) {
            library->module = module;
            library->epoch = epoch;
        }
    }
    if (!result)
        *module_p = library->module;
    orion_unlock(&library->lock);
    return result;
}

CUresult orion_kernel_bind(orion_session_t *session, orion_kernel_t *kernel, orion_function_t **function_p)
{
    uint32_t epoch = session->epoch;
    orion_module_t *module;
    orion_function_t *function;

    CUresult result = orion_library_bind(session, kernel->library, &module);
    if (!result)
        result = orion_module_function(session, module, kernel->name, &function);
    if (result)
        return result;
    if (kernel->max_dynamic_shared >= 0)
        function->max_dynamic_shared = kernel->max_dynamic_shared;
    kernel->function = function;
    /* release: pairs with the acquire in orion_function_resolve() */
    __atomic_store_n(&kernel->epoch, epoch, __ATOMIC_RELEASE);
    *function_p = function;
    return CUDA_SUCCESS;
}

CUresult orion_library_kernel(orion_session_t *session, orion_library_t *library, const char *name,
                              orion_kernel_t **kernel_p)
{
    orion_function_t *function;
    orion_kernel_t *kernel;
    uint64_t number;
    void *handle;

    orion_lock(&library->lock);
    for (kernel = library->kernels; kernel && strcmp(kernel->name, name); kernel = kernel->next) {
    }
    orion_unlock(&library->lock);
    if (kernel) {
        *kernel_p = kernel;
        return CUDA_SUCCESS;
    }

    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    kernel = calloc(1, sizeof *kernel);
    if (!kernel)
        return result;
    kernel->name = strdup(name);
    if (!kernel->name)
        goto err_free;
    kernel->library = library;
    kernel->max_dynamic_shared = -1;
    /* Binds at once: a name that does not exist is found out here. */
    result = orion_kernel_bind(session, kernel, &function);
    if (!result)
        result = orion_handle_new(session, ORION_KIND_KERNEL, &handle, &number);
    if (result)
        goto err_free;
    kernel->handle = handle;
    orion_handle_set_object(ORION_KIND_KERNEL, handle, kernel);
    orion_lock(&library->lock);
    kernel->next = library->kernels;
    library->kernels = kernel;
    orion_unlock(&library->lock);
    *kernel_p = kernel;
    return CUDA_SUCCESS;
err_free:
    free(kernel->name);
    free(kernel);
    return result;
}

CUresult orion_library_unload(orion_session_t *session, orion_library_t *library)
{
    CUresult result = CUDA_SUCCESS;
    orion_handle_drop(session, ORION_KIND_LIBRARY, library->handle);
    for (orion_kernel_t *kernel = library->kernels, *next; kernel; kernel = next) {
        next = kernel->next;
        orion_handle_drop(session, ORION_KIND_KERNEL, kernel->handle);
        free(kernel->name);
        free(kernel);
    }
    if (library->module && library->epoch == session->epoch)
        result = orion_module_unload(session, library->module);
    orion_image_fini(&library->image);
    free(library);
    return result;
}
