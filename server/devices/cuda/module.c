/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels and variables of modules; what the driver cannot tell about them is read from the image itself. */
#include "../null/layout.h"
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MOST (1u << 20)

static bool driver_lists(const orion_driver_t *driver)
{
    return driver->cuModuleGetFunctionCount && driver->cuModuleEnumerateFunctions && driver->cuFuncGetName;
}

uint32_t orion_cuda_count_kernels(orion_device_t *device, const orion_module_t *module)
{
    unsigned count = 0;
    if (driver_lists(&device->driver) &&
        device->driver.cuModuleGetFunctionCount(&count, module->handle) == CUDA_SUCCESS && count && count < NAMES_MOST)
        return count;
    return module->image.kernel_count;
}

/* When they are first asked for: a library has hundreds of kernels, and to enumerate them may load them all. */
static void list_names(orion_device_t *device, orion_module_t *module)
{
    const orion_driver_t *driver = &device->driver;
    const char **names = calloc(module->kernel_count ? module->kernel_count : 1, sizeof *names);
    CUfunction *functions = calloc(module->kernel_count ? module->kernel_count : 1, sizeof *functions);
    uint32_t found = 0;
    if (names && functions && driver_lists(driver) && orion_cuda_enter(device) == CUDA_SUCCESS &&
        driver->cuModuleEnumerateFunctions(functions, module->kernel_count, module->handle) == CUDA_SUCCESS)
        for (uint32_t i = 0; i < module->kernel_count; i++)
            if (driver->cuFuncGetName(&names[found], functions[i]) == CUDA_SUCCESS && names[found])
                found++;
    free(functions);
    if (names && !found)
        while (found < module->kernel_count && found < module->image.kernel_count) {
            names[found] = module->image.kernels[found];
            found++;
        }
    pthread_mutex_lock(&device->module_lock);
    if (!module->names && names) { /* two threads may have asked */
        module->name_count = found;
        module->names = names;
        names = NULL;
    }
    pthread_mutex_unlock(&device->module_lock);
    free(names);
}

static void module_free(orion_module_t *module)
{
    while (module->functions) {
        orion_function_t *function = module->functions;
        module->functions = function->next;
        free(function);
    }
    orion_layout_reader.unload(NULL, module->image.id);
    free(module->names);
    free(module);
}

static void unload_now(orion_device_t *device, orion_cuda_job_t *job)
{
    device->driver.cuModuleUnload(job->module->handle);
    module_free(job->module);
}

typedef struct {
    orion_device_t *device;
    orion_module_t *module;
    orion_cuda_job_t *job;
} leaving_t;

/* A module whose work was dropped goes with its context: a launch may still be in the driver. */
static void work_is_done(void *arg, CUresult result)
{
    leaving_t *leaving = arg;
    if (result == CUDA_SUCCESS) {
        orion_cuda_job(leaving->device, leaving->job);
    } else {
        pthread_mutex_lock(&leaving->device->module_lock);
        leaving->module->next = leaving->device->modules;
        leaving->device->modules = leaving->module;
        pthread_mutex_unlock(&leaving->device->module_lock);
        free(leaving->job);
    }
    free(leaving);
}

void orion_cuda_module_unload(orion_device_t *device, orion_module_t *module)
{
    leaving_t *leaving = malloc(sizeof *leaving);
    orion_cuda_job_t *job = calloc(1, sizeof *job);
    orion_spans_drop_module(device, module);
    if (!leaving || !job) {
        free(leaving);
        free(job);
        return; /* it goes with its context */
    }
    pthread_mutex_lock(&device->module_lock);
    for (orion_module_t **at = &device->modules; *at; at = &(*at)->next)
        if (*at == module) {
            *at = module->next;
            break;
        }
    pthread_mutex_unlock(&device->module_lock);
    job->run = unload_now;
    job->module = module;
    *leaving = (leaving_t){device, module, job};
    if (orion_cuda_fence(device, work_is_done, leaving) != CUDA_SUCCESS)
        work_is_done(leaving, CUDA_ERROR_OUT_OF_MEMORY);
}

/* After a reset and at the end: the context took the driver's part of them along. */
void orion_cuda_modules_forget(orion_device_t *device)
{
    while (device->modules) {
        orion_module_t *module = device->modules;
        device->modules = module->next;
        module_free(module);
    }
}

/* Offsets and sizes of parameters: the driver's word (12.4), else the image's. */
static CUresult read_params(orion_device_t *device, orion_module_t *module, orion_function_t *function, char *log,
                            size_t log_bytes)
{
    orion_function_info_t *info = &function->info;
    size_t offset, bytes;
    char none[64];
    if (device->driver.cuFuncGetParamInfo) {
        info->param_count = info->param_bytes = 0;
        while (info->param_count < ORION_MAX_PARAMS &&
               device->driver.cuFuncGetParamInfo(function->handle, info->param_count, &offset, &bytes) ==
                   CUDA_SUCCESS) {
            info->params[info->param_count++] = (orion_param_info_t){.offset = (uint16_t)offset,
                                                                     .bytes = (uint16_t)bytes};
            if (offset + bytes > info->param_bytes)
                info->param_bytes = (uint32_t)(offset + bytes);
        }
        return CUDA_SUCCESS;
    }
    if (orion_layout_reader.function(NULL, module->image.id, function->name, NULL, info, none, sizeof none) ==
            CUDA_SUCCESS &&
        info->param_count != ORION_PARAMS_UNKNOWN)
        return CUDA_SUCCESS;
    snprintf(log, log_bytes,
             "the parameters of %s are unknown: the driver (CUDA %d.%d) does not tell them and the image is "
             "compressed; CUDA 12.4 or later does",
             function->name, device->driver.version / 1000, device->driver.version % 1000 / 10);
    return CUDA_ERROR_NOT_SUPPORTED;
}

