/* SPDX-License-Identifier: Apache-2.0 */
/* The executor; see executor.h. */
#include "worker/executor.h"

#include "worker/faults.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdlib.h>

#define STACK_BYTES (8u << 20) /* LLVM recurses deeply */

typedef struct {
    orion_job_fn run;
    void *arg;
} job_t;

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    pthread_t thread;
    bool started, ending;
    _Atomic uint32_t *unfinished; /* the executor's */
    uint32_t head, tail;          /* free-running */
    job_t job[ORION_EXECUTOR_JOBS];
} lane_t;

struct orion_executor {
    _Atomic uint32_t unfinished;
    lane_t lane[ORION_EXECUTOR_THREADS];
};

orion_executor_t *orion_executor_new(void)
{
    orion_executor_t *executor = calloc(1, sizeof *executor);
    for (uint32_t i = 0; executor && i < ORION_EXECUTOR_THREADS; i++) {
        pthread_mutex_init(&executor->lane[i].lock, NULL);
        executor->lane[i].unfinished = &executor->unfinished;
        pthread_cond_init(&executor->lane[i].filled, NULL);
    }
    return executor;
}

static void *serve(void *arg)
{
    lane_t *lane = arg;
    orion_faults_thread();
    pthread_mutex_lock(&lane->lock);
    for (;;) {
        while (lane->head == lane->tail && !lane->ending)
            pthread_cond_wait(&lane->filled, &lane->lock);
        if (lane->head == lane->tail)
            break;
        const job_t job = lane->job[lane->head++ % ORION_EXECUTOR_JOBS];
        pthread_mutex_unlock(&lane->lock);
        job.run(job.arg);
        /* release: pairs with the acquire in orion_executor_busy() */
        atomic_fetch_sub_explicit(lane->unfinished, 1, memory_order_release);
        pthread_mutex_lock(&lane->lock);
    }
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

static bool start(lane_t *lane)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes))
        return false;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    lane->started = pthread_create(&lane->thread, &attributes, serve, lane) == 0;
    pthread_attr_destroy(&attributes);
    return lane->started;
}

orion_status_t orion_executor_submit(orion_executor_t *executor, uint32_t lane_index, orion_job_fn run, void *arg)
{
    lane_t *lane = &executor->lane[lane_index % ORION_EXECUTOR_THREADS];
    orion_status_t status = ORION_OK;
    pthread_mutex_lock(&lane->lock);
    if (lane->tail - lane->head == ORION_EXECUTOR_JOBS)
        status = ORION_TOO_BIG;
    else if (!lane->started && !start(lane))
        status = ORION_NO_MEMORY;
    else {
        atomic_fetch_add_explicit(lane->unfinished, 1, memory_order_relaxed);
        lane->job[lane->tail++ % ORION_EXECUTOR_JOBS] = (job_t){run, arg};
        pthread_cond_signal(&lane->filled);
    }
    pthread_mutex_unlock(&lane->lock);
    return status;
}

bool orion_executor_busy(const orion_executor_t *executor)
{
    return atomic_load_explicit(&executor->unfinished, memory_order_acquire) != 0;
}

void orion_executor_free(orion_executor_t *executor)
{
    if (!executor)
        return;
    for (uint32_t i = 0; i < ORION_EXECUTOR_THREADS; i++) {
        lane_t *lane = &executor->lane[i];
        pthread_mutex_lock(&lane->lock);
        lane->ending = true;
        pthread_cond_signal(&lane->filled);
        pthread_mutex_unlock(&lane->lock);
        if (lane->started)
            pthread_join(lane->thread, NULL);
        pthread_cond_destroy(&lane->filled);
        pthread_mutex_destroy(&lane->lock);
    }
    free(executor);
}
