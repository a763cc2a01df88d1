/* SPDX-License-Identifier: Apache-2.0 */
/* Messages in: the next record as a private copy, the bulk it names resolved. See channel.h. */
#include <stdlib.h>
#include <string.h>

#include "channel/channel.h"

#define LOOK_BYTES (64ULL << 20) /* of a message in pieces: how often we look whether there is memory for the rest */

static orion_status_t broken(orion_channel_t *channel, const char *how)
{
    orion_channel_end(channel, ORION_PROTOCOL, "the other process broke the protocol: %s", how);
    return ORION_PROTOCOL;
}

/* Memory of the caller's for a long message, and how much of the one that is being copied is in it. */
typedef struct into {
    uint8_t *to;
    size_t capacity, done;
} into_t;

/* Tells the other side what is consumed, and wakes it if it sleeps on a full ring. */
static void publish_tail(orion_channel_t *channel)
{
    if (!orion_ring_publish(&channel->in))
        return;
    orion_wake_order(channel->policy.membarrier);
    if (orion_load_relaxed(&channel->peer->space_waiting) == 0)
        return;
    if (channel->net != NULL)
        orion_net_flush(channel);
    else
        (void)orion_futex_wake(&channel->own->tail, ORION_WAKE_ALL);
}

/* ---- pieces ---- */

static void pieces_forget(orion_channel_t *channel)
{
    free(channel->pieces.data);
    channel->pieces.data = NULL;
}

static orion_status_t pieces_no_memory(orion_channel_t *channel, uint64_t bytes)
{
    orion_channel_end(channel, ORION_NO_MEMORY, "no memory for a message of %llu bytes", (unsigned long long)bytes);
    return ORION_NO_MEMORY;
}

static orion_status_t pieces_begin(orion_channel_t *channel, const orion_record_t *record, uint64_t bytes)
{
    if (bytes == 0)
        return broken(channel, "it announced an empty message in pieces");
    if (bytes > channel->receive_max)
        return broken(channel, "it announced a message that is longer than this side's message_limit");
    /* Nothing is touched before it comes: an announcement alone costs addresses only, and no more than there is memory. */
    channel->pieces.data = orion_memory_available(bytes) && bytes <= SIZE_MAX ? malloc(bytes) : NULL;
    if (channel->pieces.data == NULL)
        return pieces_no_memory(channel, bytes);
    channel->pieces.bytes = bytes;
    channel->pieces.filled = 0;
    channel->pieces.record_bytes = record->bytes;
    memcpy(channel->pieces.record, record, record->bytes);
    return ORION_AGAIN;
}

static orion_status_t pieces_add(orion_channel_t *channel, const orion_bulk_place_t *place)
{
    const void *data;
    if (channel->pieces.data == NULL)
        return broken(channel, "a piece came without the message that it belongs to");
    orion_status_t status = orion_place_resolve(channel, place, &data);
    if (status != ORION_OK)
        return status;
    if (place->bytes > channel->pieces.bytes - channel->pieces.filled)
        return broken(channel, "the pieces of a message are longer than it was announced to be");
    uint64_t filled = channel->pieces.filled + place->bytes;
    /* The memory of the machine may have gone to others since the message was announced. */
    if (channel->pieces.filled / LOOK_BYTES != filled / LOOK_BYTES &&
        !orion_memory_available(channel->pieces.bytes - channel->pieces.filled))
        return pieces_no_memory(channel, channel->pieces.bytes);
    orion_copy_from_peer(channel->pieces.data + channel->pieces.filled, data, place->bytes);
    channel->pieces.filled = filled;
    orion_place_release(channel, orion_place_reference(place));
    return channel->pieces.filled == channel->pieces.bytes ? ORION_OK : ORION_AGAIN;
}

/* ---- messages that are still being copied ---- */

/* The next record has to be FILLED. */
static orion_status_t filling_begin(orion_channel_t *channel, const orion_record_t *record,
                                    const orion_bulk_place_t *place)
{
    const void *data;
    orion_status_t status = orion_place_resolve(channel, place, &data);
    if (status != ORION_OK)
        return status;
    channel->pieces.filling = true;
    channel->pieces.record_bytes = record->bytes;
    memcpy(channel->pieces.record, record, record->bytes);
    return ORION_AGAIN;
}

