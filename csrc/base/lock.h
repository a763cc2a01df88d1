/* SPDX-License-Identifier: Apache-2.0 */
/* A lock between the threads of one process, with a time limit. It belongs to the thread that entered first: that one
 * enters and leaves with plain stores until another thread comes, which takes the privilege away for good with a
 * membarrier. Most channels are only ever used by one thread at a time, in a process that has many. */
#ifndef ORION_BASE_LOCK_H
#define ORION_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "base/membarrier.h"

/* Values of `owner` that are no thread. */
enum { ORION_LOCK_NEW = 0, ORION_LOCK_SHARED = 1, ORION_LOCK_REVOKING = 2 };

typedef struct orion_lock { /* begins as zeros */
    uintptr_t owner;
    uint32_t inside;   /* the owner is; futex word */
    uint32_t word;     /* a thread is, once the lock is shared; futex word */
    uint32_t sleepers; /* on either */
} orion_lock_t;

static inline uintptr_t orion_thread_token(void)
{
    return (uintptr_t)pthread_self();
}

bool orion_lock_try_slow(orion_lock_t *lock);
/* Spins a little (the holder is about to leave), then sleeps once. false: still held after about timeout_ns. */
bool orion_lock_wait(orion_lock_t *lock, int64_t timeout_ns);

static inline void orion_lock_clear(orion_lock_t *lock, uint32_t *word)
{
    orion_store_release(word, 0); /* release: pairs with the acquire of whoever enters next */
    orion_compiler_barrier();     /* the sleeper's membarrier orders this processor */
    if (__builtin_expect(orion_load_relaxed(&lock->sleepers) != 0, 0))
        (void)orion_futex_wake(word, word == &lock->inside ? ORION_WAKE_ALL : 1);
}

static inline bool orion_lock_try(orion_lock_t *lock)
{
    /* acquire: pairs with the exchange in revoke, whose thread has seen what the first one did; it may not be this one */
    uintptr_t owner = orion_load_acquire(&lock->owner);
    if (__builtin_expect(owner == orion_thread_token(), 1)) {
        orion_store_relaxed(&lock->inside, 1);
        orion_compiler_barrier(); /* the revoker's membarrier orders this processor */
        if (__builtin_expect(orion_load_relaxed(&lock->owner) == owner, 1))
            return true;
        orion_lock_clear(lock, &lock->inside);
    } else if (owner == ORION_LOCK_SHARED) {
        uint32_t seen = 0;
        return orion_compare_exchange(&lock->word, &seen, 1);
    }
    return orion_lock_try_slow(lock);
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
    /* the lock cannot become shared while its owner is inside, and never stops to be */
    bool shared = orion_load_relaxed(&lock->owner) == ORION_LOCK_SHARED;
    orion_lock_clear(lock, shared ? &lock->word : &lock->inside);
}

#endif
