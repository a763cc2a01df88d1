/* SPDX-License-Identifier: Apache-2.0 */
/* Frames out: one is on its way at a time, the next is made of what is due. Whoever has something to tell sends at once
 * what the stream takes; a thread that starts at the first need sends the rest. See net.h. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "channel/net.h"

#define FLUSH_DELAY_NS 150000
#define FLUSH_IDLE_TURNS 20 /* of that length without anything to send: then it sleeps until it is called */
#define FLUSHER_SLEEP_NS (10 * ORION_NS_PER_S)

/* ---- with out_lock ---- */

static void begin(orion_net_t *net, const orion_net_frame_t *header)
{
    net->header = *header;
    net->parts[0] = (struct iovec){&net->header, sizeof(net->header)};
    net->parts[1] = net->parts[2] = (struct iovec){0};
    net->busy = true;
    net->frames++;
}

static void begin_ring(orion_channel_t *channel, uint32_t bytes)
{
    orion_net_t *net = channel->net;
    uint8_t *ring = orion_channel_ring(channel->own);
    uint32_t offset = net->ring_sent & (ORION_CHANNEL_RING_BYTES - 1), first = ORION_CHANNEL_RING_BYTES - offset;
    if (first > bytes)
        first = bytes;
    begin(net, &(orion_net_frame_t){.kind = ORION_NET_RING, .bytes = bytes});
    net->parts[1] = (struct iovec){ring + offset, first};
    net->parts[2] = (struct iovec){ring, bytes - first};
    /* release: pairs with the acquire where the other side says what of it it has read */
    orion_store_release(&net->ring_sent, net->ring_sent + bytes);
}

static void begin_reply(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    uint32_t slot = (uint32_t)__builtin_ctz(net->replies);
    orion_reply_t *reply = orion_channel_slot(channel->own, slot);
    net->replies &= net->replies - 1;
    begin(net, &(orion_net_frame_t){.kind = ORION_NET_REPLY,
                                    .index = (uint16_t)slot,
                                    .sequence = orion_load_relaxed(&reply->sequence),
                                    .bytes = orion_load_relaxed(&reply->bytes),
                                    .total = (uint32_t)orion_load_relaxed(&reply->result)});
    net->parts[1] = (struct iovec){reply->data, net->header.bytes};
}

/* false: nothing is due. */
static bool begin_next(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    uint32_t tail = orion_load_relaxed(&channel->own->tail);
    if (net->note_count > 0) {
        const orion_net_note_t *note = &net->notes[net->note_first];
        begin(net, &(orion_net_frame_t){.kind = note->kind, .index = note->index, .sequence = note->sequence});
        net->note_first = (net->note_first + 1) % ORION_NET_NOTES;
        net->note_count--;
        return true;
    }
    if (tail != net->tail_sent) {
        net->tail_sent = tail;
        begin(net, &(orion_net_frame_t){.kind = ORION_NET_TAIL, .sequence = tail});
        return true;
    }
    if (net->replies != 0) {
        begin_reply(channel);
        return true;
    }
    /* acquire: pairs with the release in orion_ring_commit */
    uint32_t due = orion_load_acquire(&channel->own->head) - net->ring_sent;
    if (due > 0) {
        begin_ring(channel, due);
        return true;
    }
    if (net->closing && !net->closed) {
        net->closed = true;
        begin(net, &(orion_net_frame_t){.kind = ORION_NET_CLOSE});
        return true;
    }
    return false;
}

static void end_frame(orion_net_t *net)
{
    net->busy = false;
    free(net->rest);
    net->rest = NULL;
}

orion_status_t orion_net_flush_locked(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    while (!net->broken && net->stream != NULL) {
        size_t sent;
        if (!net->busy && !begin_next(channel))
            return ORION_OK;
        orion_status_t status = orion_bytestream_send(net->stream, net->parts, 3, &sent);
        if (status == ORION_AGAIN)
            return status;
        if (status == ORION_OK) {
            orion_parts_skip(net->parts, 3, sent);
            if (orion_parts_bytes(net->parts, 3) > 0)
                continue;
        } else {
            net->broken = true; /* reading tells why */
        }
        end_frame(net);
    }
    return ORION_PEER_GONE;
}

void orion_net_begin_bulk(orion_net_t *net, uint16_t index, uint32_t generation, uint64_t total, const void *data,
                          uint32_t bytes)
{
    begin(net, &(orion_net_frame_t){
                   .kind = ORION_NET_BULK, .index = index, .sequence = generation, .total = total, .bytes = bytes});
    net->parts[1] = (struct iovec){(void *)(uintptr_t)data, bytes};
}

