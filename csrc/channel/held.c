/* SPDX-License-Identifier: Apache-2.0 */
/* The other side's arena: which memory a message names, and giving it back. See channel.h. */
#include <stdlib.h>

#include "channel/channel.h"

struct orion_held {
    orion_channel_t *channel;
    uint64_t reference;
    void *assembled;
};

static orion_status_t broken(orion_channel_t *channel, const char *how)
{
    orion_channel_end(channel, ORION_PROTOCOL, "the other process broke the protocol: %s", how);
    return ORION_PROTOCOL;
}

orion_status_t orion_place_resolve(orion_channel_t *channel, const orion_bulk_place_t *place, const void **data_p)
{
    if (channel->net != NULL) {
        orion_status_t status = orion_net_resolve(channel, place, data_p);
        return status == ORION_PROTOCOL ? broken(channel, "a message names a payload that was not sent") : status;
    }
    /* acquire: pairs with the release in map_extent */
    if (place->extent >= orion_load_acquire(&channel->peer_extent_count)) {
        /* an extent is sent before the first message that names it: it lies in the socket */
        orion_lock_enter(&channel->notice_lock);
        (void)orion_channel_look_locked(channel);
        orion_lock_leave(&channel->notice_lock);
    }
    uint32_t count = orion_load_acquire(&channel->peer_extent_count);
    if (place->extent >= count)
        return channel->end != ORION_OK && channel->end != ORION_PEER_GONE
                   ? channel->end
                   : broken(channel, "a message names memory that was never sent");
    const orion_mapped_t *extent = &channel->peer_extents[orion_index_nospec(place->extent, count)];
    if (place->bytes == 0 || place->offset > extent->bytes || place->bytes > extent->bytes - place->offset)
        return broken(channel, "a message names memory beyond the end of its extent");
    if (place->reference >= ORION_CHANNEL_REFERENCES || place->generation == 0)
        return broken(channel, "a message names a reference that does not exist");
    *data_p = extent->data + orion_index_nospec(place->offset, extent->bytes);
    return ORION_OK;
}

void orion_place_release(orion_channel_t *channel, uint64_t reference)
{
    uint32_t index = (uint32_t)orion_index_nospec((uint32_t)reference, ORION_CHANNEL_REFERENCES);
    if (orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return; /* the parent's */
    if (channel->net != NULL) {
        orion_net_release(channel, index, (uint32_t)(reference >> 32));
        return;
    }
    /* release: pairs with the acquire in bulk.c's reclaim; what we read of the block, we have read */
    orion_store_release(&channel->own->released[index], (uint32_t)(reference >> 32));
    (void)orion_fetch_add(&channel->own->releases, 1);
    orion_wake_order(channel->policy.membarrier);
    if (orion_load_relaxed(&channel->peer->arena_waiting) != 0)
        (void)orion_futex_wake(&channel->own->releases, ORION_WAKE_ALL);
}

orion_status_t orion_message_hold(orion_message_t *message, orion_held_t **held_p)
{
    if (message->reference == 0 && message->assembled == NULL)
        return ORION_INVALID;
    orion_held_t *held = malloc(sizeof(*held));
    if (held == NULL)
        return ORION_NO_MEMORY;
    *held = (orion_held_t){message->channel, message->reference, message->assembled};
    orion_channel_keep(held->channel);
    message->reference = 0;
    message->assembled = NULL;
    *held_p = held;
    return ORION_OK;
}

void orion_held_release(orion_held_t *held)
{
    if (held == NULL)
        return;
    if (held->reference != 0)
        orion_place_release(held->channel, held->reference);
    free(held->assembled);
    if (orion_load_relaxed(held->channel->state) != ORION_CHANNEL_FORKED)
        orion_channel_drop(held->channel);
    free(held);
}
