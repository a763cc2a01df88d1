/* SPDX-License-Identifier: Apache-2.0 */
/* Looking at a byte stream for a while before sleeping on it, as channel/wait.h does with a word: a sleep costs a wake, and
 * the other end's answer is often closer than that. The budget grows while looking pays and halves while it does not. */
#ifndef ORION_STREAM_SPIN_H
#define ORION_STREAM_SPIN_H

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/sys.h"
#include "stream/stream.h"

#define ORION_SPIN_MOST_NS 50000 /* about what a sleep and a wake cost on a busy virtual machine */
#define ORION_SPIN_START_NS 16000
#define ORION_SPIN_MIN_NS 2000
#define ORION_SPIN_SOON_NS (2 * ORION_SPIN_MOST_NS) /* a wait that ended this soon was nearly worth looking for */
#define ORION_SPIN_MISSES 8                         /* nearly, so often: the other end is farther than the cap */
#define ORION_SPIN_REST 100                         /* then it is not tried for so many waits */

#ifndef SO_INCOMING_CPU
#define SO_INCOMING_CPU 49 /* Linux 3.19 */
#endif

typedef struct orion_spin {
    int64_t budget_ns; /* 0: never */
    uint32_t misses, rest;
} orion_spin_t;

static inline void orion_spin_init(orion_spin_t *spin)
{
    *spin = (orion_spin_t){.budget_ns = orion_cpu_throttled() || orion_cpu_usable() < 2 ? 0 : ORION_SPIN_START_NS};
}

/* Its last bytes were sent from the processor we run on: while we look, the other end cannot even start. */
static inline bool orion_spin_together(const orion_bytestream_t *stream)
{
    int cpu = -1, saved = errno;
    socklen_t bytes = sizeof(cpu);
    bool known = stream->over_socket && getsockopt(stream->socket, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &bytes) == 0;
    errno = saved;
    return known && cpu == orion_cpu_current();
}

/* What the look says last: ORION_AGAIN when time was up. One look is always taken. */
static inline orion_status_t orion_spin(orion_spin_t *spin, const orion_bytestream_t *stream, int64_t limit_ns,
                                        orion_status_t (*look)(void *self), void *self)
{
    orion_status_t status = look(self);
    if (status != ORION_AGAIN || spin->budget_ns == 0)
        return status;
    if (spin->rest > 0 || orion_spin_together(stream)) {
        spin->rest -= spin->rest > 0;
        return status;
    }
    int64_t end = orion_clock_ns() + (spin->budget_ns < limit_ns ? spin->budget_ns : limit_ns);
    do {
        for (int i = 0; i < 16; i++)
            orion_cpu_relax();
        status = look(self);
    } while (status == ORION_AGAIN && orion_clock_ns() < end);
    if (status == ORION_OK)
        spin->misses = 0;
    return status;
}

/* Looking was not enough; the wait ended by itself after `took_ns` in all. */
static inline void orion_spin_slept(orion_spin_t *spin, int64_t took_ns)
{
    if (spin->budget_ns == 0 || spin->rest > 0)
        return;
    if (took_ns > ORION_SPIN_SOON_NS) {
        spin->misses = 0;
        if (spin->budget_ns / 2 >= ORION_SPIN_MIN_NS)
            spin->budget_ns /= 2;
    } else if (++spin->misses == ORION_SPIN_MISSES) {
        spin->misses = 0;
        spin->rest = ORION_SPIN_REST;
    } else {
        spin->budget_ns = 2 * spin->budget_ns < ORION_SPIN_MOST_NS ? 2 * spin->budget_ns : ORION_SPIN_MOST_NS;
    }
}

#endif
