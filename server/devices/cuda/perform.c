/* SPDX-License-Identifier: Apache-2.0 */
/* The calls of the driver behind each operation. One thread at a time is in here. */
#include "cuda/device.h"

#include <stdlib.h>
#include <string.h>

/* What the driver does not know has to go through a bounce. */
static bool known(orion_device_t *device, uint64_t address, uint64_t bytes)
{
    orion_span_t span;
    return orion_span_find(device, address, bytes, &span);
}

static orion_cuda_entry_t *entry_of(const orion_cuda_op_t *op)
{
    orion_cuda_entry_t *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->done = op->done;
        entry->arg = op->arg;
    }
    return entry;
}

/* One piece of a copy between memory that the driver knows and memory that it does not. */
static CUresult bounce_piece(orion_device_t *device, orion_stream_t *stream, uint64_t dst, uint64_t src, uint64_t bytes,
                             bool out, bool may_wait, orion_cuda_entry_t *entry)
{
    orion_bounce_t *bounce = orion_bounce_take(device, bytes, may_wait);
    if (!bounce)
        return may_wait ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_NOT_READY;
    const uint64_t at = (uint64_t)(uintptr_t)bounce->memory;
    if (!out)
        memcpy(bounce->memory, (const void *)(uintptr_t)src, bytes);
    const CUresult result = orion_cuda_judge(
        device, device->driver.cuMemcpyAsync(out ? at : dst, out ? src : at, bytes, stream->handle));
    if (result != CUDA_SUCCESS) {
        orion_bounce_return(device, bounce);
        return result;
    }
    entry->bounce = bounce;
    entry->copy_to = out ? (void *)(uintptr_t)dst : NULL;
    entry->copy_bytes = (uint32_t)bytes;
    orion_cuda_handed(device, stream, entry, out);
    return CUDA_SUCCESS;
}

#define PIECE (256u << 10)

static CUresult bounce_copy(orion_device_t *device, const orion_cuda_op_t *op, bool out, bool may_wait)
{
    uint64_t left = op->u.copy.width, dst = op->u.copy.dst, src = op->u.copy.src;
    if (left > PIECE && !may_wait)
        return CUDA_ERROR_NOT_READY;
    while (left) {
        const uint64_t bytes = left < PIECE ? left : PIECE;
        const orion_cuda_op_t nobody = {0};
        orion_cuda_entry_t *entry = entry_of(left == bytes ? op : &nobody);
        if (!entry)
            return CUDA_ERROR_OUT_OF_MEMORY;
        const CUresult result = bounce_piece(device, op->stream, dst, src, bytes, out, may_wait, entry);
        if (result != CUDA_SUCCESS) {
            free(entry);
            return result;
        }
        dst += bytes;
        src += bytes;
        left -= bytes;
    }
    return CUDA_SUCCESS;
}

/* Between two addresses that the driver knows. */
static CUresult direct_copy(orion_device_t *device, const orion_cuda_op_t *op)
{
    return device->driver.cuMemcpyAsync(op->u.copy.dst, op->u.copy.src, op->u.copy.width, op->stream->handle);
}

static CUresult direct_rows(orion_device_t *device, const orion_cuda_op_t *op)
{
    const CUDA_MEMCPY2D rows = {
        .srcMemoryType = CU_MEMORYTYPE_UNIFIED,
        .srcDevice = op->u.copy.src,
        .srcPitch = op->u.copy.src_pitch,
        .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
        .dstDevice = op->u.copy.dst,
        .dstPitch = op->u.copy.dst_pitch,
        .WidthInBytes = op->u.copy.width,
        .Height = op->u.copy.height,
    };
    return device->driver.cuMemcpy2DAsync(&rows, op->stream->handle);
}

static CUresult fill(orion_device_t *device, const orion_cuda_op_t *op)
{
    const orion_driver_t *driver = &device->driver;
    const uint64_t dst = op->u.fill.dst, pitch = op->u.fill.pitch, width = op->u.fill.width, height = op->u.fill.height;
    const uint32_t value = op->u.fill.value;
    const CUstream stream = op->stream->handle;
    switch (op->u.fill.element) {
    case 1:
        return height == 1 ? driver->cuMemsetD8Async(dst, (unsigned char)value, width, stream)
                           : driver->cuMemsetD2D8Async(dst, pitch, (unsigned char)value, width, height, stream);
    case 2:
        return height == 1 ? driver->cuMemsetD16Async(dst, (unsigned short)value, width, stream)
                           : driver->cuMemsetD2D16Async(dst, pitch, (unsigned short)value, width, height, stream);
    default:
        return height == 1 ? driver->cuMemsetD32Async(dst, value, width, stream)
                           : driver->cuMemsetD2D32Async(dst, pitch, value, width, height, stream);
    }
}