static orion_bulk_place_t filling_place(const orion_channel_t *channel)
{
    orion_bulk_place_t place;
    memcpy(&place, orion_record_payload_const((const orion_record_t *)(const void *)channel->pieces.record),
           sizeof(place));
    return place;
}

/* What is there already goes into the caller's memory while the sender still copies the rest. Until all is there, or
 * nothing more comes for a while. */
static void copy_along(orion_channel_t *channel, into_t *into, int64_t deadline)
{
    orion_bulk_place_t place = filling_place(channel);
    orion_wait_place_t where = orion_channel_place(channel, &channel->peer->filled, NULL);
    const void *data;
    if (orion_place_resolve(channel, &place, &data) != ORION_OK)
        return;
    while (into->done < place.bytes) {
        uint32_t pages = orion_load_acquire(&channel->peer->filled); /* acquire: pairs with the release in fill */
        uint64_t there = (uint64_t)pages * ORION_FILLED_PAGE;
        if (orion_load_relaxed(&channel->peer->head) != channel->in.tail)
            return; /* the record FILLED is there: so are all bytes */
        if (there > place.bytes)
            there = place.bytes;
        if (there > into->done) {
            orion_copy_from_peer(into->to + into->done, (const uint8_t *)data + into->done, there - into->done);
            into->done = there;
        } else if (orion_time_left(deadline) <= 0 ||
                   !orion_wait_look(&channel->policy, &where, pages, ORION_SPIN_CAP_NS)) {
            return;
        }
    }
}

/* ---- records ---- */

static inline void describe(orion_message_t *message, const orion_record_t *record, uint32_t extra, uint32_t bytes)
{
    message->kind = (orion_message_kind_t)(record->opcode & 7);
    message->tag = record->opcode >> ORION_CHANNEL_TAG_SHIFT;
    message->data = (const uint8_t *)orion_record_payload_const(record) + extra;
    message->bytes = bytes;
    message->bulk.data = NULL;
    message->bulk.bytes = 0;
    message->slot = record->slot;
    message->sequence = record->sequence;
}

static void set_bulk(orion_message_t *message, const void *data, size_t bytes)
{
    message->bulk.data = data;
    message->bulk.bytes = bytes;
    if ((((const orion_record_t *)(const void *)message->copy)->opcode & ORION_CHANNEL_WHOLE) != 0) {
        message->data = data;
        message->bytes = bytes;
    }
}

/* The message whose first record was kept. */
static void describe_kept(orion_channel_t *channel, orion_message_t *message)
{
    memcpy(message->copy, channel->pieces.record, channel->pieces.record_bytes);
    const orion_record_t *record = (const orion_record_t *)(const void *)message->copy;
    describe(message, record, sizeof(orion_bulk_place_t),
             channel->pieces.record_bytes - ORION_RECORD_HEADER - (uint32_t)sizeof(orion_bulk_place_t) -
                 (record->opcode >> ORION_CHANNEL_PADDING_SHIFT & 7));
}

static __attribute__((noinline)) orion_status_t take_filled(orion_channel_t *channel, orion_message_t *message)
{
    const void *data;
    if (!channel->pieces.filling)
        return broken(channel, "it completed a message that it had not begun");
    orion_bulk_place_t place = filling_place(channel);
    orion_status_t status = orion_place_resolve(channel, &place, &data);
    if (status != ORION_OK)
        return status;
    channel->pieces.filling = false;
    describe_kept(channel, message);
    message->reference = orion_place_reference(&place);
    set_bulk(message, data, place.bytes);
    return ORION_OK;
}

/* A record with bulk. ORION_AGAIN: the message is not complete yet. */
static __attribute__((noinline)) orion_status_t take_bulk(orion_channel_t *channel, orion_message_t *message,
                                                          const orion_record_t *record, uint32_t bytes)
{
    orion_bulk_place_t place;
    const void *data;
    memcpy(&place, orion_record_payload_const(record), sizeof(place));
    if ((record->opcode & 7) == ORION_CHANNEL_PART) {
        orion_status_t status = pieces_add(channel, &place);
        if (status != ORION_OK)
            return status;
        describe_kept(channel, message);
        message->assembled = channel->pieces.data;
        channel->pieces.data = NULL;
        set_bulk(message, message->assembled, channel->pieces.bytes);
        return ORION_OK;
    }
    pieces_forget(channel);
    if (place.extent == ORION_EXTENT_PIECES)
        return pieces_begin(channel, record, place.bytes);
    if (place.filling != 0 && channel->net == NULL) /* over a stream the bytes come before the record */
        return filling_begin(channel, record, &place);
    orion_status_t status = orion_place_resolve(channel, &place, &data);
    if (status != ORION_OK)
        return status;
    describe(message, record, sizeof(place), bytes - (uint32_t)sizeof(place));
    message->reference = orion_place_reference(&place);
    set_bulk(message, data, place.bytes);
    return ORION_OK;
}

