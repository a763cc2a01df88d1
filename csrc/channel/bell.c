/* SPDX-License-Identifier: Apache-2.0 */
/* Event loops. Over shared memory whoever armed gets a packet on the socket, which so becomes readable; it does when the
 * other side dies, too. No descriptor of the other side is ever written to: a write to it could block for ever. See
 * channel.h. */
#include "base/fd.h"
#include "channel/channel.h"
#include "channel/greeting.h"

void orion_channel_ring_bell(orion_channel_t *channel)
{
    static const orion_packet_t bell = {.kind = ORION_PACKET_BELL};
    orion_lock_enter(&channel->notice_lock);
    /* full: then it is readable already */
    if (channel->socket >= 0)
        (void)orion_fd_send_packet(channel->socket, &bell, sizeof(bell), NULL, 0);
    orion_lock_leave(&channel->notice_lock);
}

int orion_channel_fd(const orion_channel_t *channel)
{
    return channel->socket;
}

/* The other side stores, then looks whether we armed; we arm, then look whether it stored. */
static void order(const orion_channel_t *channel)
{
    if (!channel->policy.membarrier || !orion_membarrier_global())
        orion_fence_full(); /* pairs with the one in orion_wake_order */
}

static void set_bell(orion_channel_t *channel, bool armed)
{
    if ((channel->bell & 1) != (uint32_t)armed)
        orion_store_relaxed(&channel->own->bell, ++channel->bell);
}

orion_status_t orion_channel_arm(orion_channel_t *channel)
{
    if (orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return ORION_INVALID;
    if (!orion_channel_live(channel))
        return ORION_AGAIN; /* receive says what is left, and why there is no more */
    orion_lock_enter(&channel->receive_lock);
    if (channel->net != NULL) {
        orion_status_t status = orion_net_arm(channel, &channel->peer->head, channel->in.tail);
        orion_lock_leave(&channel->receive_lock);
        return status;
    }
    set_bell(channel, false);
    set_bell(channel, true); /* a new value: one packet for each */
    order(channel);
    bool there = orion_load_relaxed(&channel->peer->head) != channel->in.tail;
    if (there)
        set_bell(channel, false);
    orion_lock_leave(&channel->receive_lock);
    return there ? ORION_AGAIN : ORION_OK;
}

orion_status_t orion_channel_call_arm(orion_channel_t *channel, uint64_t call)
{
    uint32_t slot = (uint32_t)call;
    if (slot >= ORION_CHANNEL_CALLS || orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return ORION_INVALID;
    if (channel->net != NULL) {
        const uint32_t *word = &orion_channel_slot(channel->peer, slot)->sequence;
        uint32_t seen = orion_load_acquire(word); /* acquire: pairs with the release where the answer is put there */
        return seen == (uint32_t)(call >> 32) ? ORION_AGAIN : orion_net_arm(channel, word, seen);
    }
    if ((orion_load_relaxed(&channel->own->slot_waiting[slot]) & ORION_SLOT_BELL) == 0)
        (void)orion_fetch_add(&channel->own->slot_waiting[slot], ORION_SLOT_BELL);
    order(channel);
    /* await takes the bell away again */
    return orion_channel_call_ready(channel, call, 0) || !orion_channel_live(channel) ? ORION_AGAIN : ORION_OK;
}

orion_status_t orion_channel_disarm(orion_channel_t *channel)
{
    if (orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return ORION_INVALID;
    if (channel->net != NULL) {
        orion_net_disarm(channel);
        return orion_channel_state(channel);
    }
    orion_lock_enter(&channel->receive_lock);
    set_bell(channel, false);
    orion_lock_leave(&channel->receive_lock);
    return orion_channel_state(channel);
}
