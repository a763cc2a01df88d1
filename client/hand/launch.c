/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Launches: limits are checked here, arguments packed by the layout that came with the function, one record goes out,
 * nothing comes back.
 */
#include "context.h"
#include "device.h"
#include "objects.h"
#include "orion_generated/calls.h"
#include "orion_generated/hand.h"

#include <string.h>

#define PARAMETERS_MOST 32768
#define COOPERATIVE 1u

typedef struct {
    unsigned grid[3], block[3], shared, flags;
    CUstream stream;
} launch_t;

/* The runtime hands the driver's numbers on as they are, and programs expect its own 9, cudaErrorInvalidConfiguration,
 * for a bad <<<...>>>; the driver interface has no such result. */
static CUresult bad_configuration(const orion_function_t *function)
{
    return function->module->runtime ? (CUresult)9 : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check_limits(const orion_session_t *session, const orion_function_t *function, const launch_t *launch)
{
    for (unsigned i = 0; i < 3; i++) {
        int grid_most = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i);
        int block_most = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i);
        if (!launch->grid[i] || !launch->block[i] || (grid_most && launch->grid[i] > (unsigned)grid_most) ||
            (block_most && launch->block[i] > (unsigned)block_most))
            return bad_configuration(function);
    }
    uint64_t threads = (uint64_t)launch->block[0] * launch->block[1] * launch->block[2];
    int device_most = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    if (device_most && threads > (uint64_t)device_most)
        return bad_configuration(function);
    int function_most = function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
    if (function_most && threads > (uint64_t)function_most) {
        /* Too many registers is one error, more than __launch_bounds__ says is another. */
        uint64_t registers = (uint64_t)function->attributes[CU_FUNC_ATTRIBUTE_NUM_REGS] * threads;
        int register_most = orion_device_attribute(session, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
        return register_most && registers > (uint64_t)register_most ? CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
                                                                    : CUDA_ERROR_INVALID_VALUE;
    }
    if (launch->shared > (unsigned)function->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES])
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

/* {1, buffer, 2, &bytes, 0}: a parameter block that the caller packed. */
static CUresult read_extra(void **extra, const void **data_p, size_t *bytes_p)
{
    const void *data = NULL;
    size_t bytes = 0;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
        if (extra[0] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            data = extra[1];
        else if (extra[0] == CU_LAUNCH_PARAM_BUFFER_SIZE && extra[1])
            bytes = *(size_t *)extra[1];
        else
            return CUDA_ERROR_INVALID_VALUE;
    }
    if (bytes > PARAMETERS_MOST || (bytes && !data))
        return CUDA_ERROR_INVALID_VALUE;
    *data_p = data;
    *bytes_p = bytes;
    return CUDA_SUCCESS;
}

static CUresult send(orion_session_t *session, const orion_function_t *function, const launch_t *launch,
                     uint64_t stream, const void *data, size_t bytes)
{
    return orion_post_orionLaunch(session, function->wire, stream, launch->grid[0], launch->grid[1], launch->grid[2],
                                  launch->block[0], launch->block[1], launch->block[2], launch->shared, launch->flags,
                                  (unsigned)bytes, data);
}

/* Kept apart so that the usual launch does not have 32 KiB of stack probed. */
static __attribute__((noinline)) CUresult pack_large(orion_session_t *session, const orion_function_t *function,
                                                     const launch_t *launch, uint64_t stream, void **parameters)
{
    uint8_t block[PARAMETERS_MOST];
    if (function->parameter_bytes > sizeof block)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    memset(block, 0, function->parameter_bytes);
    for (uint32_t i = 0; i < function->parameter_count; i++)
        memcpy(block + function->parameters[i].offset, parameters[i], function->parameters[i].size);
    return send(session, function, launch, stream, block, function->parameter_bytes);
}

static CUresult pack(orion_session_t *session, const orion_function_t *function, const launch_t *launch,
                     uint64_t stream, void **parameters)
{
    uint8_t block[512];
    if (function->parameter_bytes > sizeof block)
        return pack_large(session, function, launch, stream, parameters);
    memset(block, 0, function->parameter_bytes);
    for (uint32_t i = 0; i < function->parameter_count; i++)
        memcpy(block + function->parameters[i].offset, parameters[i], function->parameters[i].size);
    return send(session, function, launch, stream, block, function->parameter_bytes);
}

static CUresult launch(CUstream default_stream, CUfunction handle, const launch_t *launch, void **parameters,
                       void **extra)
{
    orion_session_t *session;
    orion_function_t *function;
    uint64_t stream;
    CUresult result = orion_enter(ORION_NEEDS_CONTEXT, &session);
    if (!result)
        result = orion_function_resolve(session, handle, &function);
    if (!result)
        result = orion_stream_wire(session, launch->stream, default_stream, &stream);
    if (!result)
        result = check_limits(session, function, launch);
    if (result)
        return result;
    if (parameters && extra)
        return CUDA_ERROR_INVALID_VALUE;
    if (extra) {
        const void *data;
        size_t bytes;
        result = read_extra(extra, &data, &bytes);
        return result ? result : send(session, function, launch, stream, data, bytes);
    }
    if (!parameters && function->parameter_count)
        return CUDA_ERROR_INVALID_VALUE;
    return pack(session, function, launch, stream, parameters);
}

CUresult orion_hand_cuLaunchKernel(CUstream default_stream, CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
                                   unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY,
                                   unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,
                                   void **kernelParams, void **extra)
{
    launch_t l = {{gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, 0, hStream};
    return launch(default_stream, f, &l, kernelParams, extra);
}

CUresult orion_hand_cuLaunchCooperativeKernel(CUstream default_stream, CUfunction f, unsigned int gridDimX,
                                              unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX,
                                              unsigned int blockDimY, unsigned int blockDimZ,
                                              unsigned int sharedMemBytes, CUstream hStream, void **kernelParams)
{
    launch_t l = {
        {gridDimX, gridDimY, gridDimZ}, {blockDimX, blockDimY, blockDimZ}, sharedMemBytes, COOPERATIVE, hStream};
    return launch(default_stream, f, &l, kernelParams, NULL);
}

/* What an attribute means for us: nothing, the cooperative flag, or more than the device can do. */
static CUresult read_attributes(const CUlaunchConfig *config, unsigned *flags_p)
{
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const CUlaunchAttribute *attribute = &config->attrs[i];
        switch (attribute->id) {
        case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
            if (attribute->value.cooperative)
                *flags_p |= COOPERATIVE;
            break;
        case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
            if (attribute->value.clusterDim.x > 1 || attribute->value.clusterDim.y > 1 ||
                attribute->value.clusterDim.z > 1)
                return CUDA_ERROR_NOT_SUPPORTED;
            break;
        case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
        case CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT:
        case CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE:
            return CUDA_ERROR_NOT_SUPPORTED; /* others would wait for what never comes */
        default:
            break; /* hints: priority, cache windows, programmatic stream serialisation ... */
        }
    }
    return CUDA_SUCCESS;
}

CUresult orion_hand_cuLaunchKernelEx(CUstream default_stream, const CUlaunchConfig *config, CUfunction f,
                                     void **kernelParams, void **extra)
{
    if (!config || (config->numAttrs && !config->attrs))
        return CUDA_ERROR_INVALID_VALUE;
    launch_t l = {{config->gridDimX, config->gridDimY, config->gridDimZ},
                  {config->blockDimX, config->blockDimY, config->blockDimZ},
                  config->sharedMemBytes,
                  0,
                  config->hStream};
    CUresult result = read_attributes(config, &l.flags);
    return result ? result : launch(default_stream, f, &l, kernelParams, extra);
}