/* The block as it is; a cooperative launch takes pointers into it. */
static CUresult launch(orion_device_t *device, const orion_cuda_op_t *op)
{
    orion_function_t *f = op->u.launch.function;
    const uint32_t *grid = op->u.launch.grid, *block = op->u.launch.block;
    size_t bytes = op->u.launch.bytes;
    if (op->u.launch.shared > f->shared_allowed) {
        const CUresult result = device->driver.cuFuncSetAttribute(
            f->handle, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)op->u.launch.shared);
        if (result != CUDA_SUCCESS)
            return result;
        f->shared_allowed = op->u.launch.shared;
    }
    if (op->u.launch.flags & ORION_LAUNCH_COOPERATIVE) {
        void **pointers = malloc((f->info.param_count + 1) * sizeof *pointers);
        if (!pointers)
            return CUDA_ERROR_OUT_OF_MEMORY;
        for (uint32_t i = 0; i < f->info.param_count; i++)
            pointers[i] = (unsigned char *)(uintptr_t)op->u.launch.params + f->info.params[i].offset;
        const CUresult result = device->driver.cuLaunchCooperativeKernel(f->handle, grid[0], grid[1], grid[2], block[0],
                                                                         block[1], block[2], op->u.launch.shared,
                                                                         op->stream->handle, pointers);
        free(pointers);
        return result;
    }
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, (void *)(uintptr_t)op->u.launch.params,
                     CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
    return device->driver.cuLaunchKernel(f->handle, grid[0], grid[1], grid[2], block[0], block[1], block[2],
                                         op->u.launch.shared, op->stream->handle, NULL, bytes ? extra : NULL);
}

/* Whoever waits for the event's latest record keeps the driver's event; the new record gets another one, unless other
 * processes know the event: then who waits waits for the new record, too. */
static CUresult record(orion_device_t *device, const orion_cuda_op_t *op)
{
    orion_event_t *event = op->u.event;
    if (!(event->flags & CU_EVENT_INTERPROCESS) && __atomic_load_n(&event->cell->references, __ATOMIC_ACQUIRE) > 1) {
        orion_cuda_cell_t *fresh = orion_cuda_cell_new(device, event->flags);
        if (!fresh)
            return CUDA_ERROR_OUT_OF_MEMORY;
        orion_cuda_cell_drop(device, event->cell);
        event->cell = fresh;
    }
    const CUresult result = device->driver.cuEventRecord(event->cell->event, op->stream->handle);
    if (result == CUDA_SUCCESS)
        event->recorded = true;
    return result;
}

static CUresult notify_event(orion_device_t *device, const orion_cuda_op_t *op)
{
    orion_cuda_waiter_t *waiter = calloc(1, sizeof *waiter);
    if (!waiter)
        return CUDA_ERROR_OUT_OF_MEMORY;
    waiter->cell = op->u.event->cell;
    waiter->done = op->done;
    waiter->arg = op->arg;
    __atomic_fetch_add(&waiter->cell->references, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&device->lock);
    waiter->next = device->waiters;
    device->waiters = waiter;
    if (device->watcher_idle)
        pthread_cond_signal(&device->work);
    pthread_mutex_unlock(&device->lock);
    return CUDA_SUCCESS;
}

typedef struct fence {
    uint32_t left; /* atomic */
    orion_done_fn done;
    void *arg;
    CUresult result;
} fence_t;

