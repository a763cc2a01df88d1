/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's end over a byte stream as stream_port.c (the loop: receives, begins, ends) and stream_port_out.c (any
 * thread: sends) share it. Nobody waits for a client that does not read: what the stream does not take is queued, the
 * loop sends it when there is room, and beyond a bound it reads no more records until the client has read its answers. */
#ifndef ORION_TRANSPORT_STREAM_PORT_STATE_H
#define ORION_TRANSPORT_STREAM_PORT_STATE_H

#include <pthread.h>

#include "base/atomic.h"
#include "shm/layout.h"
#include "stream/spin.h"
#include "stream/stream.h"
#include "transport/frames.h"
#include "transport/port_ops.h"

typedef struct orion_queued {
    struct orion_queued *next;
    const uint8_t *at;
    size_t left;
    uint8_t copy[];
} orion_queued_t;

typedef struct orion_stream_port {
    const orion_port_ops_t *ops; /* first: a port begins so */
    uint64_t nonce;
    orion_bytestream_t *stream;
    int wake_fd;
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
    orion_queued_t *first, **last;
    uint32_t events_sent, events_read; /* bytes of frames, free-running */

    _Alignas(16) uint8_t buffer[ORION_FRAMES_BUFFER];
} orion_stream_port_t;

/* stream_port_out.c */
void orion_stream_port_wake_loop(orion_stream_port_t *p);
void orion_stream_port_flush(orion_stream_port_t *p); /* what is queued, as far as the stream takes it */
void orion_stream_port_pulse(orion_stream_port_t *p); /* a sign of life, if it is time for one */
/* The client has read so many bytes of events. false: more than were ever sent. */
bool orion_stream_port_credit(orion_stream_port_t *p, uint32_t read);
void orion_stream_port_drop_queue(orion_stream_port_t *p);

void orion_stream_port_reply(orion_port_t *port, uint32_t slot, uint32_t sequence, int32_t result, int32_t sticky,
                             const void *data, uint32_t bytes);
void *orion_stream_port_stage(orion_port_t *port, uint32_t index);
void orion_stream_port_stage_done(orion_port_t *port, uint32_t index, uint32_t sequence);
void orion_stream_port_stage_give(orion_port_t *port, uint32_t index, uint32_t sequence, uint32_t bytes);
orion_status_t orion_stream_port_event(orion_port_t *port, const void *data, uint32_t bytes);

#endif
