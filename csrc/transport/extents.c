/* SPDX-License-Identifier: Apache-2.0 */
/* Arena extents on the client's side, see extents.h. */
#define _GNU_SOURCE
#include "transport/extents.h"

#include <poll.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "shm/range.h"

#define EXTENT_WAIT_NS (10 * ORION_NS_PER_S)
#define EXTENT_POLL_MS 20

static int find_pending(orion_memory_link_t *link, uint64_t offset, uint64_t bytes)
{
    int fd = -1;
    (void)pthread_mutex_lock(&link->notices);
    for (uint32_t i = 0; i < link->pending_count; i++) {
        if (link->pending[i].offset != offset || link->pending[i].bytes != bytes)
            continue;
        fd = link->pending[i].fd;
        link->pending[i] = link->pending[--link->pending_count];
        break;
    }
    (void)pthread_mutex_unlock(&link->notices);
    return fd;
}

orion_status_t orion_extent_take(orion_memory_link_t *link, uint64_t offset, uint64_t bytes, int *fd_p)
{
    int64_t deadline = orion_clock_ns() + EXTENT_WAIT_NS;
    for (;;) {
        orion_status_t status = orion_memory_look(link);
        if (status != ORION_OK)
            return status;
        int fd = find_pending(link, offset, bytes);
        if (fd >= 0) {
            *fd_p = fd;
            return ORION_OK;
        }
        if (orion_clock_ns() >= deadline)
            return ORION_TIMEOUT;
        struct pollfd p = {.fd = link->socket, .events = POLLIN}; /* a twin has no socket: poll only sleeps */
        (void)poll(&p, 1, EXTENT_POLL_MS);
    }
}

orion_status_t orion_extent_place(orion_memory_link_t *link, uint64_t offset, uint64_t bytes, int fd)
{
    int seals = orion_memfd_seals(fd);
    if (orion_fd_size(fd) < (int64_t)bytes || seals < 0 || (seals & ORION_SEAL_SHRINK) == 0) {
        orion_log(ORION_LOG_ERROR, "the server sent an arena extent that is too small or not sealed");
        return ORION_PROTOCOL;
    }
    orion_status_t status = orion_range_map(link->range_base, link->range_bytes, offset, bytes, fd);
    if (status != ORION_OK)
        return status;
    if (offset >= link->arena_bytes)
        return ORION_OK; /* device heap: of a large extent one variable is wanted */
    if (!orion_pages_populate((void *)(uintptr_t)(link->range_base + offset), bytes, true)) {
        (void)orion_range_unmap(link->range_base, link->range_bytes, offset, bytes);
        return ORION_NO_MEMORY;
    }
    return ORION_OK;
}
