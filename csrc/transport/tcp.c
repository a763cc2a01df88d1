/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of link.h over a byte stream, see tcp_link.h. */
#define _GNU_SOURCE
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/tcp_link.h"

#define PUSH_BYTES (16u * 1024u) /* gathered: sent without waiting for more */
#define QUIET_NS 150000          /* nothing sent for so long: a single record goes at once */

const orion_tcp_want_t orion_tcp_nothing = {.kind = ORION_TCP_NOTHING};

static orion_tcp_link_t *tcp(orion_link_t *link)
{
    return (orion_tcp_link_t *)link;
}

/* ---- commands and replies ---- */

static orion_status_t tcp_claim(orion_link_t *base, uint32_t record_bytes, orion_record_t **record_p)
{
    orion_tcp_link_t *link = tcp(base);
    orion_status_t status = orion_tcp_state(link);
    if (status != ORION_OK)
        return status;
    if (record_bytes < ORION_RECORD_HEADER)
        return ORION_INVALID;
    if (record_bytes > ORION_RECORD_MAX)
        return ORION_TOO_BIG;
    if (orion_load_relaxed(&link->filled) > ORION_OUT_HIGH) {
        status = orion_tcp_flush(link);
        if (status != ORION_OK)
            return status;
    }
    orion_record_t *record = (orion_record_t *)(void *)link->scratch;
    link->claimed = orion_record_round(record_bytes);
    record->bytes = link->claimed;
    record->epoch = link->epoch;
    *record_p = record;
    return ORION_OK;
}

static void tcp_commit(orion_link_t *base)
{
    orion_tcp_link_t *link = tcp(base);
    const orion_record_t *record = (const orion_record_t *)(const void *)link->scratch;
    bool first = orion_tcp_append(link, record, link->claimed);
    if (record->slot != ORION_SLOT_NONE || orion_load_relaxed(&link->unsent) >= PUSH_BYTES ||
        (first && orion_clock_ns() - orion_load_relaxed(&link->sent_at) > QUIET_NS)) {
        orion_tcp_push(link);
    } else if (first) {
        orion_tcp_soon(link);
    }
}

static orion_status_t tcp_await(orion_link_t *base, uint32_t slot, uint32_t sequence, const orion_reply_t **reply_p)
{
    orion_tcp_link_t *link = tcp(base);
    orion_tcp_want_t want = {.kind = ORION_TCP_REPLY, .index = slot, .sequence = sequence};
    if (slot >= ORION_REPLY_SLOTS)
        return ORION_INVALID;
    orion_status_t status = orion_tcp_wait(link, &want, INT64_MAX);
    if (status == ORION_OK)
        *reply_p = &link->replies[slot];
    return status;
}

/* ---- staging ---- */

static orion_status_t tcp_stage_claim(orion_link_t *base, orion_stage_t *stage_p)
{
    orion_tcp_link_t *link = tcp(base);
    uint32_t index = link->stage_next % ORION_STAGE_COUNT;
    orion_tcp_want_t want = {.kind = ORION_TCP_STAGE, .index = index, .sequence = link->stage_last[index]};
    orion_status_t status = want.sequence != 0 ? orion_tcp_wait(link, &want, INT64_MAX) : ORION_OK;
    if (status == ORION_OK)
        status = orion_tcp_state(link);
    if (status != ORION_OK)
        return status;
    link->stage_next++;
    if (++link->stage_sequence == 0)
        link->stage_sequence = 1; /* 0 means never used */
    link->at_want[index] = 0;
    orion_store_release(&link->stage_last[index], link->stage_sequence); /* release: pairs with the acquire in place */
    *stage_p = (orion_stage_t){.index = index,
                               .sequence = link->stage_sequence,
                               .data = link->chunks + (size_t)index * ORION_STAGE_BYTES,
                               .bytes = ORION_STAGE_BYTES,
                               .least = ORION_STAGE_BYTES}; /* a stream overlaps within a chunk */
    return ORION_OK;
}

static orion_status_t tcp_stage_send(orion_link_t *base, const orion_stage_t *stage, const void *from, size_t bytes)
{
    orion_tcp_link_t *link = tcp(base);
    if (stage->index >= ORION_STAGE_COUNT || bytes > ORION_STAGE_BYTES)
        return ORION_INVALID;
    orion_record_t head = {.bytes = ORION_RECORD_HEADER + orion_record_round((uint32_t)bytes),
                           .opcode = ORION_FRAME_STAGE,
                           .slot = (uint16_t)stage->index,
                           .sequence = stage->sequence,
                           .epoch = link->epoch};
    return orion_tcp_send_now(link, &head, from, bytes);
}