bool orion_net_keep_rest(orion_net_t *net)
{
    struct iovec *part = &net->parts[1];
    if (part->iov_len == 0)
        return true;
    net->rest = malloc(part->iov_len);
    if (net->rest == NULL)
        return false;
    memcpy(net->rest, part->iov_base, part->iov_len);
    part->iov_base = net->rest;
    return true;
}

/* ---- whoever has something to tell ---- */

static void flush_and_leave(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    orion_status_t status = orion_net_flush_locked(channel);
    bool rest = status == ORION_AGAIN || (status == ORION_OK && !orion_bytestream_settled(net->stream));
    orion_lock_leave(&net->out_lock);
    if (rest)
        orion_net_soon(channel);
}

void orion_net_flush(orion_channel_t *channel)
{
    orion_lock_enter(&channel->net->out_lock);
    flush_and_leave(channel);
}

void orion_net_reply(orion_channel_t *channel, uint32_t slot)
{
    orion_lock_enter(&channel->net->out_lock);
    channel->net->replies |= 1u << slot;
    flush_and_leave(channel);
}

void orion_net_note(orion_channel_t *channel, orion_net_kind_t kind, uint32_t index, uint32_t sequence)
{
    orion_net_t *net = channel->net;
    orion_lock_enter(&net->out_lock);
    if (net->note_count < ORION_NET_NOTES) { /* always, by the rules that net.h gives; none may break them here */
        net->notes[(net->note_first + net->note_count++) % ORION_NET_NOTES] = (orion_net_note_t){
            (uint16_t)kind, (uint16_t)index, sequence};
    }
    flush_and_leave(channel);
}

/* ---- the flusher ---- */

static void *flusher(void *argument)
{
    orion_channel_t *channel = argument;
    orion_net_t *net = channel->net;
    const struct timespec delay = {.tv_nsec = FLUSH_DELAY_NS};
    unsigned idle = 0;
    while (orion_load_acquire(&net->stopping) == 0) { /* pairs with the store in orion_net_stop_flusher */
        if (idle >= FLUSH_IDLE_TURNS) {
            idle = 0;
            (void)orion_exchange(&net->flusher_asleep, 1); /* full barrier: the flag before the look at `stopping` */
            if (orion_load_acquire(&net->stopping) == 0)
                (void)orion_futex_wait(&net->flusher_asleep, 1, FLUSHER_SLEEP_NS);
            orion_store_relaxed(&net->flusher_asleep, 0);
        }
        (void)nanosleep(&delay, NULL); /* whoever sent is likely to make it move by itself */
        orion_lock_enter(&net->out_lock);
        orion_status_t status = orion_net_flush_locked(channel);
        bool settled = status != ORION_OK || orion_bytestream_settled(net->stream);
        orion_lock_leave(&net->out_lock);
        idle = status == ORION_AGAIN || !settled ? 0 : idle + 1;
        if (status == ORION_AGAIN)
            (void)orion_bytestream_wait(net->stream, ORION_BYTESTREAM_WRITE, ORION_BYTESTREAM_SLICE_NS);
    }
    return NULL;
}

static void start_flusher(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    sigset_t all, before;
    orion_lock_enter(&net->out_lock);
    if (!net->has_flusher && net->stopping == 0) { /* signals belong to the application's threads */
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &before);
        orion_store_relaxed(&net->has_flusher, pthread_create(&net->flusher, NULL, flusher, channel) == 0);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    orion_lock_leave(&net->out_lock);
}

void orion_net_soon(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    if (!orion_load_relaxed(&net->has_flusher))
        start_flusher(channel); /* without memory for it the rest goes with the next call */
    orion_fence_full();         /* what is due before the look at the flag; pairs with the exchange in flusher */
    if (orion_load_relaxed(&net->flusher_asleep) != 0 && orion_exchange(&net->flusher_asleep, 0) != 0)
        (void)orion_futex_wake(&net->flusher_asleep, 1);
}

void orion_net_stop_flusher(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    orion_lock_enter(&net->out_lock);
    bool has = net->has_flusher;
    orion_store_release(&net->stopping, 1); /* release: pairs with the acquires in flusher */
    orion_lock_leave(&net->out_lock);
    if (!has)
        return;
    (void)orion_exchange(&net->flusher_asleep, 0);
    (void)orion_futex_wake(&net->flusher_asleep, 1);
    (void)pthread_join(net->flusher, NULL);
}
