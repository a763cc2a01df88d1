/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting on a stream: one of those who wait reads for all, the others sleep until it has news or leaves; and event loops,
 * which wait on a descriptor of descriptors. See net.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "channel/net.h"

#define ARM_TRIES 64 /* each reads what was there */

/* ---- who reads ---- */

/* To the threads that sleep in `follow`. */
static void tell(orion_net_t *net)
{
    orion_fence_full(); /* what they wait for, or the lock, before the look; pairs with the fetch_add in follow */
    if (orion_load_relaxed(&net->waiters) != 0) {
        (void)orion_fetch_add(&net->news, 1);
        (void)orion_futex_wake(&net->news, ORION_WAKE_ALL);
    }
}

void orion_net_notify(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    uint64_t one = 1;
    int saved = errno;
    tell(net);
    if (orion_load_relaxed(&net->armed) != 0)
        (void)!write(net->event_fd, &one, sizeof(one));
    errno = saved;
}

void orion_net_leave(orion_channel_t *channel)
{
    orion_lock_leave(&channel->net->in_lock);
    tell(channel->net);
}

void orion_net_look(orion_channel_t *channel)
{
    if (!orion_lock_try(&channel->net->in_lock))
        return; /* another thread reads */
    if (orion_net_pump(channel, false) > 0)
        orion_net_notify(channel);
    orion_net_leave(channel);
}

orion_status_t orion_net_lost(orion_channel_t *channel)
{
    orion_status_t status = orion_channel_state(channel);
    if (status != ORION_OK)
        return status;
    orion_channel_end(channel, ORION_PEER_GONE, "the other process is gone from the channel: it died");
    return orion_channel_state(channel);
}

/* ---- waiting for a word of the other side ---- */

typedef struct wanted {
    orion_channel_t *channel;
    const uint32_t *word;
    uint32_t old;
    bool wait;
} wanted_t;

static bool is_there(const wanted_t *w)
{
    return orion_load_acquire(w->word) != w->old || !orion_channel_live(w->channel);
}

static orion_status_t look(void *self)
{
    wanted_t *w = self;
    if (orion_net_pump(w->channel, w->wait) > 0)
        orion_net_notify(w->channel);
    return is_there(w) ? ORION_OK : ORION_AGAIN;
}

/* With in_lock. */
static void read_for_all(wanted_t *w, int64_t limit_ns)
{
    orion_net_t *net = w->channel->net;
    if (net->stream == NULL || orion_spin(&net->spin, net->stream, limit_ns, look, w) != ORION_AGAIN)
        return;
    int64_t start = orion_clock_ns();
    w->wait = limit_ns >= ORION_BYTESTREAM_SLICE_NS;
    if (!w->wait)
        (void)orion_bytestream_wait(net->stream, ORION_BYTESTREAM_READ, limit_ns);
    if (look(w) == ORION_OK)
        orion_spin_slept(&net->spin, orion_clock_ns() - start);
}

/* Until the thread that reads has news, or leaves; then that may be our part. */
static void follow(const wanted_t *w, int64_t limit_ns)
{
    orion_net_t *net = w->channel->net;
    uint32_t seen = orion_load_acquire(&net->news);
    (void)orion_fetch_add(&net->waiters, 1);
    orion_fence_full(); /* pairs with the one in tell */
    if (!is_there(w)) {
        if (orion_lock_try(&net->in_lock)) {
            orion_lock_leave(&net->in_lock); /* it left just now */
        } else {
            (void)orion_futex_wait(&net->news, seen, limit_ns);
        }
    }
    (void)orion_fetch_sub(&net->waiters, 1);
}

orion_status_t orion_net_wait(orion_channel_t *channel, const uint32_t *word, uint32_t old, int64_t limit_ns)
{
    wanted_t w = {.channel = channel, .word = word, .old = old};
    int64_t start = orion_clock_ns();
    if (!is_there(&w) && orion_lock_try(&channel->net->in_lock)) {
        read_for_all(&w, limit_ns);
        orion_net_leave(channel);
    } else if (!is_there(&w)) {
        follow(&w, limit_ns);
    }
    if (orion_load_acquire(word) != old)
        return ORION_OK;
    return orion_clock_ns() - start >= limit_ns ? ORION_TIMEOUT : ORION_AGAIN;
}

orion_status_t orion_net_wait_writable(orion_channel_t *channel, int64_t limit_ns)
{
    orion_net_t *net = channel->net;
    if (orion_lock_try(&net->in_lock)) {
        if (orion_net_pump(channel, false) > 0)
            orion_net_notify(channel);
        if (orion_channel_live(channel))
            (void)orion_bytestream_wait(net->stream, ORION_BYTESTREAM_READ | ORION_BYTESTREAM_WRITE, limit_ns);
        orion_net_leave(channel);
    } else {
        (void)orion_bytestream_wait(net->stream, ORION_BYTESTREAM_WRITE, limit_ns);
    }
    return orion_channel_wait_on(channel);
}

/* ---- event loops: with the notice lock ---- */

static void unwatch(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    for (int i = 0; i < net->watched_count; i++)
        (void)epoll_ctl(channel->socket, EPOLL_CTL_DEL, net->watched[i], NULL);
    net->watched_count = 0;
}

/* false: something is there already. */
static bool watch(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    struct pollfd polled[ORION_BYTESTREAM_FDS];
    unwatch(channel);
    int count = orion_bytestream_arm(net->stream, ORION_BYTESTREAM_READ, polled);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = (uint32_t)polled[i].events};
        if (epoll_ctl(channel->socket, EPOLL_CTL_ADD, polled[i].fd, &event) == 0)
            net->watched[net->watched_count++] = polled[i].fd;
    }
    orion_store_relaxed(&net->armed, 1);
    return count > 0;
}

orion_status_t orion_net_arm(orion_channel_t *channel, const uint32_t *word, uint32_t old)
{
    wanted_t w = {.channel = channel, .word = word, .old = old};
    bool watched = false;
    for (int i = 0; i < ARM_TRIES && !watched; i++) {
        orion_net_look(channel);
        if (is_there(&w))
            return ORION_AGAIN;
        orion_lock_enter(&channel->notice_lock);
        watched = channel->socket >= 0 && watch(channel);
        orion_lock_leave(&channel->notice_lock);
    }
    orion_fence_full(); /* `armed` before the look; pairs with the fence in tell */
    if (is_there(&w))
        return ORION_AGAIN;
    if (!watched)
        orion_net_notify(channel); /* the loop looks again at once */
    return ORION_OK;
}

void orion_net_disarm(orion_channel_t *channel)
{
    orion_net_t *net = channel->net;
    uint64_t count;
    int saved = errno;
    orion_lock_enter(&channel->notice_lock);
    orion_store_relaxed(&net->armed, 0);
    if (channel->socket >= 0) {
        unwatch(channel);
        (void)!read(net->event_fd, &count, sizeof(count));
    }
    orion_lock_leave(&channel->notice_lock);
    errno = saved;
}
