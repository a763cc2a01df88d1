/* SPDX-License-Identifier: Apache-2.0 */
/* How much of a stretch of time the machine gave to others, so that a promise in milliseconds can be checked strictly on a
 * machine that is busy: a thread on each processor (8 at most) sleeps a millisecond at a time and notes when it woke; what
 * its wakes come late is time that nobody else who wanted to run had, either. */
#ifndef ORION_TESTS_WITNESS_H
#define ORION_TESTS_WITNESS_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include"
#endif
#include <pthread.h>
#include <sched.h>

#include "base/atomic.h"
#include "check.h"

#define WITNESS_TICK_NS 1000000
#define WITNESS_TICKS 16384u /* the newest are kept: 16 s at least */
#define WITNESS_LANES 8

typedef struct witness_lane {
    pthread_t thread;
    int cpu;
    uint32_t stop;
    uint32_t count;
    int64_t woke[WITNESS_TICKS];
} witness_lane_t;

typedef struct witness {
    int lanes;
    witness_lane_t lane[WITNESS_LANES];
} witness_t;

static inline void *witness_watch(void *arg)
{
    witness_lane_t *lane = arg;
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(lane->cpu, &here);
    (void)pthread_setaffinity_np(pthread_self(), sizeof(here), &here);
    while (orion_load_relaxed(&lane->stop) == 0) {
        struct timespec tick = {0, WITNESS_TICK_NS};
        lane->woke[lane->count % WITNESS_TICKS] = check_now_ns();
        orion_store_release(&lane->count, lane->count + 1); /* release: pairs with the acquire in witness_lane_lost */
        (void)nanosleep(&tick, NULL);
    }
    return NULL;
}

static inline void witness_start(witness_t *w)
{
    cpu_set_t mine;
    memset(w, 0, sizeof(*w));
    MUST(sched_getaffinity(0, sizeof(mine), &mine) == 0);
    for (int cpu = 0; cpu < CPU_SETSIZE && w->lanes < WITNESS_LANES; cpu++) {
        if (!CPU_ISSET(cpu, &mine))
            continue;
        witness_lane_t *lane = &w->lane[w->lanes++];
        lane->cpu = cpu;
        MUST(pthread_create(&lane->thread, NULL, witness_watch, lane) == 0);
    }
}

static inline void witness_stop(witness_t *w)
{
    for (int i = 0; i < w->lanes; i++)
        orion_store_relaxed(&w->lane[i].stop, 1);
    for (int i = 0; i < w->lanes; i++)
        MUST(pthread_join(w->lane[i].thread, NULL) == 0);
}

static inline int64_t witness_lane_lost(const witness_lane_t *lane, int64_t from, int64_t to)
{
    uint32_t count;
    do { /* a wake that is late now counts, too */
        (void)usleep(100);
        count = orion_load_acquire(&lane->count);
    } while (count == 0 || lane->woke[(count - 1) % WITNESS_TICKS] < to);
    int64_t lost = 0;
    for (uint32_t at = count - 1; at > 0 && count - at < WITNESS_TICKS - 1; at--) {
        int64_t slept = lane->woke[(at - 1) % WITNESS_TICKS], woke = lane->woke[at % WITNESS_TICKS];
        if (woke < from)
            break;
        int64_t late = woke - slept - WITNESS_TICK_NS;
        int64_t within = (woke < to ? woke : to) - (slept > from ? slept : from);
        if (late > WITNESS_TICK_NS && within > 0)
            lost += late < within ? late : within;
    }
    return lost;
}

/* Of the time from `from` to `to`: what was lost on the processor that lost most. */
static inline int64_t witness_lost(const witness_t *w, int64_t from, int64_t to)
{
    int64_t most = 0;
    for (int i = 0; i < w->lanes; i++) {
        int64_t lost = witness_lane_lost(&w->lane[i], from, to);
        most = lost > most ? lost : most;
    }
    return most;
}

#endif
