/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end over a byte stream: its loop, beginning and end; see stream_port_state.h. */
#define _GNU_SOURCE
#include "transport/stream_port.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/sys.h"
#include "stream/socket.h"
#include "stream/tls.h"
#include "stream/ucx.h"
#include "transport/stream_port_state.h"

/* An honest client has at most a reply per slot, all chunks and a window of events on their way: under 5 MiB. */
#define QUEUE_HIGH (8u << 20)
#define DRAIN_NS ORION_NS_PER_S

static orion_stream_port_t *stream(orion_port_t *port)
{
    return (orion_stream_port_t *)(void *)port;
}

static const orion_stream_port_t *stream_const(const orion_port_t *port)
{
    return (const orion_stream_port_t *)(const void *)port;
}

static void stream_idle(orion_port_t *port)
{
    orion_stream_port_flush(stream(port));
    orion_stream_port_pulse(stream(port));
    (void)orion_bytestream_settled(stream(port)->stream);
}

static void stream_drain(orion_port_t *port)
{
    orion_stream_port_t *p = stream(port);
    int64_t deadline = orion_clock_ns() + DRAIN_NS;
    while (orion_load_acquire(&p->gone) == 0 && orion_clock_ns() < deadline) {
        orion_stream_port_flush(p);
        if (orion_load_acquire(&p->queued) == 0 && orion_bytestream_settled(p->stream))
            return;
        (void)orion_bytestream_wait(p->stream, ORION_BYTESTREAM_WRITE, DRAIN_NS / 100);
    }
}

static uint8_t *place(void *self, const orion_record_t *frame, uint32_t bytes)
{
    (void)bytes; /* no longer than a chunk: orion_frames_next has looked */
    return orion_stream_port_stage(self, frame->slot);
}

static void drain_wake(orion_stream_port_t *p)
{
    uint64_t count;
    (void)!read(p->wake_fd, &count, sizeof(count));
}

static orion_status_t try_receive(orion_stream_port_t *p)
{
    return orion_frames_receive(&p->frames, p->stream, false);
}

static orion_status_t look(void *self)
{
    return try_receive(self);
}

/* One bounded wait. ORION_OK: bytes have come, or look again. ORION_TIMEOUT. ORION_PEER_GONE. ORION_PROTOCOL. */
static orion_status_t wait_for_client(orion_stream_port_t *p, int64_t limit_ns, bool reading)
{
    orion_status_t status = ORION_AGAIN;
    /* acquire: pairs with the releases where sending fails */
    if (orion_load_acquire(&p->gone) != 0)
        return ORION_PEER_GONE;
    int64_t start = orion_clock_ns();
    orion_stream_port_flush(p);
    if (reading && orion_load_acquire(&p->queued) == 0)
        status = orion_spin(&p->spin, p->stream, limit_ns, look, p);
    else if (reading)
        status = try_receive(p);
    if (status != ORION_AGAIN)
        return status;
    orion_stream_port_pulse(p);
    (void)orion_exchange(&p->asleep, 1); /* full barrier: the flag before the look at what others left */
    uint64_t queued = orion_load_acquire(&p->queued);
    struct pollfd polled[1 + ORION_BYTESTREAM_FDS] = {{.fd = p->wake_fd, .events = POLLIN}};
    unsigned wishes = (reading ? ORION_BYTESTREAM_READ : 0) | (queued != 0 ? ORION_BYTESTREAM_WRITE : 0);
    int count = orion_bytestream_arm(p->stream, wishes, polled + 1), rc = 1;
    if (limit_ns > ORION_PULSE_NS / 2)
        limit_ns = ORION_PULSE_NS / 2;
    if (orion_load_acquire(&p->wake) != 0)
        limit_ns = 0;
    if (count > 0) {
        struct timespec limit = {.tv_sec = limit_ns / ORION_NS_PER_S, .tv_nsec = limit_ns % ORION_NS_PER_S};
        rc = ppoll(polled, 1 + (nfds_t)count, &limit, NULL);
    }
    orion_store_relaxed(&p->asleep, 0);
    orion_spin_slept(&p->spin, orion_clock_ns() - start);
    if (rc > 0 && polled[0].revents != 0)
        drain_wake(p);
    for (int i = 1; rc > 0 && !reading && i <= count; i++) { /* else the end shows in reading */
        if ((polled[i].revents & (POLLHUP | POLLERR)) != 0)
            return ORION_PEER_GONE;
    }
    return rc == 0 ? ORION_TIMEOUT : ORION_OK;
}

