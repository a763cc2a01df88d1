/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block scheduler: runs the regions of a kernel over the threads of one block after another. While all threads
 * of a block wait at the same point it moves them together; otherwise each goes on as soon as its own wait is over,
 * which gives independent thread scheduling for any control flow. Runs on the thread that called it.
 */
#include "block.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A block whose threads only poll is set aside after so many rounds, so that the block it waits for can run. */
#define SPIN_ROUNDS 256u
/* Blocks that may be set aside when the launch is not cooperative; more would only cost memory. */
#define PARKED_MAX 1024u
#define KEPT_BLOCKS 16u
#define PARKED (ORION_CPU_MIXED - 1u)

struct orion_cpu_scratch {
    orion_cpu_block_t **blocks; /* blocks[0] serves launches that never park */
    uint32_t count, capacity;
    uint64_t stack_low, stack_high;
};

_Noreturn void orion_cpu_fail(orion_cpu_block_t *block, int code, const char *format, ...)
{
    va_list list;

    if (block->err != NULL && block->err_len > 0) {
        va_start(list, format);
        vsnprintf(block->err, block->err_len, format, list);
        va_end(list);
    }
    longjmp(*block->unwind, code);
}

static int cancelled(const orion_cpu_block_t *block)
{
    return block->launch->cancel != NULL && *block->launch->cancel != 0;
}

/* Another client's turn? Blocks stay as they are meanwhile. */
static void breathe(const orion_cpu_launch_t *launch)
{
    if (launch->turn != NULL && __atomic_load_n(launch->turn, __ATOMIC_RELAXED) == 0)
        launch->pause(launch->pause_user);
}

static void check_cancel(orion_cpu_block_t *block)
{
    breathe(block->launch);
    if (cancelled(block))
        orion_cpu_fail(block, ORION_CPU_CANCELLED, "kernel cancelled");
}

/* --- running threads --- */

static uint32_t run_all(orion_cpu_block_t *block, uint32_t k)
{
    const uint32_t nx = block->ntid[0], ny = block->ntid[1], nz = block->ntid[2];
    uint32_t t0 = 0, together = ORION_CPU_MIXED;

    if (block->fibers != NULL) {
        for (uint32_t t = 0; t < block->threads; t++)
            block->next[t] = orion_cpu_fiber_run(block, t);
        return ORION_CPU_MIXED;
    }
    const orion_cpu_region_fn region = block->kernel->entry[k];
    for (uint32_t z = 0; z < nz; z++)
        for (uint32_t y = 0; y < ny; y++, t0 += nx)
            together = region(block, t0, 0, nx, y, z);
    /* What a region returns is fixed when it is compiled, so the last row speaks for all. */
    return together;
}

/* Threads first..end-1 are ready to enter region k. */
static void run_range(orion_cpu_block_t *block, uint32_t k, uint32_t first, uint32_t end)
{
    const uint32_t nx = block->ntid[0], ny = block->ntid[1];

    if (block->fibers != NULL) {
        for (uint32_t t = first; t < end; t++)
            block->next[t] = orion_cpu_fiber_run(block, t);
        return;
    }
    while (first < end) {
        uint32_t row = first / nx, lo = first % nx;
        uint32_t hi = end - row * nx < nx ? end - row * nx : nx;
        uint32_t together = block->kernel->entry[k](block, row * nx, lo, hi, row % ny, row / ny);
        if (together != ORION_CPU_MIXED)
            for (uint32_t x = lo; x < hi; x++)
                block->next[row * nx + x] = together;
        first = row * nx + hi;
    }
}

typedef uint32_t four_t __attribute__((vector_size(16), may_alias));

/* The point at which all threads wait, or MIXED. Asked at every step of a block, hence four at a time. */
static uint32_t common_wait(const orion_cpu_block_t *block)
{
    const uint32_t first = block->next[0], whole = block->threads / 4u;
    const four_t *next = (const four_t *)(const void *)block->next; /* aligned to 64 */
    const four_t all = {first, first, first, first};
    four_t differ = {0, 0, 0, 0};
    uint32_t rest = 0;

    for (uint32_t i = 0; i < whole; i++)
        differ |= next[i] ^ all;
    for (uint32_t t = whole * 4u; t < block->threads; t++)
        rest |= block->next[t] ^ first;
    rest |= differ[0] | differ[1] | differ[2] | differ[3];
    return rest == 0 ? first : ORION_CPU_MIXED;
}

