/* SPDX-License-Identifier: Apache-2.0 */
/* Thread pool of a device; see pool.h. One lock guards the list of jobs; an idle thread spins briefly (one at a time,
 * only after work) and then sleeps on a condition. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SPIN_NS 10000u         /* about the cost of putting a thread to sleep and waking it */
#define STACK_BYTES (8u << 20) /* kernels keep their local variables on it */

struct orion_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    orion_job_t *head, *tail; /* jobs that may still take a thread */
    orion_job_t *gang;        /* the only gang that may have members */
    unsigned sleeping, spinning, closing;
    unsigned threads;
    uint64_t tick;
    /* Jobs without a thread and the unfilled gang; written under the lock, read without it as a hint only. */
    unsigned starving;
    pthread_t *ids;
    orion_pool_thread_t *states;
};

static __thread orion_pool_t *own_pool; /* set on pool threads: they look for work themselves when they return */

static void cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

unsigned orion_usable_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (unsigned)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

static void starving_add(orion_pool_t *pool, int change)
{
    unsigned n = __atomic_load_n(&pool->starving, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->starving, n + (unsigned)change, __ATOMIC_RELAXED);
}

static void unlink_job(orion_pool_t *pool, orion_job_t *job)
{
    *(job->previous ? &job->previous->next : &pool->head) = job->next;
    *(job->next ? &job->next->previous : &pool->tail) = job->previous;
}

/* The job to serve next: the unfilled gang, else the one with the fewest threads, least recently served. */
static orion_job_t *pick(orion_pool_t *pool)
{
    if (pool->gang && pool->gang->joined < pool->gang->width)
        return pool->gang;
    orion_job_t *best = NULL;
    for (orion_job_t *job = pool->head; job; job = job->next) {
        if (job->workers >= job->width || (job->gang && pool->gang))
            continue;
        if (!best || job->workers < best->workers || (job->workers == best->workers && job->served < best->served))
            best = job;
    }
    return best;
}

static void join_job(orion_pool_t *pool, orion_job_t *job)
{
    job->served = ++pool->tick;
    job->workers++;
    job->joined++;
    if (job->gang) {
        pool->gang = job;
        if (job->joined == job->width) {
            job->exhausted = 1;
            unlink_job(pool, job);
            starving_add(pool, -1);
        }
    } else if (job->workers == 1) {
        starving_add(pool, -1);
    }
}

/* Returns 1 when the caller has to finish the job. */
static int leave_job(orion_pool_t *pool, orion_job_t *job, int none_left)
{
    job->workers--;
    if (!job->gang && none_left && !job->exhausted) {
        job->exhausted = 1;
        unlink_job(pool, job);
    } else if (!job->exhausted && !job->gang && job->workers == 0) {
        starving_add(pool, 1);
    }
    if (!job->exhausted || job->workers)
        return 0;
    if (pool->gang == job)
        pool->gang = NULL;
    return 1;
}

/* Waits for work with the lock held on entry and exit. */
static void wait_for_work(orion_pool_t *pool, int worked)
{
    if (worked && !pool->spinning && pool->threads > 1) {
        pool->spinning = 1;
        pthread_mutex_unlock(&pool->lock);
        uint64_t end = now_ns() + SPIN_NS;
        do {
            for (int i = 0; i < 32 && !__atomic_load_n(&pool->starving, __ATOMIC_RELAXED); i++)
                cpu_relax();
        } while (!__atomic_load_n(&pool->starving, __ATOMIC_RELAXED) && now_ns() < end);
        pthread_mutex_lock(&pool->lock);
        pool->spinning = 0;
        return; /* the caller looks again under the lock, so no job is missed */
    }
    pool->sleeping++;
    pthread_cond_wait(&pool->work, &pool->lock);
    pool->sleeping--;
}

static void *thread_main(void *arg)
{
    orion_pool_thread_t *self = arg;
    orion_pool_t *pool = self->pool;
    own_pool = pool;
    int worked = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        orion_job_t *job = pick(pool);
        if (!job) {
            if (pool->closing)
                break;
            wait_for_work(pool, worked);
            worked = 0;
            continue;
        }
        join_job(pool, job);
        int more = pool->sleeping && pick(pool) != NULL;
        pthread_mutex_unlock(&pool->lock);
        if (more) /* each thread that finds work wakes the next, so submit never pays for more than one */
            pthread_cond_signal(&pool->work);
        orion_share_enter(self->share, &self->stint);
        int none_left = job->run(job, self);
        orion_share_leave(self->share, &self->stint);
        pthread_mutex_lock(&pool->lock);
        worked = 1;
        if (leave_job(pool, job, none_left)) {
            pthread_mutex_unlock(&pool->lock);
            job->finish(job, self);
            pthread_mutex_lock(&pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (self->scratch && self->scratch_free)
        self->scratch_free(self->scratch);
    return NULL;
}

orion_pool_t *orion_pool_open(unsigned threads, orion_share_t *share)
{
    if (threads == 0)
        threads = orion_usable_cores();
    orion_pool_t *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->ids = calloc(threads, sizeof *pool->ids);
    pool->states = calloc(threads, sizeof *pool->states);
    if (!pool->ids || !pool->states)
        goto err_free;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_mutex_lock(&pool->lock);
    for (; pool->threads < threads; pool->threads++) {
        orion_pool_thread_t *state = &pool->states[pool->threads];
        state->pool = pool;
        state->share = share;
        state->index = pool->threads;
        if (pthread_create(&pool->ids[pool->threads], &attributes, thread_main, state) != 0)
            break;
    }
    pthread_mutex_unlock(&pool->lock);
    pthread_attr_destroy(&attributes);
    if (pool->threads == 0)
        goto err_destroy;
    return pool; /* fewer threads than asked for still work */
err_destroy:
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
err_free:
    free(pool->states);
    free(pool->ids);
    free(pool);
    return NULL;
}

void orion_pool_close(orion_pool_t *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_broadcast(&pool->work);
    for (unsigned i = 0; i < pool->threads; i++)
        pthread_join(pool->ids[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool->states);
    free(pool->ids);
    free(pool);
}

unsigned orion_pool_threads(const orion_pool_t *pool)
{
    return pool->threads;
}

int orion_pool_submit(orion_pool_t *pool, orion_job_t *job)
{
    job->next = NULL;
    job->workers = job->joined = job->exhausted = 0;
    if (job->width == 0)
        job->width = 1;
    if (job->width > pool->threads)
        job->width = pool->threads;
    pthread_mutex_lock(&pool->lock);
    job->served = ++pool->tick;
    job->previous = pool->tail;
    *(pool->tail ? &pool->tail->next : &pool->head) = job;
    pool->tail = job;
    starving_add(pool, 1);
    int wake = pool->sleeping && !pool->spinning && own_pool != pool;
    pthread_mutex_unlock(&pool->lock);
    return wake;
}

void orion_pool_wake(orion_pool_t *pool)
{
    pthread_cond_signal(&pool->work);
}

int orion_pool_starving(orion_pool_t *pool)
{
    return __atomic_load_n(&pool->starving, __ATOMIC_RELAXED) != 0;
}