static orion_status_t refuse(orion_stream_port_t *p, const char *complaint)
{
    p->complaint = complaint;
    return ORION_PROTOCOL;
}

/* A frame of the transport's own. */
static orion_status_t heed(orion_stream_port_t *p, const orion_record_t *frame)
{
    if (frame->opcode == ORION_FRAME_STAGE)
        return ORION_OK; /* in place; the record that names it follows */
    if (frame->opcode != ORION_FRAME_CREDIT)
        return refuse(p, "a frame of a kind that no client sends");
    return orion_stream_port_credit(p, frame->sequence)
               ? ORION_OK
               : refuse(p, "it claims to have read events that were never sent");
}

static orion_status_t stream_next(orion_port_t *port, int64_t timeout_ns, const orion_record_t **record_p)
{
    orion_stream_port_t *p = stream(port);
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
            orion_stream_port_flush(p);
            status = reading ? try_receive(p) : ORION_AGAIN;
            if (status == ORION_AGAIN)
                return status;
        }
        if (status == ORION_PEER_GONE || status == ORION_PROTOCOL)
            return status;
    }
}

static const char *stream_complaint(const orion_port_t *port)
{
    const orion_stream_port_t *p = stream_const(port);
    if (p->complaint != NULL)
        return p->complaint;
    return p->frames.complaint != NULL ? p->frames.complaint : "nothing";
}

static void stream_wake(orion_port_t *port)
{
    (void)orion_exchange(&stream(port)->wake, 1); /* full barrier: the flag before the look at `asleep` */
    orion_stream_port_wake_loop(stream(port));
}

static void stream_describe(const orion_port_t *port, orion_welcome_t *welcome)
{
    const orion_stream_port_t *p = stream_const(port);
    welcome->epoch = p->frames.epoch;
    welcome->flags = 0;
    welcome->nonce = p->nonce;
    welcome->slots = ORION_REPLY_SLOTS;
    welcome->worker_pid = (uint32_t)getpid();
}

static void stream_close(orion_port_t *port)
{
    orion_stream_port_t *p = stream(port);
    orion_stream_port_drop_queue(p);
    orion_bytestream_close(p->stream);
    orion_fd_close(p->wake_fd);
    (void)munmap(p->stages, ORION_STAGE_COUNT * (size_t)ORION_STAGE_BYTES);
    (void)pthread_mutex_destroy(&p->lock);
    free(p);
}

static const orion_port_ops_t stream_ops = {
    .describe = stream_describe,
    .next = stream_next,
    .complaint = stream_complaint,
    .reply = orion_stream_port_reply,
    .stage = orion_stream_port_stage,
    .stage_done = orion_stream_port_stage_done,
    .stage_give = orion_stream_port_stage_give,
    .event = orion_stream_port_event,
    .wake = stream_wake,
    .idle = stream_idle,
    .drain = stream_drain,
    .close = stream_close,
};

orion_status_t orion_port_create_stream(const orion_port_config_t *config, int socket, orion_port_t **port_p, char *why,
                                        size_t why_bytes)
{
    void *memory = NULL;
    orion_bytestream_t *bytes = NULL;
    orion_status_t status = config->stream == ORION_PORT_TLS
                                ? orion_bytestream_of_tls(socket, true, config->key, &bytes, why, why_bytes)
                            : config->stream == ORION_PORT_UCX
                                ? orion_bytestream_of_ucx(socket, true, config->key, &bytes, why, why_bytes)
                                : orion_bytestream_of_socket(socket, &bytes);
    if (status == ORION_SYSTEM)
        return status;
    if (status != ORION_OK || posix_memalign(&memory, ORION_SPACING, sizeof(orion_stream_port_t)) != 0)
        goto err_memory;
    orion_stream_port_t *p = memory;
    memset(p, 0, offsetof(orion_stream_port_t, buffer));
    p->ops = &stream_ops;
    p->stream = bytes;
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
    if (p->stages == MAP_FAILED)
        goto err_wake;
    (void)pthread_mutex_init(&p->lock, NULL);
    p->sent_at = orion_clock_ns();
    *port_p = (orion_port_t *)(void *)p;
    return ORION_OK;
err_wake:
    orion_fd_close(p->wake_fd);
    free(p);
    p = NULL;
err_memory:
    orion_bytestream_close(bytes);
    orion_explain(why, why_bytes, "not enough memory for a session");
    return ORION_NO_MEMORY;
err_port:
    free(p);
    orion_bytestream_close(bytes);
    return status;
}
