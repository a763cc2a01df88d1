/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same for all byte streams, see stream.h. */
#define _GNU_SOURCE
#include "stream/stream.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"

orion_status_t orion_bytestream_wait(orion_bytestream_t *stream, unsigned wishes, int64_t limit_ns)
{
    struct pollfd polled[ORION_BYTESTREAM_FDS];
    int saved = errno, count = orion_bytestream_arm(stream, wishes, polled);
    if (count == 0)
        return ORION_OK;
    struct timespec limit = {.tv_sec = limit_ns / ORION_NS_PER_S, .tv_nsec = limit_ns % ORION_NS_PER_S};
    int rc = ppoll(polled, (nfds_t)count, limit_ns < 0 ? NULL : &limit, NULL);
    errno = saved;
    return rc == 0 ? ORION_AGAIN : ORION_OK; /* an interrupted sleep ends in a look, too */
}

size_t orion_parts_bytes(const struct iovec *parts, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

void orion_parts_skip(struct iovec *parts, size_t count, size_t bytes)
{
    for (size_t i = 0; i < count && bytes > 0; i++) {
        size_t here = bytes < parts[i].iov_len ? bytes : parts[i].iov_len;
        parts[i].iov_base = (uint8_t *)parts[i].iov_base + here;
        parts[i].iov_len -= here;
        bytes -= here;
    }
}
