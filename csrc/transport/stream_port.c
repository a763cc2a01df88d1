/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end over a stream, see stream_port.h. The loop reads; any thread sends, and nobody waits for a client
 * that does not read: what the socket does not take is queued, the loop sends it when there is room, and beyond a bound
 * it reads no more records until the client has read its answers. */
#define _GNU_SOURCE
#include "transport/stream_port.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "shm/layout.h"
#include "transport/frames.h"
#include "transport/port_ops.h"
#include "transport/spin.h"

/* An honest client has at most a reply per slot, all chunks and a window of events on their way: under 5 MiB. */
#define QUEUE_HIGH (8u << 20)
#define PARTS_MOST 32 /* of the queue in one system call */

typedef struct queued {
    struct queued *next;
    const uint8_t *at;
    size_t left;
    uint8_t copy[];
} queued_t;

typedef struct stream_port {
    const orion_port_ops_t *ops; /* first: a port begins so */
    uint64_t nonce;
    int socket, wake_fd;
    uint8_t *stages;

    /* the loop's */
    orion_frames_t frames;
    orion_spin_t spin;
    pid_t loop_thread;
    bool heard; /* the client has spoken: it has its welcome */
    const char *complaint;

    /* any thread to the loop */
    uint32_t wake, asleep; /* atomic */
    uint32_t gone;         /* atomic: sending has failed for good */
    uint64_t queued;       /* atomic: bytes; changed under the lock */
    int64_t sent_at;       /* atomic: when the client was last sent anything */

    pthread_mutex_t lock; /* of all below, and of the order of what is sent */
    queued_t *first, **last;
    uint32_t events_sent, events_read; /* bytes of frames, free-running */

    _Alignas(16) uint8_t buffer[ORION_FRAMES_BUFFER];
} stream_port_t;

static stream_port_t *stream(orion_port_t *port)
{
    return (stream_port_t *)(void *)port;
}

static const stream_port_t *stream_const(const orion_port_t *port)
{
    return (const stream_port_t *)(const void *)port;
}

/* ---- sending ---- */

static void wake_loop(stream_port_t *p)
{
    uint64_t one = 1;
    if (orion_load_acquire(&p->asleep) != 0)
        (void)!write(p->wake_fd, &one, sizeof(one));
}

/* How much the socket takes now. */
static size_t send_parts(stream_port_t *p, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t n;
    do {
        n = sendmsg(p->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            orion_store_release(&p->gone, 1); /* release: pairs with the acquire in wait_for_client */
        return 0;
    }
    orion_store_relaxed(&p->sent_at, orion_clock_ns());
    return (size_t)n;
}

/* With the lock. bytes stay where they are when `stays`, else they are copied. */
static void enqueue(stream_port_t *p, const uint8_t *bytes, size_t count, bool stays)
{
    queued_t *q = malloc(sizeof(*q) + (stays ? 0 : count));
    if (q == NULL) { /* the stream would go on without these bytes: it is over */
        orion_store_release(&p->gone, 1);
        return;
    }
    *q = (queued_t){.at = stays ? bytes : q->copy, .left = count};
    if (!stays)
        memcpy(q->copy, bytes, count);
    *p->last = q;
    p->last = &q->next;
    (void)orion_fetch_add(&p->queued, count);
}

static void flush_locked(stream_port_t *p)
{
    while (p->first != NULL && orion_load_relaxed(&p->gone) == 0) {
        struct iovec parts[PARTS_MOST];
        size_t count = 0;
        for (queued_t *q = p->first; q != NULL && count < PARTS_MOST; q = q->next)
            parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)q->at, .iov_len = q->left};
        size_t sent = send_parts(p, parts, count);
        if (sent == 0)
            return;
        (void)orion_fetch_sub(&p->queued, sent);
        while (p->first != NULL && sent >= p->first->left) {
            queued_t *q = p->first;
            sent -= q->left;
            p->first = q->next;
            if (p->first == NULL)
                p->last = &p->first;
            free(q);
        }
        if (sent > 0) {
            p->first->at += sent;
            p->first->left -= sent;
        }
    }
}