static void read_attributes(orion_device_t *device, orion_function_t *function)
{
    static const struct {
        CUfunction_attribute attribute;
        size_t offset;
    } wanted[] = {
        {CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, offsetof(orion_function_info_t, max_threads)},
        {CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, offsetof(orion_function_info_t, static_shared)},
        {CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, offsetof(orion_function_info_t, const_bytes)},
        {CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, offsetof(orion_function_info_t, local_bytes)},
        {CU_FUNC_ATTRIBUTE_NUM_REGS, offsetof(orion_function_info_t, registers)},
        {CU_FUNC_ATTRIBUTE_PTX_VERSION, offsetof(orion_function_info_t, ptx_version)},
        {CU_FUNC_ATTRIBUTE_BINARY_VERSION, offsetof(orion_function_info_t, binary_version)},
        {CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, offsetof(orion_function_info_t, max_dynamic_shared)},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        int value = 0;
        if (device->driver.cuFuncGetAttribute(&value, wanted[i].attribute, function->handle) == CUDA_SUCCESS)
            *(int32_t *)((char *)&function->info + wanted[i].offset) = value;
    }
    function->shared_allowed = (uint32_t)function->info.max_dynamic_shared;
}

static orion_function_t *find_function(orion_device_t *device, orion_module_t *module, const char *name)
{
    orion_function_t *found = NULL;
    pthread_mutex_lock(&device->module_lock);
    for (orion_function_t *f = module->functions; f && !found; f = f->next)
        if (strcmp(f->name, name) == 0)
            found = f;
    pthread_mutex_unlock(&device->module_lock);
    return found;
}

CUresult orion_cuda_module_function(orion_device_t *device, orion_module_t *module, const char *name,
                                    orion_function_t **function_p, orion_function_info_t *info_p, char *log,
                                    size_t log_bytes)
{
    char none[64];
    if (!log)
        log = none, log_bytes = sizeof none;
    orion_function_t *function = find_function(device, module, name);
    if (!function) {
        CUresult result = orion_cuda_enter(device);
        if (result != CUDA_SUCCESS)
            return result;
        function = calloc(1, sizeof *function + strlen(name) + 1);
        if (!function)
            return CUDA_ERROR_OUT_OF_MEMORY;
        strcpy(function->name, name);
        result = orion_cuda_judge(device, device->driver.cuModuleGetFunction(&function->handle, module->handle, name));
        if (result == CUDA_SUCCESS)
            result = read_params(device, module, function, log, log_bytes);
        else
            snprintf(log, log_bytes, "%s: %s", name, orion_driver_error(&device->driver, result));
        if (result != CUDA_SUCCESS) {
            free(function);
            return result;
        }
        read_attributes(device, function);
        pthread_mutex_lock(&device->module_lock);
        orion_function_t *same = module->functions; /* two threads may have asked */
        while (same && strcmp(same->name, name) != 0)
            same = same->next;
        if (same) {
            free(function);
            function = same;
        } else {
            function->next = module->functions;
            module->functions = function;
        }
        pthread_mutex_unlock(&device->module_lock);
    }
    if (info_p)
        *info_p = function->info;
    *function_p = function;
    return CUDA_SUCCESS;
}

CUresult orion_cuda_module_global(orion_device_t *device, orion_module_t *module, const char *name, uint64_t *address_p,
                                  uint64_t *bytes_p)
{
    CUdeviceptr address;
    size_t bytes;
    CUresult result = orion_cuda_enter(device);
    if (result == CUDA_SUCCESS)
        result = orion_cuda_judge(device, device->driver.cuModuleGetGlobal(&address, &bytes, module->handle, name));
    if (result != CUDA_SUCCESS)
        return result;
    if (!orion_span_add(device, &(orion_span_t){address, bytes, ORION_SPAN_GLOBAL, module}))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *address_p = address;
    *bytes_p = bytes;
    return CUDA_SUCCESS;
}

uint32_t orion_cuda_module_names(orion_device_t *device, orion_module_t *module, uint32_t first, const char **names,
                                 uint32_t max)
{
    uint32_t count = 0;
    pthread_mutex_lock(&device->module_lock);
    const bool listed = module->names != NULL;
    pthread_mutex_unlock(&device->module_lock);
    if (!listed)
        list_names(device, module);
    while (count < max && first + count < module->name_count) {
        names[count] = module->names[first + count];
        count++;
    }
    return count;
}

void orion_cuda_module_counts(orion_device_t *device, orion_module_t *module, uint32_t *kernels_p, uint32_t *globals_p)
{
    (void)device;
    *kernels_p = module->kernel_count;
    *globals_p = module->image.global_count;
}
