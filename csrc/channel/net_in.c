/* SPDX-License-Identifier: Apache-2.0 */
/* Frames in: each header is copied once and checked before room is made for what follows; payload goes straight to its
 * place, and is published when it is complete. See net.h. */
#include <stdlib.h>
#include <string.h>

#include "channel/net.h"

#define READS_PER_PUMP 64         /* the other side may send as fast as we read */
#define AHEAD_IN_BULK 512u        /* little is read behind the payload of a bulk: what follows is mostly the next one */
#define LARGE_BYTES (16ULL << 20) /* from here on we ask whether there is so much memory */
#define GRACE_NS (50 * ORION_NS_PER_MS)

static int refuse(orion_net_t *net, const char *complaint)
{
    net->complaint = complaint;
    return -1;
}

/* ---- the beginning of a frame ---- */

static int begin_ring(orion_channel_t *channel, const orion_net_frame_t *f)
{
    orion_net_t *net = channel->net;
    /* acquire: pairs with the release in orion_ring_publish; what was read there may be written over */
    uint32_t room = ORION_CHANNEL_RING_BYTES - (net->head - orion_load_acquire(&channel->own->tail));
    if (f->bytes == 0 || f->bytes % ORION_RECORD_ALIGN != 0 || f->bytes > room)
        return refuse(net, "it sent more messages than there is room for");
    uint8_t *ring = orion_channel_ring(channel->peer);
    uint32_t offset = net->head & (ORION_CHANNEL_RING_BYTES - 1), first = ORION_CHANNEL_RING_BYTES - offset;
    if (first > f->bytes)
        first = f->bytes;
    net->payload[0] = (struct iovec){ring + offset, first};
    net->payload[1] = (struct iovec){ring, f->bytes - first};
    return 0;
}

static int begin_reply(orion_channel_t *channel, const orion_net_frame_t *f)
{
    orion_net_t *net = channel->net;
    if (f->index >= ORION_CHANNEL_CALLS || f->bytes > ORION_REPLY_DATA || f->total > UINT16_MAX)
        return refuse(net, "an answer makes no sense");
    uint32_t index = (uint32_t)orion_index_nospec(f->index, ORION_CHANNEL_CALLS);
    const orion_open_call_t *call = &channel->calls[index];
    orion_reply_t *slot = orion_channel_slot(channel->peer, index);
    if (orion_load_relaxed(&call->state) == ORION_CALL_FREE || orion_load_relaxed(&call->sequence) != f->sequence ||
        orion_load_relaxed(&slot->sequence) == f->sequence)
        return refuse(net, "it answered a call that is not open");
    net->payload[0] = (struct iovec){slot->data, f->bytes};
    return 0;
}

static int begin_bulk(orion_channel_t *channel, const orion_net_frame_t *f)
{
    orion_net_t *net = channel->net;
    if (f->index >= ORION_CHANNEL_REFERENCES || f->sequence == 0 || f->bytes == 0 || f->bytes > ORION_NET_CHUNK ||
        f->total == 0)
        return refuse(net, "a long payload makes no sense");
    orion_coming_t *c = &net->coming[orion_index_nospec(f->index, ORION_CHANNEL_REFERENCES)];
    /* acquire: pairs with the release in orion_net_release */
    uint32_t state = orion_load_acquire(&c->state);
    if (state == ORION_BULK_NONE) {
        uint64_t held = orion_load_relaxed(&net->coming_bytes);
        void *data = NULL;
        if (held > channel->receive_limit || f->total > channel->receive_limit - held)
            return refuse(net, "its long payloads are more than this side's arena_limit");
        if ((f->total >= LARGE_BYTES && !orion_memory_available(f->total)) ||
            posix_memalign(&data, ORION_BLOCK_ALIGN, f->total) != 0) {
            orion_channel_end(channel, ORION_NO_MEMORY, "no memory for a message of %llu bytes",
                              (unsigned long long)f->total);
            return refuse(net, "no memory");
        }
        c->data = data;
        c->bytes = f->total;
        c->filled = 0;
        c->generation = f->sequence;
        (void)orion_fetch_add(&net->coming_bytes, f->total);
        orion_store_relaxed(&c->state, ORION_BULK_COMING);
    } else if (state != ORION_BULK_COMING || c->generation != f->sequence || c->bytes != f->total) {
        return refuse(net, "two long payloads have one place");
    }
    if (f->bytes > c->bytes - c->filled)
        return refuse(net, "a long payload is longer than it was announced to be");
    net->payload[0] = (struct iovec){c->data + c->filled, f->bytes};
    return 0;
}

