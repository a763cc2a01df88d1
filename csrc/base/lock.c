/* SPDX-License-Identifier: Apache-2.0 */
/* Taking the privilege of a lock's first thread away, and sleeping; see lock.h. */
#include "base/lock.h"

#include "base/clock.h"

#define LOOKS 64                        /* about 2 us: longer than a small message takes to send */
#define UNSURE_NS (2 * ORION_NS_PER_MS) /* a sleep where no membarrier makes sure that the holder sees the sleeper */

/* The owner has seen that it is one no more, or is inside: then not yet. */
static bool revoke(orion_lock_t *lock)
{
    uintptr_t owner = orion_load_acquire(&lock->owner);
    if (owner > ORION_LOCK_REVOKING && !orion_compare_exchange(&lock->owner, &owner, ORION_LOCK_REVOKING))
        return false;
    if (owner != ORION_LOCK_SHARED) {
        if (!orion_membarrier_register() || !orion_membarrier_global()) /* the owner has to be reached */
            return false;
        /* acquire: pairs with the release in orion_lock_leave; what the owner did there is seen */
        if (orion_load_acquire(&lock->inside) != 0)
            return false;
        owner = ORION_LOCK_REVOKING;
        (void)orion_compare_exchange(&lock->owner, &owner, ORION_LOCK_SHARED);
    }
    return orion_load_acquire(&lock->owner) == ORION_LOCK_SHARED;
}

bool orion_lock_try_slow(orion_lock_t *lock)
{
    uintptr_t owner = ORION_LOCK_NEW;
    uint32_t seen = 0;
    if (orion_load_relaxed(&lock->owner) == ORION_LOCK_NEW) {
        /* without membarriers nobody could ever take it away again */
        bool can = orion_membarrier_begin();
        uintptr_t first = can ? orion_thread_token() : ORION_LOCK_SHARED;
        if (orion_compare_exchange(&lock->owner, &owner, first))
            return orion_lock_try(lock);
    }
    return revoke(lock) && orion_compare_exchange(&lock->word, &seen, 1);
}

bool orion_lock_wait(orion_lock_t *lock, int64_t timeout_ns)
{
    for (int i = 0; i < LOOKS; i++) {
        if (orion_load_relaxed(&lock->word) == 0 && orion_load_relaxed(&lock->inside) == 0 && orion_lock_try(lock))
            return true;
        orion_cpu_relax();
    }
    (void)orion_fetch_add(&lock->sleepers, 1);
    /* The holder leaves, then looks for sleepers; we are one, then look whether it has left. */
    if (orion_load_relaxed(&orion_membarrier_registered) == 0 || !orion_membarrier_global()) {
        orion_fence_full();
        timeout_ns = timeout_ns < UNSURE_NS ? timeout_ns : UNSURE_NS;
    }
    bool entered = orion_lock_try(lock);
    if (!entered) {
        bool shared = orion_load_relaxed(&lock->owner) == ORION_LOCK_SHARED;
        const uint32_t *word = shared ? &lock->word : &lock->inside;
        (void)orion_futex_wait(word, 1, timeout_ns);
        entered = orion_lock_try(lock);
    }
    (void)orion_fetch_sub(&lock->sleepers, 1);
    return entered;
}
