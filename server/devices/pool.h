/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's threads. A job is work that one or several of them can share: each thread that joins calls run(),
 * which claims parts until none is left, and the last to leave calls finish(). Jobs with the fewest threads are
 * served first and threads move on between parts when a job has nobody, so streams make progress side by side.
 */
#ifndef ORION_DEVICES_POOL_H
#define ORION_DEVICES_POOL_H

#include "share.h"

#include <stdint.h>

typedef struct orion_pool orion_pool_t;
typedef struct orion_job orion_job_t;

typedef struct orion_pool_thread {
    orion_pool_t *pool;
    unsigned index;
    orion_share_t *share;
    orion_stint_t stint;                 /* its present job */
    void *scratch;                       /* the device's own, per thread */
    void (*scratch_free)(void *scratch); /* called when the thread ends */
} orion_pool_thread_t;

struct orion_job {
    /* Any thread of the pool, several at once. Returns 1 when no part is left to claim, 0 when it leaves because
     * orion_pool_starving() said so. */
    int (*run)(orion_job_t *job, orion_pool_thread_t *thread);
    /* Once, on the last thread; the job may be reused or freed inside. */
    void (*finish)(orion_job_t *job, orion_pool_thread_t *thread);
    uint32_t width; /* how many threads can be of use; submit lowers it to the size of the pool */
    uint32_t gang;  /* 1: parts wait for each other, so exactly `width` threads join and run at the same time */
    /* The pool's, under its lock. */
    orion_job_t *next, *previous;
    uint32_t workers, joined, exhausted;
    uint64_t served;
};

/* Starts the threads (0: one per core this process may use), which work when `share` says that it is their turn. NULL:
 * no memory or no threads. */
orion_pool_t *orion_pool_open(unsigned threads, orion_share_t *share);
/* All submitted jobs must have finished. Not from a pool thread. */
void orion_pool_close(orion_pool_t *pool);
unsigned orion_pool_threads(const orion_pool_t *pool);

/* Appends a job. Returns 1 when the caller should call orion_pool_wake() once it has let go of its locks. */
int orion_pool_submit(orion_pool_t *pool, orion_job_t *job);
void orion_pool_wake(orion_pool_t *pool);

/* run() of ordinary jobs asks between parts whether another job has no thread; then it leaves. */
int orion_pool_starving(orion_pool_t *pool);

/* Cores that this process may use. */
unsigned orion_usable_cores(void);

#endif
