/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The counters of one session: a page that the worker writes and the supervisor maps read-only, so that they can be
 * read while the worker runs and after it has died. The reader believes no value further than its own ledger does:
 * a kernel with a wild pointer may have overwritten them. orion_server/stats.py mirrors the layout.
 */
#ifndef ORION_WORKER_STATS_H
#define ORION_WORKER_STATS_H

#include "devices/share.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define ORION_STATS_MAGIC 0x5453524fu /* "ORST" */
#define ORION_STATS_VERSION 2u
#define ORION_STATS_BYTES 4096u

typedef struct orion_stats {
    uint32_t magic;
    uint32_t version;
    _Atomic uint64_t calls;       /* records served */
    _Atomic uint64_t bytes;       /* payload of copies, either way */
    _Atomic uint64_t kernels;     /* launches handed to the device */
    _Atomic uint64_t memory_used; /* bytes charged now */
    _Atomic uint64_t memory_peak;
    _Atomic uint64_t compiled;   /* kernels made ready, from the cache or not */
    _Atomic uint64_t heartbeats; /* idle turns of the loop */
    orion_usage_t usage;         /* the device's */
} orion_stats_t;

_Static_assert(offsetof(orion_stats_t, usage) == 64 && sizeof(orion_usage_t) == 184,
               "orion_server/stats.py reads this layout");
_Static_assert(offsetof(orion_stats_t, calls) == 8, "orion_server/stats.py reads this layout");

/* Each counter but the bytes has one writing thread at a time; a plain add keeps the loop free of locked operations. */
static inline void orion_stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif
