/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker's loop: one record after the other goes to the generated dispatch. It never waits for the device and
 * never compiles; it only stops reading while the device is crowded or being reset.
 */
#include "worker/worker.h"

#include "channel/wait.h"
#include "orion_generated/serve.h"

#include <stdio.h>
#include <time.h>

#define IDLE_NS (100 * 1000 * 1000)
#define PAUSE_NS (50 * 1000)
#define ROOM_RECORDS 4096u

static bool supervised(const orion_worker_t *w)
{
    return !w->line || orion_control_alive(w->line);
}

static void has_room(void *arg, CUresult result)
{
    orion_worker_t *w = arg;
    (void)result;
    atomic_store_explicit(&w->crowded, 0, memory_order_release);
}

/* Above a bound of unfinished work the client has to wait, unless a closed gate is part of it: what opens the gate
 * may be the next record. */
static void look_for_room(orion_worker_t *w)
{
    orion_device_counters_t counters;
    w->since_room = 0;
    w->ops->counters(w->device, &counters);
    if (counters.pending < ORION_PENDING_HIGH || counters.closed_gates)
        return;
    atomic_store_explicit(&w->crowded, 1, memory_order_relaxed);
    if (w->ops->room_notify(w->device, ORION_PENDING_LOW, has_room, w) != CUDA_SUCCESS)
        has_room(w, CUDA_SUCCESS);
}

/* acquire: pairs with the releases in has_room() and in reset_done(); what the device has done before going on */
static bool paused(orion_worker_t *w)
{
    return atomic_load_explicit(&w->crowded, memory_order_acquire) ||
           atomic_load_explicit(&w->resetting, memory_order_acquire);
}

/* False: nobody waits for this worker any more. */
static bool sit_out(orion_worker_t *w)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    for (unsigned turn = 1; paused(w) && !atomic_load_explicit(&w->ending, memory_order_relaxed); turn++) {
        if (w->reset_wanted)
            orion_reset_begin(w);
        if (!paused(w))
            break;
        nanosleep(&pause, NULL);
        if (turn % 256 == 0) {
            orion_port_idle(w->port);
            if (!supervised(w))
                return false;
        }
    }
    return true;
}

orion_status_t orion_worker_serve(orion_worker_t *w)
{
    while (!atomic_load_explicit(&w->ending, memory_order_relaxed) && !w->said_goodbye) {
        const orion_record_t *record;
        if (paused(w) && !sit_out(w))
            return ORION_PEER_GONE;
        orion_status_t status = orion_port_next(w->port, IDLE_NS, &record);
        if (status == ORION_AGAIN) {
            orion_stats_add(&w->stats->heartbeats, 1);
            orion_gates_retry(w);
            if (!supervised(w))
                return ORION_PEER_GONE;
            continue;
        }
        if (status == ORION_PROTOCOL)
            snprintf(w->last_words, sizeof w->last_words, "the client broke the protocol: %s",
                     orion_port_complaint(w->port));
        if (status != ORION_OK)
            return status;
        orion_stats_add(&w->stats->calls, 1);
        /* With membarrier this is a store, no more: orion_worker_pass() pays for the order. */
        orion_store_relaxed(&w->turn, w->turn + 1);
        orion_wake_order(w->membarrier);
        status = orion_dispatch(w, record);
        orion_store_release(&w->turn, w->turn + 1); /* release: pairs with the acquire in orion_worker_pass() */
        if (status != ORION_OK) {
            snprintf(w->last_words, sizeof w->last_words,
                     "the client broke the protocol: record of operation %u (%u bytes) does not decode",
                     (unsigned)record->opcode, (unsigned)record->bytes);
            return status;
        }
        if (++w->since_room >= ROOM_RECORDS)
            look_for_room(w);
    }
    return ORION_OK;
}
