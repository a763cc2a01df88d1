/* SPDX-License-Identifier: Apache-2.0 */
/* Streams and events: the driver's, with what the backlog and the watcher need to know of them. */
#include "cuda/device.h"

#include <stdlib.h>

CUresult orion_cuda_stream_create(orion_device_t *device, uint32_t flags, int priority, orion_stream_t **stream_p)
{
    CUresult result = orion_cuda_sticky(device);
    if (result == CUDA_SUCCESS && flags & ~(uint32_t)CU_STREAM_NON_BLOCKING)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    orion_stream_t *stream = calloc(1, sizeof *stream);
    if (!stream)
        return CUDA_ERROR_OUT_OF_MEMORY;
    stream->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    stream->last = &stream->first;
    stream->last_marker = &stream->marker;
    result = orion_cuda_judge(device, device->driver.cuStreamCreateWithPriority(&stream->handle, flags, priority));
    if (result != CUDA_SUCCESS) {
        free(stream);
        return result;
    }
    pthread_mutex_lock(&device->lock);
    stream->next = device->streams;
    device->streams = stream;
    pthread_mutex_unlock(&device->lock);
    *stream_p = stream;
    return CUDA_SUCCESS;
}

/* The watcher destroys it when it has nothing left to tell about it. */
void orion_cuda_stream_destroy(orion_device_t *device, orion_stream_t *stream)
{
    pthread_mutex_lock(&device->lock);
    stream->destroyed = true;
    if (device->watcher_idle)
        pthread_cond_signal(&device->work);
    pthread_mutex_unlock(&device->lock);
}

CUresult orion_cuda_stream_query(orion_device_t *device, orion_stream_t *stream)
{
    CUresult result = orion_cuda_sticky(device);
    if (result != CUDA_SUCCESS)
        return result;
    stream = stream ? stream : &device->legacy;
    pthread_mutex_lock(&device->lock);
    const bool held = stream->held != 0;
    pthread_mutex_unlock(&device->lock);
    if (held)
        return CUDA_ERROR_NOT_READY;
    result = orion_cuda_enter(device);
    return result ? result : orion_cuda_judge(device, device->driver.cuStreamQuery(stream->handle));
}

CUresult orion_cuda_stream_notify(orion_device_t *device, orion_stream_t *stream, orion_done_fn done, void *arg)
{
    orion_cuda_op_t op = {.kind = OP_NOTIFY, .stream = stream, .done = done, .arg = arg};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_stream_wait_event(orion_device_t *device, orion_stream_t *stream, orion_event_t *event)
{
    orion_cuda_op_t op = {.kind = OP_WAIT, .stream = stream, .u.event = event};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_event_create(orion_device_t *device, uint32_t flags, orion_event_t **event_p)
{
    CUresult result = orion_cuda_sticky(device);
    if (flags & ~(uint32_t)(CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC | CU_EVENT_INTERPROCESS) ||
        (flags & CU_EVENT_INTERPROCESS && !(flags & CU_EVENT_DISABLE_TIMING)))
        return CUDA_ERROR_INVALID_VALUE;
    if (flags & CU_EVENT_INTERPROCESS && !device->info.attributes[CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED])
        return CUDA_ERROR_NOT_SUPPORTED;
    if (result == CUDA_SUCCESS)
        result = orion_cuda_enter(device);
    if (result != CUDA_SUCCESS)
        return result;
    flags &= ~(uint32_t)CU_EVENT_BLOCKING_SYNC; /* nobody of ours blocks in the driver */
    orion_cuda_cell_t *cell = orion_cuda_cell_new(device, flags);
    if (!cell) {
        result = orion_cuda_sticky(device);
        return result ? result : CUDA_ERROR_OUT_OF_MEMORY;
    }
    result = orion_cuda_event_wrap(device, cell, flags, event_p);
    if (result != CUDA_SUCCESS)
        orion_cuda_cell_drop(device, cell);
    return result;
}

CUresult orion_cuda_event_wrap(orion_device_t *device, orion_cuda_cell_t *cell, uint32_t flags, orion_event_t **event_p)
{
    orion_event_t *event = calloc(1, sizeof *event);
    if (!event)
        return CUDA_ERROR_OUT_OF_MEMORY;
    event->flags = flags;
    event->references = 1;
    event->cell = cell;
    event->recorded = (flags & CU_EVENT_INTERPROCESS) != 0; /* perhaps by another process: the driver knows */
    pthread_mutex_lock(&device->lock);
    event->next = device->events;
    event->place = &device->events;
    if (event->next)
        event->next->place = &event->next;
    device->events = event;
    pthread_mutex_unlock(&device->lock);
    *event_p = event;
    return CUDA_SUCCESS;
}

void orion_cuda_event_unref(orion_device_t *device, orion_event_t *event)
{
    if (__atomic_sub_fetch(&event->references, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    pthread_mutex_lock(&device->lock);
    *event->place = event->next;
    if (event->next)
        event->next->place = event->place;
    pthread_mutex_unlock(&device->lock);
    orion_cuda_event_unshare(device, event);
    orion_cuda_cell_drop(device, event->cell);
    free(event);
}

void orion_cuda_event_destroy(orion_device_t *device, orion_event_t *event)
{
    orion_cuda_event_unref(device, event);
}

CUresult orion_cuda_event_record(orion_device_t *device, orion_event_t *event, orion_stream_t *stream)
{
    orion_cuda_op_t op = {.kind = OP_RECORD, .stream = stream, .u.event = event};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_event_query(orion_device_t *device, orion_event_t *event)
{
    CUresult result = orion_cuda_sticky(device);
    if (result != CUDA_SUCCESS)
        return result;
    if (__atomic_load_n(&event->held, __ATOMIC_ACQUIRE))
        return CUDA_ERROR_NOT_READY;
    result = orion_cuda_enter(device);
    return result ? result : orion_cuda_judge(device, device->driver.cuEventQuery(event->cell->event));
}

CUresult orion_cuda_event_notify(orion_device_t *device, orion_event_t *event, orion_done_fn done, void *arg)
{
    orion_cuda_op_t op = {.kind = OP_NOTIFY_EVENT, .done = done, .arg = arg, .u.event = event};
    return orion_cuda_submit(device, &op);
}

CUresult orion_cuda_event_elapsed(orion_device_t *device, orion_event_t *start, orion_event_t *end, float *ms_p)
{
    CUresult result = orion_cuda_sticky(device);
    if (result != CUDA_SUCCESS)
        return result;
    if ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING)
        return CUDA_ERROR_INVALID_HANDLE;
    if (__atomic_load_n(&start->held, __ATOMIC_ACQUIRE) || __atomic_load_n(&end->held, __ATOMIC_ACQUIRE))
        return CUDA_ERROR_NOT_READY;
    if (!start->recorded || !end->recorded)
        return CUDA_ERROR_INVALID_HANDLE;
    result = orion_cuda_enter(device);
    return result ? result
                  : orion_cuda_judge(device,
                                     device->driver.cuEventElapsedTime(ms_p, start->cell->event, end->cell->event));
}
