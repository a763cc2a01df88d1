/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a turn, and counting; see share.h. */
#include "share.h"

#include "base/clock.h"
#include "base/futex.h"

#define LOOK_AGAIN_NS (100 * ORION_NS_PER_MS) /* should the supervisor's wake ever be missed */

void orion_share_init(orion_share_t *share, const uint32_t *turn, orion_usage_t *usage)
{
    *share = (orion_share_t){.turn = turn};
    share->usage = usage ? usage : &share->own;
}

void orion_share_wait_for(orion_share_t *share, int64_t ns)
{
    if (orion_share_turn(share) == ORION_TURN_OVER)
        orion_futex_wait(share->turn, ORION_TURN_OVER, ns);
}

void orion_share_wait(orion_share_t *share, orion_stint_t *stint)
{
    if (orion_share_turn(share) != ORION_TURN_OVER)
        return;
    const int64_t began = orion_clock_ns();
    while (orion_share_turn(share) == ORION_TURN_OVER)
        orion_futex_wait(share->turn, ORION_TURN_OVER, LOOK_AGAIN_NS);
    stint->paused_ns += (uint64_t)(orion_clock_ns() - began);
}

void orion_share_enter(orion_share_t *share, orion_stint_t *stint)
{
    __atomic_fetch_add(&share->usage->wanting, 1, __ATOMIC_RELAXED);
    orion_share_wait(share, stint);
    *stint = (orion_stint_t){.began_ns = (uint64_t)orion_clock_ns()};
}

void orion_share_leave(orion_share_t *share, const orion_stint_t *stint)
{
    const uint64_t passed = (uint64_t)orion_clock_ns() - stint->began_ns;
    __atomic_fetch_add(&share->usage->busy_ns, passed - stint->paused_ns, __ATOMIC_RELAXED);
    __atomic_fetch_sub(&share->usage->wanting, 1, __ATOMIC_RELAXED);
}

void orion_share_let_through(orion_share_t *share, uint32_t yes)
{
    __atomic_store_n(&share->let_through, yes, __ATOMIC_RELAXED);
    if (yes && share->turn)
        orion_futex_wake(share->turn, ORION_WAKE_ALL); /* who falls asleep just now looks again in a moment */
}

void orion_share_note_latency(orion_share_t *share, uint64_t ns)
{
    const uint64_t units = ns >> 10;
    unsigned bucket = units ? 64u - (unsigned)__builtin_clzll(units) : 0;
    if (bucket >= ORION_LATENCIES)
        bucket = ORION_LATENCIES - 1;
    __atomic_fetch_add(&share->usage->latency[bucket], 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&share->usage->latency_ns, ns, __ATOMIC_RELAXED);
}