/* --- threads at different points --- */

static int run_ready(orion_cpu_block_t *block, int *polling_p)
{
    int ran = 0;

    *polling_p = 1;
    for (uint32_t t = 0; t < block->threads;) {
        uint32_t next = block->next[t], end = t + 1;
        if (next == ORION_CPU_DONE || !(next & ORION_CPU_READY)) {
            t++;
            continue;
        }
        while (end < block->threads && block->next[end] == next)
            end++;
        uint32_t k = next & ~ORION_CPU_READY;
        if (block->kernel->sync[k].kind != ORION_CPU_SYNC_SPIN)
            *polling_p = 0;
        run_range(block, k, t, end);
        ran = 1;
        t = end;
    }
    return ran;
}

/* Yields go on at once; arrivals are noted and go on. Returns the number of threads that have not exited. */
static uint32_t settle(orion_cpu_block_t *block)
{
    uint32_t live = 0;

    for (uint32_t t = 0; t < block->threads; t++) {
        uint32_t next = block->next[t];
        if (next == ORION_CPU_DONE)
            continue;
        live++;
        if (next & ORION_CPU_READY)
            continue;
        const orion_cpu_sync_t *sync = &block->kernel->sync[next];
        if (sync->kind == ORION_CPU_SYNC_ARRIVE)
            block->arrived[orion_cpu_arg(block, sync, t, 0) % ORION_CPU_BARRIERS]++;
        else if (sync->kind != ORION_CPU_SYNC_LOOP && sync->kind != ORION_CPU_SYNC_SPIN)
            continue;
        block->next[t] = next | ORION_CPU_READY;
    }
    return live;
}

static int release(orion_cpu_block_t *block)
{
    int any = 0;

    for (uint32_t t = 0; t < block->threads; t += ORION_CPU_WARP)
        any |= orion_cpu_warp_release(block, t);
    return any | orion_cpu_barrier_release(block);
}

_Noreturn static void deadlock(orion_cpu_block_t *block)
{
    uint32_t t = 0;

    while (block->next[t] == ORION_CPU_DONE)
        t++;
    orion_cpu_fail(
        block, ORION_CPU_DEADLOCK,
        "block %llu can never go on: thread %u waits at synchronisation point %u for threads that do not come",
        (unsigned long long)block->index, t, block->next[t]);
}

/* Runs threads one group at a time until all are together again; returns the region to enter, DONE or PARKED. */
static uint32_t run_diverged(orion_cpu_block_t *block)
{
    uint32_t polls = 0;

    for (;;) {
        int polling, any;
        uint32_t next;

        block->live = settle(block);
        if (block->live == 0)
            return ORION_CPU_DONE;
        any = release(block);
        next = common_wait(block);
        if (next != ORION_CPU_MIXED && (next & ORION_CPU_READY))
            if (block->fibers == NULL && block->kernel->sync[next & ~ORION_CPU_READY].kind != ORION_CPU_SYNC_SPIN)
                return next & ~ORION_CPU_READY;
        if (!run_ready(block, &polling) && !any)
            deadlock(block);
        polls = polling ? polls + 1 : 0;
        if (polls >= SPIN_ROUNDS || (block->fibers != NULL && polls != 0 && polls % 16 == 0)) {
            check_cancel(block);
            if (polls >= SPIN_ROUNDS) {
                block->at = ORION_CPU_MIXED;
                return PARKED;
            }
        }
    }
}

/* --- one block --- */

