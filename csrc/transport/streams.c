/* SPDX-License-Identifier: Apache-2.0 */
/* Staging chunks and the event ring of a memory link, see streams.h. */
#define _GNU_SOURCE
#include "transport/streams.h"

#include <string.h>

#include "base/clock.h"

#define STAGE_LEAST (32u << 10) /* a wake and a record cost about what copying so much does */

/* ---- staging ---- */

/* Sequences only grow: done is reached when the worker is at or beyond it. */
static bool stage_reached(uint32_t done, uint32_t sequence)
{
    return (int32_t)(done - sequence) >= 0;
}

static orion_status_t stage_wait(orion_memory_link_t *link, orion_wait_t *wait, uint32_t index, uint32_t sequence)
{
    const uint32_t *word = &link->reply->stages[index].done;
    orion_wait_place_t where = orion_memory_place(link, word, &link->command->stage_waiting[index]);
    for (;;) {
        /* acquire: pairs with the release in orion_port_stage_done; the chunk's bytes are there */
        uint32_t done = orion_load_acquire(word);
        if (stage_reached(done, sequence))
            return ORION_OK;
        if (orion_wait_changed(wait, &link->policy, &where, done, ORION_SLEEP_MAX_NS) == ORION_OK)
            continue;
        orion_status_t status = orion_memory_look(link);
        if (status == ORION_OK)
            continue;
        done = orion_load_acquire(word);
        return stage_reached(done, sequence) ? ORION_OK : status;
    }
}

orion_status_t orion_memory_stage_claim(orion_link_t *base, orion_stage_t *stage_p)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    if (orion_load_relaxed(link->state) != ORION_LINK_LIVE)
        return orion_memory_look(link);
    uint32_t index = link->stage_next % ORION_STAGE_COUNT;
    if (link->stage_last[index] != 0) {
        orion_status_t status = stage_wait(link, &link->stage_claim_wait, index, link->stage_last[index]);
        if (status != ORION_OK)
            return status;
    }
    link->stage_next++;
    if (++link->stage_sequence == 0)
        link->stage_sequence = 1; /* 0 means never used */
    link->stage_last[index] = link->stage_sequence;
    *stage_p = (orion_stage_t){.index = index,
                               .sequence = link->stage_sequence,
                               .data = orion_command_stage(link->command, index),
                               .bytes = ORION_STAGE_BYTES,
                               .least = STAGE_LEAST};
    return ORION_OK;
}

orion_status_t orion_memory_stage_send(orion_link_t *base, const orion_stage_t *stage, const void *from, size_t bytes)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    if (bytes > stage->bytes)
        return ORION_INVALID;
    if (from != stage->data)
        orion_copy_to_peer(&link->copier, stage->data, from, bytes);
    return ORION_OK;
}

void orion_memory_stage_abort(orion_link_t *base, const orion_stage_t *stage)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    if (stage->index < ORION_STAGE_COUNT && link->stage_last[stage->index] == stage->sequence) {
        link->stage_last[stage->index] = 0;
    }
}

orion_status_t orion_memory_stage_await(orion_link_t *base, const orion_stage_t *stage)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    orion_wait_t wait = {0};
    if (stage->index >= ORION_STAGE_COUNT)
        return ORION_INVALID;
    return stage_wait(link, &wait, stage->index, stage->sequence);
}

orion_status_t orion_memory_stage_collect(orion_link_t *base, const orion_stage_t *stage, void *to, size_t bytes)
{
    orion_status_t status = bytes <= stage->bytes ? orion_memory_stage_await(base, stage) : ORION_INVALID;
    if (status == ORION_OK)
        orion_copy_from_peer(to, stage->data, bytes);
    return status;
}

/* ---- events ---- */

orion_status_t orion_memory_event_wait(orion_link_t *base, int64_t timeout_ns, void *buffer, size_t capacity,
                                       size_t *bytes_p)
{
    orion_memory_link_t *link = (orion_memory_link_t *)base;
    if (capacity == 0)
        return orion_memory_event_there(link, timeout_ns);
    orion_wait_place_t where = orion_memory_place(link, &link->reply->event_head, &link->command->event_sleeping);
    int64_t deadline = timeout_ns < 0 ? INT64_MAX : orion_clock_ns() + timeout_ns;
    while (link->event == NULL) {
        if (orion_load_relaxed(link->state) != ORION_LINK_LIVE)
            return orion_memory_look(link);
        orion_status_t status = orion_ring_next(&link->events, &link->event);
        if (status == ORION_OK)
            break;
        if (status != ORION_AGAIN)
            return status;
        int64_t left = deadline - orion_clock_ns();
        if (left <= 0)
            return ORION_AGAIN;
        if (orion_wait_changed(&link->event_wait, &link->policy, &where, link->events.tail, left) == ORION_OK)
            continue;
        status = orion_memory_look(link);
        if (status != ORION_OK)
            return status;
    }
    uint32_t bytes = orion_record_payload_bytes(link->event);
    /* events carry their exact length in `sequence`, since a record's is rounded */
    if (link->event->sequence <= bytes)
        bytes = link->event->sequence;
    if (bytes > capacity)
        return ORION_TOO_BIG;
    memcpy(buffer, orion_record_payload_const(link->event), bytes);
    *bytes_p = bytes;
    link->event = NULL;
    (void)orion_ring_publish(&link->events);
    return ORION_OK;
}
