/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The watcher: records events of the driver behind what was handed over, at most one at a time that nobody waits for,
 * asks for them, and calls back in stream order. It polls: hot for a moment after something has happened, then ever
 * less often, for a driver has no descriptor to sleep on and its callback thread may be held by a gate.
 */
#include "cuda/device.h"

#include "base/clock.h"

#include <sched.h>
#include <stdlib.h>
#include <time.h>

#define HOT_NS (50 * 1000)
#define SLEEP_MOST_NS (200 * 1000)

orion_cuda_cell_t *orion_cuda_cell_new(orion_device_t *device, uint32_t flags)
{
    orion_cuda_cell_t *cell = NULL;
    if (flags == CU_EVENT_DISABLE_TIMING) {
        pthread_mutex_lock(&device->lock);
        if (device->spare_count)
            cell = device->spare_cells[--device->spare_count];
        pthread_mutex_unlock(&device->lock);
    }
    if (!cell) {
        cell = calloc(1, sizeof *cell);
        if (!cell)
            return NULL;
        if (orion_cuda_judge(device, device->driver.cuEventCreate(&cell->event, flags)) != CUDA_SUCCESS) {
            free(cell);
            return NULL;
        }
    }
    cell->references = 1;
    return cell;
}

void orion_cuda_cell_drop(orion_device_t *device, orion_cuda_cell_t *cell)
{
    if (!cell || __atomic_sub_fetch(&cell->references, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    orion_cuda_enter(device);
    device->driver.cuEventDestroy(cell->event);
    free(cell);
}

/* A marker's event is kept for the next one. */
static void cell_keep(orion_device_t *device, orion_cuda_cell_t *cell)
{
    pthread_mutex_lock(&device->lock);
    const bool kept = device->spare_count < sizeof device->spare_cells / sizeof device->spare_cells[0];
    if (kept)
        device->spare_cells[device->spare_count++] = cell;
    pthread_mutex_unlock(&device->lock);
    if (!kept)
        orion_cuda_cell_drop(device, cell);
}

/* An event behind all that the stream was given so far. NULL: the driver gives none; the watcher tries again. */
static orion_cuda_marker_t *mark(orion_device_t *device, orion_stream_t *stream)
{
    orion_cuda_marker_t *marker = calloc(1, sizeof *marker);
    if (!marker)
        return NULL;
    marker->cell = orion_cuda_cell_new(device, CU_EVENT_DISABLE_TIMING);
    if (marker->cell &&
        orion_cuda_judge(device, device->driver.cuEventRecord(marker->cell->event, stream->handle)) == CUDA_SUCCESS)
        return marker;
    orion_cuda_cell_drop(device, marker->cell);
    free(marker);
    return NULL;
}

/* Under lock. */
static void set_marker(orion_stream_t *stream, orion_cuda_marker_t *marker, uint64_t sequence)
{
    marker->sequence = sequence;
    *stream->last_marker = marker;
    stream->last_marker = &marker->next;
    if (sequence > stream->marked)
        stream->marked = sequence;
}

void orion_cuda_handed(orion_device_t *device, orion_stream_t *stream, orion_cuda_entry_t *entry, bool awaited)
{
    orion_cuda_marker_t *marker = awaited ? mark(device, stream) : NULL;
    pthread_mutex_lock(&device->lock);
    stream->submitted++;
    device->pending++;
    if (device->in_driver++ == 0) {
        device->moved_at = orion_clock_ns();
        orion_cuda_account(device);
    }
    if (entry) {
        entry->sequence = stream->submitted;
        *stream->last = entry;
        stream->last = &entry->next;
    }
    if (marker) {
        marker->awaited = true;
        set_marker(stream, marker, stream->submitted);
    }
    if (device->watcher_idle)
        pthread_cond_signal(&device->work);
    pthread_mutex_unlock(&device->lock);
}

void orion_cuda_deliver(orion_device_t *device, orion_cuda_entry_t *entry, CUresult result)
{
    if (entry->result != CUDA_SUCCESS)
        result = entry->result;
    if (entry->bounce) {
        if (entry->copy_to && result == CUDA_SUCCESS)
            __builtin_memcpy(entry->copy_to, entry->bounce->memory, entry->copy_bytes);
        orion_bounce_return(device, entry->bounce);
    }
    if (entry->launch && result == CUDA_SUCCESS)
        __atomic_fetch_add(&device->launches, 1, __ATOMIC_RELAXED);
    if (entry->done)
        entry->done(entry->arg, result);
    free(entry);
}

static void mark_now(orion_device_t *device, orion_stream_t *stream, uint64_t sequence)
{
    orion_cuda_marker_t *marker = mark(device, stream);
    pthread_mutex_lock(&device->lock);
    if (marker)
        set_marker(stream, marker, sequence);
    pthread_mutex_unlock(&device->lock);
}

void orion_cuda_mark_legacy(orion_device_t *device)
{
    orion_stream_t *legacy = &device->legacy;
    pthread_mutex_lock(&device->lock);
    const uint64_t sequence = legacy->submitted;
    const bool marked = legacy->marked == sequence;
    pthread_mutex_unlock(&device->lock);
    if (!marked)
        mark_now(device, legacy, sequence);
}

static CUresult ask(orion_device_t *device, const orion_cuda_cell_t *cell)
{
    const CUresult result = device->driver.cuEventQuery(cell->event);
    return result == CUDA_ERROR_NOT_READY ? result : orion_cuda_judge(device, result);
}

/* Everything up to `sequence` is done. Under lock, which is let go for the callbacks. */
static void complete(orion_device_t *device, orion_stream_t *stream, uint64_t sequence)
{
    if (sequence > stream->completed) {
        device->pending -= sequence - stream->completed;
        device->in_driver -= sequence - stream->completed;
        stream->completed = sequence;
        device->moved_at = orion_clock_ns();
        orion_cuda_account(device);
    }
    while (stream->first && stream->first->sequence <= sequence) {
        orion_cuda_entry_t *entry = stream->first;
        if (!(stream->first = entry->next))
            stream->last = &stream->first;
        pthread_mutex_unlock(&device->lock);
        orion_cuda_deliver(device, entry, CUDA_SUCCESS);
        pthread_mutex_lock(&device->lock);
    }
}

/* Under lock. Returns whether something happened. */
static bool look_at_stream(orion_device_t *device, orion_stream_t *stream)
{
    bool happened = false;
    while (stream->marker) {
        orion_cuda_marker_t *marker = stream->marker;
        pthread_mutex_unlock(&device->lock);
        CUresult result = ask(device, marker->cell);
        if (result == CUDA_SUCCESS && marker->awaited) {
            device->driver.cuEventSynchronize(marker->cell->event); /* drivers print kernels' text here */
            orion_cuda_output_flush(device);
        }
        pthread_mutex_lock(&device->lock);
        if (result != CUDA_SUCCESS)
            return happened;
        happened = true;
        if (!(stream->marker = marker->next))
            stream->last_marker = &stream->marker;
        complete(device, stream, marker->sequence);
        pthread_mutex_unlock(&device->lock);
        cell_keep(device, marker->cell);
        free(marker);
        pthread_mutex_lock(&device->lock);
    }
    if (stream->marked < stream->submitted) {
        const uint64_t sequence = stream->submitted;
        const bool legacy = stream == &device->legacy;
        pthread_mutex_unlock(&device->lock);
        if (!legacy) {
            mark_now(device, stream, sequence);
        } else if (pthread_mutex_trylock(&device->submit_lock) == 0) { /* nobody else is handing over */
            pthread_mutex_lock(&device->lock);
            const bool carrying = device->carrying || device->backlog;
            pthread_mutex_unlock(&device->lock);
            if (!carrying)
                orion_cuda_mark_legacy(device);
            pthread_mutex_unlock(&device->submit_lock);
        }
        pthread_mutex_lock(&device->lock);
    }
    return happened;
}

static bool look_at_waiters(orion_device_t *device)
{
    bool happened = false;
    for (orion_cuda_waiter_t **at = &device->waiters; *at;) {
        orion_cuda_waiter_t *waiter = *at;
        orion_cuda_cell_t *cell = waiter->cell;
        __atomic_fetch_add(&cell->references, 1, __ATOMIC_RELAXED);
        pthread_mutex_unlock(&device->lock);
        const CUresult result = ask(device, cell);
        if (result == CUDA_SUCCESS) {
            device->driver.cuEventSynchronize(cell->event);
            orion_cuda_output_flush(device);
        }
        orion_cuda_cell_drop(device, cell);
        pthread_mutex_lock(&device->lock);
        if (device->dropping)
            break; /* somebody else tells all of them, and has perhaps done so */
        if (result != CUDA_SUCCESS) {
            at = &waiter->next;
            continue;
        }
        for (at = &device->waiters; *at && *at != waiter;) /* new ones come at the head */
            at = &(*at)->next;
        if (!*at)
            break;
        *at = waiter->next;
        happened = true;
        pthread_mutex_unlock(&device->lock);
        waiter->done(waiter->arg, CUDA_SUCCESS);
        orion_cuda_cell_drop(device, waiter->cell);
        free(waiter);
        pthread_mutex_lock(&device->lock);
        at = &device->waiters;
    }
    return happened;
}

/* Destroyed streams whose work is done. Under lock; only the watcher takes streams out of the list. */
static void bury(orion_device_t *device)
{
    for (orion_stream_t **at = &device->streams; *at;) {
        orion_stream_t *stream = *at;
        if (!stream->destroyed || stream->held || stream->completed != stream->submitted || stream->first ||
            stream->marker) {
            at = &stream->next;
            continue;
        }
        *at = stream->next;
        pthread_mutex_unlock(&device->lock);
        device->driver.cuStreamDestroy(stream->handle);
        free(stream);
        pthread_mutex_lock(&device->lock);
        at = &device->streams;
    }
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_for(int64_t quiet_ns)
{
    struct timespec pause = {.tv_nsec = quiet_ns / 4 < SLEEP_MOST_NS ? quiet_ns / 4 : SLEEP_MOST_NS};
    if (quiet_ns < HOT_NS)
        sched_yield();
    else
        nanosleep(&pause, NULL);
}

/* Under lock: who waits for the number of operations to fall. */
static void look_for_room(orion_device_t *device)
{
    if (!device->room_done || device->pending > device->room_pending)
        return;
    const orion_done_fn done = device->room_done;
    device->room_done = NULL;
    pthread_mutex_unlock(&device->lock);
    done(device->room_arg, CUDA_SUCCESS);
    pthread_mutex_lock(&device->lock);
}

static void stand_aside(orion_device_t *device)
{
    device->is_parked = true;
    pthread_cond_broadcast(&device->parked);
    while (device->park && !device->stopping)
        pthread_cond_wait(&device->work, &device->lock);
    device->is_parked = false;
}

void *orion_cuda_watcher(void *self)
{
    orion_device_t *device = self;
    int64_t last = now_ns();
    orion_cuda_enter(device);
    pthread_mutex_lock(&device->lock);
    while (!device->stopping) {
        bool happened = false;
        if (device->park) {
            stand_aside(device);
            pthread_mutex_unlock(&device->lock);
            orion_cuda_enter(device);
            pthread_mutex_lock(&device->lock);
            continue;
        }
        const CUresult sticky = orion_cuda_sticky(device);
        if (sticky) {
            pthread_mutex_unlock(&device->lock);
            orion_cuda_gates_fail(device, sticky, false);
            orion_cuda_drop(device, sticky);
            pthread_mutex_lock(&device->lock);
        }
        for (orion_stream_t *stream = device->streams; stream && !device->park && !sticky; stream = stream->next)
            happened |= look_at_stream(device, stream);
        if (!sticky)
            happened |= look_at_waiters(device);
        bury(device);
        look_for_room(device);
        if (happened)
            last = now_ns();
        if (device->stopping || device->park)
            continue;
        if (device->in_driver)
            orion_cuda_account(device);                          /* a kernel may run for long */
        if (!sticky && (device->in_driver || device->waiters)) { /* now: the lock was let go above */
            pthread_mutex_unlock(&device->lock);
            pause_for(now_ns() - last);
            pthread_mutex_lock(&device->lock);
        } else {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until); /* the condition's clock, see device.c */
            until.tv_sec++;                         /* a missed signal costs a second, not the session */
            device->watcher_idle = true;
            pthread_cond_timedwait(&device->work, &device->lock, &until);
            device->watcher_idle = false;
            last = now_ns();
        }
    }
    pthread_mutex_unlock(&device->lock);
    return NULL;
}
