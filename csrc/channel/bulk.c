/* SPDX-License-Identifier: Apache-2.0 */
/* Our arena: extents that we write and the other side reads, blocks in them, and the references by which the other side
 * holds blocks. It gives a reference back by writing its generation into its own segment. See channel.h. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "channel/channel.h"
#include "channel/greeting.h"

#define EXTENT_BYTES (4ULL << 20) /* of the first; each further one doubles the arena */
#define PAGE 4096ULL
#define ENOUGH_BYTES (8ULL << 20)
#define PATIENCE_NS ORION_NS_PER_MS

/* ---- under the arena's lock ---- */

static bool ready(orion_channel_t *channel)
{
    if (channel->arena.first != NULL)
        return true;
    if (!orion_arena_init(&channel->arena, ORION_CHANNEL_EXTENTS))
        return false;
    for (uint32_t i = 0; i < ORION_CHANNEL_REFERENCES; i++)
        channel->spare[i] = (uint16_t)(ORION_CHANNEL_REFERENCES - 1 - i);
    channel->spare_count = ORION_CHANNEL_REFERENCES;
    return true;
}

static void unuse(orion_block_t *block)
{
    orion_channel_t *channel = block->channel;
    if (--block->users != 0)
        return;
    if (block->span != NULL) {
        orion_arena_give(&channel->arena, block->span);
    } else if (block->data != NULL) {
        free(block->data);
        channel->arena_bytes -= block->bytes;
    } else {
        channel->promised_bytes -= block->bytes;
    }
    block->next = channel->spare_blocks;
    channel->spare_blocks = block;
}

static void forget(orion_channel_t *channel, uint32_t at)
{
    uint16_t index = channel->held_out[at];
    channel->held_out[at] = channel->held_out[--channel->held_count];
    channel->spare[channel->spare_count++] = index;
    unuse(channel->references[index].block);
}

/* Takes back what the other side has released since we looked last. */
static void reclaim(orion_channel_t *channel)
{
    /* acquire: pairs with the increment in orion_place_release, which comes after the word of its reference */
    uint32_t seen = orion_load_acquire(&channel->peer->releases);
    if (seen == channel->releases_seen)
        return;
    channel->releases_seen = seen;
    for (uint32_t at = 0; at < channel->held_count;) {
        uint16_t index = channel->held_out[at];
        if (orion_load_acquire(&channel->peer->released[index]) == channel->references[index].generation) {
            forget(channel, at);
        } else {
            at++;
        }
    }
}

/* ORION_AGAIN: not now, or not that much. */
static orion_status_t grow(orion_channel_t *channel, uint64_t bytes)
{
    uint64_t room = channel->send_limit - channel->arena_bytes;
    uint64_t wanted = channel->arena_bytes > EXTENT_BYTES ? channel->arena_bytes : EXTENT_BYTES;
    bytes = (bytes + PAGE - 1) & ~(PAGE - 1);
    if (bytes > room || channel->arena.extents == ORION_CHANNEL_EXTENTS)
        return ORION_AGAIN;
    if (wanted > room)
        wanted = room;
    if (wanted < bytes || !orion_memory_available(2 * wanted))
        wanted = bytes;
    char why[160];
    orion_segment_t segment = ORION_SEGMENT_EMPTY;
    if (orion_segment_create(&segment, "orion-arena", wanted, true, why, sizeof(why)) != ORION_OK) {
        orion_log(ORION_LOG_DEBUG, "%s", why);
        return ORION_AGAIN;
    }
    orion_packet_t packet = {.kind = ORION_PACKET_EXTENT, .index = channel->arena.extents, .bytes = wanted};
    orion_lock_enter(&channel->notice_lock);
    orion_status_t status = channel->socket >= 0
                                ? orion_fd_send_packet(channel->socket, &packet, sizeof(packet), &segment.fd, 1)
                                : ORION_PEER_GONE;
    orion_lock_leave(&channel->notice_lock);
    if (status != ORION_OK) {
        orion_segment_close(&segment);
        orion_status_t ended = orion_channel_state(channel);
        return ended != ORION_OK ? ended : status;
    }
    orion_segment_close_fd(&segment);
    channel->extents[packet.index] = (orion_mapped_t){segment.address, wanted};
    channel->arena_bytes += wanted;
    return orion_arena_extend(&channel->arena, wanted) ? ORION_OK : ORION_NO_MEMORY;
}

