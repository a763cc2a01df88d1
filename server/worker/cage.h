/* SPDX-License-Identifier: Apache-2.0 */
/* The cage a worker locks itself into before it reads one byte of its client: see cage.c for what is left to it. */
#ifndef ORION_WORKER_CAGE_H
#define ORION_WORKER_CAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct orion_cage {
    pid_t parent; /* that of the zygote: if it is gone already, so is the worker */
    uid_t uid;    /* to drop to when the server runs as root */
    gid_t gid;
    uint64_t data_bytes; /* private writable memory beyond what the process has now; 0: no limit */
    uint32_t files;      /* RLIMIT_NOFILE */
    int driver;          /* a vendor's driver works in here: cage_driver.c's list instead of cage.c's */
    int ucx;             /* so does UCX, which has networks of its own */
} orion_cage_t;

/* From the main thread; all threads are caged. 0, or -1 with a sentence in why: the session must not be served then. */
int orion_cage_enter(const orion_cage_t *cage, char *why, size_t why_bytes);

/* cage_driver.c: the filter for a worker with a driver, and with networks or without. 0 or -1 and errno. */
int orion_cage_filter_driver(int networks);

#endif
