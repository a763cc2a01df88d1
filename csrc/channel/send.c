/* SPDX-License-Identifier: Apache-2.0 */
/* Messages out, and calls begun: both are records in our ring. See channel.h. */
#include <string.h>

#include "channel/channel.h"

/* A copy this long takes some microseconds, and the receiver may begin before it has ended; each step is shown to it. */
#define ALONG_BYTES (64u * 1024u)
#define STEP_BYTES (16u * 1024u)
#define LONG_BYTES (512u * 1024u) /* from here on in longer steps */
#define LONG_STEP_BYTES (64u * 1024u)
#define PIECE_BYTES (256u * 1024u) /* of a message that no block has room for: some of them are on their way at once */

/* ---- the ring; under the send lock ---- */

static __attribute__((noinline)) orion_status_t claim_slow(orion_channel_t *channel, uint32_t bytes, int64_t deadline,
                                                           orion_record_t **record_p)
{
    orion_wait_place_t where = orion_channel_place(channel, &channel->peer->tail, &channel->own->space_waiting);
    bool looked = false;
    for (;;) {
        if (orion_ring_refresh(&channel->out) != ORION_OK) {
            orion_channel_end(channel, ORION_PROTOCOL,
                              "the other process broke the protocol: it claims to have read "
                              "what was never written");
            return ORION_PROTOCOL;
        }
        orion_record_t *record = orion_ring_claim(&channel->out, bytes);
        if (record != NULL) {
            *record_p = record;
            return ORION_OK;
        }
        if (channel->net != NULL && !looked) {
            looked = true; /* what has been read over there may be told already */
            orion_net_look(channel);
            continue;
        }
        int64_t left = orion_time_left(deadline);
        if (left <= 0)
            return orion_channel_time_up(channel);
        if (orion_channel_wait(channel, &channel->space_wait, &where, channel->out.tail, left) != ORION_OK) {
            orion_status_t status = orion_channel_wait_on(channel);
            if (status != ORION_OK)
                return status;
        }
    }
}

orion_status_t orion_channel_claim(orion_channel_t *channel, uint32_t bytes, int64_t deadline,
                                   orion_record_t **record_p)
{
    bytes = orion_record_round(bytes);
    orion_record_t *record = orion_ring_claim(&channel->out, bytes);
    if (__builtin_expect(record == NULL, 0))
        return claim_slow(channel, bytes, deadline, record_p);
    *record_p = record;
    return ORION_OK;
}

static __attribute__((noinline)) void wake(orion_channel_t *channel, uint32_t sleeping, uint32_t bell)
{
    if (channel->net != NULL) {
        orion_net_flush(channel);
        return;
    }
    if ((sleeping & 1) != 0) {
        int64_t now = orion_clock_ns();
        /* Once per sleep: a burst of messages wakes once. A wake that found nobody was too early: the peer may have taken
         * this message and still go to sleep, and then the next one has to wake it. */
        if (sleeping != channel->woken && orion_futex_wake(&channel->own->head, 1) > 0)
            channel->woken = sleeping;
        if (sleeping != channel->asleep) {
            channel->asleep = sleeping;
            channel->asleep_at = now;
        } else if (now - channel->asleep_at > ORION_SLEEP_MAX_NS) {
            channel->asleep_at = now; /* it does not get up: does it live? */
            (void)orion_channel_state(channel);
        }
    }
    if ((bell & 1) != 0 && bell != channel->rung) {
        channel->rung = bell;
        orion_channel_ring_bell(channel);
    }
}

void orion_channel_commit(orion_channel_t *channel)
{
    orion_ring_commit(&channel->out);
    orion_wake_order(channel->policy.membarrier);
    uint64_t both = orion_load_relaxed((const uint64_t *)(const void *)&channel->peer->sleeping);
    if (__builtin_expect((both & 0x100000001ULL) != 0, 0))
        wake(channel, (uint32_t)both, (uint32_t)(both >> 32));
}

/* ---- messages ---- */

typedef struct outgoing {
    uint32_t kind, tag;
    const void *data; /* at most ORION_CHANNEL_INLINE */
    uint32_t bytes;
    const orion_bulk_place_t *place; /* NULL = no bulk */
    bool whole;
} outgoing_t;

