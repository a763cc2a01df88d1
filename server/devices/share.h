/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One client's turn on a device that others use too. The supervisor writes a word, 0 when it is somebody else's turn;
 * the device's threads look at it between blocks and sleep on it. What they use and want is counted in a page that the
 * supervisor reads, and believes only where it cannot measure by itself. docs/sharing.md tells the whole.
 */
#ifndef ORION_DEVICES_SHARE_H
#define ORION_DEVICES_SHARE_H

#include <stdint.h>

#define ORION_TURN_OVER 0u   /* nothing new begins */
#define ORION_TURN_ALONE 1u  /* nobody else waits for the device */
#define ORION_TURN_SHARED 2u /* others wait: queue no more ahead than ends soon */

#define ORION_LATENCY_EVERY 16u /* launches: a clock for each would be felt */
#define ORION_LATENCIES 20u     /* bucket i: below 1024 ns << i; the last one: all the rest */

/* Written by the device, read by the supervisor (orion_server/stats.py). */
typedef struct orion_usage {
    uint64_t busy_ns;                  /* time in jobs, of all threads together; pauses left out */
    uint32_t wanting;                  /* threads that work, or wait for their turn with work in hand */
    uint32_t reserved;                 /* 0 */
    uint64_t latency_ns;               /* sum over the launches that are in the buckets */
    uint64_t latency[ORION_LATENCIES]; /* of every 16th launch: from its acceptance to its first block */
} orion_usage_t;

typedef struct orion_share {
    const uint32_t *turn; /* in a page of the supervisor's, which may change it at any time; NULL: always ours */
    orion_usage_t *usage;
    orion_usage_t own;    /* when nobody gave a page */
    uint32_t let_through; /* atomic: the device is being emptied */
} orion_share_t;

void orion_share_init(orion_share_t *share, const uint32_t *turn, orion_usage_t *usage);

static inline uint32_t orion_share_turn(const orion_share_t *share)
{
    if (!share->turn || __atomic_load_n(&share->let_through, __ATOMIC_RELAXED))
        return ORION_TURN_ALONE;
    return __atomic_load_n(share->turn, __ATOMIC_RELAXED); /* it orders nothing: a look too late costs a block */
}

/* What a thread has been at since it entered. */
typedef struct orion_stint {
    uint64_t began_ns, paused_ns;
} orion_stint_t;

/* Around a thread's work; enter waits for the turn. */
void orion_share_enter(orion_share_t *share, orion_stint_t *stint);
void orion_share_leave(orion_share_t *share, const orion_stint_t *stint);
/* In between: until it is our turn again. */
void orion_share_wait(orion_share_t *share, orion_stint_t *stint);
/* The same for at most so long; not counted. */
void orion_share_wait_for(orion_share_t *share, int64_t ns);

/* 1: whoever waits goes on, and nobody waits any more; 0: back to normal. */
void orion_share_let_through(orion_share_t *share, uint32_t yes);

/* A launch has waited so long for its first block. */
void orion_share_note_latency(orion_share_t *share, uint64_t ns);

#endif
