/* SPDX-License-Identifier: Apache-2.0 */
/* Reply slots: a call takes one, its answer appears there, and a copy of it is the caller's. See channel.h.
 * An answer's `result` holds what a record's opcode does: kind | BULK | WHOLE | tag; `bytes` is exact. */
#include <string.h>

#include "channel/channel.h"

/* ---- slots ---- */

void orion_call_close(orion_channel_t *channel, uint32_t slot)
{
    /* release: pairs with the acquire in orion_call_open */
    orion_store_release(&channel->calls[slot].state, ORION_CALL_FREE);
    if (__builtin_expect(orion_load_relaxed(&channel->slot_seekers) != 0, 0)) {
        (void)orion_fetch_add(&channel->slots_freed, 1);
        (void)orion_futex_wake(&channel->slots_freed, 1);
    }
}

/* Fields of an answer, each read once. */
static inline orion_status_t read_reply(orion_channel_t *channel, uint32_t slot, orion_message_t *message)
{
    const orion_reply_t *reply = orion_channel_slot(channel->peer, slot);
    uint32_t what = (uint32_t)orion_load_relaxed(&reply->result), bytes = orion_load_relaxed(&reply->bytes);
    uint32_t kind = what & 7, extra = (what & ORION_CHANNEL_BULK) != 0 ? (uint32_t)sizeof(orion_bulk_place_t) : 0;
    if (__builtin_expect((kind != ORION_MESSAGE_REPLY && kind != ORION_MESSAGE_ERROR) || bytes < extra ||
                             bytes > ORION_REPLY_DATA,
                         0)) {
        orion_channel_end(channel, ORION_PROTOCOL, "the other process broke the protocol: an answer makes no sense");
        return ORION_PROTOCOL;
    }
    bytes = (uint32_t)orion_index_nospec(bytes, ORION_REPLY_DATA + 1);
    message->channel = channel;
    message->reference = 0;
    message->assembled = NULL;
    message->kind = (orion_message_kind_t)kind;
    message->tag = what >> ORION_CHANNEL_TAG_SHIFT & ORION_CHANNEL_TAG_MAX;
    message->data = message->copy + extra;
    message->bytes = bytes - extra;
    message->bulk.data = NULL;
    message->bulk.bytes = 0;
    message->slot = ORION_SLOT_NONE;
    orion_copy_small(message->copy, reply->data, bytes);
    if (__builtin_expect(extra == 0, 1))
        return ORION_OK;
    orion_bulk_place_t place;
    memcpy(&place, message->copy, sizeof(place));
    orion_status_t status = orion_place_resolve(channel, &place, &message->bulk.data);
    if (status != ORION_OK)
        return status;
    message->bulk.bytes = place.bytes;
    message->reference = orion_place_reference(&place);
    if ((what & ORION_CHANNEL_WHOLE) != 0) {
        message->data = message->bulk.data;
        message->bytes = message->bulk.bytes;
    }
    return ORION_OK;
}

/* A slot whose call was cancelled is free when the late answer has come: until then the other side may write there. */
static void reclaim(orion_channel_t *channel, uint32_t slot)
{
    orion_open_call_t *call = &channel->calls[slot];
    orion_message_t late;
    /* acquire: pairs with the release in orion_channel_reply */
    if (orion_load_acquire(&orion_channel_slot(channel->peer, slot)->sequence) != call->sequence)
        return;
    if (read_reply(channel, slot, &late) == ORION_OK)
        orion_message_release(&late);
    orion_call_close(channel, slot);
}

bool orion_call_find(orion_channel_t *channel)
{
    for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++) {
        /* acquire: pairs with the releases in orion_call_close and orion_channel_call_cancel */
        if (orion_load_acquire(&channel->calls[i].state) == ORION_CALL_CANCELLED)
            reclaim(channel, i);
        if (orion_load_acquire(&channel->calls[i].state) == ORION_CALL_FREE) {
            channel->slot_hint = i;
            return true;
        }
    }
    return false;
}

orion_status_t orion_call_seek(orion_channel_t *channel, int64_t deadline)
{
    int64_t left = orion_time_left(deadline);
    if (left <= 0)
        return orion_channel_time_up(channel);
    /* Neither whoever closes one nor a late answer to a cancelled call fences for us: hence the short sleep. */
    uint32_t freed = orion_load_acquire(&channel->slots_freed);
    (void)orion_fetch_add(&channel->slot_seekers, 1);
    (void)orion_futex_wait(&channel->slots_freed, freed, left < ORION_NS_PER_MS ? left : ORION_NS_PER_MS);
    (void)orion_fetch_sub(&channel->slot_seekers, 1);
    if (channel->net != NULL)
        orion_net_look(channel);
    return orion_channel_live(channel) ? ORION_OK : orion_channel_state(channel);
}