static void flush(stream_port_t *p)
{
    if (orion_load_acquire(&p->queued) == 0)
        return;
    (void)pthread_mutex_lock(&p->lock);
    flush_locked(p);
    (void)pthread_mutex_unlock(&p->lock);
}

/* With the lock: a frame of up to four pieces; the last may be one that stays in place until the client has it. */
static void send_locked(stream_port_t *p, const struct iovec *pieces, size_t count, bool last_stays)
{
    struct iovec parts[4];
    size_t sent = 0;
    memcpy(parts, pieces, count * sizeof(*pieces));
    if (orion_load_relaxed(&p->gone) != 0)
        return;
    if (p->first == NULL)
        sent = send_parts(p, parts, count);
    for (size_t i = 0; i < count; i++) {
        size_t here = sent < pieces[i].iov_len ? sent : pieces[i].iov_len;
        sent -= here;
        if (here < pieces[i].iov_len)
            enqueue(p, (const uint8_t *)pieces[i].iov_base + here, pieces[i].iov_len - here,
                    last_stays && i == count - 1);
    }
    if (p->first != NULL)
        wake_loop(p);
}

static orion_record_t header(const stream_port_t *p, uint16_t kind, uint32_t slot, uint32_t sequence, size_t payload)
{
    return (orion_record_t){.bytes = ORION_RECORD_HEADER + (uint32_t)payload,
                            .opcode = kind,
                            .slot = (uint16_t)slot,
                            .sequence = sequence,
                            .epoch = p->frames.epoch};
}

static void stream_reply(orion_port_t *port, uint32_t slot, uint32_t sequence, int32_t result, int32_t sticky,
                         const void *data, uint32_t bytes)
{
    static const uint8_t zeros[ORION_RECORD_ALIGN];
    stream_port_t *p = stream(port);
    if (slot >= ORION_REPLY_SLOTS)
        return;
    if (bytes > ORION_REPLY_DATA)
        bytes = ORION_REPLY_DATA;
    uint32_t padded = orion_record_round(bytes);
    orion_frame_reply_t reply = {.result = result, .sticky = sticky, .bytes = bytes};
    orion_record_t head = header(p, ORION_FRAME_REPLY, slot, sequence, sizeof(reply) + padded);
    struct iovec pieces[] = {{&head, sizeof(head)},
                             {&reply, sizeof(reply)},
                             {(void *)(uintptr_t)data, bytes},
                             {(void *)(uintptr_t)zeros, padded - bytes}};
    (void)pthread_mutex_lock(&p->lock);
    send_locked(p, pieces, bytes == 0 ? 2 : padded == bytes ? 3 : 4, false);
    (void)pthread_mutex_unlock(&p->lock);
}

static void *stream_stage(orion_port_t *port, uint32_t index)
{
    if (index >= ORION_STAGE_COUNT)
        return NULL;
    return stream(port)->stages + orion_index_nospec(index, ORION_STAGE_COUNT) * ORION_STAGE_BYTES;
}

static void stream_stage_done(orion_port_t *port, uint32_t index, uint32_t sequence)
{
    stream_port_t *p = stream(port);
    if (index >= ORION_STAGE_COUNT)
        return;
    orion_record_t head = header(p, ORION_FRAME_DONE, index, sequence, 0);
    struct iovec piece = {&head, sizeof(head)};
    (void)pthread_mutex_lock(&p->lock);
    send_locked(p, &piece, 1, false);
    (void)pthread_mutex_unlock(&p->lock);
}

