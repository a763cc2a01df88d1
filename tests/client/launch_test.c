/* SPDX-License-Identifier: Apache-2.0 */
/* Modules, kernels and launches: limits are judged here, streams keep the order of host functions. */
#include "driver.h"

#define LEGACY CU_STREAM_LEGACY

static CUfunction load(CUmodule *module, const char *name)
{
    CUfunction function;
    MUST(orion_hand_cuModuleLoadData(module, driver_ptx) == CUDA_SUCCESS);
    MUST(orion_hand_cuModuleGetFunction(&function, *module, name) == CUDA_SUCCESS);
    return function;
}

static void parameters_are_laid_out_as_in_c(void)
{
    static const size_t offsets[] = {0, 8, 16, 40, 44}, sizes[] = {1, 8, 24, 2, 4};
    CUmodule module;
    driver_begin();
    CUfunction mixed = load(&module, "mixed");
    for (size_t i = 0; i < 5; i++) {
        size_t offset, size;
        CHECK(orion_hand_cuFuncGetParamInfo(mixed, i, &offset, &size) == CUDA_SUCCESS);
        CHECK(offset == offsets[i] && size == sizes[i]);
    }
    size_t offset, size;
    CHECK(orion_hand_cuFuncGetParamInfo(mixed, 5, &offset, &size) == CUDA_ERROR_INVALID_VALUE);
    char a = 1;
    uint64_t b = 2;
    double c[3] = {3};
    short d = 4;
    float e = 5;
    void *parameters[] = {&a, &b, c, &d, &e};
    CHECK(orion_hand_cuLaunchKernel(LEGACY, mixed, 2, 3, 4, 32, 1, 1, 0, NULL, parameters, NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLaunchKernel(LEGACY, mixed, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) == CUDA_ERROR_INVALID_VALUE);
    uint8_t block[48] = {0};
    size_t bytes = sizeof block;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, block, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    CHECK(orion_hand_cuLaunchKernel(LEGACY, mixed, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, extra) == CUDA_SUCCESS);
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    driver_end();
}

static void limits_are_checked_before_anything_is_sent(void)
{
    CUmodule module;
    driver_begin();
    CUfunction none = load(&module, "none");
    static const unsigned bad[][6] = {{0, 1, 1, 1, 1, 1},     {1, 0, 1, 1, 1, 1},    {1, 1, 1, 0, 1, 1},
                                      {1, 70000, 1, 1, 1, 1}, {1, 1, 1, 2048, 1, 1}, {1, 1, 1, 64, 64, 1},
                                      {1, 1, 1, 1, 1, 65}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(orion_hand_cuLaunchKernel(LEGACY, none, bad[i][0], bad[i][1], bad[i][2], bad[i][3], bad[i][4], bad[i][5],
                                        0, NULL, NULL, NULL) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuLaunchKernel(LEGACY, none, 1, 1, 1, 1, 1, 1, 64 << 10, NULL, NULL, NULL) ==
          CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuFuncSetAttribute(none, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10) ==
          CUDA_SUCCESS);
    CHECK(orion_hand_cuLaunchKernel(LEGACY, none, 1, 1, 1, 1, 1, 1, 64 << 10, NULL, NULL, NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuFuncSetAttribute(none, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 20) ==
          CUDA_ERROR_INVALID_VALUE);
    CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
                                   .value.clusterDim = {.x = 2, .y = 1, .z = 1}};
    CUlaunchConfig config = {.gridDimX = 2,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = 1,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .attrs = &attribute,
                             .numAttrs = 1};
    CHECK(orion_hand_cuLaunchKernelEx(LEGACY, &config, none, NULL, NULL) == CUDA_ERROR_NOT_SUPPORTED);
    attribute.value.clusterDim.x = 1;
    CHECK(orion_hand_cuLaunchKernelEx(LEGACY, &config, none, NULL, NULL) == CUDA_SUCCESS);
    CHECK(cuCtxSynchronize() == CUDA_SUCCESS);
    driver_end();
}

static void dead_and_missing_functions_are_told_apart(void)
{
    CUmodule module;
    CUfunction function, none;
    CUdeviceptr address;
    size_t bytes;
    unsigned count;
    driver_begin();
    none = load(&module, "none");
    CHECK(orion_hand_cuModuleGetFunction(&function, module, "absent") == CUDA_ERROR_NOT_FOUND);
    CHECK(orion_hand_cuModuleGetGlobal_v2(&address, &bytes, module, "absent") == CUDA_ERROR_NOT_FOUND);
    CHECK(orion_hand_cuModuleGetGlobal_v2(&address, &bytes, module, "counter") == CUDA_SUCCESS && bytes == 16);
    CHECK(orion_hand_cuModuleGetFunctionCount(&count, module) == CUDA_SUCCESS && count == 2);
    CUfunction both[2];
    CHECK(orion_hand_cuModuleEnumerateFunctions(both, 2, module) == CUDA_SUCCESS && both[0] != both[1]);
    CHECK(orion_hand_cuModuleUnload(module) == CUDA_SUCCESS);
    CHECK(orion_hand_cuModuleUnload(module) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuLaunchKernel(LEGACY, none, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuModuleLoadData(&module, "garbage") == CUDA_ERROR_INVALID_IMAGE);
    CHECK(orion_hand_cuModuleLoad(&module, "/nonexistent") == CUDA_ERROR_FILE_NOT_FOUND);
    driver_end();
}

static void kernels_of_libraries_are_launched_as_functions(void)
{
    CUlibrary library;
    CUkernel kernel;
    CUmodule module;
    CUfunction function;
    const char *name;
    int threads;
    driver_begin();
    CHECK(orion_hand_cuLibraryLoadData(&library, driver_ptx, NULL, NULL, 0, NULL, NULL, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLibraryGetKernel(&kernel, library, "absent") == CUDA_ERROR_NOT_FOUND);
    CHECK(orion_hand_cuLibraryGetKernel(&kernel, library, "none") == CUDA_SUCCESS);
    CHECK(orion_hand_cuKernelGetName(&name, kernel) == CUDA_SUCCESS && strcmp(name, "none") == 0);
    CHECK(orion_hand_cuLaunchKernel(LEGACY, (CUfunction)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) == CUDA_SUCCESS);
    CHECK(orion_hand_cuKernelGetAttribute(&threads, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, kernel, 0) ==
          CUDA_SUCCESS);
    CHECK(threads > 0);
    CHECK(orion_hand_cuLibraryGetModule(&module, library) == CUDA_SUCCESS);
    CHECK(orion_hand_cuModuleGetFunction(&function, module, "none") == CUDA_SUCCESS);
    CHECK(orion_hand_cuModuleUnload(module) == CUDA_ERROR_INVALID_HANDLE);
    CHECK(orion_hand_cuLibraryUnload(library) == CUDA_SUCCESS);
    CHECK(orion_hand_cuLaunchKernel(LEGACY, (CUfunction)kernel, 1, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL) ==
          CUDA_ERROR_INVALID_HANDLE);
    driver_end();
}

static int order[64], ordered;

static void note(void *data)
{
    order[ordered++] = (int)(intptr_t)data;
}

static void note_callback(CUstream stream, CUresult status, void *data)
{
    (void)stream;
    order[ordered++] = (int)(intptr_t)data + 1000 * (int)status;
}

static void host_functions_run_in_order_and_before_the_stream_is_done(void)
{
    CUstream stream;
    driver_begin();
    CHECK(orion_hand_cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == CUDA_SUCCESS);
    for (intptr_t i = 0; i < 64; i++) {
        if (i % 2)
            CHECK(orion_hand_cuLaunchHostFunc(LEGACY, stream, note, (void *)i) == CUDA_SUCCESS);
        else
            CHECK(orion_hand_cuStreamAddCallback(LEGACY, stream, note_callback, (void *)i, 0) == CUDA_SUCCESS);
    }
    CHECK(cuStreamSynchronize(stream) == CUDA_SUCCESS);
    CHECK(ordered == 64);
    for (int i = 0; i < 64; i++)
        CHECK(order[i] == i);
    CHECK(orion_hand_cuStreamDestroy_v2(stream) == CUDA_SUCCESS);
    CHECK(cuStreamQuery(stream) == CUDA_ERROR_INVALID_HANDLE);
    driver_end();
}

static void events_mark_and_measure(void)
{
    CUevent start, end;
    CUstream stream;
    float milliseconds = -1;
    driver_begin();
    CHECK(orion_hand_cuEventCreate(&start, 0) == CUDA_SUCCESS && orion_hand_cuEventCreate(&end, 0) == CUDA_SUCCESS);
    CHECK(orion_hand_cuEventCreate(&start, 0x80) == CUDA_ERROR_INVALID_VALUE);
    CHECK(orion_hand_cuStreamCreateWithPriority(&stream, 0, -9) == CUDA_SUCCESS);
    int priority;
    CHECK(orion_hand_cuStreamGetPriority(LEGACY, stream, &priority) == CUDA_SUCCESS && priority == -5);
    CHECK(cuEventRecord(start, stream) == CUDA_SUCCESS && cuEventRecord(end, stream) == CUDA_SUCCESS);
    CHECK(cuStreamWaitEvent(CU_STREAM_PER_THREAD, end, 0) == CUDA_SUCCESS);
    CHECK(cuEventSynchronize(end) == CUDA_SUCCESS && cuEventQuery(end) == CUDA_SUCCESS);
    CHECK(cuEventElapsedTime_v2(&milliseconds, start, end) == CUDA_SUCCESS && milliseconds >= 0);
    CHECK(orion_hand_cuEventDestroy_v2(end) == CUDA_SUCCESS);
    CHECK(cuEventRecord(end, stream) == CUDA_ERROR_INVALID_HANDLE);
    driver_end();
}

CHECK_MAIN(CASE(parameters_are_laid_out_as_in_c), CASE(limits_are_checked_before_anything_is_sent),
           CASE(dead_and_missing_functions_are_told_apart), CASE(kernels_of_libraries_are_launched_as_functions),
           CASE(host_functions_run_in_order_and_before_the_stream_is_done), CASE(events_mark_and_measure))
