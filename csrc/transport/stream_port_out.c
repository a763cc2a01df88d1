/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker sends over a byte stream, see stream_port_state.h. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sys.h"
#include "transport/stream_port_state.h"

static orion_stream_port_t *stream(orion_port_t *port)
{
    return (orion_stream_port_t *)(void *)port;
}

void orion_stream_port_wake_loop(orion_stream_port_t *p)
{
    uint64_t one = 1;
    if (orion_load_acquire(&p->asleep) != 0)
        (void)!write(p->wake_fd, &one, sizeof(one));
}

/* How much the stream takes now. */
static size_t send_parts(orion_stream_port_t *p, const struct iovec *parts, size_t count)
{
    size_t sent;
    orion_status_t status = orion_bytestream_send(p->stream, parts, count, &sent);
    if (status == ORION_OK) {
        orion_store_relaxed(&p->sent_at, orion_clock_ns());
        return sent;
    }
    if (status != ORION_AGAIN)
        orion_store_release(&p->gone, 1); /* release: pairs with the acquire in wait_for_client */
    return 0;
}

/* With the lock. bytes stay where they are when `stays`, else they are copied. */
static void enqueue(orion_stream_port_t *p, const uint8_t *bytes, size_t count, bool stays)
{
    orion_queued_t *q = malloc(sizeof(*q) + (stays ? 0 : count));
    if (q == NULL) { /* the stream would go on without these bytes: it is over */
        orion_store_release(&p->gone, 1);
        return;
    }
    *q = (orion_queued_t){.at = stays ? bytes : q->copy, .left = count};
    if (!stays)
        memcpy(q->copy, bytes, count);
    *p->last = q;
    p->last = &q->next;
    (void)orion_fetch_add(&p->queued, count);
}

static void flush_locked(orion_stream_port_t *p)
{
    while (p->first != NULL && orion_load_relaxed(&p->gone) == 0) {
        struct iovec parts[ORION_BYTESTREAM_PARTS];
        size_t count = 0;
        for (orion_queued_t *q = p->first; q != NULL && count < ORION_BYTESTREAM_PARTS; q = q->next)
            parts[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)q->at, .iov_len = q->left};
        size_t sent = send_parts(p, parts, count);
        if (sent == 0)
            return;
        (void)orion_fetch_sub(&p->queued, sent);
        while (p->first != NULL && sent >= p->first->left) {
            orion_queued_t *q = p->first;
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

void orion_stream_port_flush(orion_stream_port_t *p)
{
    if (orion_load_acquire(&p->queued) == 0)
        return;
    (void)pthread_mutex_lock(&p->lock);
    flush_locked(p);
    (void)pthread_mutex_unlock(&p->lock);
}

/* With the lock: a frame of up to four pieces; the last may be one that stays in place until the client has it. */
static void send_locked(orion_stream_port_t *p, const struct iovec *pieces, size_t count, bool last_stays)
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
        orion_stream_port_wake_loop(p);
}

static orion_record_t header(const orion_stream_port_t *p, uint16_t kind, uint32_t slot, uint32_t sequence,
                             size_t payload)
{
    return (orion_record_t){.bytes = ORION_RECORD_HEADER + (uint32_t)payload,
                            .opcode = kind,
                            .slot = (uint16_t)slot,
                            .sequence = sequence,
                            .epoch = p->frames.epoch};
}

void orion_stream_port_reply(orion_port_t *port, uint32_t slot, uint32_t sequence, int32_t result, int32_t sticky,
                             const void *data, uint32_t bytes)
{
    static const uint8_t zeros[ORION_RECORD_ALIGN];
    orion_stream_port_t *p = stream(port);
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

void *orion_stream_port_stage(orion_port_t *port, uint32_t index)
{
    if (index >= ORION_STAGE_COUNT)
        return NULL;
    return stream(port)->stages + orion_index_nospec(index, ORION_STAGE_COUNT) * ORION_STAGE_BYTES;
}

void orion_stream_port_stage_done(orion_port_t *port, uint32_t index, uint32_t sequence)
{
    orion_stream_port_t *p = stream(port);
    if (index >= ORION_STAGE_COUNT)
        return;
    orion_record_t head = header(p, ORION_FRAME_DONE, index, sequence, 0);
    struct iovec piece = {&head, sizeof(head)};
    (void)pthread_mutex_lock(&p->lock);
    send_locked(p, &piece, 1, false);
    (void)pthread_mutex_unlock(&p->lock);
}

void orion_stream_port_stage_give(orion_port_t *port, uint32_t index, uint32_t sequence, uint32_t bytes)
{
    orion_stream_port_t *p = stream(port);
    if (index >= ORION_STAGE_COUNT)
        return;
    if (bytes > ORION_STAGE_BYTES)
        bytes = ORION_STAGE_BYTES;
    bytes = orion_record_round(bytes); /* the padding is the chunk's own: this client's bytes */
    orion_record_t head = header(p, ORION_FRAME_STAGE, index, sequence, bytes);
    struct iovec pieces[] = {{&head, sizeof(head)}, {orion_stream_port_stage(port, index), bytes}};
    (void)pthread_mutex_lock(&p->lock);
    send_locked(p, pieces, bytes == 0 ? 1 : 2, bytes != 0); /* the client reuses a chunk when it has it */
    (void)pthread_mutex_unlock(&p->lock);
}

/* With the lock. false: it claims to have read what was never sent. An older one was seen before by peeking. */
static bool take_credit(orion_stream_port_t *p, uint32_t read)
{
    if ((int32_t)(read - p->events_read) <= 0)
        return true;
    if (read - p->events_read > p->events_sent - p->events_read)
        return false;
    p->events_read = read;
    return true;
}

orion_status_t orion_stream_port_event(orion_port_t *port, const void *data, uint32_t bytes)
{
    orion_stream_port_t *p = stream(port);
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
        /* the loop itself sends: it will neither send what is queued nor read the credit meanwhile */
        flush_locked(p);
        (void)orion_frames_receive_behind(&p->frames, p->stream);
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

/* A client that waits for an answer gives us up when it hears nothing for long. One that reads nothing has a queue, and
 * needs no pulse. */
void orion_stream_port_pulse(orion_stream_port_t *p)
{
    if (!p->heard || orion_clock_ns() - orion_load_relaxed(&p->sent_at) < ORION_PULSE_NS)
        return;
    orion_record_t head = header(p, ORION_FRAME_PULSE, 0, 0, 0);
    struct iovec piece = {&head, sizeof(head)};
    (void)pthread_mutex_lock(&p->lock);
    if (p->first == NULL)
        send_locked(p, &piece, 1, false);
    (void)pthread_mutex_unlock(&p->lock);
}

bool orion_stream_port_credit(orion_stream_port_t *p, uint32_t read)
{
    (void)pthread_mutex_lock(&p->lock);
    bool good = take_credit(p, read);
    (void)pthread_mutex_unlock(&p->lock);
    return good;
}

void orion_stream_port_drop_queue(orion_stream_port_t *p)
{
    while (p->first != NULL) {
        orion_queued_t *q = p->first;
        p->first = q->next;
        free(q);
    }
}
