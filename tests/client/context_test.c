/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: what the runtime of CUDA 12 and 13 relies on. */
#include "driver.h"

#include "dark/table.h"

#include <pthread.h>

static void nothing_works_before_init(void)
{
    CUcontext context;
    CUdeviceptr address;
    int count, version;
    CHECK(orion_hand_cuDeviceGetCount(&count) == CUDA_ERROR_NOT_INITIALIZED);
    CHECK(orion_hand_cuCtxGetCurrent(&context) == CUDA_ERROR_NOT_INITIALIZED);
    CHECK(orion_hand_cuMemAlloc_v2(&address, 16) == CUDA_ERROR_NOT_INITIALIZED);
    CHECK(orion_hand_cuDriverGetVersion(&version) == CUDA_SUCCESS && version >= 13000);
    CHECK(orion_hand_cuInit(1) == CUDA_ERROR_INVALID_VALUE);
}

static void primary_context_is_named_before_it_is_active(void)
{
    CUcontext early, context;
    unsigned flags;
    int active;
    CUresult (*primary)(CUcontext *, CUdevice) = orion_dark_cudart[2];
    CHECK(orion_hand_cuInit(0) == CUDA_SUCCESS);
    CHECK(primary(&early, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuDevicePrimaryCtxGetState(0, &flags, &active) == CUDA_SUCCESS && !active && !flags);
    CHECK(orion_hand_cuCtxSetCurrent(early) == CUDA_SUCCESS);
    CHECK(cuCtxSynchronize() == CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK(orion_hand_cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS && context == early);
    CHECK(orion_hand_cuDevicePrimaryCtxGetState(0, &flags, &active) == CUDA_SUCCESS && active);
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    driver_end();
    CHECK(orion_hand_cuDevicePrimaryCtxGetState(0, &flags, &active) == CUDA_SUCCESS && !active);
    CHECK(orion_hand_cuDevicePrimaryCtxRelease_v2(0) == CUDA_ERROR_INVALID_CONTEXT);
}

static void stack_pushes_and_pops(void)
{
    CUcontext primary = driver_begin(), other, current;
    CHECK(orion_hand_cuCtxCreate_v2(&other, 0, 0) == CUDA_SUCCESS && other != primary);
    CHECK(orion_hand_cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == other);
    CHECK(orion_hand_cuCtxPushCurrent_v2(primary) == CUDA_SUCCESS);
    CHECK(orion_hand_cuCtxPopCurrent_v2(&current) == CUDA_SUCCESS && current == primary);
    CHECK(orion_hand_cuCtxDestroy_v2(other) == CUDA_SUCCESS);
    CHECK(orion_hand_cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == primary);
    CHECK(orion_hand_cuCtxDestroy_v2(other) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(orion_hand_cuCtxSetCurrent(other) == CUDA_ERROR_INVALID_CONTEXT);
    CHECK(orion_hand_cuCtxDestroy_v2(primary) == CUDA_ERROR_INVALID_CONTEXT);
    driver_end();
    CHECK(orion_hand_cuCtxPopCurrent_v2(&current) == CUDA_ERROR_INVALID_CONTEXT);
}

static int destroyed;
static void destroy(CUcontext context, void *key, void *value)
{
    (void)context;
    destroyed += key == &destroyed && value == (void *)7;
}

static void local_storage_lives_until_reset(void)
{
    CUresult (*put)(CUcontext, void *, void *, void (*)(CUcontext, void *, void *)) = orion_dark_context_storage[0];
    CUresult (*del)(CUcontext, void *) = orion_dark_context_storage[1];
    CUresult (*get)(void **, CUcontext, void *) = orion_dark_context_storage[2];
    void *value;
    static char keys[100];
    driver_begin();
    CHECK(get(&value, NULL, &destroyed) == CUDA_ERROR_INVALID_HANDLE && !value);
    CHECK(put(NULL, &destroyed, (void *)6, destroy) == CUDA_SUCCESS);
    CHECK(put(NULL, &destroyed, (void *)7, destroy) == CUDA_SUCCESS);
    for (int i = 0; i < 100; i++)
        CHECK(put(NULL, &keys[i], (void *)(intptr_t)i, NULL) == CUDA_SUCCESS);
    for (int i = 0; i < 100; i++)
        CHECK(get(&value, NULL, &keys[i]) == CUDA_SUCCESS && value == (void *)(intptr_t)i);
    CHECK(get(&value, NULL, &destroyed) == CUDA_SUCCESS && value == (void *)7);
    CHECK(del(NULL, &keys[5]) == CUDA_SUCCESS && get(&value, NULL, &keys[5]) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuDevicePrimaryCtxReset_v2(0) == CUDA_SUCCESS);
    CHECK(destroyed == 1);
    CHECK(get(&value, NULL, &destroyed) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuCtxSetCurrent(NULL) == CUDA_SUCCESS);
    CHECK(get(&value, NULL, &destroyed) == CUDA_ERROR_INVALID_CONTEXT);
}

static void reset_takes_everything_but_libraries(void)
{
    CUdeviceptr address, global;
    CUstream stream;
    CUmodule module;
    CUlibrary library;
    CUkernel kernel;
    CUfunction function, again;
    CUcontext context = driver_begin();
    size_t bytes;
    CHECK(orion_hand_cuMemAlloc_v2(&address, 1000) == CUDA_SUCCESS);
    CHECK(orion_hand_cuStreamCreate(&stream, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuModuleLoadData(&module, driver_ptx) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLibraryLoadData(&library, driver_ptx, NULL, NULL, 0, NULL, NULL, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLibraryGetKernel(&kernel, library, "mixed") == CUDA_SUCCESS);
    CHECK(orion_hand_cuKernelGetFunction(&function, kernel) == CUDA_SUCCESS);
    CHECK(orion_hand_cuDevicePrimaryCtxReset_v2(0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    CHECK(cuStreamSynchronize(stream) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuMemFree_v2(address) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuModuleUnload(module) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuLaunchKernel(NULL, function, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) ==
          CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuKernelGetFunction(&again, kernel) == CUDA_SUCCESS && again != function);
    CHECK(orion_hand_cuLibraryGetGlobal(&global, &bytes, library, "counter") == CUDA_SUCCESS && bytes == 16);
    CHECK(orion_hand_cuLibraryUnload(library) == CUDA_SUCCESS);
    CHECK(orion_hand_cuKernelGetFunction(&again, kernel) == CUDA_ERROR_INVALID_HANDLE);
    driver_end();
}

static void *other_thread(void *argument)
{
    CUcontext current = NULL;
    CUdeviceptr address;
    intptr_t wrong = orion_hand_cuCtxGetCurrent(&current) != CUDA_SUCCESS || current ||
                     orion_hand_cuMemAlloc_v2(&address, 64) != CUDA_ERROR_INVALID_CONTEXT ||
                     orion_hand_cuCtxSetCurrent(argument) != CUDA_SUCCESS ||
                     orion_hand_cuMemAlloc_v2(&address, 64) != CUDA_SUCCESS ||
                     orion_hand_cuMemFree_v2(address) != CUDA_SUCCESS;
    return (void *)wrong;
}

static void each_thread_has_a_current_context_of_its_own(void)
{
    enum { THREADS = 200 }; /* more than there are reply slots */
    pthread_t threads[THREADS];
    CUcontext context = driver_begin();
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, other_thread, context) == 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        CHECK(pthread_join(threads[i], &wrong) == 0 && !wrong);
    }
    driver_end();
}

CHECK_MAIN(CASE(nothing_works_before_init), CASE(primary_context_is_named_before_it_is_active),
           CASE(stack_pushes_and_pops), CASE(local_storage_lives_until_reset),
           CASE(reset_takes_everything_but_libraries), CASE(each_thread_has_a_current_context_of_its_own))