/* ---- waiting ---- */

static bool valid(uint64_t call, uint32_t *slot_p, uint32_t *sequence_p)
{
    *slot_p = (uint32_t)call;
    *sequence_p = (uint32_t)(call >> 32);
    return *slot_p < ORION_CHANNEL_CALLS && *sequence_p != 0;
}

static inline bool answered(const orion_channel_t *channel, uint32_t slot, uint32_t sequence)
{
    /* acquire: pairs with the release in orion_channel_reply; the answer's data is there */
    return orion_load_acquire(&orion_channel_slot(channel->peer, slot)->sequence) == sequence;
}

static __attribute__((noinline)) orion_status_t await_slow(orion_channel_t *channel, uint32_t slot, uint32_t sequence,
                                                           int64_t timeout_ns)
{
    const uint32_t *word = &orion_channel_slot(channel->peer, slot)->sequence;
    orion_wait_place_t where = orion_channel_place(channel, word, &channel->own->slot_waiting[slot]);
    int64_t deadline = orion_deadline(timeout_ns);
    if (channel->net != NULL)
        orion_net_look(channel);
    for (;;) {
        uint32_t seen = orion_load_acquire(word); /* acquire: pairs with the release in orion_channel_reply */
        if (seen == sequence)
            return ORION_OK;
        int64_t left = orion_time_left(deadline);
        orion_status_t status;
        if (left <= 0) {
            status = orion_channel_time_up(channel);
        } else if (orion_channel_wait(channel, &channel->calls[slot].wait, &where, seen, left) == ORION_OK) {
            continue;
        } else {
            status = orion_channel_state(channel);
        }
        if (answered(channel, slot, sequence)) /* it may have answered and then died */
            return ORION_OK;
        if (status != ORION_OK)
            return status;
    }
}

