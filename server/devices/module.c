/* SPDX-License-Identifier: Apache-2.0 */
/* Modules: an image becomes variables in device memory and functions that are compiled when first asked for. Loading
 * and first use may take long and hold compile_lock; everything else only takes module_lock. Any thread. */
#include "host.h"

#include <stdlib.h>
#include <string.h>

/* Whether what the compiler says about its image can be believed: it works on a client's data. */
static int image_is_sound(const orion_image_t *image)
{
    if (image->initial_bytes > image->data_bytes || image->data_align > ORION_HEAP_ALIGN)
        return 0;
    for (uint32_t i = 0; i < image->global_count; i++)
        if (image->globals[i].offset > image->data_bytes ||
            image->globals[i].bytes > image->data_bytes - image->globals[i].offset)
            return 0;
    for (uint32_t i = 0; i < image->relocation_count; i++)
        if (image->data_bytes < 8 || image->relocations[i].offset > image->data_bytes - 8)
            return 0;
    return 1;
}

static void fill_data(const orion_module_t *module)
{
    const orion_image_t *image = &module->image;
    char *data = (char *)(uintptr_t)module->data;
    if (image->initial_bytes)
        memcpy(data, image->initial, image->initial_bytes);
    memset(data + image->initial_bytes, 0, image->data_bytes - image->initial_bytes);
    for (uint32_t i = 0; i < image->relocation_count; i++) {
        uint64_t address = module->data + image->relocations[i].addend;
        memcpy(data + image->relocations[i].offset, &address, sizeof address);
    }
}

CUresult orion_module_load(orion_device_t *device, const void *bytes_p, size_t bytes, orion_module_t **module_p,
                           char *log, size_t log_bytes)
{
    char unused[1];
    if (!log || !log_bytes) {
        log = unused;
        log_bytes = sizeof unused;
    }
    log[0] = 0;
    CUresult result = orion_host_status(device, NULL, 0);
    if (result != CUDA_SUCCESS)
        return result;
    const orion_compiler_t *compiler = device->compiler;
    if (!compiler)
        return CUDA_ERROR_JIT_COMPILER_NOT_FOUND;
    orion_module_t *module = calloc(1, sizeof *module);
    if (!module)
        return CUDA_ERROR_OUT_OF_MEMORY;
    module->device = device;
    pthread_mutex_lock(&device->compile_lock);
    result = compiler->load(compiler->self, bytes_p, bytes, &module->image, log, log_bytes);
    pthread_mutex_unlock(&device->compile_lock);
    if (result != CUDA_SUCCESS)
        goto err_free;
    result = CUDA_ERROR_INVALID_IMAGE;
    if (!image_is_sound(&module->image))
        goto err_unload;
    if (module->image.data_bytes) {
        result = orion_heap_alloc(&device->heap, module->image.data_bytes, ORION_BLOCK_MODULE, &module->data);
        if (result != CUDA_SUCCESS)
            goto err_unload;
        fill_data(module);
    }
    pthread_mutex_lock(&device->module_lock);
    module->next = device->modules;
    if (module->next)
        module->next->previous = module;
    device->modules = module;
    pthread_mutex_unlock(&device->module_lock);
    *module_p = module;
    return CUDA_SUCCESS;
err_unload:
    compiler->unload(compiler->self, module->image.id);
err_free:
    free(module);
    return result;
}

static void module_free(orion_module_t *module)
{
    orion_device_t *device = module->device;
    while (module->functions) {
        orion_function_t *function = module->functions;
        module->functions = function->next;
        free(function);
    }
    device->compiler->unload(device->compiler->self, module->image.id);
    if (module->data) {
        orion_heap_doom(&device->heap, module->data, ORION_BLOCK_MODULE);
        orion_heap_retire(&device->heap, module->data);
    }
    free(module);
}

static void unload_finish(void *arg, CUresult result)
{
    (void)result;
    module_free(arg);
}

void orion_module_unload(orion_device_t *device, orion_module_t *module)
{
    if (!module)
        return;
    pthread_mutex_lock(&device->module_lock);
    *(module->previous ? &module->previous->next : &device->modules) = module->next;
    if (module->next)
        module->next->previous = module->previous;
    pthread_mutex_unlock(&device->module_lock);
    if (orion_queue_fence(&device->queue, unload_finish, module) == CUDA_SUCCESS)
        return;
    /* No memory to wait with: keep the module until the device is reset or closed. */
    pthread_mutex_lock(&device->module_lock);
    module->previous = NULL;
    module->next = device->modules;
    if (module->next)
        module->next->previous = module;
    device->modules = module;
    pthread_mutex_unlock(&device->module_lock);
}

