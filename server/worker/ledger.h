/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of one session: how many bytes are charged against its hard limit, and which addresses are its own.
 * Every allocation path charges through orion_ledger_charge(); every address range that a client names is looked up
 * here before the device sees it. Any thread.
 */
#ifndef ORION_WORKER_LEDGER_H
#define ORION_WORKER_LEDGER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/stats.h"

typedef enum {
    ORION_RANGE_HEAP = 1, /* cuMemAlloc and kin */
    ORION_RANGE_ARENA,    /* pinned and managed memory */
    ORION_RANGE_ADOPTED,  /* the client's own, paid for elsewhere */
    ORION_RANGE_OPENED    /* another client's, which pays for it */
} orion_range_kind_t;

typedef struct orion_range {
    uint64_t base, bytes;
    uint64_t charged; /* refunded when the range goes */
    orion_range_kind_t kind;
} orion_range_t;

typedef struct orion_ledger {
    pthread_mutex_t lock;
    uint64_t limit;             /* what it was opened with, and the device has */
    const uint64_t *limit_live; /* the supervisor's word, which may change; NULL: limit holds */
    uint64_t unit;              /* each charge is rounded up to a multiple: what the device takes for it */
    uint64_t used;
    orion_stats_t *stats; /* mirrors used and its peak; may be NULL */
    struct orion_ledger_leaf **leaf;
    uint32_t leaves, leaf_room;
} orion_ledger_t;

/* limit_live: may be NULL. */
void orion_ledger_init(orion_ledger_t *ledger, uint64_t limit, const uint64_t *limit_live, orion_stats_t *stats);
void orion_ledger_fini(orion_ledger_t *ledger);

/* The limit as it is now; what is used may lie above it when it has been lowered. */
uint64_t orion_ledger_limit(const orion_ledger_t *ledger);

/* False: `bytes` more would pass the limit; nothing is charged then. */
bool orion_ledger_take(orion_ledger_t *ledger, uint64_t bytes);
void orion_ledger_give(orion_ledger_t *ledger, uint64_t bytes);

/* False: no memory, or the range overlaps one that is known. */
bool orion_ledger_insert(orion_ledger_t *ledger, const orion_range_t *range);
/* Removes the range that begins at base; its charge is given back. */
bool orion_ledger_remove(orion_ledger_t *ledger, uint64_t base, orion_range_kind_t kind, orion_range_t *range_p);
/* Removes all ranges of a kind; their charges are given back. */
void orion_ledger_clear(orion_ledger_t *ledger, orion_range_kind_t kind);
/* [address, address + bytes) lies inside one range. */
bool orion_ledger_covers(orion_ledger_t *ledger, uint64_t address, uint64_t bytes);

uint64_t orion_ledger_used(orion_ledger_t *ledger);

#endif
