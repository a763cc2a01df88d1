/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process-private lock: spins briefly, then sleeps on a futex. Smaller than pthread_mutex_t, needs no
 * initialisation, and a forked child may simply overwrite it.
 */
#ifndef ORION_CLIENT_LOCK_H
#define ORION_CLIENT_LOCK_H

#include <stdint.h>

typedef struct {
    uint32_t word; /* 0 free, 1 held, 2 held and somebody sleeps */
} orion_lock_t;

void orion_lock_contended(orion_lock_t *lock);
void orion_lock_wake(orion_lock_t *lock);

static inline void orion_lock(orion_lock_t *lock)
{
    uint32_t expected = 0;
    /* acquire: pairs with the release in orion_unlock() */
    if (!__atomic_compare_exchange_n(&lock->word, &expected, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        orion_lock_contended(lock);
}

static inline void orion_unlock(orion_lock_t *lock)
{
    /* release: pairs with the acquire of the next holder */
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
        orion_lock_wake(lock);
}

#endif