static orion_block_t *spare_block(orion_channel_t *channel)
{
    if (channel->spare_blocks == NULL)
        channel->spare_blocks = calloc(1, sizeof(*channel->spare_blocks));
    return channel->spare_blocks;
}

static orion_block_t *make(orion_channel_t *channel, uint64_t bytes)
{
    orion_block_t *block = spare_block(channel);
    orion_span_t *span = block == NULL ? NULL : orion_arena_take(&channel->arena, bytes);
    if (span == NULL)
        return NULL;
    channel->spare_blocks = block->next;
    *block = (orion_block_t){.channel = channel,
                             .span = span,
                             .data = channel->extents[span->extent].data + span->offset,
                             .bytes = bytes,
                             .users = 1};
    return block;
}

/* Leaves the lock until the other side has released something. ORION_NO_MEMORY: it holds nothing. */
static orion_status_t await_release(orion_channel_t *channel, int64_t deadline)
{
    orion_wait_t wait = {0};
    orion_wait_place_t where = orion_channel_place(channel, &channel->peer->releases, &channel->own->arena_waiting);
    uint32_t seen = channel->releases_seen;
    if (channel->held_count == 0)
        return ORION_NO_MEMORY;
    int64_t left = orion_time_left(deadline);
    if (left <= 0)
        return ORION_TIMEOUT;
    orion_lock_leave(&channel->arena_lock);
    orion_status_t status = ORION_OK;
    if (orion_channel_wait(channel, &wait, &where, seen, left) != ORION_OK)
        status = orion_channel_wait_on(channel);
    orion_lock_enter(&channel->arena_lock);
    return status;
}

/* ---- blocks ---- */

/* Memory that is written again is warm; fresh memory is ten times slower to write, and a receiver that is a little late
 * is no reason for it. */