static void fence_step(void *arg, CUresult result)
{
    fence_t *fence = arg;
    if (result != CUDA_SUCCESS)
        __atomic_store_n(&fence->result, result, __ATOMIC_RELAXED);
    if (__atomic_sub_fetch(&fence->left, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    if (fence->done)
        fence->done(fence->arg, fence->result);
    free(fence);
}

/* A mark in every stream that has unfinished work, and in one more: the callback never runs in here. */
static CUresult set_fence(orion_device_t *device, const orion_cuda_op_t *op)
{
    uint32_t count = 0;
    fence_t *fence = calloc(1, sizeof *fence);
    pthread_mutex_lock(&device->lock);
    for (orion_stream_t *stream = device->streams; stream; stream = stream->next)
        count++;
    orion_stream_t **busy = calloc(count, sizeof *busy);
    orion_cuda_entry_t **entries = calloc(count, sizeof *entries);
    bool enough = fence && busy && entries;
    const uint32_t room = count;
    count = 0;
    for (orion_stream_t *stream = device->streams; enough && stream && count < room; stream = stream->next) {
        if (stream->completed == stream->submitted && stream != &device->house)
            continue;
        enough = (entries[count] = calloc(1, sizeof **entries)) != NULL;
        stream->held++;
        busy[count++] = stream;
    }
    pthread_mutex_unlock(&device->lock);
    if (enough) {
        *fence = (fence_t){count, op->done, op->arg, CUDA_SUCCESS};
        for (uint32_t i = 0; i < count; i++) {
            entries[i]->done = fence_step;
            entries[i]->arg = fence;
            orion_cuda_handed(device, busy[i], entries[i], true);
        }
    }
    pthread_mutex_lock(&device->lock);
    for (uint32_t i = 0; i < count; i++)
        busy[i]->held--;
    pthread_mutex_unlock(&device->lock);
    if (!enough) {
        for (uint32_t i = 0; i < count; i++)
            free(entries[i]);
        free(fence);
    }
    free(busy);
    free(entries);
    return enough ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult call_driver(orion_device_t *device, orion_cuda_op_t *op)
{
    switch (op->kind) {
    case OP_LAUNCH:
        return launch(device, op);
    case OP_COPY:
        return direct_copy(device, op);
    case OP_COPY_2D:
        return direct_rows(device, op);
    case OP_FILL:
        return fill(device, op);
    case OP_RECORD:
        return record(device, op);
    case OP_WAIT:
        return op->u.event->recorded ? device->driver.cuStreamWaitEvent(op->stream->handle, op->u.event->cell->event, 0)
                                     : CUDA_SUCCESS;
    case OP_GATE:
        return device->driver.cuLaunchHostFunc(op->stream->handle, orion_cuda_gate_reached, op->u.gate);
    case OP_FREE_ORDERED:
        return device->driver.cuMemFreeAsync(op->u.address, op->stream->handle);
    case OP_NOTIFY:
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

/* Rows one by one where a side is unknown to the driver: nobody but tests asks for it. */
static CUresult bounce_rows(orion_device_t *device, const orion_cuda_op_t *op, bool out)
{
    orion_cuda_op_t row = *op;
    CUresult result = CUDA_SUCCESS;
    for (uint64_t i = 0; i < op->u.copy.height && result == CUDA_SUCCESS; i++) {
        row.u.copy.dst = op->u.copy.dst + i * op->u.copy.dst_pitch;
        row.u.copy.src = op->u.copy.src + i * op->u.copy.src_pitch;
        row.done = i + 1 == op->u.copy.height ? op->done : NULL;
        result = bounce_copy(device, &row, out, true);
    }
    return result;
}

CUresult orion_cuda_perform(orion_device_t *device, orion_cuda_op_t *op, bool may_wait)
{
    if (op->kind == OP_SUBMITTED) {
        op->done(op->arg, CUDA_SUCCESS);
        return CUDA_SUCCESS;
    }
    CUresult result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    const uint64_t zeroed = __atomic_load_n(&device->zeroed, __ATOMIC_ACQUIRE);
    if (op->stream->zeroed != zeroed) { /* memory that was cleared since */
        result = orion_cuda_judge(device,
                                  device->driver.cuStreamWaitEvent(op->stream->handle, device->house_done->event, 0));
        if (result != CUDA_SUCCESS)
            return result;
        op->stream->zeroed = zeroed;
    }
    if (op->stream->blocking && op->stream != &device->legacy)
        orion_cuda_mark_legacy(device);
    if (op->kind == OP_FENCE)
        return set_fence(device, op);
    if (op->kind == OP_NOTIFY_EVENT)
        return notify_event(device, op);
    if (op->kind == OP_WRITE) {
        const orion_cuda_op_t copy = {.stream = op->stream,
                                      .u.copy = {.dst = op->u.write.dst,
                                                 .src = (uint64_t)(uintptr_t)op->u.write.data,
                                                 .width = op->u.write.bytes}};
        return bounce_copy(device, &copy, false, may_wait);
    }
    if (op->kind == OP_COPY || op->kind == OP_COPY_2D) {
        const bool linear = op->kind == OP_COPY;
        const uint64_t height = linear ? 1 : op->u.copy.height;
        const bool to = known(device, op->u.copy.dst, (height - 1) * op->u.copy.dst_pitch + op->u.copy.width);
        const bool from = known(device, op->u.copy.src, (height - 1) * op->u.copy.src_pitch + op->u.copy.width);
        if (!to && !from)
            return CUDA_ERROR_INVALID_VALUE;
        if (!linear && !(to && from))
            return may_wait ? bounce_rows(device, op, !to) : CUDA_ERROR_NOT_READY;
        if (!to || !from)
            return bounce_copy(device, op, !to, may_wait);
    }
    orion_cuda_entry_t *entry = NULL;
    if ((op->done || op->kind == OP_LAUNCH) && !(entry = entry_of(op)))
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (entry)
        entry->launch = op->kind == OP_LAUNCH;
    result = orion_cuda_judge(device, call_driver(device, op));
    if (result != CUDA_SUCCESS) {
        free(entry);
        return result == CUDA_ERROR_NOT_READY ? CUDA_ERROR_UNKNOWN : result;
    }
    orion_cuda_handed(device, op->stream, entry, op->kind == OP_NOTIFY || (may_wait && op->stream == &device->legacy));
    return CUDA_SUCCESS;
}
