/* SPDX-License-Identifier: Apache-2.0 */
/* The executor: order within a lane, bounded queues, an end that loses nothing. */
#include "worker/executor.h"

#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

static uint32_t seen[64][100];
static _Atomic uint32_t count[64];

static void note(void *arg)
{
    const uintptr_t job = (uintptr_t)arg;
    seen[job >> 16][atomic_fetch_add(&count[job >> 16], 1)] = job & 0xffff;
}

static void jobs_of_a_client_thread_run_in_order(void)
{
    orion_executor_t *executor = orion_executor_new();
    for (uintptr_t i = 0; i < 100; i++)
        for (uintptr_t slot = 0; slot < 8; slot++)
            CHECK_EQUAL(orion_executor_submit(executor, (uint32_t)slot, note, (void *)(slot << 16 | i)), ORION_OK);
    orion_executor_free(executor);
    for (int slot = 0; slot < 8; slot++)
        for (uint32_t i = 0; i < 100; i++)
            CHECK_EQUAL(seen[slot][i], i);
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void pass_gate(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

static void full_queue_is_an_error_and_not_a_wait(void)
{
    orion_executor_t *executor = orion_executor_new();
    uint32_t taken = 0;
    pthread_mutex_lock(&gate);
    while (orion_executor_submit(executor, 0, pass_gate, NULL) == ORION_OK)
        taken++;
    CHECK(taken >= ORION_EXECUTOR_JOBS && taken <= ORION_EXECUTOR_JOBS + 1);
    CHECK(orion_executor_busy(executor));
    CHECK_EQUAL(orion_executor_submit(executor, 1, pass_gate, NULL), ORION_OK); /* other lanes go on */
    pthread_mutex_unlock(&gate);
    orion_executor_free(executor);
}

CHECK_MAIN(CASE(jobs_of_a_client_thread_run_in_order), CASE(full_queue_is_an_error_and_not_a_wait))
