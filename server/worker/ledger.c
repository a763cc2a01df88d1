/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger: a sorted sequence of ranges kept in leaves of bounded size, so that 10^6 allocations stay cheap. */
#include "worker/ledger.h"

#include <stdlib.h>
#include <string.h>

#define LEAF 256u

typedef struct orion_ledger_leaf {
    uint32_t count;
    orion_range_t range[LEAF];
} leaf_t;

void orion_ledger_init(orion_ledger_t *ledger, uint64_t limit, const uint64_t *limit_live, orion_stats_t *stats)
{
    memset(ledger, 0, sizeof *ledger);
    pthread_mutex_init(&ledger->lock, NULL);
    ledger->limit = limit;
    ledger->limit_live = limit_live;
    ledger->unit = 1;
    ledger->stats = stats;
}

void orion_ledger_fini(orion_ledger_t *ledger)
{
    for (uint32_t i = 0; i < ledger->leaves; i++)
        free(ledger->leaf[i]);
    free(ledger->leaf);
    pthread_mutex_destroy(&ledger->lock);
}

static void publish(orion_ledger_t *ledger)
{
    if (!ledger->stats)
        return;
    atomic_store_explicit(&ledger->stats->memory_used, ledger->used, memory_order_relaxed);
    if (ledger->used > atomic_load_explicit(&ledger->stats->memory_peak, memory_order_relaxed))
        atomic_store_explicit(&ledger->stats->memory_peak, ledger->used, memory_order_relaxed);
}

uint64_t orion_ledger_limit(const orion_ledger_t *ledger)
{
    if (!ledger->limit_live)
        return ledger->limit;
    /* relaxed: a number that orders nothing; an allocation sees the old limit or the new one */
    const uint64_t live = __atomic_load_n(ledger->limit_live, __ATOMIC_RELAXED);
    return live < ledger->limit ? live : ledger->limit;
}

/* UINT64_MAX, which fits no limit, where there is no multiple. */
static uint64_t charge_of(const orion_ledger_t *ledger, uint64_t bytes)
{
    const uint64_t above = bytes % ledger->unit;
    const uint64_t missing = above ? ledger->unit - above : 0;
    return bytes <= UINT64_MAX - missing ? bytes + missing : UINT64_MAX;
}

bool orion_ledger_take(orion_ledger_t *ledger, uint64_t bytes)
{
    pthread_mutex_lock(&ledger->lock);
    bytes = charge_of(ledger, bytes);
    const uint64_t limit = orion_ledger_limit(ledger);
    const bool fits = bytes <= limit && ledger->used <= limit - bytes;
    if (fits) {
        ledger->used += bytes;
        publish(ledger);
    }
    pthread_mutex_unlock(&ledger->lock);
    return fits;
}

static void give_locked(orion_ledger_t *ledger, uint64_t bytes)
{
    bytes = charge_of(ledger, bytes);
    ledger->used -= bytes <= ledger->used ? bytes : ledger->used;
    publish(ledger);
}

void orion_ledger_give(orion_ledger_t *ledger, uint64_t bytes)
{
    pthread_mutex_lock(&ledger->lock);
    give_locked(ledger, bytes);
    pthread_mutex_unlock(&ledger->lock);
}

uint64_t orion_ledger_used(orion_ledger_t *ledger)
{
    pthread_mutex_lock(&ledger->lock);
    const uint64_t used = ledger->used;
    pthread_mutex_unlock(&ledger->lock);
    return used;
}

