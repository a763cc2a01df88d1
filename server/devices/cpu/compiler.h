/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the devices ask of a compiler: an image (PTX, cubin, fatbin) becomes an orion_image_t, a kernel of it becomes
 * code on first use. The worker's glue puts the Python translator behind it; tests put C functions behind it.
 * Any executor thread calls it; the device never calls load or function twice at the same time.
 */
#ifndef ORION_CPU_COMPILER_H
#define ORION_CPU_COMPILER_H

#include "../device.h"

struct orion_cpu_kernel; /* kernel.h */

#define ORION_GLOBAL_CONSTANT 1u
#define ORION_GLOBAL_MANAGED 2u

typedef struct orion_image_global {
    const char *name;
    uint64_t offset; /* in the module's data block */
    uint64_t bytes;
    uint32_t flags;
} orion_image_global_t;

/* The eight bytes at `offset` of the data block become block address + addend. */
typedef struct orion_image_relocation {
    uint64_t offset;
    uint64_t addend;
} orion_image_relocation_t;

/* All memory belongs to the compiler and lives until unload(id). */
typedef struct orion_image {
    uint64_t id;
    uint64_t data_bytes; /* size of the block that holds all module variables; may be 0 */
    const void *initial; /* its first initial_bytes bytes; the rest is zero */
    uint64_t initial_bytes;
    uint64_t data_align; /* 0 or at most 512 */
    uint32_t global_count, kernel_count, relocation_count;
    const orion_image_global_t *globals;
    const char *const *kernels;
    const orion_image_relocation_t *relocations;
} orion_image_t;

typedef struct orion_compiler {
    void *self;
    CUresult (*load)(void *self, const void *image, size_t bytes, orion_image_t *image_p, char *log, size_t log_bytes);
    /* kernel_p: const orion_cpu_kernel_t **, valid until unload; the null device passes NULL: only the info. */
    CUresult (*function)(void *self, uint64_t id, const char *name, const struct orion_cpu_kernel **kernel_p,
                         orion_function_info_t *info_p, char *log, size_t log_bytes);
    void (*unload)(void *self, uint64_t id); /* may come from a pool thread */
} orion_compiler_t;

#endif
