/* SPDX-License-Identifier: Apache-2.0 */
/* Life and death of a channel, and what comes on its socket. See channel.h. */
#define _GNU_SOURCE
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "channel/channel.h"
#include "channel/greeting.h"

#define PAGE 4096u
#define POLLS_PER_LOOK 64
#define PACKETS_PER_LOOK (2 * (int)ORION_CHANNEL_EXTENTS)

#ifndef POLLRDHUP
#define POLLRDHUP 0x2000
#endif

/* ---- the end ---- */

/* Threads of ours that sleep on words of the other side. A mapping for reading is enough to wake. */
static void wake_own(orion_channel_t *channel)
{
    const orion_channel_control_t *peer = channel->peer;
    (void)orion_futex_wake(&peer->head, ORION_WAKE_ALL);
    (void)orion_futex_wake(&peer->tail, ORION_WAKE_ALL);
    (void)orion_futex_wake(&peer->releases, ORION_WAKE_ALL);
    for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++) {
        if (orion_load_relaxed(&channel->own->slot_waiting[i]) != 0)
            (void)orion_futex_wake(&orion_channel_slot(peer, i)->sequence, ORION_WAKE_ALL);
    }
}

static void wake_peer(orion_channel_t *channel)
{
    (void)orion_futex_wake(&channel->own->head, ORION_WAKE_ALL);
    (void)orion_futex_wake(&channel->own->tail, ORION_WAKE_ALL);
    (void)orion_futex_wake(&channel->own->releases, ORION_WAKE_ALL);
    for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++) {
        if (orion_load_relaxed(&channel->peer->slot_waiting[i]) != 0)
            (void)orion_futex_wake(&orion_channel_slot(channel->own, i)->sequence, ORION_WAKE_ALL);
    }
}

/* Needs the notice lock. */
static void end_locked(orion_channel_t *channel, orion_status_t status, const char *why)
{
    uint32_t live = ORION_CHANNEL_LIVE;
    if (channel->end != ORION_OK || !orion_channel_live(channel))
        return;
    channel->end = status;
    channel->clean = status == ORION_PEER_GONE && orion_load_acquire(&channel->peer->closed) == 1;
    orion_explain(channel->why, sizeof(channel->why), "%s",
                  channel->clean ? "the other process closed the channel" : why);
    /* pairs with the acquire in how_it_ended; a shutdown of our own that comes at the same time wins */
    (void)orion_compare_exchange(channel->state, &live, ORION_CHANNEL_GONE);
    if (channel->net != NULL) {
        orion_net_hang_up(channel);
        orion_net_notify(channel);
        return;
    }
    if (status == ORION_PROTOCOL && channel->socket >= 0)
        (void)shutdown(channel->socket, SHUT_RDWR); /* the other side shall not wait for us */
    wake_own(channel);
}

void orion_channel_end(orion_channel_t *channel, orion_status_t status, const char *format, ...)
{
    char why[sizeof(channel->why)];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    orion_lock_enter(&channel->notice_lock);
    end_locked(channel, status, why);
    orion_lock_leave(&channel->notice_lock);
}

static orion_status_t how_it_ended(const orion_channel_t *channel)
{
    uint32_t state = orion_load_acquire(channel->state); /* pairs with the exchange in end_locked */
    if (state == ORION_CHANNEL_LIVE)
        return ORION_OK;
    return state == ORION_CHANNEL_GONE ? channel->end : ORION_INVALID;
}

/* ---- the socket ---- */

