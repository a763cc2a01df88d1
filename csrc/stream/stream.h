/* SPDX-License-Identifier: Apache-2.0 */
/* A byte stream to one other process: bytes arrive once, in order, or the stream ends. The operations go through one
 * table, so that a plain socket, TLS over a socket and UCX are one thing to everything above. (orion_stream_t is
 * CUDA's kind of stream, in server/devices.)
 *
 * Threads: one sends at a time and one receives at a time; the two may be different threads, at the same time, and each
 * may arm and sleep. Nothing here raises SIGPIPE, and errno stays as it was. */
#ifndef ORION_STREAM_STREAM_H
#define ORION_STREAM_STREAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/atomic.h"
#include "base/status.h"

#define ORION_BYTESTREAM_SLICE_NS 50000000LL /* a waiting receive returns after so long, that its caller look around */
#define ORION_BYTESTREAM_PARTS 32            /* of one send or receive, at most */
#define ORION_BYTESTREAM_FDS 3               /* that one stream polls, at most */

/* What a thread that is about to sleep waits for. */
#define ORION_BYTESTREAM_READ 1u
#define ORION_BYTESTREAM_WRITE 2u

typedef struct orion_bytestream orion_bytestream_t;

typedef struct orion_bytestream_ops {
    const char *name; /* "tcp", "tls", "ucx" */
    orion_status_t (*send)(orion_bytestream_t *stream, const struct iovec *parts, size_t count, size_t *sent_p);
    orion_status_t (*receive)(orion_bytestream_t *stream, const struct iovec *room, size_t count, bool wait,
                              size_t *received_p);
    int (*arm)(orion_bytestream_t *stream, unsigned wishes, struct pollfd polled[ORION_BYTESTREAM_FDS]);
    bool (*last_words)(orion_bytestream_t *stream, void *to, size_t bytes); /* NULL: they are in the stream itself */
    bool (*settled)(orion_bytestream_t *stream);                            /* NULL: always */
    void (*fork_child)(orion_bytestream_t *stream);
    void (*close)(orion_bytestream_t *stream);
} orion_bytestream_ops_t;

struct orion_bytestream {
    const orion_bytestream_ops_t *ops;
    int socket;            /* what it runs over, or its witness; -1 in a forked child */
    bool over_socket;      /* its bytes come through the socket: SO_INCOMING_CPU says where they were sent */
    const char *complaint; /* what ORION_PROTOCOL was about; one sentence */
};

/* Sends what it can without waiting. ORION_OK: *sent_p bytes (> 0) are under way, see settled. ORION_AGAIN: none are;
 * what was offered is offered again later, the same bytes first, perhaps from another place, since some
 * of them may be on their way already. ORION_PEER_GONE: no more can be sent; there may be bytes left to receive. */
static inline orion_status_t orion_bytestream_send(orion_bytestream_t *stream, const struct iovec *parts, size_t count,
                                                   size_t *sent_p)
{
    orion_status_t status = stream->ops->send(stream, parts, count, sent_p);
    orion_told_sent(stream);
    return status;
}

/* Receives what is there. wait: until something is, or for ORION_BYTESTREAM_SLICE_NS. ORION_OK: *received_p bytes
 * (> 0). ORION_AGAIN: nothing came. ORION_PEER_GONE: the end. ORION_PROTOCOL: garbage; stream->complaint. */
static inline orion_status_t orion_bytestream_receive(orion_bytestream_t *stream, const struct iovec *room,
                                                      size_t count, bool wait, size_t *received_p)
{
    orion_status_t status = stream->ops->receive(stream, room, count, wait, received_p);
    orion_told_received(stream);
    return status;
}

/* Before a sleep in poll: what to poll so that it ends when one of the wishes may succeed, or the stream ends. How many
 * places of `polled` are filled in; 0: do not sleep, something is there already. */
static inline int orion_bytestream_arm(orion_bytestream_t *stream, unsigned wishes,
                                       struct pollfd polled[ORION_BYTESTREAM_FDS])
{
    return stream->ops->arm(stream, wishes, polled);
}

/* A stream that its far end cannot finish itself (encrypted, and that process is dead) ends in bytes from whoever
 * watched over it. Copies the last `bytes` of those. false: there are none, or they are part of the stream itself. */
static inline bool orion_bytestream_last_words(orion_bytestream_t *stream, void *to, size_t bytes)
{
    return stream->ops->last_words != NULL && stream->ops->last_words(stream, to, bytes);
}

/* false: some of what was sent needs further calls here (this one, or a receive) before it has left this process, so
 * somebody has to make them soon. */
static inline bool orion_bytestream_settled(orion_bytestream_t *stream)
{
    return stream->ops->settled == NULL || stream->ops->settled(stream);
}

/* In the child of a fork: lets go of the descriptors without a word to the other end. Only close() may follow. */
static inline void orion_bytestream_fork_child(orion_bytestream_t *stream)
{
    stream->ops->fork_child(stream);
}

static inline void orion_bytestream_close(orion_bytestream_t *stream)
{
    if (stream != NULL)
        stream->ops->close(stream);
}

/* Arms and sleeps for at most limit_ns (< 0: without end). ORION_OK: look again. ORION_AGAIN: time was up. */
orion_status_t orion_bytestream_wait(orion_bytestream_t *stream, unsigned wishes, int64_t limit_ns);

/* How many bytes the parts have together, and the parts without their first `bytes`. */
size_t orion_parts_bytes(const struct iovec *parts, size_t count);
void orion_parts_skip(struct iovec *parts, size_t count, size_t bytes);

#endif