static int begin(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    const orion_net_frame_t *f = &net->frame;
    net->payload[0] = net->payload[1] = (struct iovec){0};
    if (f->reserved != 0)
        return refuse(net, "a frame's header makes no sense");
    if (f->kind == ORION_NET_RING)
        return begin_ring(channel, f);
    if (f->kind == ORION_NET_REPLY)
        return begin_reply(channel, f);
    if (f->kind == ORION_NET_BULK)
        return begin_bulk(channel, f);
    if (f->kind > ORION_NET_CLOSE || f->kind == 0)
        return refuse(net, "a frame's kind is unknown");
    return f->bytes == 0 ? 0 : refuse(net, "a frame has a payload where none belongs");
}

/* ---- its end ---- */

static void give_up(orion_net_t *net, orion_coming_t *c)
{
    (void)orion_fetch_sub(&net->coming_bytes, c->bytes);
    free(c->data);
    c->data = NULL;
    orion_store_relaxed(&c->state, ORION_BULK_NONE);
}

static int drop(orion_net_t *net, const orion_net_frame_t *f)
{
    if (f->index >= ORION_CHANNEL_REFERENCES)
        return refuse(net, "it gave up a payload that does not exist");
    orion_coming_t *c = &net->coming[orion_index_nospec(f->index, ORION_CHANNEL_REFERENCES)];
    uint32_t there = ORION_BULK_THERE;
    /* a message that names it, against the rules, may be about to be received: one of the two has it */
    if (orion_load_relaxed(&c->state) == ORION_BULK_NONE || c->generation != f->sequence ||
        (orion_load_relaxed(&c->state) != ORION_BULK_COMING &&
         !orion_compare_exchange(&c->state, &there, ORION_BULK_NAMED)))
        return refuse(net, "it gave up a payload that does not exist");
    give_up(net, c);
    return 0;
}

static int finish(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    const orion_net_frame_t *f = &net->frame;
    /* This side's copy of the other one's segment: here alone it is written. */
    orion_channel_control_t *peer = (orion_channel_control_t *)(uintptr_t)channel->peer;
    switch ((orion_net_kind_t)f->kind) {
    case ORION_NET_RING:
        net->head += f->bytes;
        orion_store_release(&peer->head, net->head); /* release: pairs with the acquire in orion_ring_look */
        break;
    case ORION_NET_TAIL:
        /* acquire: pairs with the release in orion_net_flush_locked */
        if (f->sequence - peer->tail > orion_load_acquire(&net->ring_sent) - peer->tail)
            return refuse(net, "it claims to have read what was never sent");
        orion_store_release(&peer->tail, f->sequence); /* release: pairs with the acquire in orion_ring_refresh */
        break;
    case ORION_NET_REPLY: {
        orion_reply_t *slot = orion_channel_slot(peer, f->index);
        orion_store_relaxed(&slot->result, (int32_t)f->total);
        orion_store_relaxed(&slot->bytes, f->bytes);
        orion_store_release(&slot->sequence, f->sequence); /* release: pairs with the acquire in answered */
        break;
    }
    case ORION_NET_BULK: {
        orion_coming_t *c = &net->coming[f->index];
        c->filled += f->bytes;
        if (c->filled == c->bytes)
            orion_store_release(&c->state, ORION_BULK_THERE); /* release: pairs with orion_net_resolve */
        break;
    }
    case ORION_NET_DROP:
        return drop(net, f);
    case ORION_NET_RELEASE:
        if (f->index >= ORION_CHANNEL_REFERENCES)
            return refuse(net, "it gave back a payload that does not exist");
        orion_store_release(&peer->released[orion_index_nospec(f->index, ORION_CHANNEL_REFERENCES)], f->sequence);
        (void)orion_fetch_add(&peer->releases, 1); /* release: pairs with the acquire in bulk.c's reclaim */
        break;
    case ORION_NET_CLOSE:
        orion_store_release(&peer->closed, 1); /* release: pairs with the acquire in end_locked */
        orion_channel_end(channel, ORION_PEER_GONE, "it said goodbye");
        break;
    }
    return 1;
}

