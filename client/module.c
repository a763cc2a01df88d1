/* SPDX-License-Identifier: Apache-2.0 */
/* Modules and their functions. What a launch needs to know of a function comes with it, in one round trip. */
#include "bulk.h"
#include "events.h"
#include "guard.h"
#include "objects.h"
#include "orion_generated/blobs.h"
#include "orion_generated/calls.h"
#include "ranges.h"
#include "say.h"

#include <stdlib.h>
#include <string.h>

#define INFO_MOST ORION_REPLY_DATA
#define LAYOUT_UNKNOWN UINT32_MAX
#define FUNCTION_PRINTS 1u

orion_image_target_t orion_image_target(const orion_session_t *session)
{
    const int32_t *attributes = session->device.attributes;
    return (orion_image_target_t){
        .sm = (uint32_t)(10 * attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR] +
                         attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR]),
    };
}

CUresult orion_image_result(const orion_image_t *image, orion_image_status_t status)
{
    static const CUresult results[] = {
        [ORION_IMAGE_OK] = CUDA_SUCCESS,
        [ORION_IMAGE_INVALID] = CUDA_ERROR_INVALID_IMAGE,
        [ORION_IMAGE_NO_BINARY] = CUDA_ERROR_NO_BINARY_FOR_GPU,
        [ORION_IMAGE_TOO_BIG] = CUDA_ERROR_INVALID_IMAGE,
        [ORION_IMAGE_NO_MEMORY] = CUDA_ERROR_OUT_OF_MEMORY,
    };
    if (status)
        orion_say("%s", image->why);
    return results[status];
}

CUresult orion_module_load(orion_session_t *session, const orion_image_t *image, orion_library_t *library,
                           orion_module_t **module_p)
{
    uint32_t upload, kernels = 0, globals = 0;
    void *handle;
    CUresult result;

    orion_module_t *module = calloc(1, sizeof *module);
    if (!module)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = orion_handle_new(session, ORION_KIND_MODULE, &handle, &module->wire);
    if (result)
        goto err_free;
    result = orion_bulk_upload(session, image, &upload);
    if (!result)
        result = orion_call_orionModuleLoad(session, upload, module->wire, &kernels, &globals);
    if (result)
        goto err_handle;
    module->handle = handle;
    module->kernel_count = kernels;
    module->global_count = globals;
    module->library = library;
    module->runtime = library && library->preserved && image->from_wrapper;
    orion_handle_set_object(ORION_KIND_MODULE, handle, module);
    *module_p = module;
    return CUDA_SUCCESS;
err_handle:
    orion_handle_drop(session, ORION_KIND_MODULE, handle);
err_free:
    free(module);
    return result;
}

static void forget_module(orion_session_t *session, orion_module_t *module)
{
    orion_handle_drop(session, ORION_KIND_MODULE, module->handle);
    for (orion_function_t *function = module->functions, *next; function; function = next) {
        next = function->next;
        orion_handle_drop(session, ORION_KIND_FUNCTION, function->handle);
        free(function->name);
        free(function);
    }
    for (orion_global_t *global = module->globals, *next; global; global = next) {
        next = global->next;
        orion_ranges_remove(global->address, 1u << ORION_RANGE_GLOBAL | 1u << ORION_RANGE_MANAGED, NULL);
        free(global);
    }
    free(module);
}

CUresult orion_module_unload(orion_session_t *session, orion_module_t *module)
{
    CUresult result = orion_call_cuModuleUnload(session, module->wire);
    forget_module(session, module);
    return result;
}

static void forget_visited(void *argument, void *handle, void *object)
{
    (void)handle;
    if (object)
        forget_module(argument, object);
}

void orion_modules_forget(orion_session_t *session)
{
    orion_handle_each(ORION_KIND_MODULE, forget_visited, session);
}

static orion_function_t *find_function(orion_module_t *module, const char *name)
{
    for (orion_function_t *function = module->functions; function; function = function->next)
        if (!strcmp(function->name, name))
            return function;
    return NULL;
}