/* All threads wait at k: lets them pass. Returns 0 when that needs a look at each thread. */
static int pass_together(orion_cpu_block_t *block, uint32_t k, uint32_t *polls_p)
{
    const orion_cpu_sync_t *sync = &block->kernel->sync[k];

    if (orion_cpu_is_warp_kind(sync->kind)) {
        orion_cpu_warp_all(block, k);
        return 1;
    }
    switch (sync->kind) {
    case ORION_CPU_SYNC_BARRIER:
    case ORION_CPU_SYNC_BARRIER_RED:
        if ((sync->fixed & 3u) != 3u || (sync->imm[1] != 0 && sync->imm[1] != block->threads))
            return 0;
        if (sync->kind == ORION_CPU_SYNC_BARRIER_RED)
            orion_cpu_barrier_all(block, k);
        return 1;
    case ORION_CPU_SYNC_SPIN:
        if (++*polls_p >= SPIN_ROUNDS)
            return -1;
        return 1;
    case ORION_CPU_SYNC_LOOP:
        if ((++*polls_p & 1023u) == 0)
            check_cancel(block);
        return 1;
    default:
        return 0;
    }
}

static uint32_t run_block(orion_cpu_block_t *block)
{
    uint32_t k = block->at, polls = 0;

    for (;;) {
        uint32_t next = ORION_CPU_MIXED;
        if (k != ORION_CPU_MIXED) {
            next = run_all(block, k);
            if (next == ORION_CPU_DONE)
                return ORION_CPU_DONE;
            if (next == ORION_CPU_MIXED) {
                next = common_wait(block);
                if (next == ORION_CPU_DONE)
                    return ORION_CPU_DONE;
            } else if (!orion_cpu_is_warp_kind(block->kernel->sync[next].kind) &&
                       block->kernel->sync[next].kind < ORION_CPU_SYNC_LOOP) {
                /* A region with one way out leaves next[] alone: fill it where somebody may look. */
                if (block->kernel->sync[next].fixed != 0xfu)
                    for (uint32_t t = 0; t < block->threads; t++)
                        block->next[t] = next;
            }
        }
        if (next != ORION_CPU_MIXED && block->fibers == NULL) {
            int passed = pass_together(block, next, &polls);
            if (passed > 0) {
                k = next;
                continue;
            }
            if (passed < 0) {
                check_cancel(block);
                block->at = next;
                return PARKED;
            }
            for (uint32_t t = 0; t < block->threads; t++)
                block->next[t] = next;
        }
        k = run_diverged(block);
        if (k == ORION_CPU_DONE || k == PARKED)
            return k;
    }
}

/* --- memory of a block --- */

static size_t round64(size_t n)
{
    return (n + 63u) & ~(size_t)63u;
}

/* Shared memory comes first in a block's memory; PTX may ask that its variables are aligned to that much. */
#define SHARED_ALIGN 1024u

static int prepare(orion_cpu_block_t *block, const orion_cpu_kernel_t *kernel, const orion_cpu_launch_t *launch)
{
    const uint32_t threads = launch->block[0] * launch->block[1] * launch->block[2];
    const uint32_t stride = (threads + 15u) & ~15u;
    const size_t shared = (size_t)kernel->static_shared + launch->shared_bytes;
    const size_t column = round64((size_t)stride * sizeof(uint32_t));
    const size_t slots = round64((size_t)kernel->slot_bytes * stride);
    const size_t local = round64((size_t)kernel->local_bytes * threads);
    const size_t need = round64(shared + 64u) + slots + local + column * (ORION_CPU_ARGS + 3u);
    uint8_t *at;

    if (block->memory_bytes < need) {
        free(block->memory);
        block->memory_bytes = 0;
        const size_t room = (need + need / 2 + SHARED_ALIGN - 1) & ~(size_t)(SHARED_ALIGN - 1);
        block->memory = aligned_alloc(SHARED_ALIGN, room);
        if (block->memory == NULL)
            return ORION_CPU_NO_MEMORY;
        block->memory_bytes = room;
    }
    memcpy(block->ntid, launch->block, sizeof(block->ntid));
    memcpy(block->nctaid, launch->grid, sizeof(block->nctaid));
    block->threads = threads;
    block->stride = stride;
    block->shared_bytes = (uint32_t)shared;
    block->dynamic_shared = launch->shared_bytes;
    block->static_shared = kernel->static_shared;
    block->module_base = launch->module_base;
    block->grid_workspace = launch->grid_workspace;
    block->stack_low = block->own_low;
    block->stack_high = block->own_high;
    block->params = launch->params;
    block->kernel = kernel;
    block->launch = launch;
    at = block->memory;
    block->shared = at;
    at += round64(shared + 64u);
    block->slots = at;
    at += slots;
    block->local = at;
    block->local_low = (uint64_t)(uintptr_t)at;
    block->local_high = block->local_low + local;
    at += local;
    for (uint32_t i = 0; i < ORION_CPU_ARGS; i++, at += column)
        block->arg[i] = (uint32_t *)(void *)at;
    block->result = (uint32_t *)(void *)at;
    block->result_pred = (uint32_t *)(void *)(at + column);
    block->next = (uint32_t *)(void *)(at + 2 * column);
    if ((kernel->flags & ORION_CPU_KERNEL_FIBERS) || block->fibers != NULL) {
        if (!(kernel->flags & ORION_CPU_KERNEL_FIBERS))
            orion_cpu_fibers_free(block);
        else
            return orion_cpu_fibers_reset(block);
    }
    return ORION_CPU_OK;
}

