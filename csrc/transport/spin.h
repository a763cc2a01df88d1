/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a socket for a while before sleeping on it, as channel/wait.h does with a word: a sleep costs a wake, and
 * the other end's answer is often closer than that. The budget grows while looking pays and halves while it does not. */
#ifndef ORION_TRANSPORT_SPIN_H
#define ORION_TRANSPORT_SPIN_H

#include "base/clock.h"
#include "base/sys.h"
#include "channel/wait.h"

#define ORION_SPIN_START_NS 16000
#define ORION_SPIN_MIN_NS 2000

#define ORION_SPIN_TRY 32 /* each so many waits it is tried again whether looking pays */

typedef struct orion_spin {
    int64_t budget_ns; /* 0: do not */
    uint32_t waits;
} orion_spin_t;

static inline void orion_spin_init(orion_spin_t *spin)
{
    spin->budget_ns = orion_cpu_throttled() || orion_cpu_usable() < 2 ? 0 : ORION_SPIN_START_NS;
}

/* What the look says last: ORION_AGAIN when time was up. One look is always taken. */
static inline orion_status_t orion_spin(orion_spin_t *spin, int64_t limit_ns, orion_status_t (*look)(void *self),
                                        void *self)
{
    orion_status_t status = look(self);
    if (status != ORION_AGAIN || spin->budget_ns < ORION_SPIN_MIN_NS)
        return status;
    if (++spin->waits % ORION_SPIN_TRY == 0 && spin->budget_ns < ORION_SPIN_START_NS)
        spin->budget_ns = ORION_SPIN_START_NS;
    int64_t end = orion_clock_ns() + (spin->budget_ns < limit_ns ? spin->budget_ns : limit_ns);
    do {
        for (int i = 0; i < 16; i++)
            orion_cpu_relax();
        status = look(self);
    } while (status == ORION_AGAIN && orion_clock_ns() < end);
    if (status == ORION_OK) {
        spin->budget_ns = 2 * spin->budget_ns < ORION_SPIN_CAP_NS ? 2 * spin->budget_ns : ORION_SPIN_CAP_NS;
    } else if (spin->budget_ns / 2 >= ORION_SPIN_MIN_NS) {
        spin->budget_ns /= 2;
    }
    return status;
}

#endif
