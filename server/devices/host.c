/* SPDX-License-Identifier: Apache-2.0 */
/* The common part of the devices: opening and closing, memory, and thin entries over streams, events, transfers. */
#include "board.h"
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

CUresult orion_host_open(const orion_device_config_t *config, const char *kind, const orion_compiler_t *compiler,
                         orion_device_t **device_p, char *why, size_t why_bytes)
{
    orion_device_t *device = calloc(1, sizeof *device);
    if (!device) {
        snprintf(why, why_bytes, "no memory for the device");
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    device->config = *config;
    device->compiler = compiler;
    CUresult result = orion_heap_init(&device->heap, config, why, why_bytes);
    if (result != CUDA_SUCCESS)
        goto err_free;
    orion_share_init(&device->share, config->turn, config->usage);
    device->pool = orion_pool_open(config->threads > 0 ? (unsigned)config->threads : 0, &device->share);
    if (!device->pool) {
        snprintf(why, why_bytes, "cannot start the device's threads; check the process and memory limits");
        result = CUDA_ERROR_OPERATING_SYSTEM;
        goto err_heap;
    }
    orion_queue_init(&device->queue, device->pool);
    memcpy(device->queue.shared, config->shared, sizeof device->queue.shared);
    pthread_mutex_init(&device->compile_lock, NULL);
    pthread_mutex_init(&device->module_lock, NULL);
    orion_identity_describe(&device->info, kind, orion_pool_threads(device->pool), device->heap.limit, config->host_id);
    device->info.attributes[CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED] = config->broker.share != NULL;
    *device_p = device;
    return CUDA_SUCCESS;
err_heap:
    orion_heap_fini(&device->heap);
err_free:
    free(device);
    return result;
}

void orion_host_close(orion_device_t *device)
{
    if (!device)
        return;
    __atomic_store_n(&device->cancel, 1, __ATOMIC_RELEASE);
    orion_share_let_through(&device->share, 1);
    orion_queue_drop(&device->queue, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    orion_queue_wait_empty(&device->queue);
    orion_pool_close(device->pool);
    orion_module_free_all(device);
    orion_queue_fini(&device->queue);
    orion_heap_fini(&device->heap);
    pthread_mutex_destroy(&device->compile_lock);
    pthread_mutex_destroy(&device->module_lock);
    free(device);
}

void orion_host_describe(orion_device_t *device, orion_device_info_t *info_p)
{
    *info_p = device->info;
}

void orion_host_counters(orion_device_t *device, orion_device_counters_t *counters_p)
{
    orion_queue_lock(&device->queue);
    counters_p->pending = device->queue.pending;
    counters_p->closed_gates = device->queue.closed_gates;
    orion_queue_unlock(&device->queue);
    counters_p->launches = __atomic_load_n(&device->launches, __ATOMIC_RELAXED);
    counters_p->busy_ns = __atomic_load_n(&device->share.usage->busy_ns, __ATOMIC_RELAXED);
    orion_heap_usage(&device->heap, &counters_p->memory_used, &counters_p->memory_dying, &counters_p->memory_granted);
}

CUresult orion_host_status(orion_device_t *device, char *text, size_t text_bytes)
{
    orion_queue_lock(&device->queue);
    CUresult status = device->queue.status;
    if (text && text_bytes)
        snprintf(text, text_bytes, "%s", device->queue.text);
    orion_queue_unlock(&device->queue);
    return status;
}

CUresult orion_host_room_notify(orion_device_t *device, uint64_t pending, orion_done_fn done, void *arg)
{
    return orion_queue_room(&device->queue, pending, done, arg);
}

CUresult orion_host_synchronize_notify(orion_device_t *device, orion_done_fn done, void *arg)
{
    return orion_queue_fence(&device->queue, done, arg);
}

/* The last call of a reset: nothing runs or waits any more. */
static void reset_finish(void *arg, CUresult result)
{
    (void)result;
    orion_device_t *device = arg;
    orion_done_fn done = device->reset_done;
    void *done_arg = device->reset_arg;
    orion_module_free_all(device);
    orion_heap_reset(&device->heap);
    __atomic_store_n(&device->cancel, 0, __ATOMIC_RELEASE);
    orion_share_let_through(&device->share, 0);
    orion_queue_clear(&device->queue);
    if (done)
        done(done_arg, CUDA_SUCCESS);
}

CUresult orion_host_reset(orion_device_t *device, orion_done_fn done, void *arg)
{
    device->reset_done = done;
    device->reset_arg = arg;
    __atomic_store_n(&device->cancel, 1, __ATOMIC_RELEASE);
    orion_share_let_through(&device->share, 1);
    orion_queue_drop(&device->queue, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return orion_queue_fence(&device->queue, reset_finish, device);
}

CUresult orion_host_check_launch(const orion_device_t *device, const orion_launch_t *launch)
{
    const int32_t *limit = device->info.attributes;
    const orion_function_info_t *info = &launch->function->info;
    const uint32_t *grid = launch->grid, *block = launch->block;
    for (int i = 0; i < 3; i++)
        if (!grid[i] || !block[i] || grid[i] > (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i] ||
            block[i] > (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i])
            return CUDA_ERROR_INVALID_VALUE;
    uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    uint64_t shared = (uint64_t)launch->shared_bytes + (uint32_t)info->static_shared;
    if (threads > (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK] ||
        shared > (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN])
        return CUDA_ERROR_INVALID_VALUE;
    if (info->max_threads > 0 && threads > (uint32_t)info->max_threads)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    if (info->param_count != ORION_PARAMS_UNKNOWN && launch->param_bytes < info->param_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (launch->flags & ~ORION_LAUNCH_COOPERATIVE)
        return CUDA_ERROR_INVALID_VALUE;
    if (launch->flags & ORION_LAUNCH_COOPERATIVE) {
        uint64_t fit = (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR] / ((threads + 31) & ~31ull);
        uint64_t most = (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR];
        uint64_t by_shared = (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR] /
                             (shared + (uint32_t)limit[CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK]);
        fit = fit < most ? fit : most;
        fit = fit < by_shared ? fit : by_shared;
        /* Sides are below 2^31, 2^16, 2^16: the product fits. */
        if ((uint64_t)grid[0] * grid[1] * grid[2] > fit * (uint32_t)limit[CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT])
            return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    }
    return CUDA_SUCCESS;
}

CUresult orion_host_stream_create(orion_device_t *device, uint32_t flags, int priority, orion_stream_t **stream_p)
{
    (void)priority;
    return orion_stream_create(&device->queue, flags, stream_p);
}

void orion_host_stream_destroy(orion_device_t *device, orion_stream_t *stream)
{
    orion_stream_destroy(&device->queue, stream);
}

CUresult orion_host_stream_query(orion_device_t *device, orion_stream_t *stream)
{
    return orion_stream_query(&device->queue, stream);
}

CUresult orion_host_stream_notify(orion_device_t *device, orion_stream_t *stream, orion_done_fn done, void *arg)
{
    return orion_stream_notify(&device->queue, stream, done, arg);
}

CUresult orion_host_stream_wait_event(orion_device_t *device, orion_stream_t *stream, orion_event_t *event)
{
    return orion_event_wait(&device->queue, stream, event);
}

CUresult orion_host_gate(orion_device_t *device, orion_stream_t *stream, orion_done_fn reached, void *arg,
                         orion_gate_t **gate_p)
{
    return orion_stream_gate(&device->queue, stream, reached, arg, gate_p);
}

void orion_host_gate_open(orion_device_t *device, orion_gate_t *gate)
{
    orion_stream_gate_open(&device->queue, gate);
}

CUresult orion_host_event_create(orion_device_t *device, uint32_t flags, orion_event_t **event_p)
{
    if (flags & CU_EVENT_INTERPROCESS && !device->config.broker.share)
        return CUDA_ERROR_NOT_SUPPORTED;
    return orion_event_create(&device->queue, flags, event_p);
}

CUresult orion_host_event_share(orion_device_t *device, orion_event_t *event, orion_ipc_handle_t *handle_p)
{
    const orion_broker_t *broker = &device->config.broker;
    return broker->share ? orion_event_share(&device->queue, broker, event, handle_p) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult orion_host_event_open(orion_device_t *device, const orion_ipc_handle_t *handle, orion_event_t **event_p)
{
    const orion_broker_t *broker = &device->config.broker;
    return broker->share ? orion_event_open(&device->queue, broker, handle, event_p) : CUDA_ERROR_NOT_SUPPORTED;
}

void orion_host_event_destroy(orion_device_t *device, orion_event_t *event)
{
    orion_event_destroy(&device->queue, event);
}

CUresult orion_host_event_record(orion_device_t *device, orion_event_t *event, orion_stream_t *stream)
{
    return orion_event_record(&device->queue, event, stream);
}

CUresult orion_host_event_query(orion_device_t *device, orion_event_t *event)
{
    return orion_event_query(&device->queue, event);
}

CUresult orion_host_event_notify(orion_device_t *device, orion_event_t *event, orion_done_fn done, void *arg)
{
    return orion_event_notify(&device->queue, event, done, arg);
}

CUresult orion_host_event_elapsed(orion_device_t *device, orion_event_t *start, orion_event_t *end, float *ms_p)
{
    return orion_event_elapsed(&device->queue, start, end, ms_p);
}

CUresult orion_host_copy(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t src, uint64_t bytes,
                         orion_done_fn done, void *arg)
{
    return orion_transfer_copy(&device->queue, stream, dst, 0, src, 0, bytes, 1, done, arg);
}

CUresult orion_host_copy_2d(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t dst_pitch,
                            uint64_t src, uint64_t src_pitch, uint64_t width, uint64_t height, orion_done_fn done,
                            void *arg)
{
    return orion_transfer_copy(&device->queue, stream, dst, dst_pitch, src, src_pitch, width, height, done, arg);
}

CUresult orion_host_write(orion_device_t *device, orion_stream_t *stream, uint64_t dst, const void *data,
                          uint32_t bytes)
{
    return orion_transfer_write(&device->queue, stream, dst, data, bytes);
}

CUresult orion_host_fill(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint32_t value, uint32_t element,
                         uint64_t pitch, uint64_t width, uint64_t height, orion_done_fn done, void *arg)
{
    return orion_transfer_fill(&device->queue, stream, dst, value, element, pitch, width, height, done, arg);
}
