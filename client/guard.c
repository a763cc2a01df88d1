/* SPDX-License-Identifier: Apache-2.0 */
/* Reserved pages are counted in granules of 2 MiB: drivers pack small allocations into one. */
#include "guard.h"

#include "shm/range.h"

#include <stdlib.h>
#include <string.h>

#define GRANULE ((uint64_t)2 << 20)

typedef struct {
    uint64_t number; /* address / GRANULE */
    uint32_t count;  /* allocations in it */
} granule_t;

static orion_lock_t lock;
static granule_t *granules; /* sorted */
static size_t used, room;

static size_t place_of(uint64_t number)
{
    size_t low = 0, high = used;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (granules[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Reserves granules `number` to `last`, none of which is known, and counts one allocation in each. */
static int take_run(size_t at, uint64_t number, uint64_t last)
{
    const size_t more = (size_t)(last - number + 1);
    if (used + more > room) {
        const size_t wanted = 2 * (used + more);
        granule_t *grown = realloc(granules, wanted * sizeof *grown);
        if (!grown)
            return 0;
        granules = grown;
        room = wanted;
    }
    if (!orion_range_reserve(number * GRANULE, more * GRANULE))
        return 0;
    memmove(granules + at + more, granules + at, (used - at) * sizeof *granules);
    for (size_t i = 0; i < more; i++)
        granules[at + i] = (granule_t){number + i, 1};
    used += more;
    return 1;
}

/* One step from `number` on: a granule that is known, or a run that is not. The next number, or 0. */
static uint64_t take_some(uint64_t number, uint64_t last)
{
    const size_t at = place_of(number);
    if (at < used && granules[at].number == number) {
        granules[at].count++;
        return number + 1;
    }
    if (at < used && granules[at].number <= last)
        last = granules[at].number - 1;
    return take_run(at, number, last) ? last + 1 : 0;
}

static void give_granule(uint64_t number)
{
    const size_t at = place_of(number);
    if (at == used || granules[at].number != number || --granules[at].count)
        return;
    orion_range_release(number * GRANULE, GRANULE);
    used--;
    memmove(granules + at, granules + at + 1, (used - at) * sizeof *granules);
}

/* The common range is reserved as a whole; a twin's memory is this process's own. */
static int is_safe(const orion_session_t *session, uint64_t address)
{
    const orion_welcome_t *welcome = &session->welcome;
    if (welcome->range_base && address - welcome->range_base < ORION_RANGE_BYTES)
        return 1;
    return !strcmp(session->link->ops->name, "local");
}

int orion_guard_take(const orion_session_t *session, uint64_t address, uint64_t bytes)
{
    if (!bytes || is_safe(session, address))
        return 1;
    const uint64_t first = address / GRANULE, last = (address + bytes - 1) / GRANULE;
    uint64_t number = first, next = 1;
    orion_lock(&lock);
    while (number <= last && (next = take_some(number, last)))
        number = next;
    while (!next && number > first)
        give_granule(--number);
    orion_unlock(&lock);
    return next != 0;
}

void orion_guard_give(const orion_session_t *session, uint64_t address, uint64_t bytes)
{
    if (!bytes || is_safe(session, address))
        return;
    orion_lock(&lock);
    for (uint64_t number = address / GRANULE; number <= (address + bytes - 1) / GRANULE; number++)
        give_granule(number);
    orion_unlock(&lock);
}

void orion_guard_clear(void)
{
    orion_lock(&lock);
    for (size_t i = 0; i < used; i++)
        orion_range_release(granules[i].number * GRANULE, GRANULE);
    used = 0;
    orion_unlock(&lock);
}
