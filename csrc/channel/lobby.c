/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "channel/lobby.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "channel/channel.h"

enum { LISTENER, BELL, GUESTS }; /* what is polled */

/* Nobody in it. */
static orion_status_t furnish(orion_lobby_t *lobby)
{
    lobby->count = 0;
    lobby->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lobby->bell < 0)
        return ORION_SYSTEM;
    (void)pthread_mutex_init(&lobby->lock, NULL);
    orion_store_release(&lobby->owner, getpid()); /* release: pairs with the acquire in settle */
    return ORION_OK;
}

orion_status_t orion_lobby_open(orion_lobby_t *lobby, int listener, size_t hello_bytes)
{
    memset(lobby, 0, sizeof(*lobby));
    lobby->listener = listener;
    lobby->hello_bytes = hello_bytes;
    return furnish(lobby);
}

static void remove_guest(orion_lobby_t *lobby, unsigned at)
{
    memmove(&lobby->guests[at], &lobby->guests[at + 1], (lobby->count - at - 1) * sizeof(lobby->guests[0]));
    lobby->count--;
}

static void dismiss_oldest(orion_lobby_t *lobby, orion_log_level_t level, const char *why)
{
    orion_log(level, "dismissed a process that connected: %s", why);
    orion_fd_close(lobby->guests[0].socket);
    remove_guest(lobby, 0);
}

void orion_lobby_close(orion_lobby_t *lobby)
{
    for (unsigned i = 0; i < lobby->count; i++)
        orion_fd_close(lobby->guests[i].socket);
    orion_fd_close(lobby->bell);
    (void)pthread_mutex_destroy(&lobby->lock);
}

/* In a forked child: the parent's guests are the parent's to greet. The lock is made anew, for who held it is not in this
 * process. Several threads may come here at once. */
static orion_status_t settle(orion_lobby_t *lobby)
{
    orion_status_t status = ORION_OK;
    if (orion_load_acquire(&lobby->owner) == getpid())
        return ORION_OK;
    orion_fork_hold();
    if (lobby->owner != getpid()) {
        (void)pthread_mutex_init(&lobby->lock, NULL);
        orion_lobby_close(lobby);
        status = furnish(lobby);
    }
    orion_fork_allow();
    return status;
}

/* One at most, or others that accept from this socket would get none. */
static orion_status_t let_in(orion_lobby_t *lobby)
{
    int socket = accept4(lobby->listener, NULL, NULL, SOCK_CLOEXEC);
    if (socket < 0) /* another thread had it, or it hung up */
        return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? ORION_OK : ORION_SYSTEM;
    if (lobby->hello_bytes != 0) { /* poll() tells of it when so much has come */
        int bytes = (int)lobby->hello_bytes;
        (void)setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
    }
    if (lobby->count == ORION_LOBBY_SEATS)
        dismiss_oldest(lobby, ORION_LOG_DEBUG, "it said no hello while many others came");
    lobby->guests[lobby->count++] = (orion_guest_t){socket, orion_clock_ns() + ORION_LOBBY_NS};
    return ORION_OK;
}

static int take(orion_lobby_t *lobby, const struct pollfd *polled, unsigned count)
{
    for (unsigned i = 0; i < lobby->count; i++) {
        for (unsigned j = 0; j < count; j++) {
            int socket = lobby->guests[i].socket;
            if (polled[j].fd != socket || polled[j].revents == 0)
                continue;
            int one = 1;
            (void)setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one));
            remove_guest(lobby, i);
            if (lobby->count > 0) /* another thread may be asleep that does not know of them */
                (void)eventfd_write(lobby->bell, 1);
            return socket;
        }
    }
    return -1;
}

static int until(int64_t deadline, int64_t now)
{
    if (deadline < 0)
        return -1;
    return deadline <= now ? 0 : (int)((deadline - now + ORION_NS_PER_MS - 1) / ORION_NS_PER_MS);
}

orion_status_t orion_lobby_next(orion_lobby_t *lobby, int64_t deadline, int *socket_p)
{
    if (settle(lobby) != ORION_OK)
        return ORION_SYSTEM;
    struct pollfd polled[GUESTS + ORION_LOBBY_SEATS];
    (void)pthread_mutex_lock(&lobby->lock);
    int64_t now = orion_clock_ns(), end = deadline, late = deadline < 0 ? INT64_MAX : deadline + ORION_LOBBY_NS;
    while (lobby->count > 0 && lobby->guests[0].deadline <= now)
        dismiss_oldest(lobby, ORION_LOG_INFO, "it did not say hello in time");
    /* Whoever looks in only now and then (timeout 0) still gets those who are on their way in. */
    bool expected = lobby->count > 0 && now < late;
    if (expected && (end <= now || end > lobby->guests[0].deadline)) /* end < 0 as well */
        end = lobby->guests[0].deadline < late ? lobby->guests[0].deadline : late;
    polled[LISTENER] = (struct pollfd){.fd = lobby->listener, .events = POLLIN};
    polled[BELL] = (struct pollfd){.fd = lobby->bell, .events = POLLIN};
    unsigned count = GUESTS;
    for (unsigned i = 0; i < lobby->count; i++)
        polled[count++] = (struct pollfd){.fd = lobby->guests[i].socket, .events = POLLIN};
    (void)pthread_mutex_unlock(&lobby->lock);

    int ready = poll(polled, count, until(end, now));
    if (ready < 0)
        return errno == EINTR ? ORION_AGAIN : ORION_SYSTEM;
    if (ready == 0)
        return expected ? ORION_AGAIN : ORION_TIMEOUT;
    orion_status_t status = ORION_OK;
    (void)pthread_mutex_lock(&lobby->lock);
    if (polled[BELL].revents != 0) {
        eventfd_t rung;
        (void)eventfd_read(lobby->bell, &rung);
    }
    *socket_p = take(lobby, polled + GUESTS, count - GUESTS);
    if (*socket_p < 0 && polled[LISTENER].revents != 0)
        status = let_in(lobby);
    (void)pthread_mutex_unlock(&lobby->lock);
    if (*socket_p >= 0)
        return ORION_OK;
    return status == ORION_OK ? ORION_AGAIN : status;
}