static orion_status_t map_extent(orion_channel_t *channel, const orion_packet_t *packet, int fd, char *why,
                                 size_t why_bytes)
{
    orion_segment_t segment = ORION_SEGMENT_EMPTY;
    if (fd < 0) {
        orion_explain(why, why_bytes, "it announced an extent and sent none");
        return ORION_PROTOCOL;
    }
    orion_status_t status = orion_segment_map(&segment, fd, packet->bytes, false, why, why_bytes);
    if (status != ORION_OK)
        return status;
    uint32_t index = channel->peer_extent_count;
    channel->peer_extents[index] = (orion_mapped_t){segment.address, packet->bytes};
    channel->peer_extent_bytes += packet->bytes;
    /* release: pairs with the acquire in orion_place_resolve */
    orion_store_release(&channel->peer_extent_count, index + 1);
    return ORION_OK;
}

static void read_packets(orion_channel_t *channel)
{
    /* a bound: the other side may send as fast as we read */
    for (int i = 0; i < PACKETS_PER_LOOK && orion_channel_live(channel) && channel->socket >= 0; i++) {
        uint8_t bytes[sizeof(orion_packet_t) + 1];
        char why[200] = "it died";
        size_t received;
        int fd;
        orion_packet_t packet;
        orion_status_t status = orion_fd_receive_packet(channel->socket, bytes, sizeof(bytes), &received, &fd, 1);
        if (status == ORION_AGAIN)
            break;
        if (status == ORION_OK) {
            status = orion_packet_decode(bytes, received, channel->peer_extent_count,
                                         channel->receive_limit - channel->peer_extent_bytes, &packet, why,
                                         sizeof(why));
            if (status == ORION_OK && packet.kind == ORION_PACKET_EXTENT) {
                status = map_extent(channel, &packet, fd, why, sizeof(why));
                fd = -1; /* taken over */
            }
            orion_fd_close(fd);
        }
        if (status == ORION_OK)
            continue;
        char text[sizeof(channel->why)];
        orion_explain(text, sizeof(text), "the other process is gone from the channel: %s", why);
        end_locked(channel, status, text);
    }
}

orion_status_t orion_channel_look_locked(orion_channel_t *channel)
{
    read_packets(channel);
    if (orion_channel_live(channel) && channel->pidfd >= 0) {
        struct pollfd p = {.fd = channel->pidfd, .events = POLLIN};
        if (poll(&p, 1, 0) > 0)
            end_locked(channel, ORION_PEER_GONE, "the other process is gone from the channel: it died");
    }
    return how_it_ended(channel);
}

orion_status_t orion_channel_state(orion_channel_t *channel)
{
    if (orion_load_relaxed(channel->state) != ORION_CHANNEL_LIVE)
        return how_it_ended(channel);
    if (channel->net != NULL) {
        orion_net_look(channel);
        return how_it_ended(channel);
    }
    orion_lock_enter(&channel->notice_lock);
    orion_status_t status = orion_channel_look_locked(channel);
    orion_lock_leave(&channel->notice_lock);
    return status;
}

orion_status_t orion_channel_time_up(orion_channel_t *channel)
{
    uint32_t polls = orion_load_relaxed(&channel->polls) + 1; /* two threads at once may count as one */
    orion_store_relaxed(&channel->polls, polls);
    if (orion_channel_live(channel) && polls % POLLS_PER_LOOK != 0)
        return ORION_TIMEOUT;
    orion_status_t status = orion_channel_state(channel);
    return status == ORION_OK ? ORION_TIMEOUT : status;
}

orion_status_t orion_channel_wait_on(orion_channel_t *channel)
{
    orion_status_t status = orion_channel_state(channel);
    if (status == ORION_OK && channel->keep_waiting != NULL && !channel->keep_waiting())
        return ORION_TIMEOUT;
    return status;
}

const char *orion_channel_why(const orion_channel_t *channel, bool *clean_p)
{
    uint32_t state = orion_load_acquire(channel->state); /* pairs with the exchange in end_locked */
    if (clean_p != NULL)
        *clean_p = state == ORION_CHANNEL_GONE && channel->clean;
    switch (state) {
    case ORION_CHANNEL_LIVE:
        return "";
    case ORION_CHANNEL_GONE:
        return channel->why;
    case ORION_CHANNEL_SHUT:
        return "the channel has been closed";
    default:
        return "the channel belongs to the parent of this forked process";
    }
}