static inline orion_status_t take_one(orion_channel_t *channel, orion_message_t *message)
{
    const orion_record_t *record;
    channel->in.copy = message->copy;
    orion_status_t status = orion_ring_next(&channel->in, &record);
    if (status != ORION_OK)
        return status == ORION_PROTOCOL ? broken(channel, channel->in.complaint) : status;
    uint32_t opcode = record->opcode, kind = opcode & 7;
    uint32_t payload = orion_record_payload_bytes(record), padding = opcode >> ORION_CHANNEL_PADDING_SHIFT & 7;
    uint32_t extra = (opcode & ORION_CHANNEL_BULK) != 0 ? (uint32_t)sizeof(orion_bulk_place_t) : 0;
    if (__builtin_expect(kind - 1 > ORION_CHANNEL_FILLED - 1 || payload < extra + padding, 0))
        return broken(channel, "a record is no message");
    if (__builtin_expect(kind == ORION_MESSAGE_CALL && record->slot >= ORION_CHANNEL_CALLS, 0))
        return broken(channel, "a call names a reply slot that does not exist");
    if (__builtin_expect(kind == ORION_CHANNEL_FILLED, 0))
        return take_filled(channel, message);
    if (__builtin_expect(channel->pieces.filling, 0))
        return broken(channel, "it began a message and did not complete it");
    if (__builtin_expect(extra != 0, 0))
        return take_bulk(channel, message, record, payload - padding);
    if (__builtin_expect(kind == ORION_CHANNEL_PART, 0))
        return broken(channel, "a piece of a message is empty");
    if (__builtin_expect(channel->pieces.data != NULL, 0))
        pieces_forget(channel);
    describe(message, record, 0, payload - padding);
    return ORION_OK;
}

static inline orion_status_t take(orion_channel_t *channel, orion_message_t *message)
{
    orion_status_t status = take_one(channel, message);
    if (status == ORION_AGAIN && channel->pieces.filling)
        status = take_one(channel, message); /* it may be complete by now */
    return status;
}

/* ---- waiting ---- */

bool orion_channel_ready(orion_channel_t *channel, uint32_t look_ns)
{
    if (orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED || !orion_lock_try(&channel->receive_lock))
        return false; /* another thread is about to take what comes */
    if (channel->net != NULL) {
        orion_net_look(channel);
        look_ns = 0;
    }
    orion_wait_place_t where = orion_channel_place(channel, &channel->peer->head, NULL);
    bool ready = orion_wait_look(&channel->policy, &where, channel->in.tail, look_ns);
    orion_lock_leave(&channel->receive_lock);
    return ready;
}

/* Says which message is being copied to somebody who has no room for it. */
static orion_status_t ask_for_room(orion_channel_t *channel, orion_message_t *message)
{
    describe_kept(channel, message);
    message->data = NULL;
    message->bytes = 0;
    message->bulk.bytes = filling_place(channel).bytes;
    return ORION_TOO_BIG;
}

