/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running a compiled kernel on the CPU device: the interface between the code that the PTX translator makes and
 * whoever owns threads, streams and memory. Any number of OS threads may run disjoint block ranges of one launch.
 */
#ifndef ORION_CPU_KERNEL_H
#define ORION_CPU_KERNEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct orion_cpu_block orion_cpu_block_t;     /* block.h: what compiled code sees of its block */
typedef struct orion_cpu_scratch orion_cpu_scratch_t; /* one OS thread's reusable memory for running blocks */

/* Outcome of a run. Every code but OK comes with a sentence in the caller's error buffer. */
typedef enum {
    ORION_CPU_OK = 0,
    ORION_CPU_TRAP = 1,      /* trap; */
    ORION_CPU_ASSERT = 2,    /* __assertfail */
    ORION_CPU_DEADLOCK = 3,  /* a barrier that can never complete */
    ORION_CPU_NO_MEMORY = 4, /* no memory for the block's state */
    ORION_CPU_BAD_CALL = 5,  /* indirect call through a value that is no function of that signature */
    ORION_CPU_CANCELLED = 6, /* *launch->cancel became nonzero */
    ORION_CPU_BAD_LAUNCH = 7 /* the launch does not fit the kernel (block size, parameter bytes) */
} orion_cpu_result_t;

/* How threads wait before they enter a region; kinds and operations are listed in block.h. */
typedef struct {
    uint32_t kind;
    uint32_t op;
    uint32_t fixed; /* bit i: argument i is imm[i] for every thread and is not stored per thread */
    uint32_t imm[4];
    uint32_t reserved;
} orion_cpu_sync_t;

/* Runs threads x = lo..hi-1 of the row (y, z) of a block from region start to their next wait. t0 is the linear
 * index of x = 0. Returns where all of them wait now, or ORION_CPU_MIXED when block->next[] says it per thread. */
typedef uint32_t (*orion_cpu_region_fn)(orion_cpu_block_t *block, uint32_t t0, uint32_t lo, uint32_t hi, uint32_t y,
                                        uint32_t z);

#define ORION_CPU_KERNEL_MAGIC 0x314e524fu /* "ORN1": changes with the layout below */
#define ORION_CPU_KERNEL_FIBERS 1u         /* one entry; threads wait by orion_cpu_fiber_wait() on own stacks */

/* A constant inside the compiled object; layout.py mirrors it. */
typedef struct orion_cpu_kernel {
    uint32_t magic;
    uint32_t flags;
    uint32_t regions;       /* entries of entry[] and sync[]; region 0 is the start */
    uint32_t slot_bytes;    /* bytes per thread kept across waits (structure of arrays) */
    uint32_t local_bytes;   /* bytes per thread of .local memory that must survive waits */
    uint32_t static_shared; /* dynamic shared memory begins here */
    uint32_t param_bytes;
    uint32_t max_threads;
    const orion_cpu_region_fn *entry;
    const orion_cpu_sync_t *sync;
} orion_cpu_kernel_t;

typedef struct {
    uint32_t grid[3], block[3];
    uint32_t shared_bytes; /* dynamic */
    uint32_t param_bytes;
    const void *params;
    uint64_t module_base;            /* where the module's variables lie */
    uint64_t grid_workspace;         /* cooperative launches: zeroed memory for grid barriers, else 0 */
    const volatile uint32_t *cancel; /* may be NULL; nonzero: stop soon */
    /* Kernel printf output, complete lines or not; may be NULL. Called on the running thread. */
    void (*print)(void *user, const char *text, size_t len);
    void *print_user;
    const uint32_t *turn; /* may be NULL; 0: calls pause() before it goes on with a block */
    void (*pause)(void *user);
    void *pause_user;
} orion_cpu_launch_t;

orion_cpu_scratch_t *orion_cpu_scratch_new(void);
void orion_cpu_scratch_free(orion_cpu_scratch_t *scratch);

/* Runs blocks first..first+count-1 (linear index, x fastest) on the calling thread. Blocks that wait for others
 * are set aside while the rest of the range runs; blocks of other ranges must be run by other threads meanwhile. */
int orion_cpu_kernel_run(const orion_cpu_kernel_t *kernel, const orion_cpu_launch_t *launch, uint64_t first,
                         uint64_t count, orion_cpu_scratch_t *scratch, char *err, size_t err_len);

#endif
