/* SPDX-License-Identifier: Apache-2.0 */
/* What the device tests share: an open device, waiting for callbacks under check.h's watchdog, kernels written in C. */
#ifndef ORION_TESTS_DEVICES_H
#define ORION_TESTS_DEVICES_H

#include "../csrc/check.h"

#include "cpu/block.h"
#include "cpu/compiler.h"
#include "device.h"

#include "base/futex.h"

#include <pthread.h>
#include <unistd.h>

#define MIB (1ull << 20)

/* Counts callbacks and remembers the last result. */
typedef struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned calls;
    CUresult result;
} waiter_t;

#define WAITER {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, CUDA_SUCCESS}

static inline void waiter_done(void *arg, CUresult result)
{
    waiter_t *waiter = arg;
    pthread_mutex_lock(&waiter->lock);
    waiter->calls++;
    waiter->result = result;
    pthread_cond_broadcast(&waiter->changed);
    pthread_mutex_unlock(&waiter->lock);
}

static inline CUresult waiter_wait(waiter_t *waiter, unsigned calls)
{
    pthread_mutex_lock(&waiter->lock);
    while (waiter->calls < calls)
        pthread_cond_wait(&waiter->changed, &waiter->lock);
    CUresult result = waiter->result;
    pthread_mutex_unlock(&waiter->lock);
    return result;
}

static inline unsigned waiter_calls(waiter_t *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    unsigned calls = waiter->calls;
    pthread_mutex_unlock(&waiter->lock);
    return calls;
}

static inline CUresult synchronize(const orion_device_ops_t *ops, orion_device_t *device)
{
    waiter_t waiter = WAITER;
    MUST(ops->synchronize_notify(device, waiter_done, &waiter) == CUDA_SUCCESS);
    return waiter_wait(&waiter, 1);
}

static inline CUresult synchronize_stream(const orion_device_ops_t *ops, orion_device_t *device, orion_stream_t *stream)
{
    waiter_t waiter = WAITER;
    MUST(ops->stream_notify(device, stream, waiter_done, &waiter) == CUDA_SUCCESS);
    return waiter_wait(&waiter, 1);
}

static inline void *host(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

/* The supervisor's side of share.h. */
static inline void give_turn(uint32_t *turn, uint32_t value)
{
    __atomic_store_n(turn, value, __ATOMIC_RELAXED);
    orion_futex_wake(turn, ORION_WAKE_ALL);
}

static inline void await_wanting(const orion_usage_t *usage, uint32_t threads)
{
    while (__atomic_load_n(&usage->wanting, __ATOMIC_RELAXED) != threads)
        usleep(100);
}

/* Kernels in C behind the compiler interface (kernels.c). Parameters: struct kernel_params. */
extern const orion_compiler_t c_compiler;

typedef struct kernel_params {
    uint64_t out;   /* u32[] */
    uint32_t count; /* elements */
    uint32_t value;
} kernel_params_t;

static inline orion_launch_t launch_of(orion_function_t *function, uint32_t grid, uint32_t block,
                                       const kernel_params_t *params)
{
    return (orion_launch_t){.function = function,
                            .grid = {grid, 1, 1},
                            .block = {block, 1, 1},
                            .params = params,
                            .param_bytes = sizeof *params};
}

#endif