bool orion_channel_call_ready(orion_channel_t *channel, uint64_t call, uint32_t look_ns)
{
    uint32_t slot, sequence;
    if (!valid(call, &slot, &sequence) || orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return false;
    const uint32_t *word = &orion_channel_slot(channel->peer, slot)->sequence;
    if (channel->net != NULL)
        orion_net_look(channel);
    uint32_t seen = orion_load_acquire(word); /* acquire: pairs with the release in orion_channel_reply */
    if (seen == sequence)
        return true;
    if (look_ns == 0 || channel->net != NULL)
        return false;
    orion_wait_place_t where = orion_channel_place(channel, word, NULL);
    return orion_wait_look(&channel->policy, &where, seen, look_ns) && answered(channel, slot, sequence);
}

orion_status_t orion_channel_call_await(orion_channel_t *channel, uint64_t call, int64_t timeout_ns,
                                        orion_message_t *reply_p)
{
    uint32_t slot, sequence;
    if (!valid(call, &slot, &sequence))
        return ORION_INVALID;
    if (__builtin_expect(orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED, 0))
        return ORION_INVALID;
    if (!answered(channel, slot, sequence)) {
        orion_status_t status = await_slow(channel, slot, sequence, timeout_ns);
        if (status == ORION_TIMEOUT)
            return status;
        if (status != ORION_OK) {
            orion_call_close(channel, slot);
            return status;
        }
    }
    if (__builtin_expect((orion_load_relaxed(&channel->own->slot_waiting[slot]) & ORION_SLOT_BELL) != 0, 0))
        (void)orion_fetch_sub(&channel->own->slot_waiting[slot], ORION_SLOT_BELL);
    orion_status_t status = read_reply(channel, slot, reply_p);
    orion_call_close(channel, slot);
    return status;
}

void orion_channel_call_cancel(orion_channel_t *channel, uint64_t call)
{
    uint32_t slot, sequence;
    if (!valid(call, &slot, &sequence) || orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return;
    if ((orion_load_relaxed(&channel->own->slot_waiting[slot]) & ORION_SLOT_BELL) != 0)
        (void)orion_fetch_sub(&channel->own->slot_waiting[slot], ORION_SLOT_BELL);
    /* release: pairs with the acquire in orion_call_seek */
    orion_store_release(&channel->calls[slot].state, ORION_CALL_CANCELLED);
}

orion_status_t orion_channel_call(orion_channel_t *channel, uint32_t tag, const void *data, size_t bytes,
                                  const orion_bulk_t *bulk, int64_t timeout_ns, orion_message_t *reply_p)
{
    uint64_t call;
    int64_t deadline = timeout_ns > 0 ? orion_deadline(timeout_ns) : 0;
    orion_status_t status = orion_channel_call_begin(channel, tag, data, bytes, bulk, timeout_ns, &call);
    if (status != ORION_OK)
        return status;
    if (timeout_ns > 0) {
        timeout_ns = deadline - orion_clock_ns();
        timeout_ns = timeout_ns > 0 ? timeout_ns : 0;
    }
    status = orion_channel_call_await(channel, call, timeout_ns, reply_p);
    if (status == ORION_TIMEOUT)
        orion_channel_call_cancel(channel, call);
    return status;
}

/* ---- answering ---- */

static __attribute__((noinline)) void wake_caller(orion_channel_t *channel, uint32_t slot, uint32_t waiting)
{
    if (channel->net != NULL) {
        orion_net_reply(channel, slot);
        return;
    }
    if ((waiting & ~ORION_SLOT_BELL) != 0)
        (void)orion_futex_wake(&orion_channel_slot(channel->own, slot)->sequence, ORION_WAKE_ALL);
    if ((waiting & ORION_SLOT_BELL) != 0)
        orion_channel_ring_bell(channel);
}

orion_status_t orion_channel_reply(orion_channel_t *channel, const orion_message_t *request, orion_message_kind_t kind,
                                   uint32_t tag, const void *data, size_t bytes, const orion_bulk_t *bulk,
                                   int64_t timeout_ns)
{
    uint32_t slot = request->slot, what = (uint32_t)kind | tag << ORION_CHANNEL_TAG_SHIFT, extra = 0;
    orion_bulk_t all = {.data = data, .bytes = bytes};
    orion_bulk_place_t place;
    orion_block_t *copied = NULL;
    if (slot >= ORION_CHANNEL_CALLS || tag > ORION_CHANNEL_TAG_MAX ||
        (kind != ORION_MESSAGE_REPLY && kind != ORION_MESSAGE_ERROR))
        return ORION_INVALID;
    if (__builtin_expect(!orion_channel_live(channel), 0))
        return orion_channel_state(channel);
    if (__builtin_expect(bytes > ORION_CHANNEL_INLINE || (bulk != NULL && bulk->bytes != 0), 0)) {
        if (bulk != NULL && bytes > ORION_CHANNEL_INLINE - sizeof(place))
            return ORION_TOO_BIG;
        if (bulk == NULL) {
            bulk = &all;
            bytes = 0;
            what |= ORION_CHANNEL_WHOLE;
        }
        orion_status_t status = orion_bulk_place(channel, bulk, false, orion_deadline(timeout_ns), &place, &copied);
        if (status != ORION_OK)
            return status;
        what |= ORION_CHANNEL_BULK;
        extra = sizeof(place);
    }
    orion_reply_t *reply = orion_channel_slot(channel->own, slot);
    /* The caller looks at the first line all the time: it is written last and in one go, so that it is not taken away
     * from us in between. */
    if (__builtin_expect(extra != 0, 0)) {
        memcpy(reply->data + extra, data, bytes);
        memcpy(reply->data, &place, sizeof(place));
    } else {
        if (bytes > ORION_REPLY_INLINE)
            orion_copy_small(reply->data + ORION_REPLY_INLINE, (const uint8_t *)data + ORION_REPLY_INLINE,
                             bytes - ORION_REPLY_INLINE);
        orion_copy_small(reply->data, data, bytes < ORION_REPLY_INLINE ? bytes : ORION_REPLY_INLINE);
    }
    orion_store_relaxed(&reply->result, (int32_t)what);
    orion_store_relaxed(&reply->bytes, (uint32_t)bytes + extra);
    orion_store_release(&reply->sequence, request->sequence); /* release: pairs with the acquire in answered */
    orion_wake_order(channel->policy.membarrier);
    uint32_t waiting = orion_load_relaxed(&channel->peer->slot_waiting[slot]);
    if (__builtin_expect(waiting != 0, 0))
        wake_caller(channel, slot, waiting);
    if (copied != NULL)
        orion_block_drop(copied);
    return ORION_OK;
}