static __attribute__((noinline)) orion_status_t receive_slow(orion_channel_t *channel, int64_t timeout_ns,
                                                             orion_message_t *message, into_t *into)
{
    int64_t deadline = orion_deadline(timeout_ns);
    orion_wait_place_t where = orion_channel_place(channel, &channel->peer->head, &channel->sleeping);
    where.leave = 1; /* a count of sleeps: the sender wakes once for each */
    where.mirror = &channel->own->sleeping;
    if (channel->net != NULL) { /* what was read is told when there is much of it: each time is a frame */
        orion_net_look(channel);
        orion_status_t status = take(channel, message);
        if (status != ORION_AGAIN)
            return status;
    } else {
        publish_tail(channel); /* nothing to read: let the other side have all of the ring */
    }
    for (;;) {
        if (into != NULL && channel->pieces.filling) {
            if (filling_place(channel).bytes > into->capacity)
                return ask_for_room(channel, message);
            copy_along(channel, into, deadline);
        }
        int64_t left = orion_time_left(deadline);
        orion_status_t ended = ORION_OK;
        if (left <= 0) {
            ended = orion_channel_time_up(channel);
            if (ended == ORION_TIMEOUT)
                return ended;
        } else if (orion_channel_wait(channel, &channel->wait, &where, channel->in.tail, left) != ORION_OK) {
            ended = orion_channel_state(channel);
        }
        orion_status_t status = take(channel, message); /* it may have sent and then died */
        if (status != ORION_AGAIN)
            return status;
        if (ended != ORION_OK)
            return ended;
        if (orion_ring_publish_due(&channel->in))
            publish_tail(channel);
    }
}

/* Only where nothing goes the other way, so that nobody waits for us. */
static __attribute__((noinline)) orion_status_t let_gather(orion_channel_t *channel, orion_message_t *message)
{
    orion_wait_gather();
    orion_status_t status = take(channel, message);
    if (status == ORION_AGAIN)
        channel->streak = 0;
    return status;
}

static inline void count_streak(orion_channel_t *channel, const orion_message_t *message)
{
    uint32_t sent = orion_load_relaxed(&channel->own->head);
    channel->streak = message->kind == ORION_MESSAGE_SEND && sent == channel->sent ? channel->streak + 1 : 0;
    channel->sent = sent;
}

static inline orion_status_t receive(orion_channel_t *channel, int64_t timeout_ns, orion_message_t *message,
                                     into_t *into)
{
    uint32_t state = orion_load_relaxed(channel->state);
    if (__builtin_expect(state != ORION_CHANNEL_LIVE, 0)) {
        orion_status_t ended = orion_channel_state(channel);
        if (ended != ORION_PEER_GONE) /* what a process sent before it went is still there */
            return ended;
        timeout_ns = 0;
    }
    orion_status_t status = orion_channel_enter(channel, &channel->receive_lock, timeout_ns);
    if (__builtin_expect(status != ORION_OK, 0))
        return status;
    if (__builtin_expect(orion_ring_publish_due(&channel->in), 0))
        publish_tail(channel);
    message->channel = channel;
    message->reference = 0;
    message->assembled = NULL;
    status = take(channel, message);
    if (status == ORION_AGAIN && channel->streak >= ORION_STREAM)
        status = let_gather(channel, message);
    if (status == ORION_AGAIN) {
        status = state == ORION_CHANNEL_LIVE ? receive_slow(channel, timeout_ns, message, into)
                                             : orion_channel_state(channel);
    }
    if (__builtin_expect(status == ORION_OK, 1))
        count_streak(channel, message);
    orion_lock_leave(&channel->receive_lock);
    return status;
}

orion_status_t orion_channel_receive(orion_channel_t *channel, int64_t timeout_ns, orion_message_t *message)
{
    return receive(channel, timeout_ns, message, NULL);
}

static void give_back(orion_message_t *message)
{
    if (message->reference != 0)
        orion_place_release(message->channel, message->reference);
    if (message->assembled != NULL)
        free(message->assembled);
    message->reference = 0;
    message->assembled = NULL;
}

orion_status_t orion_channel_receive_into(orion_channel_t *channel, int64_t timeout_ns, void *to, size_t capacity,
                                          orion_message_t *message)
{
    into_t into = {.to = to, .capacity = capacity};
    orion_status_t status = receive(channel, timeout_ns, message, &into);
    if (status != ORION_OK || message->bulk.data == NULL || message->bulk.bytes > capacity)
        return status;
    size_t bytes = message->bulk.bytes;
    bool whole = message->data == message->bulk.data;
    orion_copy_from_peer(into.to + into.done, (const uint8_t *)message->bulk.data + into.done, bytes - into.done);
    give_back(message);
    message->bulk.data = to;
    if (whole)
        message->data = to;
    return ORION_OK;
}

void orion_message_release(orion_message_t *message)
{
    give_back(message);
    message->data = message->bulk.data = NULL;
    message->bytes = message->bulk.bytes = 0;
}