/* ---- bytes ---- */

static size_t take(orion_net_t *net, struct iovec *to)
{
    size_t n = net->end - net->at < to->iov_len ? net->end - net->at : to->iov_len;
    if (n > 0)
        memcpy(to->iov_base, net->buffer + net->at, n);
    net->at += (uint32_t)n;
    orion_parts_skip(to, 1, n);
    return to->iov_len;
}

/* Frames out of the buffer. */
static int cut(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    int frames = 0;
    for (;;) {
        if (!net->in_payload) {
            if (net->end - net->at < sizeof(net->frame))
                return frames;
            memcpy(&net->frame, net->buffer + net->at, sizeof(net->frame));
            net->at += (uint32_t)sizeof(net->frame);
            if (begin(channel) < 0)
                return -1;
            net->in_payload = true;
        }
        if (take(net, &net->payload[0]) > 0 || take(net, &net->payload[1]) > 0)
            return frames;
        net->in_payload = false;
        if (finish(channel) < 0)
            return -1;
        frames++;
    }
}

int orion_net_room(orion_net_t *net, struct iovec room[3])
{
    int count = 0;
    memmove(net->buffer, net->buffer + net->at, net->end - net->at); /* less than a header, or nothing */
    net->end -= net->at;
    net->at = 0;
    for (int i = 0; net->in_payload && i < 2; i++) {
        if (net->payload[i].iov_len > 0)
            room[count++] = net->payload[i];
    }
    uint32_t ahead = net->in_payload && net->frame.kind == ORION_NET_BULK ? AHEAD_IN_BULK : ORION_NET_BUFFER;
    room[count++] = (struct iovec){net->buffer + net->end, ahead - net->end};
    return count;
}

int orion_net_received(orion_channel_t *channel, size_t bytes)
{
    orion_net_t *net = channel->net;
    size_t direct = net->in_payload ? orion_parts_bytes(net->payload, 2) : 0;
    if (direct > bytes)
        direct = bytes;
    orion_parts_skip(net->payload, 2, direct);
    net->end += (uint32_t)(bytes - direct);
    return cut(channel);
}

static void ended(orion_channel_t *channel, orion_status_t status)
{
    if (status == ORION_PROTOCOL) {
        const char *what = channel->net->stream->complaint;
        orion_channel_end(channel, status, "what came is no stream of a channel: %s", what != NULL ? what : "garbage");
    } else {
        orion_channel_end(channel, ORION_PEER_GONE,
                          "the other process is gone from the channel: it died, or the network to it did");
    }
}

int orion_net_pump(orion_channel_t *channel, bool wait)
{
    orion_net_t *net = channel->net;
    int64_t grace = 0;
    int total = 0;
    for (int i = 0; i < READS_PER_PUMP && net->stream != NULL && orion_channel_live(channel); i++) {
        struct iovec room[3];
        size_t received = 0, offered;
        int count = orion_net_room(net, room);
        offered = orion_parts_bytes(room, (size_t)count);
        orion_status_t status = orion_bytestream_receive(net->stream, room, (size_t)count, wait && i == 0, &received);
        if (status == ORION_PEER_GONE && !net->stream->over_socket && !net->broken) {
            /* The witness went first: what was sent before may still be on its way. */
            int64_t now = orion_clock_ns();
            grace = grace == 0 ? now + GRACE_NS : grace;
            if (now < grace) {
                i = 0;
                continue;
            }
        }
        if (status == ORION_AGAIN)
            break;
        if (status != ORION_OK) {
            ended(channel, status);
            return total + 1;
        }
        int frames = orion_net_received(channel, received);
        if (frames < 0) {
            orion_channel_end(channel, ORION_PROTOCOL, "the other process broke the protocol: %s", net->complaint);
            return total + 1;
        }
        total += frames;
        if (received < offered)
            break; /* that was all; a stream that has more says so when it is armed */
    }
    return total;
}
