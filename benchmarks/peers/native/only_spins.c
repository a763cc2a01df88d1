/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of csrc/channel/wait.c: the same, and waits that never sleep, to choose between while the program runs. What
 * the spin before a sleep costs can so be measured call by call; the product has no such switch. */
#include "channel/wait.h"

/* What the library does, under another name. */
#define orion_wait_changed library_wait_changed
orion_status_t library_wait_changed(orion_wait_t *wait, const orion_wait_policy_t *policy,
                                    const orion_wait_place_t *place, uint32_t old, int64_t limit_ns);
#include "channel/wait.c"
#undef orion_wait_changed

#include "twin.h"

static bool never_sleeps;

void twin_only_spin(bool only)
{
    never_sleeps = only;
}

orion_status_t orion_wait_changed(orion_wait_t *wait, const orion_wait_policy_t *policy,
                                  const orion_wait_place_t *place, uint32_t old, int64_t limit_ns)
{
    if (!never_sleeps)
        return library_wait_changed(wait, policy, place, old, limit_ns);
    int64_t end = orion_clock_ns() + (limit_ns < ORION_SLEEP_MAX_NS ? limit_ns : ORION_SLEEP_MAX_NS);
    do {
        if (looks(place->word, old, LOOKS_PER_CLOCK))
            return ORION_OK;
    } while (orion_clock_ns() < end);
    return ORION_TIMEOUT;
}
