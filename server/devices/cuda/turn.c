/* SPDX-License-Identifier: Apache-2.0 */
/* The device's share of a GPU: launches wait for the turn in the backlog, the time in which the driver had work is
 * counted. A kernel that runs cannot be interrupted, so few are queued ahead while others wait. */
#include "cuda/device.h"

#include "base/clock.h"

#include <time.h>

#define LOOK_NS ORION_NS_PER_MS            /* at the turn: the supervisor wakes us earlier */
#define CROWDED_NS (100 * ORION_NS_PER_US) /* at the queue, as often as the watcher looks */
#define STUCK_NS (10 * ORION_NS_PER_MS)    /* without an end of anything: what is queued may wait for what is not yet */

bool orion_cuda_has_turn(const orion_device_t *device)
{
    if (device->stopping || device->dropping)
        return true;
    switch (orion_share_turn(&device->share)) {
    case ORION_TURN_OVER:
        return false;
    case ORION_TURN_SHARED:
        return device->in_driver < ORION_CUDA_AHEAD || orion_clock_ns() - device->moved_at > STUCK_NS;
    default:
        return true;
    }
}

void orion_cuda_await_turn(orion_device_t *device)
{
    const bool over = orion_share_turn(&device->share) == ORION_TURN_OVER;
    const struct timespec pause = {.tv_nsec = CROWDED_NS};
    pthread_mutex_unlock(&device->lock);
    if (over)
        orion_share_wait_for(&device->share, LOOK_NS);
    else
        nanosleep(&pause, NULL);
    pthread_mutex_lock(&device->lock);
}

void orion_cuda_account(orion_device_t *device)
{
    orion_usage_t *usage = device->share.usage;
    const bool busy = device->in_driver != 0;
    if (busy || device->busy_since) {
        const int64_t now = orion_clock_ns();
        if (device->busy_since)
            __atomic_fetch_add(&usage->busy_ns, (uint64_t)(now - device->busy_since), __ATOMIC_RELAXED);
        device->busy_since = busy ? now : 0;
    }
    __atomic_store_n(&usage->wanting, device->pending != 0, __ATOMIC_RELAXED);
}
