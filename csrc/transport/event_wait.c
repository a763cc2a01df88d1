/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for an event without taking it: one thread may sleep here while another reads the ring. */
#include "base/clock.h"
#include "transport/extents.h"
#include "transport/memory.h"

orion_status_t orion_memory_event_there(orion_memory_link_t *link, int64_t timeout_ns)
{
    const orion_wait_place_t where = orion_memory_place(link, &link->reply->event_head, &link->command->event_sleeping);
    orion_wait_t wait = {0}; /* the link's own belongs to the thread that reads */
    const int64_t deadline = timeout_ns < 0 ? INT64_MAX : orion_clock_ns() + timeout_ns;
    for (;;) {
        if (orion_load_relaxed(link->state) != ORION_LINK_LIVE)
            return orion_memory_look(link);
        /* what has been read, as the reader has published it: its own state is not to be touched here */
        const uint32_t tail = orion_load_acquire(&link->command->event_tail);
        if (orion_load_acquire(&link->reply->event_head) != tail)
            return ORION_TOO_BIG;
        const int64_t left = deadline - orion_clock_ns();
        if (left <= 0)
            return ORION_AGAIN;
        if (orion_wait_changed(&wait, &link->policy, &where, tail, left) == ORION_OK)
            continue;
        const orion_status_t status = orion_memory_look(link);
        if (status != ORION_OK)
            return status;
    }
}