static void stream_stage_give(orion_port_t *port, uint32_t index, uint32_t sequence, uint32_t bytes)
{
    stream_port_t *p = stream(port);
    if (index >= ORION_STAGE_COUNT)
        return;
    if (bytes > ORION_STAGE_BYTES)
        bytes = ORION_STAGE_BYTES;
    bytes = orion_record_round(bytes); /* the padding is the chunk's own: this client's bytes */
    orion_record_t head = header(p, ORION_FRAME_STAGE, index, sequence, bytes);
    struct iovec pieces[] = {{&head, sizeof(head)}, {stream_stage(port, index), bytes}};
    (void)pthread_mutex_lock(&p->lock);
    send_locked(p, pieces, bytes == 0 ? 1 : 2, bytes != 0); /* the client reuses a chunk when it has it */
    (void)pthread_mutex_unlock(&p->lock);
}

/* With the lock. false: it claims to have read what was never sent. An older one was seen before by peeking. */
static bool take_credit(stream_port_t *p, uint32_t read)
{
    if ((int32_t)(read - p->events_read) <= 0)
        return true;
    if (read - p->events_read > p->events_sent - p->events_read)
        return false;
    p->events_read = read;
    return true;
}

static orion_status_t stream_event(orion_port_t *port, const void *data, uint32_t bytes)
{
    stream_port_t *p = stream(port);
    if (bytes > ORION_EVENT_MAX)
        return ORION_TOO_BIG;
    uint8_t payload[ORION_EVENT_MAX];
    uint32_t padded = orion_record_round(bytes), read;
    orion_record_t head = header(p, ORION_FRAME_EVENT, 0, bytes, padded);
    orion_status_t status = ORION_OK;
    if (bytes != 0)
        memcpy(payload, data, bytes);
    memset(payload + bytes, 0, padded - bytes);
    struct iovec pieces[] = {{&head, sizeof(head)}, {payload, padded}};
    (void)pthread_mutex_lock(&p->lock);
    if (p->events_sent - p->events_read + head.bytes > ORION_EVENT_WINDOW && orion_gettid() == p->loop_thread) {
        /* the loop itself sends: it will not read the credit meanwhile */
        (void)orion_frames_receive_behind(&p->frames, p->socket);
        if (orion_frames_peek(&p->frames, ORION_FRAME_CREDIT, &read))
            (void)take_credit(p, read);
    }
    if (orion_load_relaxed(&p->gone) != 0) {
        status = ORION_PEER_GONE;
    } else if (p->events_sent - p->events_read + head.bytes > ORION_EVENT_WINDOW) {
        status = ORION_AGAIN;
    } else {
        p->events_sent += head.bytes;
        send_locked(p, pieces, padded == 0 ? 1 : 2, false);
    }
    (void)pthread_mutex_unlock(&p->lock);
    return status;
}

/* A client that waits for an answer gives us up when it hears nothing for long. One that reads nothing at all needs no
 * pulse: it is dropped when the socket is full. */
static void pulse(stream_port_t *p)
{
    if (!p->heard || orion_clock_ns() - orion_load_relaxed(&p->sent_at) < ORION_PULSE_NS)
        return;
    orion_record_t head = header(p, ORION_FRAME_PULSE, 0, 0, 0);
    struct iovec piece = {&head, sizeof(head)};
    (void)pthread_mutex_lock(&p->lock);
    if (p->first == NULL) {
        size_t sent = send_parts(p, &piece, 1);
        if (sent > 0 && sent < sizeof(head))
            enqueue(p, (const uint8_t *)&head + sent, sizeof(head) - sent, false);
    }
    (void)pthread_mutex_unlock(&p->lock);
}

static void stream_idle(orion_port_t *port)
{
    flush(stream(port));
    pulse(stream(port));
}

/* ---- receiving ---- */

static uint8_t *place(void *self, const orion_record_t *frame, uint32_t bytes)
{
    (void)bytes; /* no longer than a chunk: orion_frames_next has looked */
    return stream_stage(self, frame->slot);
}

static void drain_wake(stream_port_t *p)
{
    uint64_t count;
    (void)!read(p->wake_fd, &count, sizeof(count));
}

static orion_status_t try_receive(stream_port_t *p)
{
    return orion_frames_receive(&p->frames, p->socket, MSG_DONTWAIT);
}

