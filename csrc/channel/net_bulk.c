/* SPDX-License-Identifier: Apache-2.0 */
/* Long payloads over a stream: written from the caller's memory, in chunks between which answers pass; received into memory
 * of their own, which the message's view owns. See net.h. */
#include <stdlib.h>

#include "channel/net.h"

/* ---- out ---- */

/* Until a chunk has been handed to the stream, or, if our caller waits no longer, its rest copied. */
static orion_status_t put_chunk(orion_channel_t *channel, uint64_t frame, int64_t deadline)
{
    orion_net_t *net = channel->net;
    orion_status_t given_up = ORION_OK;
    for (;;) {
        orion_lock_enter(&net->out_lock);
        orion_status_t status = net->frames == frame && net->busy ? orion_net_flush_locked(channel) : ORION_OK;
        bool done = net->frames != frame || !net->busy;
        if (!done && given_up != ORION_OK) {
            done = orion_net_keep_rest(net);
            if (!done) { /* nobody may write behind half a frame */
                net->broken = true;
                net->busy = false;
                done = true;
            }
            status = given_up;
        }
        orion_lock_leave(&net->out_lock);
        if (done) {
            if (status == ORION_AGAIN)
                status = ORION_OK; /* what is left belongs to others */
            return status == ORION_PEER_GONE ? orion_net_lost(channel) : status;
        }
        int64_t left = orion_time_left(deadline);
        given_up = left <= 0 ? ORION_TIMEOUT : orion_net_wait_writable(channel, left);
    }
}

orion_status_t orion_net_send_bulk(orion_channel_t *channel, const orion_bulk_place_t *place, const void *data,
                                   int64_t deadline)
{
    orion_net_t *net = channel->net;
    orion_status_t status = ORION_OK;
    uint64_t begun = 0;
    while (begun < place->bytes && status == ORION_OK) {
        uint32_t n = place->bytes - begun < ORION_NET_CHUNK ? (uint32_t)(place->bytes - begun) : ORION_NET_CHUNK;
        uint64_t frame = 0;
        orion_lock_enter(&net->out_lock);
        status = orion_net_flush_locked(channel);
        if (status == ORION_OK) {
            orion_net_begin_bulk(net, (uint16_t)place->reference, place->generation, place->bytes,
                                 (const uint8_t *)data + begun, n);
            frame = net->frames;
        }
        orion_lock_leave(&net->out_lock);
        if (status == ORION_OK) {
            begun += n;
            status = put_chunk(channel, frame, deadline);
        } else if (status == ORION_AGAIN) {
            int64_t left = orion_time_left(deadline);
            status = left <= 0 ? ORION_TIMEOUT : orion_net_wait_writable(channel, left);
        } else {
            status = orion_net_lost(channel);
        }
    }
    if (status != ORION_OK && begun > 0)
        orion_net_note(channel, ORION_NET_DROP, place->reference, place->generation);
    return status;
}

void orion_net_drop_bulk(orion_channel_t *channel, const orion_bulk_place_t *place)
{
    orion_net_note(channel, ORION_NET_DROP, place->reference, place->generation);
}

/* ---- in ---- */

orion_status_t orion_net_resolve(orion_channel_t *channel, const orion_bulk_place_t *place, const void **data_p)
{
    uint32_t there = ORION_BULK_THERE;
    if (place->reference >= ORION_CHANNEL_REFERENCES)
        return ORION_PROTOCOL;
    orion_coming_t *c = &channel->net->coming[orion_index_nospec(place->reference, ORION_CHANNEL_REFERENCES)];
    /* acquire: pairs with the release when its last bytes came. Once: two messages cannot have the same memory. */
    if (!orion_compare_exchange(&c->state, &there, ORION_BULK_NAMED))
        return ORION_PROTOCOL;
    if (c->bytes != place->bytes || c->generation != place->generation) {
        orion_store_release(&c->state, ORION_BULK_THERE);
        return ORION_PROTOCOL;
    }
    *data_p = c->data;
    return ORION_OK;
}

void orion_net_release(orion_channel_t *channel, uint32_t index, uint32_t generation)
{
    orion_net_t *net = channel->net;
    orion_coming_t *c = &net->coming[index];
    free(c->data);
    c->data = NULL;
    (void)orion_fetch_sub(&net->coming_bytes, c->bytes);
    orion_store_release(&c->state, ORION_BULK_NONE); /* release: pairs with the acquire in begin_bulk */
    if (orion_channel_live(channel))
        orion_net_note(channel, ORION_NET_RELEASE, index, generation);
}
