/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real driver, loaded with dlopen when a worker opens its device. Nothing of NVIDIA's is needed to build this: names,
 * versions and signatures come from csrc/spec/cuda. Our own libcuda.so.1 passes for a driver only when ORION_DRIVER
 * names it: a worker behind a worker, the cascade.
 */
#ifndef ORION_CUDA_DRIVER_H
#define ORION_CUDA_DRIVER_H

#include "wire/shim.h"
#include "orion_generated/orion_cuda.h"

#include <stddef.h>

/* name, the exported symbol, the version of CUDA that cuGetProcAddress is asked for, parameters */
#define ORION_DRIVER_FUNCTIONS(X)                                                                                   \
    X(cuInit, cuInit, 2000, (unsigned flags))                                                                       \
    X(cuDriverGetVersion, cuDriverGetVersion, 2020, (int *version))                                                 \
    X(cuGetErrorName, cuGetErrorName, 6000, (CUresult error, const char **name))                                    \
    X(cuGetErrorString, cuGetErrorString, 6000, (CUresult error, const char **text))                                \
    X(cuDeviceGetCount, cuDeviceGetCount, 2000, (int *count))                                                       \
    X(cuDeviceGet, cuDeviceGet, 2000, (CUdevice * device, int ordinal))                                             \
    X(cuDeviceGetName, cuDeviceGetName, 2000, (char *name, int bytes, CUdevice device))                             \
    X(cuDeviceGetUuid, cuDeviceGetUuid_v2, 11040, (CUuuid * uuid, CUdevice device))                                 \
    X(cuDeviceTotalMem, cuDeviceTotalMem_v2, 3020, (size_t *bytes, CUdevice device))                                \
    X(cuDeviceGetAttribute, cuDeviceGetAttribute, 2000, (int *value, CUdevice_attribute a, CUdevice device))        \
    X(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, 4010, (char *id, int bytes, CUdevice device))                       \
    X(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, 7000, (CUcontext * context, CUdevice device))             \
    X(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, 11000, (CUdevice device))                            \
    X(cuDevicePrimaryCtxReset, cuDevicePrimaryCtxReset_v2, 11000, (CUdevice device))                                \
    X(cuCtxSetCurrent, cuCtxSetCurrent, 4000, (CUcontext context))                                                  \
    X(cuCtxSynchronize, cuCtxSynchronize, 2000, (void))                                                             \
    X(cuMemAlloc, cuMemAlloc_v2, 3020, (CUdeviceptr * address, size_t bytes))                                       \
    X(cuMemFree, cuMemFree_v2, 3020, (CUdeviceptr address))                                                         \
    X(cuMemGetInfo, cuMemGetInfo_v2, 3020, (size_t *free, size_t *total))                                           \
    X(cuMemHostAlloc, cuMemHostAlloc, 2020, (void **memory, size_t bytes, unsigned flags))                          \
    X(cuMemFreeHost, cuMemFreeHost, 2000, (void *memory))                                                           \
    X(cuMemHostRegister, cuMemHostRegister_v2, 6050, (void *memory, size_t bytes, unsigned flags))                  \
    X(cuMemHostUnregister, cuMemHostUnregister, 4000, (void *memory))                                               \
    X(cuMemHostGetDevicePointer, cuMemHostGetDevicePointer_v2, 3020, (CUdeviceptr * a, void *p, unsigned f))        \
    X(cuMemcpyAsync, cuMemcpyAsync, 4000, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))        \
    X(cuMemcpy2DAsync, cuMemcpy2DAsync_v2, 3020, (const CUDA_MEMCPY2D *copy, CUstream stream))                      \
    X(cuMemsetD8Async, cuMemsetD8Async, 3020, (CUdeviceptr to, unsigned char v, size_t n, CUstream stream))         \
    X(cuMemsetD2D8Async, cuMemsetD2D8Async, 3020,                                                                   \
      (CUdeviceptr to, size_t pitch, unsigned char v, size_t width, size_t height, CUstream stream))                \
    X(cuMemsetD2D16Async, cuMemsetD2D16Async, 3020,                                                                 \
      (CUdeviceptr to, size_t pitch, unsigned short v, size_t width, size_t height, CUstream stream))               \
    X(cuMemsetD2D32Async, cuMemsetD2D32Async, 3020,                                                                 \
      (CUdeviceptr to, size_t pitch, unsigned v, size_t width, size_t height, CUstream stream))                     \
    X(cuMemsetD16Async, cuMemsetD16Async, 3020, (CUdeviceptr to, unsigned short v, size_t n, CUstream s))           \
    X(cuMemsetD32Async, cuMemsetD32Async, 3020, (CUdeviceptr to, unsigned v, size_t n, CUstream s))                 \
    X(cuStreamCreateWithPriority, cuStreamCreateWithPriority, 5050, (CUstream * s, unsigned f, int priority))       \
    X(cuStreamDestroy, cuStreamDestroy_v2, 4000, (CUstream stream))                                                 \
    X(cuStreamQuery, cuStreamQuery, 2000, (CUstream stream))                                                        \
    X(cuStreamWaitEvent, cuStreamWaitEvent, 3020, (CUstream stream, CUevent event, unsigned flags))                 \
    X(cuEventCreate, cuEventCreate, 2000, (CUevent * event, unsigned flags))                                        \
    X(cuEventDestroy, cuEventDestroy_v2, 4000, (CUevent event))                                                     \
    X(cuEventRecord, cuEventRecord, 2000, (CUevent event, CUstream stream))                                         \
    X(cuEventQuery, cuEventQuery, 2000, (CUevent event))                                                            \
    X(cuEventSynchronize, cuEventSynchronize, 2000, (CUevent event))                                                \
    X(cuEventElapsedTime, cuEventElapsedTime, 2000, (float *ms, CUevent start, CUevent end))                        \
    X(cuLaunchHostFunc, cuLaunchHostFunc, 10000, (CUstream stream, CUhostFn function, void *data))                  \
    X(cuModuleLoadDataEx, cuModuleLoadDataEx, 2010,                                                                 \
      (CUmodule * module, const void *image, unsigned n, CUjit_option *options, void **values))                     \
    X(cuLinkCreate, cuLinkCreate_v2, 6050, (unsigned n, CUjit_option *options, void **values, CUlinkState *state))  \
    X(cuLinkAddData, cuLinkAddData_v2, 6050,                                                                        \
      (CUlinkState state, CUjitInputType type, void *data, size_t bytes, const char *name, unsigned n,              \
       CUjit_option *options, void **values))                                                                       \
    X(cuLinkComplete, cuLinkComplete, 5050, (CUlinkState state, void **cubin, size_t *bytes))                       \
    X(cuLinkDestroy, cuLinkDestroy, 5050, (CUlinkState state))                                                      \
    X(cuModuleUnload, cuModuleUnload, 2000, (CUmodule module))                                                      \
    X(cuModuleGetFunction, cuModuleGetFunction, 2000, (CUfunction * f, CUmodule module, const char *name))          \
    X(cuModuleGetGlobal, cuModuleGetGlobal_v2, 3020, (CUdeviceptr * a, size_t *n, CUmodule m, const char *))        \
    X(cuFuncGetAttribute, cuFuncGetAttribute, 2020, (int *value, CUfunction_attribute a, CUfunction f))             \
    X(cuFuncSetAttribute, cuFuncSetAttribute, 9000, (CUfunction f, CUfunction_attribute a, int value))              \
    X(cuLaunchKernel, cuLaunchKernel, 4000,                                                                         \
      (CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, \
       CUstream stream, void **parameters, void **extra))                                                           \
    X(cuLaunchCooperativeKernel, cuLaunchCooperativeKernel, 9000,                                                   \
      (CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, \
       CUstream stream, void **parameters))

