/* SPDX-License-Identifier: Apache-2.0 */
/* A client's stream session as tcp.c, tcp_out.c and tcp_in.c share it.
 *
 * Out: records are gathered in a buffer and leave together: at once when somebody waits for an answer or nothing was
 * sent for a while, else by size, or by the flusher thread within a fraction of a millisecond. A burst of records costs
 * no system call each.
 * In: no thread of ours. Whoever waits for something takes the receive role, reads frames and hands each to whom it
 * belongs; the others sleep until theirs has come or the role is handed to them. */
#ifndef ORION_TRANSPORT_TCP_LINK_H
#define ORION_TRANSPORT_TCP_LINK_H

#include <pthread.h>

#include "base/atomic.h"
#include "shm/layout.h"
#include "stream/spin.h"
#include "stream/stream.h"
#include "transport/frames.h"
#include "transport/greet.h"
#include "transport/link.h"
#include "transport/memory.h"

#define ORION_OUT_HIGH (64u * 1024u)                             /* a claim sends first above it */
#define ORION_OUT_BYTES (ORION_OUT_HIGH + 2u * ORION_RECORD_MAX) /* so that a commit, and a credit, always fit */
#define ORION_TCP_SLICE_NS ORION_BYTESTREAM_SLICE_NS             /* of a wait: between looks at the world */

typedef enum orion_tcp_kind { ORION_TCP_REPLY, ORION_TCP_STAGE, ORION_TCP_EVENT, ORION_TCP_NOTHING } orion_tcp_kind_t;

typedef struct orion_tcp_want { /* what a thread waits for */
    orion_tcp_kind_t kind;
    uint32_t index, sequence;
    void *into; /* ORION_TCP_STAGE: where the chunk's `bytes` bytes may be read to at once; NULL: nowhere */
    size_t bytes;
} orion_tcp_want_t;

typedef struct orion_tcp_waiter { /* on the stack of a thread that sleeps while another one reads */
    struct orion_tcp_waiter *next;
    orion_tcp_want_t want;
    uint32_t signal; /* atomic, futex word: written under role_lock when it leaves the list */
} orion_tcp_waiter_t;

typedef struct orion_tcp_link {
    orion_link_t base; /* first: a link is one of these */

    /* constant while the link lives */
    uint32_t *state; /* ORION_LINK_..., alone in its page */
    orion_bytestream_t *stream;
    uint32_t epoch;
    int64_t patience_ns; /* 0: without end */
    uint64_t range_base, range_bytes;
    char server[128];
    orion_greet_key_t key;  /* of a session over TLS or UCX: its epitaph is proved by it */
    orion_reply_t *replies; /* ORION_REPLY_SLOTS */
    uint8_t *chunks;        /* ORION_STAGE_COUNT */

    /* out: `filling` guards the buffer that is filled, `sending` the one on its way and the order of the stream */
    uint32_t claimed; /* bytes of the record in scratch */
    pthread_mutex_t filling, sending;
    uint8_t *fill, *wire;
    uint32_t filled, wire_at, wire_end; /* filled: atomic, written under filling */
    uint32_t unsent;                    /* atomic: bytes in both */
    int64_t sent_at;                    /* atomic */
    bool has_flusher;                   /* under filling */
    pthread_t flusher;
    uint32_t flusher_asleep, stopping; /* atomic */

    /* staging: claims under the caller's bulk lock */
    uint32_t stage_next, stage_sequence;
    uint32_t stage_last[ORION_STAGE_COUNT]; /* atomic: sequence of the latest use; 0 = free */
    uint32_t stage_done[ORION_STAGE_COUNT]; /* atomic: written by the receive role */

    /* in: the list and who has the role, under role_lock; the decoder belongs to the role */
    pthread_mutex_t role_lock;
    bool role_taken;
    orion_tcp_waiter_t *waiters;
    uint32_t waiting; /* atomic: length of the list */
    orion_frames_t frames;
    orion_spin_t spin;
    const orion_tcp_want_t *direct;     /* what the thread with the role waits for */
    uint8_t at_want[ORION_STAGE_COUNT]; /* the chunk's bytes are where that thread wants them, not in the chunk */
    int64_t heard_at;                   /* atomic: when bytes last came */

    /* events: written by the role, read under event_lock */
    uint32_t events_head, events_tail, events_credited; /* free-running bytes of frames; head atomic */
    pthread_mutex_t event_lock;
    uint8_t events[ORION_EVENT_WINDOW];

    pthread_mutex_t end_lock;
    int32_t epitaph_result;
    char epitaph[256]; /* "" = none */

    _Alignas(16) uint8_t scratch[ORION_RECORD_MAX]; /* the claimed record */
    _Alignas(16) uint8_t buffer[ORION_FRAMES_BUFFER];
} orion_tcp_link_t;

/* tcp.c */
extern const orion_link_ops_t orion_tcp_ops;
/* Where the server's chunk goes: straight into ours, if that use of it is the one that is under way. */
uint8_t *orion_tcp_place(void *link, const orion_record_t *frame, uint32_t bytes);
void orion_tcp_close(orion_link_t *link);
extern const orion_tcp_want_t orion_tcp_nothing;

/* tcp_open.c */
void orion_tcp_free(orion_tcp_link_t *link); /* the memory and the stream */

/* tcp_events.c */
orion_status_t orion_tcp_event_wait(orion_link_t *link, int64_t timeout_ns, void *buffer, size_t capacity,
                                    size_t *bytes_p);
/* With the role. false: it sends more than it may. */
bool orion_tcp_deliver_event(orion_tcp_link_t *link, const orion_record_t *frame);

/* tcp_in.c */
/* Sends what is gathered, then waits until it has come. ORION_TIMEOUT at the deadline (INT64_MAX: none). */
orion_status_t orion_tcp_wait(orion_tcp_link_t *link, const orion_tcp_want_t *want, int64_t deadline_ns);
/* The socket takes no more: waits for room and reads meanwhile, since the server may wait for that. `since`: when this
 * began, for the patience with a silent server. */
orion_status_t orion_tcp_wait_writable(orion_tcp_link_t *link, int64_t since_ns);
/* Reads what is there, without waiting; the state afterwards as a status. */
orion_status_t orion_tcp_look(orion_tcp_link_t *link);
/* Sending has failed: whatever the server has said before its end is read, then the session is over. */
orion_status_t orion_tcp_lost(orion_tcp_link_t *link);

/* tcp_out.c */
bool orion_tcp_append(orion_tcp_link_t *link, const void *record, uint32_t bytes); /* nothing was unsent before */
void orion_tcp_push(orion_tcp_link_t *link); /* sends what the socket takes, or lets whoever is sending do it */
orion_status_t orion_tcp_flush(orion_tcp_link_t *link); /* sends everything */
/* Everything, then one frame with its payload straight from the caller's memory. */
orion_status_t orion_tcp_send_now(orion_tcp_link_t *link, const orion_record_t *head, const void *data, size_t bytes);
void orion_tcp_soon(orion_tcp_link_t *link); /* within a fraction of a millisecond */
void orion_tcp_stop_flusher(orion_tcp_link_t *link);

static inline orion_status_t orion_tcp_state(const orion_tcp_link_t *link)
{
    uint32_t state = orion_load_acquire(link->state); /* acquire: pairs with the release in declare_gone */
    return state == ORION_LINK_LIVE ? ORION_OK : state == ORION_LINK_FORKED ? ORION_INVALID : ORION_PEER_GONE;
}

#endif
