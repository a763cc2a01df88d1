/* SPDX-License-Identifier: Apache-2.0 */
/* What a process holds. */
#ifndef ORION_TESTS_PROCESS_H
#define ORION_TESTS_PROCESS_H

#include <dirent.h>
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

#endif
