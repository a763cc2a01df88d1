/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sorted array under a lock. Allocators of frameworks keep the number of ranges small, and the common programs
 * allocate at rising addresses, where an insertion is an append.
 */
#include "ranges.h"

#include "guard.h"
#include "lock.h"

#include <stdlib.h>
#include <string.h>

static orion_lock_t lock;
static orion_range_t *ranges;
static size_t count, capacity;
static uint64_t next_id = 1;

/* Index of the first range that begins above the address. */
static size_t upper(uint64_t address)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int orion_ranges_add(orion_range_kind_t kind, uint64_t base, uint64_t bytes, uint32_t flags)
{
    int added = 0;
    orion_lock(&lock);
    if (count == capacity) {
        size_t larger = capacity ? 2 * capacity : 64;
        orion_range_t *moved = realloc(ranges, larger * sizeof *moved);
        if (!moved)
            goto out;
        ranges = moved;
        capacity = larger;
    }
    size_t at = upper(base);
    if (at && ranges[at - 1].base == base) { /* a variable looked up again */
        ranges[at - 1].bytes = bytes;
        ranges[at - 1].kind = kind;
        added = 1;
        goto out;
    }
    memmove(&ranges[at + 1], &ranges[at], (count - at) * sizeof *ranges);
    ranges[at] = (orion_range_t){base, bytes, next_id++, kind, flags};
    count++;
    added = 1;
out:
    orion_unlock(&lock);
    return added;
}

int orion_ranges_remove(uint64_t base, uint32_t kinds, orion_range_t *range_p)
{
    int found = 0;
    orion_lock(&lock);
    size_t at = upper(base);
    if (at && ranges[at - 1].base == base && kinds & 1u << ranges[at - 1].kind) {
        if (range_p)
            *range_p = ranges[at - 1];
        memmove(&ranges[at - 1], &ranges[at], (count - at) * sizeof *ranges);
        count--;
        found = 1;
    }
    orion_unlock(&lock);
    return found;
}

int orion_ranges_find(uint64_t address, orion_range_t *range_p)
{
    int found = 0;
    orion_lock(&lock);
    size_t at = upper(address);
    if (at && address - ranges[at - 1].base < ranges[at - 1].bytes) {
        *range_p = ranges[at - 1];
        found = 1;
    }
    orion_unlock(&lock);
    return found;
}

int orion_ranges_overlap(uint64_t base, uint64_t bytes)
{
    orion_lock(&lock);
    size_t at = upper(base + bytes - 1);
    int overlap = at && ranges[at - 1].base + ranges[at - 1].bytes > base;
    orion_unlock(&lock);
    return overlap;
}

void orion_ranges_clear(void)
{
    orion_lock(&lock);
    for (size_t i = 0; i < count; i++)
        if (ranges[i].kind == ORION_RANGE_HOST)
            free((void *)(uintptr_t)ranges[i].base);
    count = 0;
    orion_unlock(&lock);
    orion_guard_clear();
}