static int start(orion_cpu_block_t *block, uint64_t index)
{
    const uint64_t gx = block->nctaid[0], gy = block->nctaid[1];

    block->index = index;
    block->ctaid[0] = (uint32_t)(index % gx);
    block->ctaid[1] = (uint32_t)(index / gx % gy);
    block->ctaid[2] = (uint32_t)(index / gx / gy);
    block->at = 0;
    memset(block->arrived, 0, sizeof(block->arrived));
    return block->fibers != NULL ? orion_cpu_fibers_reset(block) : ORION_CPU_OK;
}

/* --- a range of blocks --- */

static void free_block(orion_cpu_block_t *block)
{
    orion_cpu_fibers_free(block);
    free(block->memory);
    free(block);
}

/* A launch whose blocks waited for each other may have left many; the next one seldom needs them. */
static void trim(orion_cpu_scratch_t *scratch)
{
    while (scratch->count > KEPT_BLOCKS)
        free_block(scratch->blocks[--scratch->count]);
}

static orion_cpu_block_t *block_at(orion_cpu_scratch_t *scratch, uint32_t i)
{
    if (i >= scratch->capacity) {
        uint32_t capacity = scratch->capacity ? scratch->capacity * 2 : 4;
        orion_cpu_block_t **blocks = realloc(scratch->blocks, capacity * sizeof(*blocks));
        if (blocks == NULL)
            return NULL;
        scratch->blocks = blocks;
        scratch->capacity = capacity;
    }
    if (i >= scratch->count) {
        orion_cpu_block_t *block = calloc(1, sizeof(*block));
        if (block == NULL)
            return NULL;
        block->own_low = scratch->stack_low;
        block->own_high = scratch->stack_high;
        scratch->blocks[scratch->count++] = block;
    }
    return scratch->blocks[i];
}

static int check_launch(const orion_cpu_kernel_t *kernel, const orion_cpu_launch_t *launch, char *err, size_t err_len)
{
    const uint64_t threads = (uint64_t)launch->block[0] * launch->block[1] * launch->block[2];

    if (kernel->magic != ORION_CPU_KERNEL_MAGIC)
        return snprintf(err, err_len, "not a kernel of this version"), ORION_CPU_BAD_LAUNCH;
    if (launch->block[0] > 1024 || launch->block[1] > 1024 || launch->block[2] > 1024 || threads == 0 ||
        threads > kernel->max_threads)
        return snprintf(err, err_len, "a block of %llu threads; this kernel takes 1 to %u", (unsigned long long)threads,
                        kernel->max_threads),
               ORION_CPU_BAD_LAUNCH;
    if (launch->param_bytes < kernel->param_bytes)
        return snprintf(err, err_len, "%u bytes of parameters; this kernel reads %u", launch->param_bytes,
                        kernel->param_bytes),
               ORION_CPU_BAD_LAUNCH;
    return ORION_CPU_OK;
}

