/* SPDX-License-Identifier: Apache-2.0 */
/* A worker process from its fork to its end: everything between _worker.pyx and the loop. */
#ifndef ORION_WORKER_START_H
#define ORION_WORKER_START_H

#include "devices/cpu/compiler.h"
#include "worker/cage.h"
#include "worker/control.h"

typedef struct orion_start {
    const char *device;
    int threads;
    uint32_t epoch;
    int control_fd, stats_fd, lease_fd; /* taken over */
    orion_cage_t cage;
    const orion_compiler_t *compiler;
} orion_start_t;

/* Prepares for any client, waits for the order, serves that one session. Returns the process's exit code: 0 when the client is done, 1 when the session could not begin,
 * 2 when it ended badly; the supervisor knows why by then. */
int orion_start_worker(const orion_start_t *start);

/* This process's control line, once orion_start_worker() has begun. */
orion_control_line_t *orion_start_line(void);

/* Opens and closes the device once to learn what it says of itself: the zygote, before it forks. */
CUresult orion_start_describe(const char *device, uint64_t memory, int threads, orion_device_info_t *info_p, char *why,
                              size_t why_bytes);

#endif
