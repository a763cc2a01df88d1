/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What compiled code and the block scheduler share about one running block. The translator takes the offsets from
 * layout.py, which states the same layout; a test compares the two.
 */
#ifndef ORION_CPU_BLOCK_H
#define ORION_CPU_BLOCK_H

#include "kernel.h"

#include <setjmp.h>

#define ORION_CPU_WARP 32u
#define ORION_CPU_ARGS 4u
#define ORION_CPU_BARRIERS 16u
#define ORION_CPU_MIXED 0xffffffffu
#define ORION_CPU_DONE 0x7fffffffu  /* next[]: the thread has exited */
#define ORION_CPU_READY 0x80000000u /* next[]: released, may enter its region */

/* orion_cpu_sync_t.kind; argument 3 of every warp operation is its member mask. */
enum {
    ORION_CPU_SYNC_START = 0,
    ORION_CPU_SYNC_BARRIER = 1,     /* args: id, count (0: all) */
    ORION_CPU_SYNC_ARRIVE = 2,      /* args: id, count; does not wait */
    ORION_CPU_SYNC_BARRIER_RED = 3, /* args: id, count, predicate; op: popc and or */
    ORION_CPU_SYNC_SHUFFLE = 4,     /* args: value, lane, clamp; op: up down bfly idx */
    ORION_CPU_SYNC_VOTE = 5,        /* args: predicate; op: all any uni ballot */
    ORION_CPU_SYNC_MATCH = 6,       /* args: low word, high word; op: any all */
    ORION_CPU_SYNC_REDUX = 7,       /* args: value; op: add smin smax umin umax and or xor */
    ORION_CPU_SYNC_WARP = 8,        /* bar.warp.sync */
    ORION_CPU_SYNC_ACTIVE = 9,      /* activemask */
    ORION_CPU_SYNC_ELECT = 10,
    ORION_CPU_SYNC_LOOP = 11, /* no wait: lets the block's threads take loop trips together */
    ORION_CPU_SYNC_SPIN = 12  /* no wait: a loop that may poll memory */
};
#define ORION_CPU_OP_LEGACY 0x100u /* flag in op: no member mask, the lanes that are here take part */

struct orion_cpu_block {
    uint32_t ntid[3];
    uint32_t nctaid[3];
    uint32_t ctaid[3];
    uint32_t threads;
    uint32_t stride;       /* threads rounded up: elements per structure-of-arrays column */
    uint32_t shared_bytes; /* static and dynamic */
    uint64_t module_base;
    const uint8_t *params;
    uint8_t *shared;
    uint8_t *slots; /* column c begins at slots + offset(c) * stride */
    uint32_t *next; /* where each thread waits */
    uint8_t *local; /* thread t: local + t * local_bytes */
    uint32_t *arg[ORION_CPU_ARGS];
    uint32_t *result;
    uint32_t *result_pred;
    uint64_t local_low, local_high; /* addresses that isspacep.local calls local, besides the stack below */
    uint64_t stack_low, stack_high;
    uint64_t grid_workspace;
    uint32_t dynamic_shared;
    uint32_t static_shared;
    /* --- below: the scheduler's own, unknown to compiled code --- */
    const orion_cpu_kernel_t *kernel;
    const orion_cpu_launch_t *launch;
    struct orion_cpu_fibers *fibers;      /* NULL unless the kernel runs on fibers */
    uint32_t arrived[ORION_CPU_BARRIERS]; /* bar.arrive */
    uint32_t at;                          /* region at which a parked block goes on, or MIXED */
    uint32_t live;                        /* threads that have not exited; valid while diverged */
    void *memory;
    size_t memory_bytes;
    uint64_t index;             /* linear block index */
    uint64_t own_low, own_high; /* stack of the OS thread */
    jmp_buf *unwind;
    char *err;
    size_t err_len;
};

/* Ends the running launch with a code and a message; does not return. */
_Noreturn void orion_cpu_fail(orion_cpu_block_t *block, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* One argument of the wait point k of thread t. */
static inline uint32_t orion_cpu_arg(const orion_cpu_block_t *block, const orion_cpu_sync_t *sync, uint32_t t,
                                     uint32_t i)
{
    return (sync->fixed >> i) & 1u ? sync->imm[i] : block->arg[i][t];
}

/* warp.c: all lanes of the block wait at region k. */
void orion_cpu_warp_all(orion_cpu_block_t *block, uint32_t k);
/* warp.c: releases what can be released among the waiting lanes of the warp that starts at thread t; returns
 * whether any lane was. */
int orion_cpu_warp_release(orion_cpu_block_t *block, uint32_t t);

/* barrier.c: the same for block barriers. */
void orion_cpu_barrier_all(orion_cpu_block_t *block, uint32_t k);
int orion_cpu_barrier_release(orion_cpu_block_t *block);

/* fiber.c */
uint32_t orion_cpu_fiber_run(orion_cpu_block_t *block, uint32_t t);
int orion_cpu_fibers_reset(orion_cpu_block_t *block);
void orion_cpu_fibers_free(orion_cpu_block_t *block);

static inline int orion_cpu_is_warp_kind(uint32_t kind)
{
    return kind >= ORION_CPU_SYNC_SHUFFLE && kind <= ORION_CPU_SYNC_ELECT;
}

#endif
