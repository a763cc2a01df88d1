/* SPDX-License-Identifier: Apache-2.0 */
/* A channel over a connected stream: made, closed, gone. See net.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "channel/net.h"
#include "stream/socket.h"

#define LINGER_NS ORION_NS_PER_S /* at most, until the other host has all that was sent */

static orion_channel_control_t *segment(uint64_t epoch)
{
    void *memory = mmap(NULL, ORION_CHANNEL_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    orion_segment_header_fill(memory, ORION_CHANNEL_MAGIC, (uint32_t)epoch, ORION_CHANNEL_SEGMENT_BYTES, 0);
    return memory;
}

/* In this copy the other side always sleeps and waits: whatever is written for it is told. */
static void copy_of_peer(orion_channel_control_t *peer)
{
    peer->sleeping = 1;
    peer->space_waiting = 1;
    peer->arena_waiting = 1;
    for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++)
        peer->slot_waiting[i] = 1;
}

static orion_net_t *allocate(orion_bytestream_t *stream)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(orion_net_t)) != 0)
        return NULL;
    orion_net_t *net = memory;
    memset(net, 0, sizeof(*net));
    net->stream = stream;
    net->socket = stream->socket;
    net->local = orion_socket_is_local(stream->socket);
    net->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    orion_spin_init(&net->spin);
    return net;
}

/* The descriptor of event loops: readable when one of those that it watches is. */
static bool open_descriptor(orion_channel_t *channel)
{
    struct epoll_event event = {.events = EPOLLIN};
    channel->socket = epoll_create1(EPOLL_CLOEXEC);
    return channel->socket >= 0 && channel->net->event_fd >= 0 &&
           epoll_ctl(channel->socket, EPOLL_CTL_ADD, channel->net->event_fd, &event) == 0;
}

orion_status_t orion_net_open(orion_bytestream_t *stream, const orion_channel_options_t *options,
                              const orion_net_terms_t *terms, orion_channel_t **channel_p, char *why, size_t why_bytes)
{
    orion_channel_t *channel = orion_channel_allocate(options);
    if (channel != NULL)
        channel->net = allocate(stream);
    if (channel == NULL || channel->net == NULL) {
        orion_bytestream_close(stream);
        goto err;
    }
    orion_channel_control_t *own = channel->own = segment(terms->epoch), *peer = segment(terms->peer_epoch);
    channel->peer = peer;
    if (own == NULL || peer == NULL || !open_descriptor(channel))
        goto err;
    copy_of_peer(peer);
    channel->transport = stream->ops->name;
    orion_wait_policy_init(&channel->policy, true); /* nobody shares this memory: no fences, no barriers */
    orion_ring_producer_init(&channel->out, orion_channel_ring(own), ORION_CHANNEL_RING_BYTES, &own->head, &peer->tail,
                             terms->epoch);
    orion_ring_consumer_init(&channel->in, orion_channel_ring(peer), ORION_CHANNEL_RING_BYTES, &peer->head, &own->tail,
                             terms->peer_epoch, NULL, ORION_CHANNEL_RECORD_MAX);
    orion_channel_agree(channel, terms->limits, terms->peer_limits);
    orion_channels_add(channel);
    *channel_p = channel;
    return ORION_OK;
err:
    orion_explain(why, why_bytes, "not enough memory or descriptors for a channel");
    if (channel != NULL) {
        if (channel->net != NULL) {
            orion_bytestream_close(channel->net->stream);
            orion_fd_close(channel->net->event_fd);
        }
        orion_channel_abandon(channel);
    }
    return ORION_NO_MEMORY;
}

void orion_net_destroy(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    if (net == NULL)
        return;
    if (channel->own != NULL)
        (void)munmap(channel->own, ORION_CHANNEL_SEGMENT_BYTES);
    if (channel->peer != NULL)
        (void)munmap((void *)(uintptr_t)channel->peer, ORION_CHANNEL_SEGMENT_BYTES);
    for (uint32_t i = 0; i < ORION_CHANNEL_REFERENCES; i++)
        free(net->coming[i].data);
    free(net->rest);
    free(net);
}

/* ---- the end ---- */

void orion_net_hang_up(orion_channel_t *channel)
{
    (void)shutdown(channel->net->socket, SHUT_RDWR);
}

/* What this process has not read makes its kernel reset the connection when it is closed, and what the other host has not
 * got by then is lost: so that is waited for. On one host what was sent is there. */
static bool has_arrived(orion_net_t *net)
{
    int left = 0;
    if (orion_lock_try(&net->in_lock)) { /* else another thread reads, and is about to leave */
        struct iovec room = {net->buffer, sizeof(net->buffer)};
        size_t n;
        for (int i = 0; i < 64 && orion_bytestream_receive(net->stream, &room, 1, false, &n) == ORION_OK; i++)
            continue;
        orion_lock_leave(&net->in_lock);
    }
    return ioctl(net->socket, net->local ? SIOCOUTQNSD : SIOCOUTQ, &left) != 0 || left == 0;
}

void orion_net_close(orion_channel_t *channel, bool live)
{
    orion_net_t *net = channel->net;
    const struct timespec pause = {.tv_nsec = ORION_NS_PER_MS};
    int64_t deadline = orion_clock_ns() + LINGER_NS;
    int saved = errno;
    orion_net_notify(channel);
    for (bool done = !live; !done;) {
        orion_lock_enter(&net->out_lock);
        net->closing = true;
        orion_status_t status = orion_net_flush_locked(channel);
        done = status == ORION_PEER_GONE ||
               (status == ORION_OK && orion_bytestream_settled(net->stream) && has_arrived(net));
        orion_lock_leave(&net->out_lock);
        done = done || orion_clock_ns() >= deadline;
        if (!done)
            (void)nanosleep(&pause, NULL);
    }
    orion_net_hang_up(channel);
    errno = saved;
}

void orion_net_free(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    orion_net_stop_flusher(channel);
    orion_lock_enter(&net->in_lock);
    orion_lock_enter(&net->out_lock); /* a held message may be given back at any time, also now */
    orion_bytestream_close(net->stream);
    net->stream = NULL;
    orion_lock_leave(&net->out_lock);
    orion_lock_leave(&net->in_lock);
    orion_fd_close(net->event_fd);
}

void orion_net_fork_child(orion_channel_t *channel)
{
    orion_bytestream_fork_child(channel->net->stream);
    orion_fd_close(channel->net->event_fd);
    channel->net->event_fd = -1;
}