/* Slots 0..parked-1 of the scratch hold blocks that wait for others; the next free slot runs new blocks. */
static int run_blocks(const orion_cpu_kernel_t *kernel, const orion_cpu_launch_t *launch, uint64_t first,
                      uint64_t count, orion_cpu_scratch_t *scratch, jmp_buf *unwind, char *err, size_t err_len)
{
    const uint64_t end = first + count;
    const uint32_t limit = launch->grid_workspace != 0 ? UINT32_MAX : PARKED_MAX;
    uint32_t parked = 0;

    while (first < end || parked > 0) {
        breathe(launch);
        if (launch->cancel != NULL && *launch->cancel != 0)
            return snprintf(err, err_len, "kernel cancelled"), ORION_CPU_CANCELLED;
        if (first < end && parked < limit) {
            orion_cpu_block_t *block = block_at(scratch, parked);
            if (block == NULL || prepare(block, kernel, launch) != ORION_CPU_OK)
                goto err_memory;
            block->unwind = unwind;
            block->err = err;
            block->err_len = err_len;
            do {
                if (start(block, first++) != ORION_CPU_OK)
                    goto err_memory;
                if (run_block(block) == PARKED) {
                    parked++;
                    break;
                }
                breathe(launch);
            } while (first < end && !cancelled(block));
            if (parked == 0 || first < end)
                continue;
        }
        uint32_t before = parked;
        for (uint32_t i = 0; i < parked;) {
            orion_cpu_block_t *block = scratch->blocks[i];
            if (run_block(block) == PARKED) {
                i++;
            } else {
                parked--;
                scratch->blocks[i] = scratch->blocks[parked];
                scratch->blocks[parked] = block;
            }
        }
        if (parked == before)
            sched_yield(); /* they may wait for blocks of another OS thread */
    }
    trim(scratch);
    return ORION_CPU_OK;

err_memory:
    snprintf(err, err_len, "no memory for the state of a block of %u threads",
             launch->block[0] * launch->block[1] * launch->block[2]);
    return ORION_CPU_NO_MEMORY;
}

int orion_cpu_kernel_run(const orion_cpu_kernel_t *kernel, const orion_cpu_launch_t *launch, uint64_t first,
                         uint64_t count, orion_cpu_scratch_t *scratch, char *err, size_t err_len)
{
    jmp_buf unwind;
    int code = check_launch(kernel, launch, err, err_len);

    if (code != ORION_CPU_OK)
        return code;
    code = _setjmp(unwind);
    if (code != 0)
        return code;
    return run_blocks(kernel, launch, first, count, scratch, &unwind, err, err_len);
}

/* Bounds of the calling thread's stack, for isspacep.local. libc knows them for every thread but the first, for which
 * it would read a file: there a guess has to do. */
static void measure_stack(orion_cpu_scratch_t *scratch)
{
    const uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0);
    pthread_attr_t attributes;
    void *low;
    size_t size;

    scratch->stack_low = here - ((uint64_t)1 << 20);
    scratch->stack_high = here + 4096;
    if (syscall(SYS_gettid) == getpid() || pthread_getattr_np(pthread_self(), &attributes) != 0)
        return;
    if (pthread_attr_getstack(&attributes, &low, &size) == 0) {
        scratch->stack_low = (uint64_t)(uintptr_t)low;
        scratch->stack_high = scratch->stack_low + size;
    }
    pthread_attr_destroy(&attributes);
}

orion_cpu_scratch_t *orion_cpu_scratch_new(void)
{
    orion_cpu_scratch_t *scratch = calloc(1, sizeof(*scratch));

    if (scratch != NULL)
        measure_stack(scratch);
    return scratch;
}

void orion_cpu_scratch_free(orion_cpu_scratch_t *scratch)
{
    if (scratch == NULL)
        return;
    for (uint32_t i = 0; i < scratch->count; i++)
        free_block(scratch->blocks[i]);
    free(scratch->blocks);
    free(scratch);
}
