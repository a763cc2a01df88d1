/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory from the driver, cleared before anybody sees it; host memory that the driver knows; and what of all
 * that lies where. */
#include "cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Index of the first span that begins above the address. Under memory_lock. */
static size_t above(const orion_device_t *device, uint64_t address)
{
    size_t low = 0, high = device->span_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (device->span[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool orion_span_find(orion_device_t *device, uint64_t address, uint64_t bytes, orion_span_t *span_p)
{
    bool found = false;
    pthread_mutex_lock(&device->memory_lock);
    const size_t at = above(device, address);
    if (at) {
        const orion_span_t *span = &device->span[at - 1];
        const uint64_t offset = address - span->base;
        found = offset < span->bytes && bytes <= span->bytes - offset;
        *span_p = *span;
    }
    pthread_mutex_unlock(&device->memory_lock);
    return found;
}

bool orion_span_add(orion_device_t *device, const orion_span_t *span)
{
    bool added = false;
    pthread_mutex_lock(&device->memory_lock);
    const size_t at = above(device, span->base);
    if (at && device->span[at - 1].base == span->base) { /* a variable that was looked up before */
        added = device->span[at - 1].kind == span->kind;
        goto out;
    }
    if (device->span_count == device->span_room) {
        const size_t room = device->span_room ? device->span_room * 2 : 64;
        orion_span_t *grown = realloc(device->span, room * sizeof *grown);
        if (!grown)
            goto out;
        device->span = grown;
        device->span_room = room;
    }
    memmove(device->span + at + 1, device->span + at, (device->span_count - at) * sizeof *span);
    device->span[at] = *span;
    device->span_count++;
    added = true;
out:
    pthread_mutex_unlock(&device->memory_lock);
    return added;
}

static bool span_remove(orion_device_t *device, uint64_t base, unsigned kinds, orion_span_t *span_p)
{
    bool removed = false;
    pthread_mutex_lock(&device->memory_lock);
    const size_t at = above(device, base);
    if (at && device->span[at - 1].base == base && kinds & 1u << device->span[at - 1].kind) {
        *span_p = device->span[at - 1];
        memmove(device->span + at - 1, device->span + at, (device->span_count - at) * sizeof *span_p);
        device->span_count--;
        removed = true;
    }
    pthread_mutex_unlock(&device->memory_lock);
    return removed;
}

bool orion_span_drop(orion_device_t *device, uint64_t base, orion_span_kind_t kind)
{
    orion_span_t span;
    return span_remove(device, base, 1u << kind, &span);
}

static void spans_keep(orion_device_t *device, bool (*keep)(const orion_span_t *, const void *), const void *arg)
{
    pthread_mutex_lock(&device->memory_lock);
    size_t kept = 0;
    for (size_t i = 0; i < device->span_count; i++)
        if (keep(&device->span[i], arg))
            device->span[kept++] = device->span[i];
    device->span_count = kept;
    pthread_mutex_unlock(&device->memory_lock);
}

static bool not_of_module(const orion_span_t *span, const void *module)
{
    return span->kind != ORION_SPAN_GLOBAL || span->module != module;
}

void orion_spans_drop_module(orion_device_t *device, const orion_module_t *module)
{
    spans_keep(device, not_of_module, module);
}

static bool stays(const orion_span_t *span, const void *arg)
{
    (void)arg;
    return span->kind == ORION_SPAN_STAGE;
}

/* A new context: what stays is registered with it anew, or bounces from now on. */
void orion_spans_reset(orion_device_t *device)
{
    spans_keep(device, stays, NULL);
    pthread_mutex_lock(&device->memory_lock);
    device->used = device->dying = 0;
    for (size_t i = 0; i < device->span_count; i++) {
        orion_span_t *span = &device->span[i];
        if (device->driver.cuMemHostRegister((void *)(uintptr_t)span->base, span->bytes, CU_MEMHOSTREGISTER_PORTABLE) !=
            CUDA_SUCCESS)
            span->bytes = 0;
    }
    pthread_mutex_unlock(&device->memory_lock);
}

static bool charge(orion_device_t *device, uint64_t bytes)
{
    pthread_mutex_lock(&device->memory_lock);
    const bool fits = bytes <= device->info.total_memory && device->used <= device->info.total_memory - bytes;
    if (fits)
        device->used += bytes;
    pthread_mutex_unlock(&device->memory_lock);
    return fits;
}

static void refund(orion_device_t *device, uint64_t bytes)
{
    pthread_mutex_lock(&device->memory_lock);
    device->used -= bytes <= device->used ? bytes : device->used;
    pthread_mutex_unlock(&device->memory_lock);
}

/* What this driver hands out may have been somebody else's. It is cleared in a stream of our own; every stream waits
 * for that before its next operation. */
static CUresult clear(orion_device_t *device, uint64_t address, uint64_t bytes)
{
    const orion_driver_t *driver = &device->driver;
    pthread_mutex_lock(&device->submit_lock);
    CUresult result = driver->cuMemsetD8Async(address, 0, bytes, device->house.handle);
    if (result == CUDA_SUCCESS)
        result = driver->cuEventRecord(device->house_done->event, device->house.handle);
    if (result == CUDA_SUCCESS)
        __atomic_fetch_add(&device->zeroed, 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&device->submit_lock);
    return orion_cuda_judge(device, result);
}

CUresult orion_cuda_mem_alloc(orion_device_t *device, uint64_t bytes, uint64_t *address_p)
{
    CUdeviceptr address;
    CUresult result = orion_cuda_sticky(device);
    if (result == CUDA_SUCCESS && bytes == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    if (!charge(device, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = orion_cuda_judge(device, device->driver.cuMemAlloc(&address, bytes));
    if (result != CUDA_SUCCESS)
        goto err_refund;
    result = clear(device, address, bytes);
    if (result == CUDA_SUCCESS && !orion_span_add(device, &(orion_span_t){address, bytes, ORION_SPAN_DEVICE, NULL}))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS)
        goto err_free;
    *address_p = address;
    return CUDA_SUCCESS;

err_free:
    device->driver.cuMemFree(address);
err_refund:
    refund(device, bytes);
    return result;
}

/* cuMemFree waits for the device inside some drivers: the porter calls it, when nothing is left to wait for. */
static void free_now(orion_device_t *device, orion_cuda_job_t *job)
{
    orion_cuda_judge(device, device->driver.cuMemFree(job->address));
    pthread_mutex_lock(&device->memory_lock);
    const uint64_t bytes = (uint64_t)(uintptr_t)job->module; /* the job's spare word */
    device->used -= bytes <= device->used ? bytes : device->used;
    device->dying -= bytes <= device->dying ? bytes : device->dying;
    pthread_mutex_unlock(&device->memory_lock);
    if (job->done)
        job->done(job->arg, CUDA_SUCCESS);
}

static void work_is_done(void *arg, CUresult result)
{
    orion_cuda_job_t *job = arg;
    if (result == CUDA_SUCCESS) {
        orion_cuda_job(job->device, job);
    } else { /* the context goes, and the memory with it */
        if (job->done)
            job->done(job->arg, result);
        free(job);
    }
}

void orion_cuda_job_after_work(orion_device_t *device, orion_cuda_job_t *job)
{
    job->device = device;
    const CUresult result = orion_cuda_fence(device, work_is_done, job);
    if (result != CUDA_SUCCESS) /* no memory for a fence: the driver waits by itself */
        work_is_done(job, result == CUDA_ERROR_CONTEXT_IS_DESTROYED ? result : CUDA_SUCCESS);
}

CUresult orion_cuda_mem_free(orion_device_t *device, uint64_t address, orion_done_fn done, void *arg)
{
    orion_span_t span;
    orion_cuda_job_t *job = calloc(1, sizeof *job);
    if (!job)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!span_remove(device, address, 1u << ORION_SPAN_DEVICE | 1u << ORION_SPAN_ORDERED, &span)) {
        free(job);
        return CUDA_ERROR_INVALID_VALUE;
    }
    *job = (orion_cuda_job_t){.run = free_now,
                              .address = address,
                              .module = (orion_module_t *)(uintptr_t)span.bytes,
                              .done = done,
                              .arg = arg};
    orion_cuda_unshare(device, address);
    pthread_mutex_lock(&device->memory_lock);
    device->dying += span.bytes;
    pthread_mutex_unlock(&device->memory_lock);
    orion_cuda_job_after_work(device, job);
    return CUDA_SUCCESS;
}

CUresult orion_cuda_mem_alloc_async(orion_device_t *device, orion_stream_t *stream, uint64_t bytes, uint64_t *address_p)
{
    CUdeviceptr address;
    if (!device->driver.cuMemAllocAsync)
        return orion_cuda_mem_alloc(device, bytes, address_p);
    CUresult result = orion_cuda_sticky(device);
    if (result == CUDA_SUCCESS && bytes == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&device->lock);
    const bool behind = (stream ? stream : &device->legacy)->held != 0;
    pthread_mutex_unlock(&device->lock);
    if (behind) /* the stream's order is the backlog's: memory of the other kind is good at once */
        return orion_cuda_mem_alloc(device, bytes, address_p);
    if (!charge(device, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    const CUstream handle = stream ? stream->handle : device->legacy.handle;
    result = device->driver.cuMemAllocAsync(&address, bytes, handle);
    if (result == CUDA_ERROR_NOT_SUPPORTED) { /* no memory pools */
        refund(device, bytes);
        return orion_cuda_mem_alloc(device, bytes, address_p);
    }
    if (orion_cuda_judge(device, result) != CUDA_SUCCESS)
        goto err_refund;
    const orion_span_t span = {address, bytes, ORION_SPAN_ORDERED, NULL};
    result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!orion_span_add(device, &span))
        goto err_free;
    orion_cuda_op_t op = {
        .kind = OP_FILL, .stream = stream, .u.fill = {.dst = address, .width = bytes, .height = 1, .element = 1}};
    result = orion_cuda_submit(device, &op);
    if (result == CUDA_SUCCESS) {
        *address_p = address;
        return result;
    }
    orion_span_t gone;
    span_remove(device, address, 1u << ORION_SPAN_ORDERED, &gone);

err_free:
    device->driver.cuMemFreeAsync(address, handle);
err_refund:
    refund(device, bytes);
    return result;
}

CUresult orion_cuda_mem_free_async(orion_device_t *device, orion_stream_t *stream, uint64_t address, orion_done_fn done,
                                   void *arg)
{
    orion_span_t span;
    if (!orion_span_find(device, address, 1, &span) || span.base != address)
        return CUDA_ERROR_INVALID_VALUE;
    if (span.kind != ORION_SPAN_ORDERED)
        return orion_cuda_mem_free(device, address, done, arg);
    if (!span_remove(device, address, 1u << ORION_SPAN_ORDERED, &span))
        return CUDA_ERROR_INVALID_VALUE;
    refund(device, span.bytes); /* the stream's next allocation may have it already */
    orion_cuda_op_t op = {.kind = OP_FREE_ORDERED, .stream = stream, .done = done, .arg = arg, .u.address = address};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_mem_info(orion_device_t *device, uint64_t *free_p, uint64_t *total_p)
{
    pthread_mutex_lock(&device->memory_lock);
    *total_p = device->info.total_memory;
    *free_p = device->info.total_memory - device->used;
    pthread_mutex_unlock(&device->memory_lock);
    return CUDA_SUCCESS;
}

CUresult orion_cuda_mem_find(orion_device_t *device, uint64_t address, uint64_t *base_p, uint64_t *bytes_p)
{
    orion_span_t span;
    if (!orion_span_find(device, address, 1, &span) || span.kind == ORION_SPAN_HOST || span.kind == ORION_SPAN_STAGE)
        return CUDA_ERROR_NOT_FOUND;
    *base_p = span.base;
    *bytes_p = span.bytes;
    return CUDA_SUCCESS;
}

/* Registered with the driver at the address that clients use: where the device's address of it is another, mapped
 * pointers would be wrong, so it is refused, and the client falls back to memory that is staged. The same where the
 * driver does not register such memory, for which it has many errors. */
static CUresult register_here(orion_device_t *device, uint64_t address, uint64_t bytes, uint32_t flags, char *why,
                              size_t why_bytes)
{
    static uint32_t said;
    const orion_driver_t *driver = &device->driver;
    void *memory = (void *)(uintptr_t)address;
    CUdeviceptr seen = 0;
    const bool mapped = !(flags & ORION_HOST_STAGING);
    CUresult result = driver->cuMemHostRegister(
        memory, bytes, CU_MEMHOSTREGISTER_PORTABLE | (mapped ? CU_MEMHOSTREGISTER_DEVICEMAP : 0));
    if (result == CUDA_SUCCESS && mapped) {
        result = driver->cuMemHostGetDevicePointer(&seen, memory, 0);
        if (result == CUDA_SUCCESS && seen == address)
            return result;
        driver->cuMemHostUnregister(memory);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (result == CUDA_SUCCESS || result == CUDA_ERROR_OUT_OF_MEMORY ||
        orion_driver_is_sticky(orion_cuda_judge(device, result)))
        return result;
    if (!__atomic_exchange_n(&said, 1, __ATOMIC_RELAXED))
        snprintf(why, why_bytes, "the driver does not register memory that it shares with clients (%s): it is staged",
                 orion_driver_error(driver, result));
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult orion_cuda_host_register(orion_device_t *device, uint64_t address, uint64_t bytes, int fd, uint32_t flags)
{
    char why[256] = "";
    const orion_shim_t *shim = device->driver.shim;
    const bool staging = flags & ORION_HOST_STAGING;
    CUresult result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    if (!shim)
        result = register_here(device, address, bytes, flags, why, sizeof why);
    else if (staging || fd < 0) /* the inner worker can reach memory only through its descriptor; copies bounce */
        result = CUDA_ERROR_NOT_SUPPORTED;
    else
        result = (CUresult)shim->adopt(address, bytes, fd, why, sizeof why);
    if (result != CUDA_SUCCESS) {
        if (why[0])
            fprintf(stderr, "orion: %s\n", why);
        return result;
    }
    const orion_span_t span = {address, bytes, staging ? ORION_SPAN_STAGE : ORION_SPAN_HOST, NULL};
    if (orion_span_add(device, &span))
        return CUDA_SUCCESS;
    if (shim)
        shim->disown(address);
    else
        device->driver.cuMemHostUnregister((void *)(uintptr_t)address);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

void orion_cuda_host_unregister(orion_device_t *device, uint64_t address)
{
    orion_span_t span;
    if (!span_remove(device, address, 1u << ORION_SPAN_HOST | 1u << ORION_SPAN_STAGE, &span))
        return; /* went with its context */
    if (orion_cuda_enter(device) != CUDA_SUCCESS)
        return;
    if (device->driver.shim)
        device->driver.shim->disown(address);
    else
        device->driver.cuMemHostUnregister((void *)(uintptr_t)address);
}
