/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for the other side to change a word: look, spin for about the cost of a wake, then sleep in a futex.
 * The spin begins with that cost, which is measured once per process, and adapts: it grows while waits end soon, halves
 * while they do not, and is zero when both sides last ran on the same processor or there is only one. */
#ifndef ORION_CHANNEL_WAIT_H
#define ORION_CHANNEL_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/futex.h"
#include "base/membarrier.h"
#include "base/status.h"

#define ORION_SPIN_CAP_NS 50000
#define ORION_STREAM 8                /* messages in a row that nobody waits for */
#define ORION_GATHER_LOOKS 32         /* about 1 us */
#define ORION_SLEEP_MAX_NS 50000000LL /* a dead peer is noticed within two of these: 100 ms */

/* How one side of a session waits; the same for all its threads. */
typedef struct orion_wait_policy {
    bool membarrier; /* both sides agreed: the sleeper pays, the sender has no fence */
    bool spin;       /* this process's CPU quota is no less than one processor */
    bool single;     /* it may run on one processor only: spin only if the other side is known to be elsewhere */
} orion_wait_policy_t;

/* What a wake costs here, 50 us at most: a guess until this process has slept in vain, or often. */
uint32_t orion_wait_wake_cost_ns(void);

void orion_wait_policy_init(orion_wait_policy_t *policy, bool membarrier);

/* What a waiting thread keeps from one wait to the next; private, one per waiter. */
typedef struct orion_wait {
    uint32_t budget_ns;
    uint32_t together;     /* waits in a row with both sides on one processor */
    int64_t move_at_ns;    /* not before */
    int64_t move_pause_ns; /* doubles with each move that did not last */
} orion_wait_t;

/* Where a wait is made known. */
typedef struct orion_wait_place {
    const uint32_t *word; /* changes when what we wait for happens */
    uint32_t *sleeping;   /* ours: += 1 before sleeping */
    uint32_t *mirror;     /* NULL, or where the value of *sleeping is shown to the other side: a worker never reads
                             * back what it wrote into shared memory */
    const uint32_t *also; /* NULL, or a word of this process: other than 0 it keeps us awake, too */
    uint32_t leave;       /* added to *sleeping afterwards: 1 = a count of sleeps, (uint32_t)-1 = number of sleepers */
    bool movable;         /* this thread is ours (a worker's): it may be moved off a shared processor */
    uint32_t *cpu;        /* shared, ours: where we run, + 1 */
    const uint32_t *peer_cpu; /* shared, theirs */
} orion_wait_place_t;

/* Until *word != old, at most limit_ns and at most one sleep of ORION_SLEEP_MAX_NS.
 * ORION_OK: it changed. ORION_TIMEOUT: time is up. ORION_AGAIN: woken without a change. In the last two cases the
 * caller looks whether the other side still lives. */
orion_status_t orion_wait_changed(orion_wait_t *wait, const orion_wait_policy_t *policy,
                                  const orion_wait_place_t *place, uint32_t old, int64_t limit_ns);

/* Looks at *word for about look_ns (at least once) without ever sleeping: *word != old. Once only where both sides share
 * a processor: the other side cannot change it meanwhile. */
bool orion_wait_look(const orion_wait_policy_t *policy, const orion_wait_place_t *place, uint32_t old,
                     uint32_t look_ns);

/* A reader that catches up with each message of a stream makes the writer's line travel for each: it waits for some more
 * instead. Only after ORION_STREAM of them, and while it pays. */
static inline void orion_wait_gather(void)
{
    for (int i = 0; i < ORION_GATHER_LOOKS; i++)
        orion_cpu_relax();
}

#endif