const char *orion_channel_transport(const orion_channel_t *channel)
{
    return channel->transport;
}

uint64_t orion_channel_message_limit(const orion_channel_t *channel)
{
    return channel->send_max;
}

int32_t orion_channel_peer_pid(const orion_channel_t *channel)
{
    return channel->peer_pid;
}

orion_status_t orion_channel_enter_slow(orion_channel_t *channel, orion_lock_t *lock, int64_t timeout_ns)
{
    int64_t deadline = orion_deadline(timeout_ns);
    for (;;) {
        if (orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
            return ORION_INVALID; /* held by a thread that does not exist here */
        int64_t left = orion_time_left(deadline);
        if (left <= 0)
            return orion_lock_try(lock) ? ORION_OK : ORION_TIMEOUT;
        if (orion_lock_wait(lock, left))
            return ORION_OK;
        if (channel->keep_waiting != NULL && !channel->keep_waiting())
            return ORION_TIMEOUT;
    }
}

/* ---- going ---- */

void orion_channel_keep(orion_channel_t *channel)
{
    (void)orion_fetch_add(&channel->users, 1);
}

static void destroy(orion_channel_t *channel)
{
    for (uint32_t i = 0; i < channel->arena.extents; i++)
        (void)munmap(channel->extents[i].data, channel->extents[i].bytes);
    for (uint32_t i = 0; i < channel->peer_extent_count; i++)
        (void)munmap(channel->peer_extents[i].data, channel->peer_extents[i].bytes);
    orion_arena_fini(&channel->arena);
    for (orion_block_t *block = channel->spare_blocks, *next; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    for (uint32_t i = 0; i < channel->held_count; i++) {
        orion_block_t *block = channel->references[channel->held_out[i]].block;
        if (--block->users == 0)
            free(block);
    }
    free(channel->pieces.data);
    orion_net_destroy(channel);
    orion_segment_close(&channel->own_segment);
    orion_segment_close(&channel->peer_segment);
    (void)munmap(channel->state, PAGE);
    free(channel);
}

void orion_channel_drop(orion_channel_t *channel)
{
    if (orion_fetch_sub(&channel->users, 1) == 1)
        destroy(channel);
}

void orion_channel_shutdown(orion_channel_t *channel)
{
    uint32_t state = orion_load_acquire(channel->state);
    do {
        if (state == ORION_CHANNEL_FORKED || state == ORION_CHANNEL_SHUT)
            return;
    } while (!orion_compare_exchange(channel->state, &state, ORION_CHANNEL_SHUT));
    if (channel->net != NULL)
        orion_net_close(channel, state == ORION_CHANNEL_LIVE);
    else if (state == ORION_CHANNEL_LIVE)
        orion_store_release(&channel->own->closed, 1); /* release: pairs with the acquire in end_locked */
    orion_lock_enter(&channel->notice_lock);
    int socket = channel->socket, pidfd = channel->pidfd;
    channel->socket = channel->pidfd = -1;
    if (channel->net == NULL)
        (void)shutdown(socket, SHUT_RDWR);
    orion_fd_close(socket);
    orion_fd_close(pidfd);
    orion_lock_leave(&channel->notice_lock);
    orion_channels_remove(channel);
    if (channel->net != NULL)
        return;
    wake_peer(channel); /* after the socket: they look at it when they wake */
    wake_own(channel);
}

void orion_channel_free(orion_channel_t *channel)
{
    if (channel == NULL || orion_load_relaxed(channel->state) == ORION_CHANNEL_FORKED)
        return; /* the parent's; its locks may be held by threads that do not exist here */
    orion_channel_shutdown(channel);
    if (channel->net != NULL)
        orion_net_free(channel);
    orion_channel_drop(channel);
}