static bool is_enough(const orion_channel_t *channel, size_t bytes)
{
    return channel->arena_bytes >= ENOUGH_BYTES && channel->arena_bytes / 2 >= bytes && channel->held_count > 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static orion_status_t obtain(orion_channel_t *channel, size_t bytes, bool may_split, int64_t deadline,
                             orion_block_t **block_p)
{
    orion_status_t status = ORION_OK;
    bool patient = true;
    int64_t patience = 0; /* read when needed */
    orion_lock_enter(&channel->arena_lock);
    if (!ready(channel) || bytes > channel->send_limit)
        status = ORION_NO_MEMORY;
    while (status == ORION_OK) {
        reclaim(channel);
        *block_p = make(channel, bytes);
        if (*block_p != NULL)
            break;
        if (patience == 0)
            patience = earlier(deadline, orion_clock_ns() + PATIENCE_NS);
        if (patient && is_enough(channel, bytes)) {
            status = await_release(channel, patience);
            patient = status == ORION_OK;
            if (status == ORION_TIMEOUT || status == ORION_NO_MEMORY)
                status = ORION_OK;
            continue;
        }
        status = grow(channel, bytes);
        if (status == ORION_AGAIN)
            status = await_release(channel, may_split ? patience : deadline);
    }
    orion_lock_leave(&channel->arena_lock);
    return status;
}

/* Over a stream: memory of this process, or (data NULL) bytes that the other side will hold. */
static orion_block_t *make_private(orion_channel_t *channel, uint8_t *data, size_t bytes)
{
    orion_block_t *block = spare_block(channel);
    if (block == NULL)
        return NULL;
    channel->spare_blocks = block->next;
    *block = (orion_block_t){.channel = channel, .data = data, .bytes = bytes, .users = 1};
    *(data != NULL ? &channel->arena_bytes : &channel->promised_bytes) += bytes;
    return block;
}

static orion_status_t obtain_private(orion_channel_t *channel, size_t bytes, orion_block_t **block_p)
{
    orion_block_t *block = NULL;
    void *data = NULL;
    orion_lock_enter(&channel->arena_lock);
    if (bytes <= channel->send_limit && channel->arena_bytes <= channel->send_limit - bytes &&
        posix_memalign(&data, ORION_BLOCK_ALIGN, bytes) == 0)
        block = make_private(channel, data, bytes);
    orion_lock_leave(&channel->arena_lock);
    if (block == NULL) {
        free(data);
        return ORION_NO_MEMORY;
    }
    *block_p = block;
    return ORION_OK;
}

orion_status_t orion_block_obtain(orion_channel_t *channel, size_t bytes, int64_t deadline, orion_block_t **block_p)
{
    if (channel->net != NULL)
        return obtain_private(channel, bytes, block_p);
    return obtain(channel, bytes, false, deadline, block_p);
}

void orion_block_drop(orion_block_t *block)
{
    orion_channel_t *channel = block->channel;
    orion_lock_enter(&channel->arena_lock);
    unuse(block);
    orion_lock_leave(&channel->arena_lock);
}

orion_status_t orion_block_create(orion_channel_t *channel, size_t bytes, int64_t timeout_ns, orion_block_t **block_p)
{
    if (bytes == 0)
        return ORION_INVALID;
    if (!orion_channel_live(channel))
        return orion_channel_state(channel);
    orion_status_t status = orion_block_obtain(channel, bytes, orion_deadline(timeout_ns), block_p);
    if (status == ORION_OK)
        orion_channel_keep(channel);
    return status;
}

void *orion_block_data(const orion_block_t *block)
{
    return block->data;
}

size_t orion_block_bytes(const orion_block_t *block)
{
    return block->bytes;
}

void orion_block_free(orion_block_t *block)
{
    if (block == NULL || orion_load_relaxed(block->channel->state) == ORION_CHANNEL_FORKED)
        return; /* the parent's */
    orion_channel_t *channel = block->channel;
    orion_block_drop(block);
    orion_channel_drop(channel);
}

/* ---- references ---- */

static bool is_within(const orion_block_t *block, const void *data, size_t bytes)
{
    size_t within = (size_t)((const uint8_t *)data - block->data);
    return (const uint8_t *)data >= block->data && within <= block->bytes && bytes <= block->bytes - within;
}

/* With the arena's lock, and a spare reference. */
static orion_bulk_place_t refer(orion_block_t *block, size_t bytes)
{
    orion_channel_t *channel = block->channel;
    uint16_t index = channel->spare[--channel->spare_count];
    orion_reference_t *reference = &channel->references[index];
    channel->held_out[channel->held_count++] = index;
    if (++reference->generation == 0)
        reference->generation = 1; /* 0 is what an unused word says */
    reference->block = block;
    return (orion_bulk_place_t){.bytes = bytes, .reference = index, .generation = reference->generation};
}

orion_status_t orion_block_refer(orion_block_t *block, const void *data, size_t bytes, int64_t deadline,
                                 orion_bulk_place_t *place_p)
{
    orion_channel_t *channel = block->channel;
    if (!is_within(block, data, bytes))
        return ORION_INVALID;
    orion_status_t status = ORION_OK;
    orion_lock_enter(&channel->arena_lock);
    reclaim(channel);
    while (channel->spare_count == 0 && status == ORION_OK) {
        status = await_release(channel, deadline);
        reclaim(channel);
    }
    if (status == ORION_OK) {
        *place_p = refer(block, bytes);
        place_p->offset = block->span->offset + (size_t)((const uint8_t *)data - block->data);
        place_p->extent = block->span->extent;
        block->users++;
    }
    orion_lock_leave(&channel->arena_lock);
    return status;
}

static void forget_place(orion_channel_t *channel, const orion_bulk_place_t *place)
{
    orion_lock_enter(&channel->arena_lock);
    for (uint32_t at = 0; at < channel->held_count; at++) {
        if (channel->held_out[at] == place->reference &&
            channel->references[place->reference].generation == place->generation) {
            forget(channel, at);
            break;
        }
    }
    orion_lock_leave(&channel->arena_lock);
}

void orion_block_unrefer(orion_channel_t *channel, const orion_bulk_place_t *place)
{
    if (place->extent == ORION_EXTENT_PIECES)
        return;
    if (channel->net != NULL)
        orion_net_drop_bulk(channel, place);
    forget_place(channel, place);
}

/* Over a stream: room at the other side, then the bytes themselves. */
static orion_status_t place_over_stream(orion_channel_t *channel, const orion_bulk_t *bulk, bool may_split,
                                        int64_t deadline, orion_bulk_place_t *place_p)
{
    if (bulk->block != NULL && (bulk->block->channel != channel || !is_within(bulk->block, bulk->data, bulk->bytes)))
        return ORION_INVALID;
    bool patient = may_split && bulk->block == NULL;
    int64_t until = patient ? earlier(deadline, orion_clock_ns() + PATIENCE_NS) : deadline;
    orion_block_t *block = NULL;
    orion_lock_enter(&channel->arena_lock);
    orion_status_t status = ready(channel) && bulk->bytes <= channel->send_limit ? ORION_OK : ORION_NO_MEMORY;
    while (status == ORION_OK && block == NULL) {
        reclaim(channel);
        if (channel->spare_count == 0 || bulk->bytes > channel->send_limit - channel->promised_bytes) {
            status = await_release(channel, until);
        } else if ((block = make_private(channel, NULL, bulk->bytes)) != NULL) {
            *place_p = refer(block, bulk->bytes);
        } else {
            status = ORION_NO_MEMORY;
        }
    }
    orion_lock_leave(&channel->arena_lock);
    if (status != ORION_OK)
        return status;
    status = orion_net_send_bulk(channel, place_p, bulk->data, deadline);
    if (status != ORION_OK)
        forget_place(channel, place_p);
    return status;
}

static orion_status_t reserve(orion_channel_t *channel, size_t bytes, bool may_split, int64_t deadline,
                              orion_bulk_place_t *place_p, orion_block_t **block_p)
{
    orion_block_t *block;
    orion_status_t status = obtain(channel, bytes, may_split, deadline, &block);
    if (status != ORION_OK)
        return status;
    status = orion_block_refer(block, block->data, bytes, deadline, place_p);
    if (status != ORION_OK) {
        orion_block_drop(block);
    } else {
        *block_p = block;
    }
    return status;
}

orion_status_t orion_bulk_reserve(orion_channel_t *channel, size_t bytes, int64_t deadline, orion_bulk_place_t *place_p,
                                  orion_block_t **block_p)
{
    return reserve(channel, bytes, true, deadline, place_p, block_p);
}

orion_status_t orion_bulk_place(orion_channel_t *channel, const orion_bulk_t *bulk, bool may_split, int64_t deadline,
                                orion_bulk_place_t *place_p, orion_block_t **copied_p)
{
    *copied_p = NULL;
    if (channel->net != NULL)
        return place_over_stream(channel, bulk, may_split, deadline, place_p);
    if (bulk->block != NULL) {
        if (bulk->block->channel != channel)
            return ORION_INVALID;
        return orion_block_refer(bulk->block, bulk->data, bulk->bytes, deadline, place_p);
    }
    orion_status_t status = reserve(channel, bulk->bytes, may_split, deadline, place_p, copied_p);
    if (status == ORION_OK)
        orion_copy_to_peer(&channel->copier, (*copied_p)->data, bulk->data, bulk->bytes);
    return status;
}
