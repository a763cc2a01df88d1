/* SPDX-License-Identifier: Apache-2.0 */
/* The lock excludes, whoever had it first; waiting for it ends; its first thread loses its privilege once. */
#define _GNU_SOURCE
#include "base/lock.h"

#include "../check.h"
#include "base/clock.h"

enum { THREADS = 4 };

typedef struct work {
    orion_lock_t *lock;
    uint64_t *count; /* not atomic: what the lock is for */
    int rounds;
    bool pause;
} work_t;

static void *count_up(void *arg)
{
    work_t *w = arg;
    for (int i = 0; i < w->rounds; i++) {
        orion_lock_enter(w->lock);
        uint64_t seen = *w->count;
        if (w->pause && i % 64 == 0)
            (void)usleep(1);
        *w->count = seen + 1;
        orion_lock_leave(w->lock);
    }
    return NULL;
}

static void threads_exclude_each_other(void)
{
    for (int round = 0; round < 40; round++) {
        static orion_lock_t lock;
        static uint64_t count;
        pthread_t threads[THREADS];
        lock = (orion_lock_t){0};
        count = 0;
        work_t w = {&lock, &count, 500, round % 2 == 1};
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_create(&threads[i], NULL, count_up, &w) == 0);
        (void)count_up(&w);
        for (int i = 0; i < THREADS; i++)
            MUST(pthread_join(threads[i], NULL) == 0);
        CHECK_EQUAL(count, (THREADS + 1) * 500);
    }
}

static void *try_it(void *arg)
{
    orion_lock_t *lock = arg;
    return orion_lock_try(lock) ? arg : NULL;
}

static void *wait_for_it(void *arg)
{
    orion_lock_enter(arg);
    orion_lock_leave(arg);
    return arg;
}

static void a_held_lock_is_held_for_everybody_else(void)
{
    static orion_lock_t lock;
    for (int round = 0; round < 3; round++) { /* owned by this thread, then shared */
        pthread_t thread;
        void *result;
        int64_t start = check_now_ns();
        orion_lock_enter(&lock);
        MUST(pthread_create(&thread, NULL, try_it, &lock) == 0);
        MUST(pthread_join(thread, &result) == 0);
        CHECK(result == NULL);
        MUST(pthread_create(&thread, NULL, wait_for_it, &lock) == 0);
        while (orion_load_relaxed(&lock.sleepers) == 0)
            (void)usleep(100);
        orion_lock_leave(&lock);
        MUST(pthread_join(thread, &result) == 0);
        CHECK(result != NULL);
        CHECK(check_now_ns() - start < 10 * ORION_NS_PER_S);
    }
    CHECK_EQUAL(lock.sleepers, 0);
    CHECK(orion_lock_try(&lock));
    CHECK(!orion_lock_wait(&lock, ORION_NS_PER_MS));
    orion_lock_leave(&lock);
}

CHECK_MAIN(CASE(threads_exclude_each_other), CASE(a_held_lock_is_held_for_everybody_else))
