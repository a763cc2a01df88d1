/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake over a unix socket: each side makes its segment, sends it with a greeting, and maps the other's. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "channel/channel.h"
#include "channel/greeting.h"

#define PAGE 4096u
#define ARENA_LIMIT (1ULL << 30)
#define MESSAGE_LIMIT_MIN (64ULL << 20)

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18 /* Linux 4.14 */
#endif

/* Whose process is at the other end? The uid that it had when it connected, or began to listen. */
static orion_status_t check_user(int socket, bool any_user, int32_t *pid_p, char *why, size_t why_bytes)
{
    struct ucred peer;
    socklen_t bytes = sizeof(peer);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot tell whose process is at the other end");
        return ORION_SYSTEM;
    }
    *pid_p = peer.pid;
    if (any_user || peer.uid == geteuid() || peer.uid == 0)
        return ORION_OK;
    orion_explain(why, why_bytes, "it belongs to user %u, and only user %u and root may be there (any_user allows all)",
                  peer.uid, geteuid());
    return ORION_REFUSED;
}

/* A pidfd is polled, and polling any other kind of file could run code of the other side: only by its name in /proc,
 * which no path can have, is it believed to be one. */
static bool is_pidfd(int fd)
{
    char path[40], name[32];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, name, sizeof(name) - 1);
    if (n <= 0)
        return false;
    name[n] = '\0';
    return strcmp(name, "anon_inode:[pidfd]") == 0 || strncmp(name, "pidfd:[", 7) == 0;
}

static orion_status_t say_hello(orion_channel_t *channel, const orion_greeting_t *hello)
{
    int fds[2] = {channel->own_segment.fd, orion_pidfd_open(getpid())};
    orion_greeting_t g = *hello;
    if (fds[1] >= 0)
        g.flags |= ORION_GREETING_PIDFD;
    orion_status_t status = orion_fd_send_packet(channel->socket, &g, sizeof(g), fds, fds[1] >= 0 ? 2 : 1);
    orion_fd_close(fds[1]);
    return status;
}

static orion_status_t hear_hello(orion_channel_t *channel, int64_t timeout_ns, orion_greeting_t *hello_p, int fds[2],
                                 char *why, size_t why_bytes)
{
    char bytes[sizeof(*hello_p) + 1];
    size_t received = 0;
    fds[0] = fds[1] = -1;
    orion_status_t status = orion_fd_await_readable(channel->socket,
                                                    timeout_ns < 0 ? -1 : orion_clock_ns() + timeout_ns);
    if (status == ORION_TIMEOUT) {
        orion_explain(why, why_bytes, "nobody accepted in time");
        return status;
    }
    if (status == ORION_OK)
        status = orion_fd_receive_packet(channel->socket, bytes, sizeof(bytes), &received, fds, 2);
    if (status != ORION_OK) {
        orion_explain(why, why_bytes, "it hung up before it said hello");
        return ORION_PEER_GONE;
    }
    return orion_greeting_decode(bytes, received, hello_p, why, why_bytes);
}

orion_channel_t *orion_channel_allocate(const orion_channel_options_t *options)
{
    void *memory = NULL;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(orion_channel_t)) != 0)
        return NULL;
    orion_channel_t *channel = memory;
    memset(channel, 0, sizeof(*channel));
    channel->own_segment.fd = channel->peer_segment.fd = channel->pidfd = channel->socket = -1;
    void *state = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (state == MAP_FAILED) {
        free(channel);
        return NULL;
    }
    (void)madvise(state, PAGE, MADV_WIPEONFORK); /* older kernels: fork.c alone has to do */
    channel->state = state;
    *channel->state = ORION_CHANNEL_LIVE;
    channel->users = 1;
    channel->keep_waiting = options->keep_waiting;
    channel->transport = "shm";
    return channel;
}

void orion_channel_abandon(orion_channel_t *channel)
{
    orion_net_destroy(channel);
    orion_fd_close(channel->socket);
    orion_fd_close(channel->pidfd);
    orion_segment_close(&channel->own_segment);
    orion_segment_close(&channel->peer_segment);
    (void)munmap(channel->state, PAGE);
    free(channel);
}

orion_channel_limits_t orion_channel_limits(const orion_channel_options_t *options)
{
    uint64_t arena = options->arena_limit != 0 ? options->arena_limit : ARENA_LIMIT, message = options->message_limit;
    if (message == 0) {
        message = arena > UINT64_MAX / 4 ? UINT64_MAX : 4 * arena;
        if (message < MESSAGE_LIMIT_MIN)
            message = MESSAGE_LIMIT_MIN;
    }
    return (orion_channel_limits_t){arena, message > arena ? message : arena};
}

void orion_channel_agree(orion_channel_t *channel, orion_channel_limits_t mine, orion_channel_limits_t theirs)
{
    channel->receive_limit = mine.arena;
    channel->receive_max = mine.message;
    channel->send_limit = mine.arena < theirs.arena ? mine.arena : theirs.arena;
    /* what fits the arena is always taken, whatever the other side says */
    channel->send_max = theirs.message > channel->send_limit ? theirs.message : channel->send_limit;
}

