/* SPDX-License-Identifier: Apache-2.0 */
/* The cuda device: open, describe, reset, close, and the table of operations. */
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t generations; /* atomic: contexts of this process */

/* What warm() has done already: the process's one device takes it over. */
static struct {
    orion_driver_t driver; /* library NULL: not loaded */
    int output;
} ahead = {.output = -1};

CUresult orion_cuda_enter(orion_device_t *device)
{
    static _Thread_local uint32_t entered;
    const uint32_t now = __atomic_load_n(&device->generation, __ATOMIC_ACQUIRE);
    if (entered == now)
        return CUDA_SUCCESS;
    const CUresult result = device->driver.cuCtxSetCurrent(device->context);
    if (result == CUDA_SUCCESS)
        entered = now;
    return orion_cuda_judge(device, result);
}

CUresult orion_cuda_judge(orion_device_t *device, CUresult result)
{
    int32_t none = CUDA_SUCCESS;
    if (result != CUDA_SUCCESS && orion_driver_is_sticky(result))
        __atomic_compare_exchange_n(&device->sticky, &none, (int32_t)result, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
    return result;
}

CUresult orion_cuda_sticky(orion_device_t *device)
{
    return (CUresult)__atomic_load_n(&device->sticky, __ATOMIC_ACQUIRE);
}

static CUresult status(orion_device_t *device, char *text, size_t text_bytes)
{
    const CUresult result = orion_cuda_sticky(device);
    if (text && text_bytes)
        snprintf(text, text_bytes, result ? "the driver reports %s for work of this client; its context is lost" : "%s",
                 result ? orion_driver_error(&device->driver, result) : "");
    return result;
}

/* What depends on sharing memory with the application, or on calls that are not served, is not there. */
static const CUdevice_attribute absent[] = {
    CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS,
    CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
    CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
    CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
    CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES,
    CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS,
    CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR,
    CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES,
    CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED,
    CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, /* launches with clusters are refused */
};

static void learn(orion_device_t *device)
{
    const orion_driver_t *driver = &device->driver;
    orion_device_info_t *info = &device->info;
    CUuuid uuid;
    size_t total = 0;
    driver->cuDeviceGetName(info->name, sizeof info->name, device->ordinal);
    snprintf(info->processor, sizeof info->processor, "%.*s", (int)sizeof info->processor - 1, info->name);
    if (driver->cuDeviceGetUuid(&uuid, device->ordinal) == CUDA_SUCCESS)
        memcpy(info->uuid, &uuid, sizeof info->uuid);
    driver->cuDeviceGetPCIBusId(info->pci_bus_id, sizeof info->pci_bus_id, device->ordinal);
    driver->cuDeviceTotalMem(&total, device->ordinal);
    const uint64_t limit = device->config.memory_limit;
    info->total_memory = limit && limit < total ? limit : total;
    info->memory_unit = 1; /* the driver does not say what it takes */
    for (int a = 1; a < (int)ORION_DEVICE_ATTRIBUTES && a < CU_DEVICE_ATTRIBUTE_MAX; a++) {
        int value = 0;
        if (driver->cuDeviceGetAttribute(&value, (CUdevice_attribute)a, device->ordinal) == CUDA_SUCCESS)
            info->attributes[a] = value;
    }
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        info->attributes[absent[i]] = 0;
    if (!orion_cuda_can_share(device))
        info->attributes[CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED] = 0;
    info->driver_version = driver->version;
    info->runs_kernels = 1;
}

static void stream_init(orion_device_t *device, orion_stream_t *stream, CUstream handle, bool blocking)
{
    *stream = (orion_stream_t){.handle = handle, .blocking = blocking, .next = device->streams};
    stream->last = &stream->first;
    stream->last_marker = &stream->marker;
    device->streams = stream;
}

/* The context and what the device itself needs in it. */
static CUresult begin(orion_device_t *device, const char **step)
{
    const orion_driver_t *driver = &device->driver;
    CUstream house;
    *step = "retain the primary context";
    CUresult result = driver->cuDevicePrimaryCtxRetain(&device->context, device->ordinal);
    if (result != CUDA_SUCCESS)
        return result;
    __atomic_store_n(&device->generation, __atomic_add_fetch(&generations, 1, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
    *step = "use the primary context";
    result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    *step = "make a stream";
    result = driver->cuStreamCreateWithPriority(&house, CU_STREAM_NON_BLOCKING, 0);
    if (result != CUDA_SUCCESS)
        return result;
    device->streams = NULL;
    stream_init(device, &device->legacy, CU_STREAM_LEGACY, true);
    stream_init(device, &device->house, house, false);
    *step = "make an event";
    device->zeroed = 0;
    device->house_done = orion_cuda_cell_new(device, CU_EVENT_DISABLE_TIMING);
    return device->house_done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static void locks_init(orion_device_t *device)
{
    pthread_mutex_t *locks[] = {&device->submit_lock, &device->lock, &device->memory_lock, &device->module_lock};
    pthread_cond_t *conditions[] = {&device->work, &device->carry, &device->parked, &device->returned};
    pthread_condattr_t monotonic; /* the calendar may be set while the watcher sleeps */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    for (size_t i = 0; i < 4; i++) {
        pthread_mutex_init(locks[i], NULL);
        pthread_cond_init(conditions[i], &monotonic);
    }
    pthread_condattr_destroy(&monotonic);
}

static void device_free(orion_device_t *device)
{
    pthread_mutex_t *locks[] = {&device->submit_lock, &device->lock, &device->memory_lock, &device->module_lock};
    pthread_cond_t *conditions[] = {&device->work, &device->carry, &device->parked, &device->returned};
    for (size_t i = 0; i < 4; i++) {
        pthread_mutex_destroy(locks[i]);
        pthread_cond_destroy(conditions[i]);
    }
    free(device->span);
    free(device);
}

/* Takes seconds where there are many GPUs. The context is left to open(): it costs device memory. */
static void warm(void)
{
    char why[256];
    ahead.output = orion_cuda_output_open();
    orion_driver_open(&ahead.driver, why, sizeof why); /* open() tries again, and says why not */
}

CUresult orion_cuda_open(const orion_device_config_t *config, orion_device_t **device_p, char *why, size_t why_bytes)
{
    int count = 0;
    const char *step = "count its devices";
    orion_device_t *device = calloc(1, sizeof *device);
    if (!device)
        return CUDA_ERROR_OUT_OF_MEMORY;
    device->config = *config;
    orion_share_init(&device->share, config->turn, config->usage);
    device->output = -1;
    device->backlog_last = &device->backlog;
    device->jobs_last = &device->jobs;
    locks_init(device);
    if (config->capture_output)
        device->output = ahead.output >= 0 ? ahead.output : orion_cuda_output_open();
    device->driver = ahead.driver;
    ahead.driver.library = NULL;
    ahead.output = -1;
    CUresult result = device->driver.library ? CUDA_SUCCESS : orion_driver_open(&device->driver, why, why_bytes);
    if (result != CUDA_SUCCESS)
        goto err_free;
    result = device->driver.cuDeviceGetCount(&count);
    if (result == CUDA_SUCCESS && count == 0)
        result = CUDA_ERROR_NO_DEVICE;
    if (result != CUDA_SUCCESS)
        goto err_step;
    step = "choose its first device";
    result = device->driver.cuDeviceGet(&device->ordinal, 0);
    if (result != CUDA_SUCCESS)
        goto err_step;
    learn(device);
    result = begin(device, &step);
    if (result != CUDA_SUCCESS)
        goto err_step;
    result = CUDA_ERROR_OUT_OF_MEMORY;
    step = "start its threads";
    device->has_watcher = pthread_create(&device->watcher, NULL, orion_cuda_watcher, device) == 0;
    device->has_porter = pthread_create(&device->porter, NULL, orion_cuda_porter, device) == 0;
    if (!device->has_watcher || !device->has_porter) {
        snprintf(why, why_bytes, "the cuda device could not %s", step);
        orion_cuda_close(device);
        return result;
    }
    *device_p = device;
    return CUDA_SUCCESS;

err_step:
    snprintf(why, why_bytes, "the driver could not %s: %s", step, orion_driver_error(&device->driver, result));
err_free:
    device_free(device);
    return result;
}

static void stop_thread(orion_device_t *device, bool has, pthread_t thread)
{
    pthread_mutex_lock(&device->lock);
    device->stopping = true;
    pthread_cond_broadcast(&device->work);
    pthread_cond_broadcast(&device->carry);
    pthread_cond_broadcast(&device->returned);
    pthread_mutex_unlock(&device->lock);
    if (has)
        pthread_join(thread, NULL);
}

/* Streams, markers, events and memory of others whose context is gone or going. The watcher does not look. */
static void forget_streams(orion_device_t *device)
{
    for (orion_stream_t *stream = device->streams, *next; stream; stream = next) {
        next = stream->next;
        while (stream->marker) {
            orion_cuda_marker_t *marker = stream->marker;
            stream->marker = marker->next;
            free(marker->cell);
            free(marker);
        }
        if (stream != &device->legacy && stream != &device->house)
            free(stream);
    }
    device->streams = NULL;
    while (device->events) {
        orion_event_t *event = device->events;
        device->events = event->next;
        orion_cuda_event_unshare(device, event);
        free(event->cell);
        free(event);
    }
    while (device->spare_count)
        free(device->spare_cells[--device->spare_count]);
    free(device->house_done);
    device->house_done = NULL;
    device->pending = device->in_driver = 0;
    orion_cuda_shares_forget(device);
    orion_cuda_account(device);
}

void orion_cuda_close(orion_device_t *device)
{
    pthread_mutex_lock(&device->lock);
    device->dropping = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    pthread_mutex_unlock(&device->lock);
    orion_cuda_drop(device, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    orion_cuda_gates_fail(device, CUDA_ERROR_CONTEXT_IS_DESTROYED, true);
    stop_thread(device, device->has_watcher, device->watcher);
    stop_thread(device, device->has_porter, device->porter);
    orion_cuda_drop(device, CUDA_ERROR_CONTEXT_IS_DESTROYED); /* what came meanwhile */
    for (size_t i = device->span_count; i-- > 0;)
        if (device->span[i].kind == ORION_SPAN_HOST || device->span[i].kind == ORION_SPAN_STAGE)
            orion_cuda_host_unregister(device, device->span[i].base);
    device->driver.cuDevicePrimaryCtxReset(device->ordinal);
    device->driver.cuDevicePrimaryCtxRelease(device->ordinal);
    forget_streams(device);
    orion_bounce_forget(device, false);
    orion_cuda_modules_forget(device);
    device_free(device);
}

static void park(orion_device_t *device, bool aside)
{
    pthread_mutex_lock(&device->lock);
    device->park = aside;
    pthread_cond_broadcast(&device->work);
    while (aside && !device->is_parked)
        pthread_cond_wait(&device->parked, &device->lock);
    pthread_mutex_unlock(&device->lock);
}

/* On the porter. A context that a fault has spoilt may not come back in this process: the sticky status stays then. */
static void reset_now(orion_device_t *device, orion_cuda_job_t *job)
{
    const orion_driver_t *driver = &device->driver;
    const char *step;
    orion_cuda_drop(device, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    orion_cuda_gates_fail(device, CUDA_ERROR_CONTEXT_IS_DESTROYED, true);
    park(device, true);
    driver->cuDevicePrimaryCtxReset(device->ordinal);
    driver->cuDevicePrimaryCtxRelease(device->ordinal);
    forget_streams(device);
    orion_bounce_forget(device, false);
    orion_cuda_modules_forget(device);
    CUresult result = begin(device, &step);
    if (result == CUDA_SUCCESS)
        orion_spans_reset(device);
    __atomic_store_n(&device->sticky, result == CUDA_SUCCESS ? CUDA_SUCCESS : (int32_t)result, __ATOMIC_RELEASE);
    if (result == CUDA_SUCCESS)
        result = orion_cuda_judge(device, driver->cuCtxSynchronize());
    pthread_mutex_lock(&device->lock);
    device->dropping = CUDA_SUCCESS;
    pthread_mutex_unlock(&device->lock);
    park(device, false);
    if (job->done)
        job->done(job->arg, result);
}

CUresult orion_cuda_reset(orion_device_t *device, orion_done_fn done, void *arg)
{
    orion_cuda_job_t *job = calloc(1, sizeof *job);
    if (!job)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *job = (orion_cuda_job_t){.run = reset_now, .done = done, .arg = arg};
    pthread_mutex_lock(&device->lock);
    device->dropping = CUDA_ERROR_CONTEXT_IS_DESTROYED;
    pthread_cond_broadcast(&device->returned);
    pthread_mutex_unlock(&device->lock);
    orion_cuda_drop(device, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    orion_cuda_gates_fail(device, CUDA_ERROR_CONTEXT_IS_DESTROYED, true); /* the porter may wait behind one */
    orion_cuda_job(device, job);
    return CUDA_SUCCESS;
}

static void describe(orion_device_t *device, orion_device_info_t *info_p)
{
    *info_p = device->info;
}

static void counters(orion_device_t *device, orion_device_counters_t *counters_p)
{
    *counters_p = (orion_device_counters_t){.launches = __atomic_load_n(&device->launches, __ATOMIC_RELAXED)};
    pthread_mutex_lock(&device->lock);
    counters_p->pending = device->pending;
    counters_p->busy_ns = __atomic_load_n(&device->share.usage->busy_ns, __ATOMIC_RELAXED);
    counters_p->closed_gates = device->closed_gates;
    pthread_mutex_unlock(&device->lock);
    pthread_mutex_lock(&device->memory_lock);
    counters_p->memory_used = device->used;
    counters_p->memory_granted = device->used;
    counters_p->memory_dying = device->dying;
    pthread_mutex_unlock(&device->memory_lock);
}

static CUresult room_notify(orion_device_t *device, uint64_t pending, orion_done_fn done, void *arg)
{
    pthread_mutex_lock(&device->lock);
    const bool now = device->pending <= pending;
    if (!now) {
        device->room_pending = pending;
        device->room_arg = arg;
        device->room_done = done;
    }
    pthread_mutex_unlock(&device->lock);
    if (now)
        done(arg, CUDA_SUCCESS);
    return CUDA_SUCCESS;
}

const orion_device_ops_t orion_cuda_device = {
    .name = "cuda",
    .warm = warm,
    .open = orion_cuda_open,
    .close = orion_cuda_close,
    .describe = describe,
    .counters = counters,
    .status = status,
    .room_notify = room_notify,
    .reset = orion_cuda_reset,
    .synchronize_notify = orion_cuda_fence,
    .submitted_notify = orion_cuda_submitted,
    .mem_alloc = orion_cuda_mem_alloc,
    .mem_free = orion_cuda_mem_free,
    .mem_alloc_async = orion_cuda_mem_alloc_async,
    .mem_free_async = orion_cuda_mem_free_async,
    .mem_info = orion_cuda_mem_info,
    .mem_find = orion_cuda_mem_find,
    .mem_share = orion_cuda_mem_share,
    .mem_open = orion_cuda_mem_open,
    .mem_close = orion_cuda_mem_close,
    .event_share = orion_cuda_event_share,
    .event_open = orion_cuda_event_open,
    .host_register = orion_cuda_host_register,
    .host_unregister = orion_cuda_host_unregister,
    .stream_create = orion_cuda_stream_create,
    .stream_destroy = orion_cuda_stream_destroy,
    .stream_query = orion_cuda_stream_query,
    .stream_notify = orion_cuda_stream_notify,
    .stream_wait_event = orion_cuda_stream_wait_event,
    .host_gate = orion_cuda_host_gate,
    .host_gate_open = orion_cuda_host_gate_open,
    .event_create = orion_cuda_event_create,
    .event_destroy = orion_cuda_event_destroy,
    .event_record = orion_cuda_event_record,
    .event_query = orion_cuda_event_query,
    .event_notify = orion_cuda_event_notify,
    .event_elapsed = orion_cuda_event_elapsed,
    .copy = orion_cuda_copy,
    .copy_2d = orion_cuda_copy_2d,
    .write = orion_cuda_write,
    .fill = orion_cuda_fill,
    .module_load = orion_cuda_module_load,
    .link = orion_cuda_link,
    .module_unload = orion_cuda_module_unload,
    .module_function = orion_cuda_module_function,
    .module_global = orion_cuda_module_global,
    .module_names = orion_cuda_module_names,
    .module_counts = orion_cuda_module_counts,
    .launch = orion_cuda_launch,
};