/* The place of the last range that begins at or before `address`; false: none does. Leaves are never empty. */
static bool seek(const orion_ledger_t *ledger, uint64_t address, uint32_t *leaf_p, uint32_t *at_p)
{
    uint32_t low = 0, high = ledger->leaves;
    while (low < high) { /* first leaf that begins after address */
        const uint32_t middle = low + (high - low) / 2;
        if (ledger->leaf[middle]->range[0].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    const leaf_t *leaf = ledger->leaf[low - 1];
    *leaf_p = low - 1;
    uint32_t first = 0, last = leaf->count;
    while (first < last) {
        const uint32_t middle = first + (last - first) / 2;
        if (leaf->range[middle].base <= address)
            first = middle + 1;
        else
            last = middle;
    }
    *at_p = first - 1;
    return true;
}

static bool leaf_insert(orion_ledger_t *ledger, uint32_t at)
{
    if (ledger->leaves == ledger->leaf_room) {
        const uint32_t room = ledger->leaf_room ? ledger->leaf_room * 2 : 16;
        leaf_t **grown = realloc(ledger->leaf, room * sizeof *grown);
        if (!grown)
            return false;
        ledger->leaf = grown;
        ledger->leaf_room = room;
    }
    leaf_t *leaf = malloc(sizeof *leaf);
    if (!leaf)
        return false;
    leaf->count = 0;
    memmove(ledger->leaf + at + 1, ledger->leaf + at, (ledger->leaves - at) * sizeof *ledger->leaf);
    ledger->leaf[at] = leaf;
    ledger->leaves++;
    return true;
}

static bool insert_locked(orion_ledger_t *ledger, const orion_range_t *range)
{
    uint32_t l = 0, at = 0;
    const orion_range_t *next = NULL;
    if (range->bytes == 0 || range->base + range->bytes < range->base)
        return false;
    if (seek(ledger, range->base, &l, &at)) {
        const orion_range_t *before = &ledger->leaf[l]->range[at++];
        if (range->base - before->base < before->bytes)
            return false;
    } else if (ledger->leaves == 0 && !leaf_insert(ledger, 0))
        return false;
    if (at < ledger->leaf[l]->count)
        next = &ledger->leaf[l]->range[at];
    else if (l + 1 < ledger->leaves)
        next = &ledger->leaf[l + 1]->range[0];
    if (next && next->base - range->base < range->bytes)
        return false;
    if (ledger->leaf[l]->count == LEAF) { /* split: the upper half moves to a new leaf */
        if (!leaf_insert(ledger, l + 1))
            return false;
        leaf_t *full = ledger->leaf[l], *half = ledger->leaf[l + 1];
        memcpy(half->range, full->range + LEAF / 2, LEAF / 2 * sizeof half->range[0]);
        half->count = full->count = LEAF / 2;
        if (at > LEAF / 2) {
            l++;
            at -= LEAF / 2;
        }
    }
    leaf_t *leaf = ledger->leaf[l];
    memmove(leaf->range + at + 1, leaf->range + at, (leaf->count - at) * sizeof leaf->range[0]);
    leaf->range[at] = *range;
    leaf->count++;
    return true;
}

bool orion_ledger_insert(orion_ledger_t *ledger, const orion_range_t *range)
{
    pthread_mutex_lock(&ledger->lock);
    const bool inserted = insert_locked(ledger, range);
    pthread_mutex_unlock(&ledger->lock);
    return inserted;
}

static void remove_at(orion_ledger_t *ledger, uint32_t l, uint32_t at)
{
    leaf_t *leaf = ledger->leaf[l];
    give_locked(ledger, leaf->range[at].charged);
    leaf->count--;
    memmove(leaf->range + at, leaf->range + at + 1, (leaf->count - at) * sizeof leaf->range[0]);
    if (leaf->count)
        return;
    free(leaf);
    ledger->leaves--;
    memmove(ledger->leaf + l, ledger->leaf + l + 1, (ledger->leaves - l) * sizeof *ledger->leaf);
}

bool orion_ledger_remove(orion_ledger_t *ledger, uint64_t base, orion_range_kind_t kind, orion_range_t *range_p)
{
    uint32_t l, at;
    bool found = false;
    pthread_mutex_lock(&ledger->lock);
    if (seek(ledger, base, &l, &at)) {
        const orion_range_t *range = &ledger->leaf[l]->range[at];
        if (range->base == base && range->kind == kind) {
            if (range_p)
                *range_p = *range;
            remove_at(ledger, l, at);
            found = true;
        }
    }
    pthread_mutex_unlock(&ledger->lock);
    return found;
}

void orion_ledger_clear(orion_ledger_t *ledger, orion_range_kind_t kind)
{
    pthread_mutex_lock(&ledger->lock);
    for (uint32_t l = ledger->leaves; l-- > 0;)
        for (uint32_t at = ledger->leaf[l]->count; at-- > 0;) {
            const orion_range_t *range = &ledger->leaf[l]->range[at];
            if (range->kind == kind)
                remove_at(ledger, l, at);
        }
    pthread_mutex_unlock(&ledger->lock);
}

bool orion_ledger_covers(orion_ledger_t *ledger, uint64_t address, uint64_t bytes)
{
    uint32_t l, at;
    bool covered = false;
    pthread_mutex_lock(&ledger->lock);
    if (seek(ledger, address, &l, &at)) {
        const orion_range_t *range = &ledger->leaf[l]->range[at];
        const uint64_t offset = address - range->base;
        covered = offset < range->bytes && bytes <= range->bytes - offset;
    }
    pthread_mutex_unlock(&ledger->lock);
    return covered;
}
