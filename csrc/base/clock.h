/* SPDX-License-Identifier: Apache-2.0 */
/* Monotonic time in nanoseconds. */
#ifndef ORION_BASE_CLOCK_H
#define ORION_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define ORION_NS_PER_US 1000LL
#define ORION_NS_PER_MS 1000000LL
#define ORION_NS_PER_S 1000000000LL

static inline int64_t orion_clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * ORION_NS_PER_S + t.tv_nsec;
}

#endif