/* Both segments are there: the private ends of the rings. */
static orion_status_t start(orion_channel_t *channel, const orion_greeting_t *mine, const orion_greeting_t *theirs,
                            char *why, size_t why_bytes)
{
    orion_channel_control_t *own = channel->own = channel->own_segment.address;
    const orion_channel_control_t *peer = channel->peer = channel->peer_segment.address;
    if (!orion_segment_header_matches(&peer->header, ORION_CHANNEL_MAGIC, theirs->epoch, ORION_CHANNEL_SEGMENT_BYTES,
                                      theirs->nonce)) {
        orion_explain(why, why_bytes, "the shared memory that it sent is not that of a channel");
        return ORION_PROTOCOL;
    }
    orion_wait_policy_init(&channel->policy, (mine->flags & theirs->flags & ORION_GREETING_MEMBARRIER) != 0);
    orion_ring_producer_init(&channel->out, orion_channel_ring(own), ORION_CHANNEL_RING_BYTES, &own->head, &peer->tail,
                             mine->epoch);
    /* the copy goes straight into the message of whoever receives: set with each */
    orion_ring_consumer_init(&channel->in, orion_channel_ring(peer), ORION_CHANNEL_RING_BYTES, &peer->head, &own->tail,
                             theirs->epoch, NULL, ORION_CHANNEL_RECORD_MAX);
    orion_channel_agree(channel, (orion_channel_limits_t){mine->arena_limit, mine->message_limit},
                        (orion_channel_limits_t){theirs->arena_limit, theirs->message_limit});
    return ORION_OK;
}

orion_status_t orion_channel_open(int socket, const orion_channel_options_t *options, bool listening,
                                  int64_t timeout_ns, orion_channel_t **channel_p, char *why, size_t why_bytes)
{
    const orion_channel_limits_t limits = orion_channel_limits(options);
    orion_greeting_t mine = {.kind = ORION_PACKET_HELLO,
                             .version = ORION_CHANNEL_VERSION,
                             .magic = ORION_GREETING_MAGIC,
                             .segment_bytes = ORION_CHANNEL_SEGMENT_BYTES,
                             .arena_limit = limits.arena,
                             .message_limit = limits.message};
    orion_greeting_t theirs;
    int fds[2] = {-1, -1};
    orion_channel_t *channel = orion_channel_allocate(options);
    if (channel == NULL) {
        orion_fd_close(socket);
        orion_explain(why, why_bytes, "not enough memory for a channel");
        return ORION_NO_MEMORY;
    }
    channel->socket = socket;
    channel->movable = listening;
    orion_status_t status = check_user(socket, options->any_user, &channel->peer_pid, why, why_bytes);
    if (status == ORION_REFUSED && listening) {
        mine.kind = ORION_PACKET_REFUSAL;
        (void)snprintf(mine.message, sizeof(mine.message), "%s", "this user may not connect");
        (void)orion_fd_send_packet(socket, &mine, sizeof(mine), NULL, 0);
    }
    if (status != ORION_OK)
        goto err;
    if (orion_random_bytes(&mine.nonce, sizeof(mine.nonce)) != 0 ||
        orion_random_bytes(&mine.epoch, sizeof(mine.epoch)) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot draw a random number");
        status = ORION_SYSTEM;
        goto err;
    }
    mine.epoch |= 1;
    if (orion_membarrier_begin())
        mine.flags |= ORION_GREETING_MEMBARRIER;
    status = orion_segment_create(&channel->own_segment, "orion-channel", ORION_CHANNEL_SEGMENT_BYTES, true, why,
                                  why_bytes);
    if (status != ORION_OK)
        goto err;
    orion_channel_control_t *own = channel->own_segment.address;
    orion_segment_header_fill(&own->header, ORION_CHANNEL_MAGIC, mine.epoch, ORION_CHANNEL_SEGMENT_BYTES, mine.nonce);
    if (say_hello(channel, &mine) != ORION_OK) {
        orion_explain(why, why_bytes, "it hung up before this process said hello");
        status = ORION_PEER_GONE;
        goto err;
    }
    orion_segment_close_fd(&channel->own_segment);
    status = hear_hello(channel, timeout_ns, &theirs, fds, why, why_bytes);
    if (status != ORION_OK)
        goto err_fds;
    if (fds[1] >= 0 && (theirs.flags & ORION_GREETING_PIDFD) != 0 && is_pidfd(fds[1])) {
        channel->pidfd = fds[1];
        fds[1] = -1;
    }
    status = orion_segment_map(&channel->peer_segment, fds[0], ORION_CHANNEL_SEGMENT_BYTES, false, why, why_bytes);
    fds[0] = -1; /* taken over */
    if (status == ORION_OK)
        status = start(channel, &mine, &theirs, why, why_bytes);
    if (status != ORION_OK)
        goto err_fds;
    orion_fd_close(fds[1]);
    orion_channels_add(channel);
    *channel_p = channel;
    return ORION_OK;
err_fds:
    orion_fd_close(fds[0]);
    orion_fd_close(fds[1]);
err:
    orion_channel_abandon(channel);
    return status;
}

orion_status_t orion_channel_open_socket(int socket, const orion_channel_options_t *options, int64_t timeout_ns,
                                         orion_channel_t **channel_p, char *why, size_t why_bytes)
{
    const orion_channel_options_t none = {0};
    return orion_channel_open(socket, options != NULL ? options : &none, false, timeout_ns, channel_p, why, why_bytes);
}