static inline orion_status_t put(orion_channel_t *channel, const outgoing_t *m, uint16_t slot, uint32_t sequence,
                                 int64_t deadline)
{
    orion_record_t *record;
    uint32_t extra = m->place != NULL ? (uint32_t)sizeof(*m->place) : 0;
    uint32_t padding = -m->bytes & (ORION_RECORD_ALIGN - 1);
    orion_status_t status = orion_channel_claim(channel, ORION_RECORD_HEADER + extra + m->bytes, deadline, &record);
    if (__builtin_expect(status != ORION_OK, 0))
        return status;
    uint32_t opcode = m->kind | padding << ORION_CHANNEL_PADDING_SHIFT | m->tag << ORION_CHANNEL_TAG_SHIFT;
    uint8_t *payload = orion_record_payload(record);
    if (extra != 0) {
        opcode |= ORION_CHANNEL_BULK | (m->whole ? ORION_CHANNEL_WHOLE : 0);
        memcpy(payload, m->place, sizeof(*m->place));
    }
    record->opcode = (uint16_t)opcode;
    record->slot = slot;
    record->sequence = sequence;
    orion_copy_small(payload + extra, m->data, m->bytes);
    orion_channel_commit(channel);
    return ORION_OK;
}

/* The pieces of a message whose first record has been sent. Another record instead of a piece tells the receiver that
 * the message was given up: nothing has to be taken back. */
static orion_status_t put_pieces(orion_channel_t *channel, const uint8_t *data, size_t bytes, int64_t deadline)
{
    while (bytes > 0) {
        size_t n = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        orion_bulk_t piece = {.data = data, .bytes = n};
        orion_bulk_place_t place;
        orion_block_t *block;
        orion_status_t status = orion_bulk_place(channel, &piece, false, deadline, &place, &block);
        if (status != ORION_OK)
            return status;
        outgoing_t m = {.kind = ORION_CHANNEL_PART, .place = &place};
        status = put(channel, &m, ORION_SLOT_NONE, 0, deadline);
        if (status != ORION_OK)
            orion_block_unrefer(channel, &place);
        if (block != NULL)
            orion_block_drop(block);
        if (status != ORION_OK)
            return status;
        data += n;
        bytes -= n;
    }
    return ORION_OK;
}

/* Into a block whose message has been announced: nothing that follows can fail. */
static void fill(orion_channel_t *channel, uint8_t *to, const uint8_t *from, size_t bytes)
{
    size_t step = bytes < LONG_BYTES ? STEP_BYTES : LONG_STEP_BYTES;
    for (size_t at = 0; at < bytes; at += step) {
        orion_copy_to_peer(&channel->copier, to + at, from + at, bytes - at < step ? bytes - at : step);
        /* release: pairs with the acquire in copy_along */
        orion_store_release(&channel->own->filled, (uint32_t)((at + step) / ORION_FILLED_PAGE));
    }
}

/* A long message is announced, then copied: its receiver wakes up and copies along meanwhile. */
static orion_status_t put_along(orion_channel_t *channel, const outgoing_t *m, uint16_t slot, uint32_t sequence,
                                orion_block_t *block, const orion_bulk_t *bulk, int64_t deadline)
{
    static const outgoing_t filled = {.kind = ORION_CHANNEL_FILLED};
    orion_record_t *both; /* room for both records: the second cannot fail */
    uint32_t bytes = 2 * ORION_RECORD_HEADER + (uint32_t)sizeof(*m->place) + m->bytes;
    orion_status_t status = orion_channel_claim(channel, bytes, deadline, &both);
    if (status != ORION_OK)
        return status;
    orion_store_relaxed(&channel->own->filled, 0); /* ordered by the record that names the message */
    status = put(channel, m, slot, sequence, 0);
    if (status != ORION_OK)
        return status;
    fill(channel, orion_block_data(block), bulk->data, bulk->bytes);
    return put(channel, &filled, ORION_SLOT_NONE, 0, 0);
}

static orion_status_t put_bulk(orion_channel_t *channel, outgoing_t *m, const orion_bulk_t *bulk, uint16_t slot,
                               uint32_t sequence, int64_t deadline)
{
    orion_bulk_place_t place;
    orion_block_t *copied = NULL;
    bool along = channel->net == NULL && bulk->block == NULL && bulk->bytes >= ALONG_BYTES;
    m->place = &place;
    orion_status_t status = along ? orion_bulk_reserve(channel, bulk->bytes, deadline, &place, &copied)
                                  : orion_bulk_place(channel, bulk, true, deadline, &place, &copied);
    if (status == ORION_OK) {
        place.filling = along;
        status = along ? put_along(channel, m, slot, sequence, copied, bulk, deadline)
                       : put(channel, m, slot, sequence, deadline);
        if (status != ORION_OK)
            orion_block_unrefer(channel, &place);
        if (copied != NULL)
            orion_block_drop(copied);
        return status;
    }
    if (bulk->block != NULL || (status != ORION_NO_MEMORY && status != ORION_TIMEOUT))
        return status;
    place = (orion_bulk_place_t){.extent = ORION_EXTENT_PIECES, .bytes = bulk->bytes};
    status = put(channel, m, slot, sequence, deadline);
    if (status != ORION_OK)
        return status;
    return put_pieces(channel, bulk->data, bulk->bytes, deadline);
}

