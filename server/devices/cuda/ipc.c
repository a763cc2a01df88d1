/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and events of other processes: the driver's own handles, which clients never see. What a client gets is the
 * broker's, because a driver asks nobody whether two processes belong together.
 */
#include "cuda/device.h"

#include <stdlib.h>
#include <string.h>

struct orion_cuda_share {
    orion_cuda_share_t *next;
    uint64_t address; /* of the allocation */
    uint64_t id;
    uint32_t party; /* 0: ours, shown to others */
    orion_ipc_handle_t handle;
};

static bool is_served(const orion_device_t *device)
{
    return device->info.attributes[CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED] != 0;
}

bool orion_cuda_can_share(const orion_device_t *device)
{
    const orion_driver_t *driver = &device->driver;
    return device->config.broker.share && driver->cuIpcGetMemHandle && driver->cuIpcOpenMemHandle &&
           driver->cuIpcCloseMemHandle && driver->cuIpcGetEventHandle && driver->cuIpcOpenEventHandle &&
           driver->cuMemGetAddressRange;
}

/* Under memory_lock. */
static orion_cuda_share_t **share_at(orion_device_t *device, uint64_t address)
{
    orion_cuda_share_t **at = &device->shares;
    while (*at && (*at)->address != address)
        at = &(*at)->next;
    return at;
}

static void end_share(orion_device_t *device, const orion_cuda_share_t *share)
{
    const orion_broker_t *broker = &device->config.broker;
    if (share->party)
        broker->close(broker->self, share->id, share->party);
    else
        broker->unshare(broker->self, share->id);
}

void orion_cuda_unshare(orion_device_t *device, uint64_t address)
{
    pthread_mutex_lock(&device->memory_lock);
    orion_cuda_share_t **at = share_at(device, address), *share = *at;
    if (share)
        *at = share->next;
    pthread_mutex_unlock(&device->memory_lock);
    if (share)
        end_share(device, share);
    free(share);
}

void orion_cuda_shares_forget(orion_device_t *device)
{
    while (device->shares)
        orion_cuda_unshare(device, device->shares->address);
}

static bool remember(orion_device_t *device, const orion_shared_t *shared, uint64_t address)
{
    orion_cuda_share_t *share = calloc(1, sizeof *share);
    if (!share)
        return false;
    share->address = address;
    share->id = shared->id;
    share->party = shared->party;
    share->handle = shared->handle;
    pthread_mutex_lock(&device->memory_lock);
    share->next = device->shares;
    device->shares = share;
    pthread_mutex_unlock(&device->memory_lock);
    return true;
}