/* Reads the reply of orionModuleFunction. */
static CUresult read_info(orion_session_t *session, const uint8_t *info, size_t bytes, const char *name,
                          orion_function_t **function_p)
{
    orion_cursor_t cursor = orion_cursor_over(info, bytes);
    orion_function_blob_t blob;
    orion_cursor_copy_out(&cursor, &blob, sizeof blob);
    /* A layout that the device could not find out: launches send no parameters, and the device judges. */
    uint32_t count = blob.parameter_count == LAYOUT_UNKNOWN ? 0 : blob.parameter_count;
    if (!orion_cursor_ok(&cursor) || count > orion_cursor_left(&cursor) / sizeof(orion_parameter_blob_t))
        return orion_session_lost(session, ORION_PROTOCOL);

    orion_function_t *function = calloc(1, sizeof *function + count * sizeof function->parameters[0]);
    if (function)
        function->name = strdup(name);
    if (!function || !function->name) {
        free(function);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = (int32_t)blob.max_threads_per_block;
    function->attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES] = (int32_t)blob.shared_bytes;
    function->attributes[CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES] = (int32_t)blob.const_bytes;
    function->attributes[CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES] = (int32_t)blob.local_bytes;
    function->attributes[CU_FUNC_ATTRIBUTE_NUM_REGS] = (int32_t)blob.registers;
    function->attributes[CU_FUNC_ATTRIBUTE_PTX_VERSION] = (int32_t)blob.ptx_version;
    function->attributes[CU_FUNC_ATTRIBUTE_BINARY_VERSION] = (int32_t)blob.binary_version;
    function->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES] = (int32_t)blob.max_dynamic_shared_bytes;
    function->attributes[CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT] = -1;
    function->parameter_count = count;
    function->parameter_bytes = blob.parameter_bytes;
    for (uint32_t i = 0; i < count; i++) {
        orion_parameter_t *parameter = &function->parameters[i];
        parameter->offset = orion_cursor_get_u32(&cursor);
        parameter->size = orion_cursor_get_u32(&cursor);
        if (parameter->offset > blob.parameter_bytes || parameter->size > blob.parameter_bytes - parameter->offset) {
            free(function->name);
            free(function);
            return orion_session_lost(session, ORION_PROTOCOL);
        }
    }
    if (blob.flags & FUNCTION_PRINTS)
        orion_events_start(session); /* without the thread, text comes out at the next synchronisation */
    *function_p = function;
    return CUDA_SUCCESS;
}

CUresult orion_module_function(orion_session_t *session, orion_module_t *module, const char *name,
                               orion_function_t **function_p)
{
    uint8_t info[INFO_MOST];
    uint32_t bytes = 0;
    uint64_t wire;
    void *handle;
    orion_function_t *function;
    CUresult result = CUDA_SUCCESS;

    orion_lock(&module->lock);
    function = find_function(module, name);
    orion_unlock(&module->lock);
    if (function)
        goto out;
    /* Not under the lock: the server may compile. A second thread that asks meanwhile gets a handle of its own. */
    result = orion_handle_new(session, ORION_KIND_FUNCTION, &handle, &wire);
    if (result)
        return result;
    result = orion_call_orionModuleFunction(session, module->wire, wire, name, info, sizeof info, &bytes);
    if (!result)
        result = read_info(session, info, bytes, name, &function);
    if (result) {
        orion_handle_drop(session, ORION_KIND_FUNCTION, handle);
        return result;
    }
    function->handle = handle;
    function->wire = wire;
    function->module = module;
    orion_handle_set_object(ORION_KIND_FUNCTION, handle, function);
    orion_lock(&module->lock);
    function->next = module->functions;
    module->functions = function;
    orion_unlock(&module->lock);
out:
    *function_p = function;
    return CUDA_SUCCESS;
}

CUresult orion_module_global(orion_session_t *session, orion_module_t *module, const char *name, CUdeviceptr *address_p,
                             size_t *bytes_p)
{
    CUdeviceptr address = 0;
    size_t bytes = 0;
    if (!name || (!address_p && !bytes_p))
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = orion_call_orionModuleGlobal(session, module->wire, name, &address, &bytes);
    if (result)
        return result;
    if (!orion_guard_take(session, address, bytes))
        return CUDA_ERROR_INVALID_ADDRESS_SPACE;
    if (!orion_ranges_add(ORION_RANGE_GLOBAL, address, bytes, 0))
        return CUDA_ERROR_OUT_OF_MEMORY;
    orion_global_t *global = malloc(sizeof *global);
    if (global) {
        orion_lock(&module->lock);
        *global = (orion_global_t){module->globals, address};
        module->globals = global;
        orion_unlock(&module->lock);
    }
    if (address_p)
        *address_p = address;
    if (bytes_p)
        *bytes_p = bytes;
    return CUDA_SUCCESS;
}

CUresult orion_module_names(orion_session_t *session, orion_module_t *module, char **names_p, uint32_t *count_p)
{
    char *names = NULL;
    size_t used = 0;
    uint32_t seen = 0;

    while (seen < module->kernel_count) {
        char page[INFO_MOST];
        uint32_t bytes = 0, count = 0, found = 0;
        CUresult result = orion_call_orionModuleNames(session, module->wire, seen, &count, page, sizeof page, &bytes);
        if (!result && (!count || !bytes || page[bytes - 1]))
            break; /* no more */
        char *larger = result ? NULL : realloc(names, used + bytes);
        if (!larger) {
            free(names);
            return result ? result : CUDA_ERROR_OUT_OF_MEMORY;
        }
        names = larger;
        for (size_t at = 0; at < bytes && found < count; found++) {
            size_t length = strlen(page + at) + 1;
            memcpy(names + used, page + at, length);
            used += length;
            at += length;
        }
        seen += found;
    }
    *names_p = names;
    *count_p = seen;
    return CUDA_SUCCESS;
}
