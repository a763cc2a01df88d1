/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads names and parameter layouts from images without compiling them: PTX text, cubins, and plain entries of
 * fatbins. An image that cannot be read so (compressed entries, anything else) is taken as it is: every function name
 * is answered, its parameter layout is unknown, and it has no variables. Behind orion_compiler_t; for the null device.
 */
#ifndef ORION_NULL_LAYOUT_H
#define ORION_NULL_LAYOUT_H

#include "../cpu/compiler.h"

extern const orion_compiler_t orion_layout_reader;

typedef struct orion_layout_kernel {
    char *name;
    orion_function_info_t info;
    struct orion_layout_kernel *next;
} orion_layout_kernel_t;

typedef struct orion_layout {
    orion_image_t image;
    orion_image_global_t *globals;
    const char **names;
    orion_layout_kernel_t *kernels; /* newest first */
    int opaque;
    int failed; /* no memory */
} orion_layout_t;

/* What the readers call. */
orion_layout_kernel_t *orion_layout_add_kernel(orion_layout_t *layout, const char *name, size_t bytes);
void orion_layout_add_global(orion_layout_t *layout, const char *name, size_t name_bytes, uint64_t bytes,
                             uint64_t align, uint32_t flags);
/* Appends a parameter; 0: beyond what CUDA allows. */
int orion_layout_add_param(orion_function_info_t *info, uint64_t offset, uint64_t bytes);

/* ptx.c and cubin.c. 0: this is no such image, or it is damaged. */
int orion_layout_read_ptx(orion_layout_t *layout, const char *text, size_t bytes);
int orion_layout_read_cubin(orion_layout_t *layout, const unsigned char *image, size_t bytes);

#endif
