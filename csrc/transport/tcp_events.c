/* SPDX-License-Identifier: Apache-2.0 */
/* Events from the server: a window of them is kept until somebody reads, and credited when it has. */
#define _GNU_SOURCE
#include <string.h>

#include "base/clock.h"
#include "transport/tcp_link.h"

bool orion_tcp_deliver_event(orion_tcp_link_t *link, const orion_record_t *frame)
{
    uint32_t head = link->events_head, tail = orion_load_acquire(&link->events_tail);
    if (frame->sequence > orion_record_payload_bytes(frame) || frame->bytes > ORION_EVENT_WINDOW - (head - tail))
        return false;
    uint32_t at = head % ORION_EVENT_WINDOW, first = ORION_EVENT_WINDOW - at;
    if (first > frame->bytes)
        first = frame->bytes;
    memcpy(link->events + at, frame, first);
    memcpy(link->events, (const uint8_t *)frame + first, frame->bytes - first);
    orion_store_release(&link->events_head, head + frame->bytes); /* release: pairs with the acquire in arrived */
    return true;
}

static void read_event(const orion_tcp_link_t *link, uint32_t at, void *to, size_t bytes)
{
    at %= ORION_EVENT_WINDOW;
    size_t first = ORION_EVENT_WINDOW - at;
    if (first > bytes)
        first = bytes;
    memcpy(to, link->events + at, first);
    memcpy((uint8_t *)to + first, link->events, bytes - first);
}

/* With event_lock. ORION_AGAIN: there is none. */
static orion_status_t next_event(orion_tcp_link_t *link, void *buffer, size_t capacity, size_t *bytes_p)
{
    orion_record_t head;
    uint32_t tail = link->events_tail;
    if (orion_load_acquire(&link->events_head) == tail) /* acquire: pairs with the release in deliver_event */
        return ORION_AGAIN;
    read_event(link, tail, &head, sizeof(head));
    if (head.sequence > capacity)
        return ORION_TOO_BIG;
    if (head.sequence != 0)
        read_event(link, tail + ORION_RECORD_HEADER, buffer, head.sequence);
    *bytes_p = head.sequence;
    orion_store_release(&link->events_tail, tail + head.bytes); /* release: pairs with the acquire in deliver_event */
    return ORION_OK;
}

orion_status_t orion_tcp_event_wait(orion_link_t *base, int64_t timeout_ns, void *buffer, size_t capacity,
                                    size_t *bytes_p)
{
    orion_tcp_link_t *link = (orion_tcp_link_t *)base;
    int64_t deadline = timeout_ns < 0 ? INT64_MAX : orion_clock_ns() + timeout_ns;
    for (;;) {
        (void)pthread_mutex_lock(&link->event_lock);
        orion_status_t status = next_event(link, buffer, capacity, bytes_p);
        uint32_t tail = link->events_tail;
        bool credit = tail - link->events_credited >= ORION_EVENT_WINDOW / 8;
        if (credit)
            link->events_credited = tail;
        (void)pthread_mutex_unlock(&link->event_lock);
        if (credit) {
            orion_record_t head = {.bytes = ORION_RECORD_HEADER,
                                   .opcode = ORION_FRAME_CREDIT,
                                   .slot = ORION_SLOT_NONE,
                                   .sequence = tail,
                                   .epoch = link->epoch};
            (void)orion_tcp_send_now(link, &head, NULL, 0); /* a failure shows in the next wait */
        }
        if (status != ORION_AGAIN)
            return status;
        orion_tcp_want_t want = {.kind = ORION_TCP_EVENT, .sequence = tail};
        status = orion_tcp_wait(link, &want, deadline);
        if (status != ORION_OK)
            return status == ORION_TIMEOUT ? ORION_AGAIN : status;
    }
}
