/* SPDX-License-Identifier: Apache-2.0 */
/* Offers a descriptor to the server; see offer.h. */
#include "transport/offer.h"

#include <string.h>

#include "base/fd.h"
#include "transport/memory.h"

orion_status_t orion_link_offer(orion_link_t *link, uint64_t address, uint64_t bytes, int fd)
{
    orion_notice_t notice;
    if (link->ops->close != orion_memory_close)
        return ORION_REFUSED; /* a wrapper for tests */
    const orion_memory_link_t *memory = (const orion_memory_link_t *)link;
    if (memory->socket < 0)
        return ORION_OK;
    if (memory->range_base == 0)
        return ORION_REFUSED;
    orion_notice_init(&notice, ORION_NOTICE_OFFER);
    notice.offset = address;
    notice.size = bytes;
    return orion_fd_send(memory->socket, &notice, sizeof(notice), &fd, 1);
}
