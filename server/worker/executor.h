/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for work that may take long (compiling): started at their first job, one queue each. Jobs of one client
 * thread always go to the same queue, so they run in order; the loop thread only ever appends.
 */
#ifndef ORION_WORKER_EXECUTOR_H
#define ORION_WORKER_EXECUTOR_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define ORION_EXECUTOR_THREADS 4u
#define ORION_EXECUTOR_JOBS 1024u /* waiting per thread; a client thread awaits its own, so 128 slots never get there */

typedef struct orion_executor orion_executor_t;
typedef void (*orion_job_fn)(void *arg);

orion_executor_t *orion_executor_new(void);
/* Runs what is queued, then ends the threads. */
void orion_executor_free(orion_executor_t *executor);

/* `lane` picks the queue. TOO_BIG: the queue is full. The job owns arg. */
orion_status_t orion_executor_submit(orion_executor_t *executor, uint32_t lane, orion_job_fn run, void *arg);

/* Jobs are queued or running. */
bool orion_executor_busy(const orion_executor_t *executor);

#endif
