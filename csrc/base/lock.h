/* SPDX-License-Identifier: Apache-2.0 */
/* A lock between the threads of one process, with a time limit. Free of atomic read-modify-writes while the process has
 * one thread: there is nobody to exclude, and nobody else can appear before that thread leaves. */
#ifndef ORION_BASE_LOCK_H
#define ORION_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/futex.h"

#define ORION_LOCK_LOOKS 64 /* about 2 us: longer than a small message takes to send */

typedef struct orion_lock {
    uint32_t word; /* 0 = free, 1 = held, 2 = held and somebody sleeps */
} orion_lock_t;

extern char __libc_single_threaded __attribute__((weak)); /* glibc 2.32 */

static inline bool orion_thread_alone(void)
{
    return &__libc_single_threaded != NULL && __libc_single_threaded != 0;
}

static inline bool orion_lock_try(orion_lock_t *lock)
{
    uint32_t seen = 0;
    if (orion_thread_alone()) {
        if (orion_load_relaxed(&lock->word) != 0)
            return false;
        orion_store_relaxed(&lock->word, 1);
        return true;
    }
    return orion_compare_exchange(&lock->word, &seen, 1);
}

/* Spins a little (the holder is about to leave), then sleeps once. false: still held after about timeout_ns. */
static inline bool orion_lock_wait(orion_lock_t *lock, int64_t timeout_ns)
{
    for (int i = 0; i < ORION_LOCK_LOOKS; i++) {
        if (orion_load_relaxed(&lock->word) == 0 && orion_lock_try(lock))
            return true;
        orion_cpu_relax();
    }
    /* held by us from here on it stays 2: whoever leaves may wake once too often, never once too little */
    if (orion_exchange(&lock->word, 2) == 0)
        return true;
    (void)orion_futex_wait(&lock->word, 2, timeout_ns);
    return orion_exchange(&lock->word, 2) == 0;
}

static inline void orion_lock_enter(orion_lock_t *lock)
{
    if (orion_lock_try(lock))
        return;
    while (!orion_lock_wait(lock, 1000000000))
        continue;
}

static inline void orion_lock_leave(orion_lock_t *lock)
{
    if (orion_thread_alone()) {
        orion_store_release(&lock->word, 0);
        return;
    }
    if (orion_exchange(&lock->word, 0) == 2)
        (void)orion_futex_wake(&lock->word, 1);
}

#endif