CUresult orion_cuda_mem_share(orion_device_t *device, uint64_t address, orion_ipc_handle_t *handle_p)
{
    const orion_broker_t *broker = &device->config.broker;
    orion_shared_t shared = {.kind = ORION_IPC_MEMORY, .is_opaque = 1};
    orion_span_t span;
    int fd = -1;
    if (!is_served(device))
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!orion_span_find(device, address, 1, &span) || span.kind != ORION_SPAN_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&device->memory_lock);
    const orion_cuda_share_t *known = *share_at(device, span.base);
    if (known)
        *handle_p = known->handle;
    pthread_mutex_unlock(&device->memory_lock);
    if (known)
        return CUDA_SUCCESS;
    CUresult result = orion_cuda_enter(device);
    if (result == CUDA_SUCCESS)
        result = orion_cuda_judge(
            device, device->driver.cuIpcGetMemHandle((CUipcMemHandle *)(void *)&shared.opaque, span.base));
    shared.address = span.base;
    shared.bytes = shared.asked = span.bytes;
    if (result == CUDA_SUCCESS)
        result = broker->share(broker->self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        return result;
    if (!remember(device, &shared, span.base)) {
        broker->unshare(broker->self, shared.id);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *handle_p = shared.handle;
    return CUDA_SUCCESS;
}

CUresult orion_cuda_mem_open(orion_device_t *device, const orion_ipc_handle_t *handle, uint64_t *address_p,
                             uint64_t *bytes_p)
{
    const orion_broker_t *broker = &device->config.broker;
    orion_shared_t shared = {.kind = ORION_IPC_MEMORY, .handle = *handle};
    CUipcMemHandle inner;
    CUdeviceptr address, base;
    size_t bytes;
    int fd = -1;
    if (!is_served(device))
        return CUDA_ERROR_NOT_SUPPORTED;
    CUresult result = orion_cuda_enter(device);
    if (result == CUDA_SUCCESS)
        result = broker->open(broker->self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        return result;
    memcpy(&inner, &shared.opaque, sizeof inner);
    result = orion_cuda_judge(device,
                              device->driver.cuIpcOpenMemHandle(&address, inner, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    if (result != CUDA_SUCCESS)
        goto err_close;
    /* how much that is the driver knows; the other worker may say what it likes */
    result = orion_cuda_judge(device, device->driver.cuMemGetAddressRange(&base, &bytes, address));
    if (result != CUDA_SUCCESS)
        goto err_unmap;
    bytes -= address - base;
    if (shared.asked && shared.asked < bytes)
        bytes = shared.asked;
    result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!orion_span_add(device, &(orion_span_t){address, bytes, ORION_SPAN_OPENED, NULL}))
        goto err_unmap;
    if (!remember(device, &shared, address))
        goto err_span;
    *address_p = address;
    *bytes_p = bytes;
    return CUDA_SUCCESS;

err_span:
    orion_span_drop(device, address, ORION_SPAN_OPENED);
err_unmap:
    device->driver.cuIpcCloseMemHandle(address);
err_close:
    broker->close(broker->self, shared.id, shared.party);
    return result;
}

/* On the porter: the driver may wait. */
static void close_now(orion_device_t *device, orion_cuda_job_t *job)
{
    const CUresult result = orion_cuda_judge(device, device->driver.cuIpcCloseMemHandle(job->address));
    orion_cuda_unshare(device, job->address);
    if (job->done)
        job->done(job->arg, result);
}

CUresult orion_cuda_mem_close(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg)
{
    orion_cuda_job_t *job = calloc(1, sizeof *job);
    if (!job)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *job = (orion_cuda_job_t){.run = close_now, .address = address, .done = done, .arg = arg};
    if (orion_span_drop(device, address, ORION_SPAN_OPENED)) {
        orion_cuda_job_after_work(device, job);
        return CUDA_SUCCESS;
    }
    free(job);
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult orion_cuda_event_share(orion_device_t *device, orion_event_t *event, orion_ipc_handle_t *handle_p)
{
    const orion_broker_t *broker = &device->config.broker;
    orion_shared_t shared = {.kind = ORION_IPC_EVENT, .is_opaque = 1};
    int fd = -1;
    if (!is_served(device))
        return CUDA_ERROR_NOT_SUPPORTED;
    if (!(event->flags & CU_EVENT_INTERPROCESS))
        return CUDA_ERROR_INVALID_HANDLE;
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&device->module_lock); /* two threads and one event */
    if (!event->share_id) {
        result = orion_cuda_enter(device);
        if (result == CUDA_SUCCESS)
            result = orion_cuda_judge(device, device->driver.cuIpcGetEventHandle(
                                                  (CUipcEventHandle *)(void *)&shared.opaque, event->cell->event));
        if (result == CUDA_SUCCESS)
            result = broker->share(broker->self, &shared, &fd);
        if (result == CUDA_SUCCESS) {
            event->handle = shared.handle;
            event->share_id = shared.id;
        }
    }
    *handle_p = event->handle;
    pthread_mutex_unlock(&device->module_lock);
    return result;
}

void orion_cuda_event_unshare(orion_device_t *device, const orion_event_t *event)
{
    const orion_cuda_share_t share = {.id = event->share_id, .party = event->party};
    if (event->share_id)
        end_share(device, &share);
}

CUresult orion_cuda_event_open(orion_device_t *device, const orion_ipc_handle_t *handle, orion_event_t **event_p)
{
    const orion_broker_t *broker = &device->config.broker;
    orion_shared_t shared = {.kind = ORION_IPC_EVENT, .handle = *handle};
    CUipcEventHandle inner;
    int fd = -1;
    if (!is_served(device))
        return CUDA_ERROR_NOT_SUPPORTED;
    orion_cuda_cell_t *cell = calloc(1, sizeof *cell);
    if (!cell)
        return CUDA_ERROR_OUT_OF_MEMORY;
    cell->references = 1;
    CUresult result = orion_cuda_enter(device);
    if (result == CUDA_SUCCESS)
        result = broker->open(broker->self, &shared, &fd);
    if (result != CUDA_SUCCESS)
        goto err_free;
    memcpy(&inner, &shared.opaque, sizeof inner);
    result = orion_cuda_judge(device, device->driver.cuIpcOpenEventHandle(&cell->event, inner));
    if (result != CUDA_SUCCESS)
        goto err_close;
    result = orion_cuda_event_wrap(device, cell, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS, event_p);
    if (result != CUDA_SUCCESS) {
        device->driver.cuEventDestroy(cell->event);
        goto err_close;
    }
    (*event_p)->share_id = shared.id;
    (*event_p)->party = shared.party;
    return CUDA_SUCCESS;

err_close:
    broker->close(broker->self, shared.id, shared.party);
err_free:
    free(cell);
    return result;
}
