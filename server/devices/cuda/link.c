/* SPDX-License-Identifier: Apache-2.0 */
/* Linking by the driver: it gets the inputs and the options as the client gave them, and tells its words. */
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGS 4u /* options of our own */

/* Options whose value is a number. The others point to memory, and the client's pointers mean nothing here. */
static bool is_number(uint32_t option)
{
    switch (option) {
    case CU_JIT_MAX_REGISTERS:
    case CU_JIT_THREADS_PER_BLOCK:
    case CU_JIT_OPTIMIZATION_LEVEL:
    case CU_JIT_TARGET_FROM_CUCONTEXT:
    case CU_JIT_TARGET:
    case CU_JIT_FALLBACK_STRATEGY:
    case CU_JIT_GENERATE_DEBUG_INFO:
    case CU_JIT_LOG_VERBOSE:
    case CU_JIT_GENERATE_LINE_INFO:
    case CU_JIT_CACHE_MODE:
    case CU_JIT_LTO:
    case CU_JIT_FTZ:
    case CU_JIT_PREC_DIV:
    case CU_JIT_PREC_SQRT:
    case CU_JIT_FMA:
    case CU_JIT_OPTIMIZE_UNUSED_DEVICE_VARIABLES:
    case CU_JIT_POSITION_INDEPENDENT_CODE:
    case CU_JIT_MIN_CTA_PER_SM:
    case CU_JIT_MAX_THREADS_PER_BLOCK:
    case CU_JIT_OVERRIDE_DIRECTIVE_VALUES:
    case CU_JIT_SPLIT_COMPILE:
        return true;
    default:
        return false;
    }
}

typedef struct {
    unsigned count;
    CUjit_option option[ORION_LINK_OPTIONS + LOGS];
    void *value[ORION_LINK_OPTIONS + LOGS];
} options_t;

static void add(options_t *to, CUjit_option option, void *value)
{
    to->option[to->count] = option;
    to->value[to->count++] = value;
}

static bool add_all(options_t *to, const orion_jit_options_t *from, orion_jit_link_t *link)
{
    for (uint32_t i = 0; i < from->count; i++) {
        if (!is_number(from->entry[i].option)) {
            snprintf(link->error, sizeof link->error,
                     "JIT option %u is not served: options that point to the program's memory do not reach the server",
                     from->entry[i].option);
            return false;
        }
        add(to, (CUjit_option)from->entry[i].option, (void *)(uintptr_t)from->entry[i].value);
    }
    return true;
}

static CUresult add_input(orion_device_t *device, CUlinkState state, const orion_jit_input_t *input,
                          orion_jit_link_t *link)
{
    options_t options = {0};
    if (!add_all(&options, &input->options, link))
        return CUDA_ERROR_NOT_SUPPORTED;
    return device->driver.cuLinkAddData(state, (CUjitInputType)input->type, (void *)(uintptr_t)input->data,
                                        input->bytes, input->name, options.count, options.option, options.value);
}

CUresult orion_cuda_link(orion_device_t *device, orion_jit_link_t *link, void **image_p, size_t *bytes_p)
{
    const orion_driver_t *driver = &device->driver;
    char words[ORION_LINK_LOG] = "";
    options_t options = {0};
    CUlinkState state;
    void *image = NULL;
    size_t bytes = 0;
    CUresult result = orion_cuda_sticky(device);
    if (result == CUDA_SUCCESS)
        result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    add(&options, CU_JIT_ERROR_LOG_BUFFER, words);
    add(&options, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, (void *)(uintptr_t)(sizeof words - 1));
    add(&options, CU_JIT_INFO_LOG_BUFFER, link->info);
    add(&options, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, (void *)(uintptr_t)(sizeof link->info - 1));
    if (!add_all(&options, &link->options, link))
        return CUDA_ERROR_NOT_SUPPORTED;
    result = driver->cuLinkCreate(options.count, options.option, options.value, &state);
    if (result != CUDA_SUCCESS)
        goto out;
    for (uint32_t i = 0; i < link->input_count && result == CUDA_SUCCESS; i++)
        result = add_input(device, state, &link->inputs[i], link);
    if (result == CUDA_SUCCESS)
        result = driver->cuLinkComplete(state, &image, &bytes); /* the state's own memory */
    if (result == CUDA_SUCCESS) {
        *image_p = malloc(bytes ? bytes : 1);
        *bytes_p = bytes;
        if (*image_p)
            memcpy(*image_p, image, bytes);
        else
            result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    driver->cuLinkDestroy(state);
out:
    if (orion_cuda_judge(device, result) != CUDA_SUCCESS && !link->error[0])
        orion_cuda_explain(device, result, words, link->error, sizeof link->error);
    return result;
}