static void tcp_stage_abort(orion_link_t *base, const orion_stage_t *stage)
{
    orion_tcp_link_t *link = tcp(base);
    if (stage->index < ORION_STAGE_COUNT && link->stage_last[stage->index] == stage->sequence)
        orion_store_relaxed(&link->stage_last[stage->index], 0);
}

static orion_status_t tcp_stage_await(orion_link_t *base, const orion_stage_t *stage)
{
    orion_tcp_want_t want = {.kind = ORION_TCP_STAGE, .index = stage->index, .sequence = stage->sequence};
    return stage->index < ORION_STAGE_COUNT ? orion_tcp_wait(tcp(base), &want, INT64_MAX) : ORION_INVALID;
}

static orion_status_t tcp_stage_collect(orion_link_t *base, const orion_stage_t *stage, void *to, size_t bytes)
{
    orion_tcp_link_t *link = tcp(base);
    orion_tcp_want_t want = {
        .kind = ORION_TCP_STAGE, .index = stage->index, .sequence = stage->sequence, .into = to, .bytes = bytes};
    if (stage->index >= ORION_STAGE_COUNT || bytes > ORION_STAGE_BYTES)
        return ORION_INVALID;
    orion_status_t status = orion_tcp_wait(link, &want, INT64_MAX);
    if (status == ORION_OK && !link->at_want[stage->index])
        memcpy(to, stage->data, bytes);
    return status;
}

uint8_t *orion_tcp_place(void *self, const orion_record_t *frame, uint32_t bytes)
{
    orion_tcp_link_t *link = self;
    const orion_tcp_want_t *direct = link->direct;
    if (frame->slot >= ORION_STAGE_COUNT)
        return NULL;
    /* acquire: pairs with the release in tcp_stage_claim */
    if (orion_load_acquire(&link->stage_last[frame->slot]) != frame->sequence || frame->sequence == 0)
        return NULL;
    /* This thread waits for just these bytes: it saves a copy, and reads nothing else before it has them. */
    bool at_want = direct->kind == ORION_TCP_STAGE && direct->into != NULL && direct->bytes == bytes &&
                   direct->index == frame->slot && direct->sequence == frame->sequence;
    link->at_want[frame->slot] = at_want;
    return at_want ? direct->into : link->chunks + (size_t)frame->slot * ORION_STAGE_BYTES;
}

/* ---- extents: there are none ---- */

static orion_status_t tcp_extent_map(orion_link_t *base, uint64_t offset, uint64_t bytes, void **p)
{
    (void)base, (void)offset, (void)bytes, (void)p;
    return ORION_INVALID;
}

static orion_status_t tcp_extent_unmap(orion_link_t *base, uint64_t offset, uint64_t bytes)
{
    (void)base, (void)offset, (void)bytes;
    return ORION_INVALID;
}

/* ---- the end ---- */

static orion_status_t tcp_probe(orion_link_t *base, char *why, size_t why_bytes, int32_t *cuda_result_p)
{
    orion_tcp_link_t *link = tcp(base);
    orion_status_t status = orion_tcp_look(link);
    if (status == ORION_INVALID)
        orion_explain(why, why_bytes, "the session with %s belongs to the parent of this forked process", link->server);
    if (status != ORION_PEER_GONE)
        return status;
    (void)pthread_mutex_lock(&link->end_lock);
    orion_explain(why, why_bytes, "the session with %s is over: %s", link->server, link->epitaph);
    if (cuda_result_p != NULL)
        *cuda_result_p = link->epitaph_result;
    (void)pthread_mutex_unlock(&link->end_lock);
    return status;
}

static void tcp_fork_child(orion_link_t *base)
{
    orion_tcp_link_t *link = tcp(base);
    orion_store_relaxed(link->state, ORION_LINK_FORKED);
    orion_bytestream_fork_child(link->stream);
}

void orion_tcp_close(orion_link_t *base)
{
    orion_tcp_link_t *link = tcp(base);
    if (orion_load_relaxed(link->state) != ORION_LINK_FORKED) {
        if (orion_tcp_state(link) == ORION_OK && link->stream != NULL)
            orion_tcp_push(link); /* what was posted and not waited for, as far as the stream takes it */
        orion_tcp_stop_flusher(link);
    }
    orion_tcp_free(link);
}

const orion_link_ops_t orion_tcp_ops = {
    .name = "tcp",
    .claim = tcp_claim,
    .commit = tcp_commit,
    .await = tcp_await,
    .stage_claim = tcp_stage_claim,
    .stage_send = tcp_stage_send,
    .stage_abort = tcp_stage_abort,
    .stage_await = tcp_stage_await,
    .stage_collect = tcp_stage_collect,
    .extent_map = tcp_extent_map,
    .extent_unmap = tcp_extent_unmap,
    .event_wait = orion_tcp_event_wait,
    .probe = tcp_probe,
    .fork_child = tcp_fork_child,
    .close = orion_tcp_close,
};
