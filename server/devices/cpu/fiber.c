/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fibers: each thread of a block on a stack of its own, for kernels that wait inside called functions. The
 * scheduler runs a thread until its next wait; a switch is two dozen instructions.
 */
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* Recursion in device code is rare and shallow; untouched pages cost nothing. */
#define STACK_BYTES ((size_t)256 << 10)
#define GUARD_BYTES ((size_t)4096)

struct orion_cpu_fibers {
    orion_cpu_block_t *block;
    uint8_t *stacks;
    uint32_t capacity;
    uint32_t current;
    ucontext_t scheduler;
    ucontext_t *context; /* [capacity] */
    uint8_t *begun;
};

/* ucontext saves the signal mask with a system call at each switch; the jump buffers do not, so they take over once
 * a fiber has begun. */
typedef struct {
    jmp_buf fiber, scheduler;
} switch_t;

static void body(uint32_t low, uint32_t high)
{
    struct orion_cpu_fibers *fibers = (void *)(uintptr_t)((uint64_t)high << 32 | low);
    orion_cpu_block_t *block = fibers->block;
    const uint32_t t = fibers->current, nx = block->ntid[0], ny = block->ntid[1];
    const uint32_t row = t / nx, x = t % nx;

    block->kernel->entry[0](block, row * nx, x, x + 1, row % ny, row / ny);
    orion_cpu_fiber_exit(block, t);
}

static switch_t *switches(struct orion_cpu_fibers *fibers)
{
    return (switch_t *)(void *)(fibers->context + fibers->capacity);
}

uint32_t orion_cpu_fiber_run(orion_cpu_block_t *block, uint32_t t)
{
    struct orion_cpu_fibers *fibers = block->fibers;
    switch_t *s = switches(fibers) + t;

    fibers->current = t;
    if (_setjmp(s->scheduler) == 0) {
        if (fibers->begun[t])
            _longjmp(s->fiber, 1);
        fibers->begun[t] = 1;
        ucontext_t *context = &fibers->context[t];
        const uint64_t self = (uint64_t)(uintptr_t)fibers;
        if (getcontext(context) != 0)
            orion_cpu_fail(block, ORION_CPU_NO_MEMORY, "no context for a fiber");
        context->uc_stack.ss_sp = fibers->stacks + (size_t)t * STACK_BYTES + GUARD_BYTES;
        context->uc_stack.ss_size = STACK_BYTES - GUARD_BYTES;
        context->uc_link = &fibers->scheduler;
        makecontext(context, (void (*)(void))(uintptr_t)body, 2, (uint32_t)self, (uint32_t)(self >> 32));
        setcontext(context);
    }
    return block->next[t];
}

void orion_cpu_fiber_wait(orion_cpu_block_t *block, uint32_t t, uint32_t k)
{
    switch_t *s = switches(block->fibers) + t;

    block->next[t] = k;
    if (_setjmp(s->fiber) == 0)
        _longjmp(s->scheduler, 1);
}

_Noreturn void orion_cpu_fiber_exit(orion_cpu_block_t *block, uint32_t t)
{
    block->next[t] = ORION_CPU_DONE;
    _longjmp(switches(block->fibers)[t].scheduler, 1);
}

static int allocate(orion_cpu_block_t *block)
{
    struct orion_cpu_fibers *fibers = calloc(1, sizeof(*fibers));
    const uint32_t n = block->threads;

    if (fibers == NULL)
        return ORION_CPU_NO_MEMORY;
    fibers->capacity = n;
    fibers->context = calloc(n, sizeof(ucontext_t) + sizeof(switch_t));
    fibers->begun = calloc(n, 1);
    fibers->stacks = mmap(NULL, n * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                          -1, 0);
    block->fibers = fibers;
    if (fibers->stacks == MAP_FAILED || fibers->context == NULL || fibers->begun == NULL) {
        orion_cpu_fibers_free(block);
        return ORION_CPU_NO_MEMORY;
    }
    /* An overflow faults rather than reaching a neighbour. */
    for (uint32_t t = 0; t < n; t++)
        if (mprotect(fibers->stacks + t * STACK_BYTES, GUARD_BYTES, PROT_NONE) != 0)
            break;
    return ORION_CPU_OK;
}

int orion_cpu_fibers_reset(orion_cpu_block_t *block)
{
    if (block->fibers != NULL && block->fibers->capacity < block->threads)
        orion_cpu_fibers_free(block);
    if (block->fibers == NULL) {
        int code = allocate(block);
        if (code != ORION_CPU_OK)
            return code;
    }
    block->fibers->block = block;
    block->stack_low = (uint64_t)(uintptr_t)block->fibers->stacks;
    block->stack_high = block->stack_low + block->fibers->capacity * STACK_BYTES;
    memset(block->fibers->begun, 0, block->threads);
    return ORION_CPU_OK;
}

void orion_cpu_fibers_free(orion_cpu_block_t *block)
{
    struct orion_cpu_fibers *fibers = block->fibers;

    block->fibers = NULL;
    if (fibers == NULL)
        return;
    if (fibers->stacks != NULL && fibers->stacks != MAP_FAILED)
        munmap(fibers->stacks, fibers->capacity * STACK_BYTES);
    free(fibers->context);
    free(fibers->begun);
    free(fibers);
}
