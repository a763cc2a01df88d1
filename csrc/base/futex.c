/* SPDX-License-Identifier: Apache-2.0 */
/* Futex system calls, see futex.h. */
#define _GNU_SOURCE
#include "base/futex.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

orion_status_t orion_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_ns)
{
    struct timespec t = {.tv_sec = timeout_ns / ORION_NS_PER_S, .tv_nsec = timeout_ns % ORION_NS_PER_S};
    int saved = errno; /* a CUDA call never changes the application's errno */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT, expected, &t, NULL, 0);
    orion_status_t status = rc < 0 && errno == ETIMEDOUT ? ORION_TIMEOUT : ORION_OK;
    errno = saved;
    return status;
}

int orion_futex_wake(const uint32_t *word, int count)
{
    int saved = errno;
    long rc = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    errno = saved;
    return rc < 0 ? 0 : (int)rc;
}