static orion_status_t check(const outgoing_t *m, size_t bytes, const orion_bulk_t *bulk)
{
    if (m->tag > ORION_CHANNEL_TAG_MAX || (bulk != NULL && bulk->data == NULL && bulk->bytes != 0))
        return ORION_INVALID;
    return bulk != NULL && bytes > ORION_CHANNEL_INLINE ? ORION_TOO_BIG : ORION_OK;
}

/* Everything that the fast path does not do. call_p: NULL for a message that wants no answer. */
static __attribute__((noinline)) orion_status_t send_slow(orion_channel_t *channel, outgoing_t m, size_t bytes,
                                                          const orion_bulk_t *bulk, int64_t timeout_ns,
                                                          uint64_t *call_p)
{
    orion_bulk_t all = {.data = m.data, .bytes = bytes};
    uint32_t slot = ORION_SLOT_NONE, sequence = 0;
    orion_status_t status = check(&m, bytes, bulk);
    if (status == ORION_OK && !orion_channel_live(channel))
        status = orion_channel_state(channel);
    if (status != ORION_OK)
        return status;
    if (bulk != NULL && bulk->bytes == 0)
        bulk = NULL;
    if (bytes > ORION_CHANNEL_INLINE) {
        bulk = &all;
        m.whole = true;
        m.bytes = 0;
    }
    if (bulk != NULL && bulk->bytes > channel->send_max)
        return ORION_TOO_BIG;
    int64_t deadline = orion_deadline(timeout_ns);
    if (channel->net != NULL && call_p != NULL)
        orion_net_look(channel); /* late answers, which free their slots */
    for (;;) {
        status = orion_channel_enter(channel, &channel->send_lock, timeout_ns);
        if (status != ORION_OK)
            return status;
        if (call_p != NULL)
            status = orion_call_open(channel, &slot, &sequence);
        if (status != ORION_AGAIN)
            break;
        orion_lock_leave(&channel->send_lock); /* others may send meanwhile: their messages may be what frees a slot */
        status = orion_call_seek(channel, deadline);
        if (status != ORION_OK)
            return status;
    }
    if (status == ORION_OK) {
        status = bulk != NULL ? put_bulk(channel, &m, bulk, (uint16_t)slot, sequence, deadline)
                              : put(channel, &m, (uint16_t)slot, sequence, deadline);
        if (status != ORION_OK && call_p != NULL)
            orion_call_close(channel, slot);
    }
    orion_lock_leave(&channel->send_lock);
    if (status == ORION_OK && call_p != NULL)
        *call_p = orion_call_id(slot, sequence);
    return status;
}

static inline bool is_small(const orion_channel_t *channel, uint32_t tag, size_t bytes, const orion_bulk_t *bulk)
{
    return __builtin_expect(bytes <= ORION_CHANNEL_INLINE && bulk == NULL && tag <= ORION_CHANNEL_TAG_MAX, 1) &&
           __builtin_expect(orion_channel_live(channel), 1);
}

orion_status_t orion_channel_send(orion_channel_t *channel, uint32_t tag, const void *data, size_t bytes,
                                  const orion_bulk_t *bulk, int64_t timeout_ns)
{
    const outgoing_t m = {.kind = ORION_MESSAGE_SEND, .tag = tag, .data = data, .bytes = (uint32_t)bytes};
    if (is_small(channel, tag, bytes, bulk) && orion_lock_try(&channel->send_lock)) {
        orion_status_t status = put(channel, &m, ORION_SLOT_NONE, 0, 0);
        orion_lock_leave(&channel->send_lock);
        if (__builtin_expect(status != ORION_TIMEOUT, 1) || timeout_ns == 0)
            return status;
    }
    return send_slow(channel, m, bytes, bulk, timeout_ns, NULL);
}

orion_status_t orion_channel_call_begin(orion_channel_t *channel, uint32_t tag, const void *data, size_t bytes,
                                        const orion_bulk_t *bulk, int64_t timeout_ns, uint64_t *call_p)
{
    const outgoing_t m = {.kind = ORION_MESSAGE_CALL, .tag = tag, .data = data, .bytes = (uint32_t)bytes};
    if (is_small(channel, tag, bytes, bulk) && orion_lock_try(&channel->send_lock)) {
        uint32_t slot = 0, sequence = 0;
        orion_status_t status = orion_call_open(channel, &slot, &sequence);
        if (__builtin_expect(status == ORION_OK, 1)) {
            status = put(channel, &m, (uint16_t)slot, sequence, 0);
            if (__builtin_expect(status != ORION_OK, 0))
                orion_call_close(channel, slot);
        }
        orion_lock_leave(&channel->send_lock);
        if (__builtin_expect(status == ORION_OK, 1))
            *call_p = orion_call_id(slot, sequence);
        if (__builtin_expect(status != ORION_TIMEOUT && status != ORION_AGAIN, 1))
            return status;
    }
    return send_slow(channel, m, bytes, bulk, timeout_ns, call_p);
}