static orion_status_t look(void *self)
{
    return try_receive(self);
}

/* One bounded wait. ORION_OK: bytes have come, or look again. ORION_TIMEOUT. ORION_PEER_GONE. */
static orion_status_t wait_for_client(stream_port_t *p, int64_t limit_ns, bool reading)
{
    orion_status_t status = ORION_AGAIN;
    /* acquire: pairs with the releases where sending fails */
    if (orion_load_acquire(&p->gone) != 0)
        return ORION_PEER_GONE;
    int64_t start = orion_clock_ns();
    flush(p);
    if (reading && orion_load_acquire(&p->queued) == 0)
        status = orion_spin(&p->spin, p->socket, limit_ns, look, p);
    else if (reading)
        status = try_receive(p);
    if (status != ORION_AGAIN)
        return status;
    pulse(p);
    (void)orion_exchange(&p->asleep, 1); /* full barrier: the flag before the look at what others left */
    uint64_t queued = orion_load_acquire(&p->queued);
    struct pollfd polled[] = {
        {.fd = p->socket, .events = (short)((reading ? POLLIN : 0) | (queued != 0 ? POLLOUT : 0))},
        {.fd = p->wake_fd, .events = POLLIN}};
    if (limit_ns > ORION_PULSE_NS / 2)
        limit_ns = ORION_PULSE_NS / 2;
    if (orion_load_acquire(&p->wake) != 0)
        limit_ns = 0;
    struct timespec limit = {.tv_sec = limit_ns / ORION_NS_PER_S, .tv_nsec = limit_ns % ORION_NS_PER_S};
    int rc = ppoll(polled, 2, &limit, NULL);
    orion_store_relaxed(&p->asleep, 0);
    orion_spin_slept(&p->spin, orion_clock_ns() - start);
    if (rc > 0 && polled[1].revents != 0)
        drain_wake(p);
    if (rc > 0 && !reading && (polled[0].revents & (POLLHUP | POLLERR)) != 0)
        return ORION_PEER_GONE;
    return rc == 0 ? ORION_TIMEOUT : ORION_OK;
}

static orion_status_t refuse(stream_port_t *p, const char *complaint)
{
    p->complaint = complaint;
    return ORION_PROTOCOL;
}

/* A frame of the transport's own. */
static orion_status_t heed(stream_port_t *p, const orion_record_t *frame)
{
    bool good = true;
    if (frame->opcode == ORION_FRAME_STAGE)
        return ORION_OK; /* in place; the record that names it follows */
    if (frame->opcode != ORION_FRAME_CREDIT)
        return refuse(p, "a frame of a kind that no client sends");
    (void)pthread_mutex_lock(&p->lock);
    good = take_credit(p, frame->sequence);
    (void)pthread_mutex_unlock(&p->lock);
    return good ? ORION_OK : refuse(p, "it claims to have read events that were never sent");
}

static orion_status_t stream_next(orion_port_t *port, int64_t timeout_ns, const orion_record_t **record_p)
{
    stream_port_t *p = stream(port);
    int64_t deadline = INT64_MIN; /* the clock is read at the first wait */
    if (p->loop_thread == 0)
        p->loop_thread = orion_gettid();
    for (;;) {
        bool reading = orion_load_relaxed(&p->queued) <= QUEUE_HIGH;
        orion_status_t status = reading ? orion_frames_next(&p->frames, record_p) : ORION_AGAIN;
        if (status == ORION_OK) {
            p->heard = true;
            if ((*record_p)->opcode < ORION_FRAME_FIRST)
                return ORION_OK;
            status = heed(p, *record_p);
            if (status != ORION_OK)
                return status;
            continue;
        }
        if (status != ORION_AGAIN)
            return status;
        /* acquire: pairs with the exchange in stream_wake; what was done before it is seen after it */
        if (orion_load_acquire(&p->wake) != 0 && orion_exchange(&p->wake, 0) != 0)
            return ORION_AGAIN;
        int64_t now = orion_clock_ns();
        if (deadline == INT64_MIN)
            deadline = timeout_ns < 0 ? INT64_MAX : now + timeout_ns;
        if (now < deadline) {
            status = wait_for_client(p, deadline - now, reading);
        } else {
            flush(p);
            status = reading ? try_receive(p) : ORION_AGAIN;
            if (status == ORION_AGAIN)
                return status;
        }
        if (status == ORION_PEER_GONE)
            return status;
    }
}

