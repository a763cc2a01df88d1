/* SPDX-License-Identifier: Apache-2.0 */
/* The null device: memory, streams and events are real, launches are counted in stream order and done at once. It
 * measures everything above device.h and tests it without a compiler. */
#include "../host.h"
#include "layout.h"

static CUresult null_open(const orion_device_config_t *config, orion_device_t **device_p, char *why, size_t why_bytes)
{
    const orion_compiler_t *compiler = config->compiler ? config->compiler : &orion_layout_reader;
    return orion_host_open(config, "null", compiler, device_p, why, why_bytes);
}

static void count(orion_device_t *device)
{
    __atomic_fetch_add(&device->launches, 1, __ATOMIC_RELAXED);
}

static int start(orion_op_t *op, CUresult *result_p)
{
    count(op->u.run.function->module->device);
    *result_p = CUDA_SUCCESS;
    return 1;
}

static CUresult null_launch(orion_device_t *device, orion_stream_t *stream, const orion_launch_t *launch,
                            orion_done_fn done, void *arg)
{
    orion_queue_t *queue = &device->queue;
    CUresult result = orion_host_check_launch(device, launch);
    if (result != CUDA_SUCCESS)
        return result;
    orion_queue_lock(queue);
    result = orion_queue_refusal(queue);
    if (result != CUDA_SUCCESS)
        goto out;
    stream = orion_queue_stream(queue, stream);
    if (orion_queue_idle(queue, stream)) {
        orion_queue_unlock(queue);
        count(device);
        if (done)
            done(arg, CUDA_SUCCESS);
        return CUDA_SUCCESS;
    }
    result = CUDA_ERROR_OUT_OF_MEMORY;
    orion_op_t *op = orion_op_new(queue, ORION_OP_WORK, done, arg);
    if (!op)
        goto out;
    op->u.run.function = launch->function;
    op->start = start;
    orion_queue_push(queue, stream, op);
    orion_queue_advance(queue);
    result = CUDA_SUCCESS;
out:
    orion_queue_unlock(queue);
    return result;
}

const orion_device_ops_t orion_null_device = {
    .name = "null",
    .open = null_open,
    .launch = null_launch,
    ORION_HOST_OPS,
};
