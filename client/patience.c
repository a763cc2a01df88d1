/* SPDX-License-Identifier: Apache-2.0 */
/* See patience.h. */
#include "patience.h"

#include "say.h"

#include <stdio.h>

#include "base/clock.h"

void orion_patience_init(orion_patience_t *patience, const char *whom, const char *address, int64_t seconds)
{
    *patience = (orion_patience_t){.whom = whom,
                                   .address = address,
                                   .begun = orion_clock_ns(),
                                   .most = seconds < 0 ? -1 : seconds * ORION_NS_PER_S};
}

bool orion_patience_lasts(orion_patience_t *patience, const char *reason)
{
    snprintf(patience->reason, sizeof patience->reason, "%s", reason);
    if (patience->most >= 0 && orion_clock_ns() - patience->begun >= patience->most)
        return false;
    if (!patience->told)
        orion_say("waiting for a vGPU of the %s at %s: %s (ORION_WAIT=SECONDS limits this)", patience->whom,
                  patience->address, reason);
    patience->told = true;
    return true;
}

void orion_patience_explain(const orion_patience_t *patience, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "no vGPU was free within ORION_WAIT=%d seconds: %s",
             (int)(patience->most / ORION_NS_PER_S), patience->reason);
}

void orion_patience_rewarded(const orion_patience_t *patience)
{
    if (patience->told)
        orion_say("got a vGPU after %d s", (int)((orion_clock_ns() - patience->begun) / ORION_NS_PER_S));
}
