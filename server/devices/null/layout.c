/* SPDX-License-Identifier: Apache-2.0 */
/* The layout reader as a compiler; see layout.h. Images are a client's data: every offset is checked. */
#include "layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FATBIN_MAGIC 0xba55ed50u
#define ELF_MAGIC 0x464c457fu
#define PARAM_LIMIT 32764u         /* bytes of all parameters */
#define GLOBALS_LIMIT (1ull << 32) /* bytes of all variables */

orion_layout_kernel_t *orion_layout_add_kernel(orion_layout_t *layout, const char *name, size_t bytes)
{
    orion_layout_kernel_t *kernel = calloc(1, sizeof *kernel);
    char *copy = kernel ? strndup(name, bytes) : NULL;
    const char **names = copy ? realloc(layout->names, (layout->image.kernel_count + 1) * sizeof *names) : NULL;
    if (!names) {
        free(copy);
        free(kernel);
        layout->failed = 1;
        return NULL;
    }
    layout->names = names;
    layout->image.kernels = names;
    names[layout->image.kernel_count++] = copy;
    kernel->name = copy;
    kernel->info = (orion_function_info_t){
        .max_threads = 1024, .registers = 32, .ptx_version = 80, .binary_version = 80, .max_dynamic_shared = 48 << 10};
    kernel->next = layout->kernels;
    layout->kernels = kernel;
    return kernel;
}

void orion_layout_add_global(orion_layout_t *layout, const char *name, size_t name_bytes, uint64_t bytes,
                             uint64_t align, uint32_t flags)
{
    orion_image_t *image = &layout->image;
    if (align == 0 || align > 512 || (align & (align - 1)))
        align = 512;
    uint64_t offset = (image->data_bytes + align - 1) & ~(align - 1);
    if (bytes == 0 || bytes > GLOBALS_LIMIT - offset)
        return;
    orion_image_global_t *globals = realloc(layout->globals, (image->global_count + 1) * sizeof *globals);
    if (globals)
        image->globals = layout->globals = globals;
    char *copy = globals ? strndup(name, name_bytes) : NULL;
    if (!copy) {
        layout->failed = 1;
        return;
    }
    globals[image->global_count++] = (orion_image_global_t){
        .name = copy, .offset = offset, .bytes = bytes, .flags = flags};
    image->data_bytes = offset + bytes;
}

int orion_layout_add_param(orion_function_info_t *info, uint64_t offset, uint64_t bytes)
{
    if (info->param_count >= ORION_MAX_PARAMS || offset > PARAM_LIMIT || bytes > PARAM_LIMIT - offset)
        return 0;
    info->params[info->param_count++] = (orion_param_info_t){.offset = (uint16_t)offset, .bytes = (uint16_t)bytes};
    if (offset + bytes > info->param_bytes)
        info->param_bytes = (uint32_t)(offset + bytes);
    return 1;
}

static uint32_t word(const unsigned char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static uint64_t word64(const unsigned char *p)
{
    uint64_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* The first entry that is not compressed, cubins before PTX. Offsets of the entry header: kind 0, header size 4,
 * payload size 8, compressed size 16, flags 40. */
static int read_fatbin(orion_layout_t *layout, const unsigned char *image, size_t bytes)
{
    if (bytes < 16)
        return 0;
    for (uint32_t wanted = 2; wanted >= 1; wanted--) {
        size_t at = 16;
        while (bytes - at >= 64) {
            const unsigned char *entry = image + at;
            uint64_t header = word(entry + 4), payload = word64(entry + 8);
            if (header < 64 || header > bytes - at || payload > bytes - at - header)
                break;
            uint32_t kind = word(entry) & 0xffffu;
            if (kind == wanted && word(entry + 16) == 0 && !(word64(entry + 40) & 0xa000u)) {
                const unsigned char *p = entry + header;
                if (kind == 2 ? orion_layout_read_cubin(layout, p, payload)
                              : orion_layout_read_ptx(layout, (const char *)p, payload))
                    return 1;
            }
            at += header + payload;
        }
    }
    return 0;
}

static void layout_free(orion_layout_t *layout)
{
    while (layout->kernels) {
        orion_layout_kernel_t *kernel = layout->kernels;
        layout->kernels = kernel->next;
        free(kernel->name);
        free(kernel);
    }
    for (uint32_t i = 0; i < layout->image.global_count; i++)
        free((char *)layout->globals[i].name);
    free(layout->globals);
    free(layout->names);
    free(layout);
}

static CUresult reader_load(void *self, const void *image, size_t bytes, orion_image_t *image_p, char *log,
                            size_t log_bytes)
{
    (void)self;
    orion_layout_t *layout = calloc(1, sizeof *layout);
    if (!layout)
        return CUDA_ERROR_OUT_OF_MEMORY;
    int known;
    uint32_t magic = bytes >= 4 ? word(image) : 0;
    if (magic == FATBIN_MAGIC)
        known = read_fatbin(layout, image, bytes);
    else if (magic == ELF_MAGIC)
        known = orion_layout_read_cubin(layout, image, bytes);
    else
        known = orion_layout_read_ptx(layout, image, bytes);
    if (layout->failed) {
        layout_free(layout);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (!known) {
        layout->opaque = 1;
        snprintf(log, log_bytes, "null device: the image holds no plain PTX or cubin; parameter layouts are unknown");
    }
    layout->image.id = (uint64_t)(uintptr_t)layout;
    *image_p = layout->image;
    return CUDA_SUCCESS;
}

static CUresult reader_function(void *self, uint64_t id, const char *name, const struct orion_cpu_kernel **kernel_p,
                                orion_function_info_t *info_p, char *log, size_t log_bytes)
{
    (void)self;
    orion_layout_t *layout = (orion_layout_t *)(uintptr_t)id;
    if (kernel_p) {
        snprintf(log, log_bytes, "the layout reader makes no code for %s", name);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    for (orion_layout_kernel_t *kernel = layout->kernels; kernel; kernel = kernel->next) {
        if (strcmp(kernel->name, name) == 0) {
            *info_p = kernel->info;
            return CUDA_SUCCESS;
        }
    }
    if (!layout->opaque) {
        snprintf(log, log_bytes, "the image has no kernel %s", name);
        return CUDA_ERROR_NOT_FOUND;
    }
    *info_p = (orion_function_info_t){.max_threads = 1024,
                                      .registers = 32,
                                      .ptx_version = 80,
                                      .binary_version = 80,
                                      .max_dynamic_shared = 48 << 10,
                                      .param_count = ORION_PARAMS_UNKNOWN};
    return CUDA_SUCCESS;
}

static void reader_unload(void *self, uint64_t id)
{
    (void)self;
    layout_free((orion_layout_t *)(uintptr_t)id);
}

const orion_compiler_t orion_layout_reader = {
    .load = reader_load,
    .function = reader_function,
    .unload = reader_unload,
};
