/* SPDX-License-Identifier: Apache-2.0 */
/* A forked child inherits descriptors that must not keep a channel alive: they are closed there. Everything else of the
 * parent's channels is only left alone; their state page reads FORKED. */
#define _GNU_SOURCE
#include <pthread.h>

#include "base/fd.h"
#include "channel/channel.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static orion_channel_t *all;

static void before_fork(void)
{
    (void)pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
    (void)pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
    for (orion_channel_t *channel = all; channel != NULL; channel = channel->next) {
        orion_store_relaxed(channel->state, ORION_CHANNEL_FORKED); /* kernels before 4.14 do not wipe the page */
        if (channel->net != NULL)
            orion_net_fork_child(channel);
        orion_fd_close(channel->socket);
        orion_fd_close(channel->pidfd);
        channel->socket = channel->pidfd = -1;
    }
    all = NULL;
    (void)pthread_mutex_unlock(&lock);
}

static void install(void)
{
    (void)pthread_atfork(before_fork, in_parent, in_child);
}

void orion_fork_hold(void)
{
    (void)pthread_once(&once, install);
    (void)pthread_mutex_lock(&lock);
}

void orion_fork_allow(void)
{
    (void)pthread_mutex_unlock(&lock);
}

void orion_channels_add(orion_channel_t *channel)
{
    orion_fork_hold();
    channel->next = all;
    channel->previous = NULL;
    if (all != NULL)
        all->previous = channel;
    all = channel;
    orion_fork_allow();
}

void orion_channels_remove(orion_channel_t *channel)
{
    orion_fork_hold();
    if (channel->previous != NULL) {
        channel->previous->next = channel->next;
    } else if (all == channel) {
        all = channel->next;
    }
    if (channel->next != NULL)
        channel->next->previous = channel->previous;
    channel->next = channel->previous = NULL;
    orion_fork_allow();
}
