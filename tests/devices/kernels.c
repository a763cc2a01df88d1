/* SPDX-License-Identifier: Apache-2.0 */
/* A compiler whose kernels are C functions of one region. */
#include "devices.h"

#include <sched.h>
#include <string.h>

static uint64_t first_of(const orion_cpu_block_t *block)
{
    return (uint64_t)block->ctaid[0] * block->ntid[0];
}

/* out[i] += value */
static uint32_t k_add(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)y, (void)z;
    kernel_params_t p;
    memcpy(&p, block->params, sizeof p);
    uint32_t *out = host(p.out);
    for (uint32_t x = lo; x < hi; x++) {
        uint64_t i = first_of(block) + x;
        if (i < p.count)
            out[i] += p.value;
    }
    return ORION_CPU_DONE;
}

/* Every thread adds 1 to out[0]; the last block to finish finds the total. */
static uint32_t k_count(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)y, (void)z;
    kernel_params_t p;
    memcpy(&p, block->params, sizeof p);
    __atomic_fetch_add((uint32_t *)host(p.out), hi - lo, __ATOMIC_RELAXED);
    return ORION_CPU_DONE;
}

/* Waits until out[0] is not 0 or the launch is cancelled. */
static uint32_t k_spin(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)lo, (void)hi, (void)y, (void)z;
    kernel_params_t p;
    memcpy(&p, block->params, sizeof p);
    while (!__atomic_load_n((uint32_t *)host(p.out), __ATOMIC_ACQUIRE) &&
           !__atomic_load_n((const uint32_t *)block->launch->cancel, __ATOMIC_RELAXED))
        sched_yield();
    return ORION_CPU_DONE;
}

static uint32_t k_trap(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)lo, (void)hi, (void)y, (void)z;
    orion_cpu_fail(block, ORION_CPU_TRAP, "trap in block %u", block->ctaid[0]);
}

static uint32_t k_assert(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)lo, (void)hi, (void)y, (void)z;
    orion_cpu_fail(block, ORION_CPU_ASSERT, "assertion");
}

/* All blocks meet: each counts itself in out[0] and waits for `value` blocks. */
static uint32_t k_meet(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)lo, (void)hi, (void)y, (void)z;
    kernel_params_t p;
    memcpy(&p, block->params, sizeof p);
    __atomic_fetch_add((uint32_t *)host(p.out), 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n((uint32_t *)host(p.out), __ATOMIC_ACQUIRE) < p.value)
        sched_yield();
    return ORION_CPU_DONE;
}

/* out[0] = address of variable "table", from the module's base */
static uint32_t k_where(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y, uint32_t z)
{
    (void)t0, (void)lo, (void)hi, (void)y, (void)z;
    kernel_params_t p;
    memcpy(&p, block->params, sizeof p);
    *(uint64_t *)host(p.out) = block->module_base + 64;
    return ORION_CPU_DONE;
}

static const orion_cpu_region_fn entries[][1] = {{k_add},    {k_count}, {k_spin}, {k_trap},
                                                 {k_assert}, {k_meet},  {k_where}};
static const char *const names[] = {"add", "count", "spin", "trap", "assert", "meet", "where"};
#define KERNELS (sizeof names / sizeof *names)
static const orion_cpu_sync_t start[1] = {{.kind = ORION_CPU_SYNC_START}};
static orion_cpu_kernel_t kernels[KERNELS];

static const orion_image_global_t globals[] = {{"pointer", 0, 8, 0}, {"table", 64, 256, ORION_GLOBAL_CONSTANT}};
static const orion_image_relocation_t relocations[] = {{0, 64}};
static const uint32_t initial[20] = {[16] = 7, [17] = 8, [18] = 9, [19] = 10};

static CUresult load(void *self, const void *image, size_t bytes, orion_image_t *image_p, char *log, size_t log_bytes)
{
    (void)self;
    if (bytes < 4 || memcmp(image, "C!", 2) != 0) {
        snprintf(log, log_bytes, "not an image of the test's compiler");
        return CUDA_ERROR_INVALID_IMAGE;
    }
    *image_p = (orion_image_t){.id = 1,
                               .data_bytes = 320,
                               .initial = initial,
                               .initial_bytes = sizeof initial,
                               .data_align = 64,
                               .globals = globals,
                               .global_count = 2,
                               .kernels = names,
                               .kernel_count = KERNELS,
                               .relocations = relocations,
                               .relocation_count = 1};
    return CUDA_SUCCESS;
}

static CUresult function(void *self, uint64_t id, const char *name, const orion_cpu_kernel_t **kernel_p,
                         orion_function_info_t *info_p, char *log, size_t log_bytes)
{
    (void)self, (void)id;
    for (size_t i = 0; i < KERNELS; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        kernels[i] = (orion_cpu_kernel_t){.magic = ORION_CPU_KERNEL_MAGIC,
                                          .regions = 1,
                                          .param_bytes = sizeof(kernel_params_t),
                                          .max_threads = 1024,
                                          .entry = entries[i],
                                          .sync = start};
        *info_p = (orion_function_info_t){.max_threads = 1024,
                                          .registers = 16,
                                          .ptx_version = 80,
                                          .binary_version = 80,
                                          .max_dynamic_shared = 48 << 10,
                                          .param_bytes = sizeof(kernel_params_t),
                                          .param_count = 3,
                                          .params = {{0, 8}, {8, 4}, {12, 4}}};
        if (kernel_p)
            *kernel_p = &kernels[i];
        return CUDA_SUCCESS;
    }
    snprintf(log, log_bytes, "no kernel %s", name);
    return CUDA_ERROR_NOT_FOUND;
}

static void unload(void *self, uint64_t id)
{
    (void)self, (void)id;
}

const orion_compiler_t c_compiler = {.load = load, .function = function, .unload = unload};