void orion_module_free_all(orion_device_t *device)
{
    while (device->modules) {
        orion_module_t *module = device->modules;
        device->modules = module->next;
        module_free(module);
    }
}

static orion_function_t *find_function(orion_device_t *device, const orion_module_t *module, const char *name)
{
    pthread_mutex_lock(&device->module_lock);
    orion_function_t *function = module->functions;
    while (function && strcmp(function->name, name) != 0)
        function = function->next;
    pthread_mutex_unlock(&device->module_lock);
    return function;
}

/* Compiles with compile_lock held; a second caller for the same name finds the first one's. */
static CUresult compile(orion_device_t *device, orion_module_t *module, const char *name, orion_function_t **function_p,
                        char *log, size_t log_bytes)
{
    *function_p = find_function(device, module, name);
    if (*function_p)
        return CUDA_SUCCESS;
    size_t name_bytes = strlen(name) + 1;
    orion_function_t *function = calloc(1, sizeof *function + name_bytes);
    if (!function)
        return CUDA_ERROR_OUT_OF_MEMORY;
    function->module = module;
    memcpy(function->name, name, name_bytes);
    const struct orion_cpu_kernel **kernel_p = device->info.runs_kernels ? &function->kernel : NULL;
    const orion_compiler_t *compiler = device->compiler;
    CUresult result = compiler->function(compiler->self, module->image.id, name, kernel_p, &function->info, log,
                                         log_bytes);
    if (result == CUDA_SUCCESS && kernel_p && !function->kernel)
        result = CUDA_ERROR_INVALID_IMAGE;
    if (result == CUDA_SUCCESS && function->info.param_count > ORION_MAX_PARAMS)
        function->info.param_count = ORION_PARAMS_UNKNOWN;
    if (result != CUDA_SUCCESS) {
        free(function);
        return result;
    }
    pthread_mutex_lock(&device->module_lock);
    function->next = module->functions;
    module->functions = function;
    pthread_mutex_unlock(&device->module_lock);
    *function_p = function;
    return CUDA_SUCCESS;
}

CUresult orion_module_function(orion_device_t *device, orion_module_t *module, const char *name,
                               orion_function_t **function_p, orion_function_info_t *info_p, char *log,
                               size_t log_bytes)
{
    char unused[1];
    if (!log || !log_bytes) {
        log = unused;
        log_bytes = sizeof unused;
    }
    log[0] = 0;
    orion_function_t *function = find_function(device, module, name);
    if (!function) {
        pthread_mutex_lock(&device->compile_lock);
        CUresult result = compile(device, module, name, &function, log, log_bytes);
        pthread_mutex_unlock(&device->compile_lock);
        if (result != CUDA_SUCCESS)
            return result;
    }
    *function_p = function;
    if (info_p)
        *info_p = function->info;
    return CUDA_SUCCESS;
}

CUresult orion_module_global(orion_device_t *device, orion_module_t *module, const char *name, uint64_t *address_p,
                             uint64_t *bytes_p)
{
    (void)device;
    for (uint32_t i = 0; i < module->image.global_count; i++) {
        const orion_image_global_t *global = &module->image.globals[i];
        if (strcmp(global->name, name) == 0) {
            *address_p = module->data + global->offset;
            *bytes_p = global->bytes;
            return CUDA_SUCCESS;
        }
    }
    return CUDA_ERROR_NOT_FOUND;
}

uint32_t orion_module_names(orion_device_t *device, orion_module_t *module, uint32_t first, const char **names,
                            uint32_t max)
{
    (void)device;
    uint32_t count = 0;
    for (uint32_t i = first; i < module->image.kernel_count && count < max; i++)
        names[count++] = module->image.kernels[i];
    return count;
}

void orion_module_counts(orion_device_t *device, orion_module_t *module, uint32_t *kernels_p, uint32_t *globals_p)
{
    (void)device;
    *kernels_p = module->image.kernel_count;
    *globals_p = module->image.global_count;
}
