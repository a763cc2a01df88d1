/* SPDX-License-Identifier: Apache-2.0 */
/* Host functions while other threads synchronise: all of them look at the event ring. */
#include "driver.h"

#include <pthread.h>

#ifdef __SANITIZE_THREAD__ /* everything takes ten times as long */
#define ROUNDS 200
#else
#define ROUNDS 1500
#endif
#define ASKERS 3

static uint32_t ran, finished;

static void count(void *argument)
{
    (void)argument;
    __atomic_fetch_add(&ran, 1, __ATOMIC_RELAXED);
}

static void *ask(void *argument)
{
    CUcontext context = argument;
    CUresult result = orion_hand_cuCtxSetCurrent(context);
    while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE) && (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY))
        result = cuStreamQuery(CU_STREAM_LEGACY);
    return (void *)(intptr_t)(result == CUDA_ERROR_NOT_READY ? CUDA_SUCCESS : result);
}

static void every_host_function_runs_once_while_others_drain(void)
{
    CUcontext context = driver_begin();
    pthread_t threads[ASKERS];
    CUstream stream;
    MUST(orion_hand_cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
    for (int i = 0; i < ASKERS; i++)
        MUST(pthread_create(&threads[i], NULL, ask, context) == 0);
    for (int i = 0; i < ROUNDS; i++) { /* one at a time: the event thread goes to sleep before each */
        CHECK_EQUAL(orion_hand_cuLaunchHostFunc(CU_STREAM_LEGACY, stream, count, NULL), CUDA_SUCCESS);
        CHECK_EQUAL(cuStreamSynchronize(stream), CUDA_SUCCESS);
    }
    CHECK_EQUAL(cuStreamSynchronize(stream), CUDA_SUCCESS);
    CHECK_EQUAL(__atomic_load_n(&ran, __ATOMIC_RELAXED), ROUNDS);
    __atomic_store_n(&finished, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < ASKERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        CHECK_EQUAL((intptr_t)result, CUDA_SUCCESS);
    }
    driver_end();
}

CHECK_MAIN(CASE(every_host_function_runs_once_while_others_drain))