static const char *stream_complaint(const orion_port_t *port)
{
    const stream_port_t *p = stream_const(port);
    if (p->complaint != NULL)
        return p->complaint;
    return p->frames.complaint != NULL ? p->frames.complaint : "nothing";
}

static void stream_wake(orion_port_t *port)
{
    (void)orion_exchange(&stream(port)->wake, 1); /* full barrier: the flag before the look at `asleep` */
    wake_loop(stream(port));
}

/* ---- beginning and end ---- */

static void stream_describe(const orion_port_t *port, orion_welcome_t *welcome)
{
    const stream_port_t *p = stream_const(port);
    welcome->epoch = p->frames.epoch;
    welcome->flags = 0;
    welcome->nonce = p->nonce;
    welcome->slots = ORION_REPLY_SLOTS;
    welcome->worker_pid = (uint32_t)getpid();
}

static void stream_close(orion_port_t *port)
{
    stream_port_t *p = stream(port);
    while (p->first != NULL) {
        queued_t *q = p->first;
        p->first = q->next;
        free(q);
    }
    orion_fd_close(p->socket);
    orion_fd_close(p->wake_fd);
    (void)munmap(p->stages, ORION_STAGE_COUNT * (size_t)ORION_STAGE_BYTES);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static const orion_port_ops_t stream_ops = {
    .describe = stream_describe,
    .next = stream_next,
    .complaint = stream_complaint,
    .reply = stream_reply,
    .stage = stream_stage,
    .stage_done = stream_stage_done,
    .stage_give = stream_stage_give,
    .event = stream_event,
    .wake = stream_wake,
    .idle = stream_idle,
    .close = stream_close,
};

orion_status_t orion_port_create_stream(const orion_port_config_t *config, int socket, orion_port_t **port_p, char *why,
                                        size_t why_bytes)
{
    void *memory = NULL;
    orion_status_t status = ORION_NO_MEMORY;
    if (posix_memalign(&memory, ORION_SPACING, sizeof(stream_port_t)) != 0) {
        orion_explain(why, why_bytes, "not enough memory for a session");
        goto err_socket;
    }
    stream_port_t *p = memory;
    memset(p, 0, offsetof(stream_port_t, buffer));
    p->ops = &stream_ops;
    p->socket = socket;
    p->last = &p->first;
    p->nonce = config->nonce;
    orion_frames_init(&p->frames, p->buffer, config->epoch != 0 ? config->epoch : 1, place, p);
    orion_spin_init(&p->spin);
    if (p->nonce == 0 && orion_random_bytes(&p->nonce, sizeof(p->nonce)) != 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot draw a random number");
        status = ORION_SYSTEM;
        goto err_port;
    }
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->wake_fd < 0) {
        orion_explain_errno(why, why_bytes, errno, "cannot make an event descriptor");
        status = ORION_SYSTEM;
        goto err_port;
    }
    p->stages = mmap(NULL, ORION_STAGE_COUNT * (size_t)ORION_STAGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->stages == MAP_FAILED) {
        orion_explain(why, why_bytes, "not enough memory for the staging chunks of a session");
        goto err_wake;
    }
    int on = 1;
    (void)setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a test's socket may be no TCP one */
    (void)pthread_mutex_init(&p->lock, NULL);
    p->sent_at = orion_clock_ns();
    *port_p = (orion_port_t *)(void *)p;
    return ORION_OK;
err_wake:
    orion_fd_close(p->wake_fd);
err_port:
    free(p);
err_socket:
    orion_fd_close(socket);
    return status;
}
