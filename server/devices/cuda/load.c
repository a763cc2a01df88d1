/* SPDX-License-Identifier: Apache-2.0 */
/* Images go to the driver as they came. */
#include "../null/layout.h"
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FATBIN_MAGIC 0xba55ed50u
#define FATBIN_HEADER 16u
#define WRAPPER_MAGIC 0x466243b1u
#define OBJECTS_MOST 64u /* a client sends no more */
#define JIT_LOG_BYTES 4096

void orion_cuda_explain(const orion_device_t *device, CUresult result, const char *words, char *log, size_t log_bytes)
{
    const int cuda = device->driver.version, *attributes = device->info.attributes;
    const int major = attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR];
    const int minor = attributes[CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR];
    if (result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
        snprintf(log, log_bytes,
                 "the program's PTX is newer than the server's driver, which is of CUDA %d.%d: update the driver, or "
                 "build the program with CUDA %d (Python packages: those for CUDA %d, cupy-cuda%dx)",
                 cuda / 1000, cuda % 1000 / 10, cuda / 1000, cuda / 1000, cuda / 1000);
    else if (result == CUDA_ERROR_NO_BINARY_FOR_GPU)
        snprintf(log, log_bytes,
                 "the program holds machine code for other GPUs than this one, of compute capability %d.%d, and no PTX "
                 "for it: build it with nvcc -gencode arch=compute_%d%d,code=compute_%d%d",
                 major, minor, major, minor, major, minor);
    else
        snprintf(log, log_bytes, "%s%s%s", orion_driver_error(&device->driver, result), words[0] ? ": " : "", words);
}

/* The CUDA runtime's way to hand a fatbin over, and several: the linked result, which may be empty, then the objects that
 * are to be linked where it has no code for the device. */
typedef struct {
    uint32_t magic, version;
    const void *fatbin;
    const void *const *objects; /* NULL-terminated */
} wrapper_t;

/* The fatbins behind the first. Every header is within the image, and so is what it promises. */
static bool find_objects(const unsigned char *image, size_t bytes, const void *objects[OBJECTS_MOST + 1])
{
    size_t count = 0;
    for (size_t at = 0; at < bytes;) {
        uint32_t magic = 0;
        uint64_t body = 0;
        if (bytes - at < FATBIN_HEADER)
            return false;
        memcpy(&magic, image + at, sizeof magic);
        memcpy(&body, image + at + 8, sizeof body);
        if (magic != FATBIN_MAGIC || body > bytes - at - FATBIN_HEADER || count > OBJECTS_MOST)
            return false;
        if (at)
            objects[count - 1] = image + at;
        count++;
        at += FATBIN_HEADER + body;
    }
    objects[count ? count - 1 : 0] = NULL;
    return true;
}

CUresult orion_cuda_module_load(orion_device_t *device, const void *image, size_t bytes, orion_module_t **module_p,
                                char *log, size_t log_bytes)
{
    char words[JIT_LOG_BYTES] = "", none[64];
    CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    void *values[] = {words, (void *)(uintptr_t)(sizeof words - 1)};
    const void *objects[OBJECTS_MOST + 1];
    wrapper_t wrapper = {WRAPPER_MAGIC, 1, image, NULL};
    uint32_t magic = 0;
    if (!log)
        log = none, log_bytes = sizeof none;
    CUresult result = orion_cuda_sticky(device);
    if (result == CUDA_SUCCESS)
        result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    orion_module_t *module = calloc(1, sizeof *module);
    if (!module)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(&magic, image, bytes < sizeof magic ? bytes : sizeof magic);
    const void *code = image;
    if (magic == FATBIN_MAGIC) {
        result = find_objects(image, bytes, objects) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
        if (result != CUDA_SUCCESS)
            goto err_free;
        if (objects[0]) {
            wrapper.version = 2;
            wrapper.objects = objects;
        }
        code = &wrapper;
    }
    result = orion_layout_reader.load(NULL, image, bytes, &module->image, none, sizeof none);
    if (result != CUDA_SUCCESS)
        goto err_free;
    result = orion_cuda_judge(device, device->driver.cuModuleLoadDataEx(&module->handle, code, 2, options, values));
    if (result != CUDA_SUCCESS) {
        orion_cuda_explain(device, result, words, log, log_bytes);
        goto err_unload;
    }
    module->kernel_count = orion_cuda_count_kernels(device, module);
    pthread_mutex_lock(&device->module_lock);
    module->next = device->modules;
    device->modules = module;
    pthread_mutex_unlock(&device->module_lock);
    *module_p = module;
    return CUDA_SUCCESS;

err_unload:
    orion_layout_reader.unload(NULL, module->image.id);
err_free:
    free(module);
    return result;
}
