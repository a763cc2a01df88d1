/* SPDX-License-Identifier: Apache-2.0 */
/* Processes that are killed at some instant, and what is left of them. */
#ifndef ORION_TESTS_PROCESS_H
#define ORION_TESTS_PROCESS_H

#include <dirent.h>
#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include "check.h"

/* Open descriptors of this process, and a constant. */
static inline int count_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    MUST(d != NULL);
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

/* For qsort over int64_t. */
static inline int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* A child that kills the victim after so long; *when_p, in shared memory, says when. */
static inline pid_t kill_later(pid_t victim, uint64_t us, int64_t *when_p)
{
    pid_t killer = fork();
    MUST(killer >= 0);
    if (killer == 0) {
        (void)usleep((useconds_t)us);
        *when_p = check_now_ns();
        (void)kill(victim, SIGKILL);
        _exit(0);
    }
    return killer;
}

#endif
