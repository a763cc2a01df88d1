/* SPDX-License-Identifier: Apache-2.0 */
/* Copies, fills and launches as operations. */
#include "cuda/device.h"

CUresult orion_cuda_copy(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t src, uint64_t bytes,
                         orion_done_fn done, void *arg)
{
    orion_cuda_op_t op = {.kind = bytes ? OP_COPY : OP_NOTIFY,
                          .stream = stream,
                          .done = done,
                          .arg = arg,
                          .u.copy = {.dst = dst, .src = src, .width = bytes}};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_copy_2d(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t dst_pitch,
                            uint64_t src, uint64_t src_pitch, uint64_t width, uint64_t height, orion_done_fn done,
                            void *arg)
{
    if (height > 1 && (dst_pitch < width || src_pitch < width))
        return CUDA_ERROR_INVALID_VALUE;
    orion_cuda_op_t op = {
        .kind = width && height ? OP_COPY_2D : OP_NOTIFY,
        .stream = stream,
        .done = done,
        .arg = arg,
        .u.copy = {dst, src, height > 1 ? dst_pitch : width, height > 1 ? src_pitch : width, width, height}};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_write(orion_device_t *device, orion_stream_t *stream, uint64_t dst, const void *data,
                          uint32_t bytes)
{
    if (bytes > ORION_CUDA_WRITE_MOST)
        return CUDA_ERROR_INVALID_VALUE;
    orion_cuda_op_t op = {.kind = OP_WRITE, .stream = stream, .u.write = {dst, data, bytes}};
    return bytes ? orion_cuda_submit(device, &op) : CUDA_SUCCESS;
}

CUresult orion_cuda_fill(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint32_t value, uint32_t element,
                         uint64_t pitch, uint64_t width, uint64_t height, orion_done_fn done, void *arg)
{
    if ((element != 1 && element != 2 && element != 4) || dst % element || (height > 1 && pitch % element))
        return CUDA_ERROR_INVALID_VALUE;
    orion_cuda_op_t op = {.kind = width && height ? OP_FILL : OP_NOTIFY,
                          .stream = stream,
                          .done = done,
                          .arg = arg,
                          .u.fill = {dst, pitch, width, height, value, element}};
    return orion_cuda_submit(device, &op);
}

/* The usual limits, so that a mistake is an answer and not an operation; the rest is for the driver to judge. */
static CUresult check(const orion_device_t *device, const orion_launch_t *launch)
{
    const int32_t *a = device->info.attributes;
    const orion_function_info_t *info = &launch->function->info;
    for (unsigned i = 0; i < 3; i++)
        if (!launch->grid[i] || !launch->block[i] ||
            launch->grid[i] > (uint32_t)a[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i] ||
            launch->block[i] > (uint32_t)a[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i])
            return CUDA_ERROR_INVALID_VALUE;
    const uint64_t threads = (uint64_t)launch->block[0] * launch->block[1] * launch->block[2];
    if (threads > (uint64_t)a[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK])
        return CUDA_ERROR_INVALID_VALUE;
    if (info->max_threads > 0 && threads > (uint64_t)info->max_threads)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if ((uint64_t)launch->shared_bytes + (uint64_t)info->static_shared >
        (uint64_t)a[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN])
        return CUDA_ERROR_INVALID_VALUE;
    if (launch->param_bytes < info->param_bytes) /* the driver would read on behind a client's block */
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult orion_cuda_launch(orion_device_t *device, orion_stream_t *stream, const orion_launch_t *launch,
                           orion_done_fn done, void *arg)
{
    CUresult result = check(device, launch);
    if (result != CUDA_SUCCESS)
        return result;
    orion_cuda_op_t op = {.kind = OP_LAUNCH,
                          .stream = stream,
                          .done = done,
                          .arg = arg,
                          .u.launch = {.function = launch->function,
                                       .grid = {launch->grid[0], launch->grid[1], launch->grid[2]},
                                       .block = {launch->block[0], launch->block[1], launch->block[2]},
                                       .shared = launch->shared_bytes,
                                       .flags = launch->flags,
                                       .bytes = launch->param_bytes,
                                       .params = launch->params}};
    return orion_cuda_submit(device, &op);
}