/* NULL where the driver is older, or does not serve them. */
#define ORION_DRIVER_OPTIONAL(X)                                                                             \
    X(cuMemAllocAsync, cuMemAllocAsync, 11020, (CUdeviceptr * address, size_t bytes, CUstream stream))       \
    X(cuMemFreeAsync, cuMemFreeAsync, 11020, (CUdeviceptr address, CUstream stream))                         \
    X(cuModuleGetFunctionCount, cuModuleGetFunctionCount, 12040, (unsigned *count, CUmodule module))         \
    X(cuModuleEnumerateFunctions, cuModuleEnumerateFunctions, 12040, (CUfunction * f, unsigned n, CUmodule)) \
    X(cuIpcGetMemHandle, cuIpcGetMemHandle, 4010, (CUipcMemHandle * handle, CUdeviceptr address))            \
    X(cuIpcOpenMemHandle, cuIpcOpenMemHandle_v2, 11000, (CUdeviceptr * a, CUipcMemHandle handle, unsigned))  \
    X(cuIpcCloseMemHandle, cuIpcCloseMemHandle, 4010, (CUdeviceptr address))                                 \
    X(cuIpcGetEventHandle, cuIpcGetEventHandle, 4010, (CUipcEventHandle * handle, CUevent event))            \
    X(cuIpcOpenEventHandle, cuIpcOpenEventHandle, 4010, (CUevent * event, CUipcEventHandle handle))          \
    X(cuMemGetAddressRange, cuMemGetAddressRange_v2, 3020, (CUdeviceptr * base, size_t *n, CUdeviceptr))     \
    X(cuFuncGetName, cuFuncGetName, 12030, (const char **name, CUfunction function))                         \
    X(cuFuncGetParamInfo, cuFuncGetParamInfo, 12040, (CUfunction f, size_t i, size_t *offset, size_t *size))

#define ORION_DRIVER_MEMBER(name, symbol, version, parameters) CUresult(*name) parameters;

typedef struct orion_driver {
    void *library;
    const orion_shim_t *shim; /* ours; NULL: a real driver */
    int version;              /* 13000 = 13.0 */
    ORION_DRIVER_FUNCTIONS(ORION_DRIVER_MEMBER)
    ORION_DRIVER_OPTIONAL(ORION_DRIVER_MEMBER)
} orion_driver_t;

/* ORION_DRIVER, else libcuda.so.1 as the loader finds it, else where distributions put it. Loads, looks every function
 * up and calls cuInit: after the fork, never in the zygote. why gets a sentence when it fails. */
CUresult orion_driver_open(orion_driver_t *driver, char *why, size_t why_bytes);

/* "CUDA_ERROR_ILLEGAL_ADDRESS"; never NULL. */
const char *orion_driver_error(const orion_driver_t *driver, CUresult result);

/* Errors of running work, after which a context is of no use. */
int orion_driver_is_sticky(CUresult result);

#endif
