/* SPDX-License-Identifier: Apache-2.0 */
/* What the shared-memory transports of a client have in common: everything after the two segments are mapped.
 * shm.c and local.c make one of these and differ in where notices come from. */
#ifndef ORION_TRANSPORT_MEMORY_H
#define ORION_TRANSPORT_MEMORY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/copy.h"
#include "channel/ring.h"
#include "channel/wait.h"
#include "shm/layout.h"
#include "shm/segment.h"
#include "transport/link.h"

#define ORION_EXTENTS_PENDING 64 /* received and not yet mapped */

/* Of a link; in a page that the kernel zeroes in a forked child, so that a child finds 0. */
enum { ORION_LINK_FORKED = 0, ORION_LINK_LIVE = 1, ORION_LINK_GONE = 2 };

typedef struct orion_pending_extent {
    uint64_t offset, bytes;
    int fd;
} orion_pending_extent_t;

typedef struct orion_padded_wait { /* two threads' waits never share a line */
    orion_wait_t wait;
    uint8_t pad[ORION_LINE - sizeof(orion_wait_t)];
} orion_padded_wait_t;

typedef struct orion_memory_link orion_memory_link_t;

struct orion_memory_link {
    orion_link_t base;    /* first: a link is one of these */
    orion_link_ops_t ops; /* base.ops points here: the common table with the name of the transport */

    /* the producer's, under the caller's lock */
    uint32_t *state; /* ORION_LINK_..., alone in its page */
    orion_ring_producer_t ring;
    uint32_t woken; /* the worker_sleeping value that we have sent a wake for */
    orion_wait_t space_wait;

    /* constant while the link lives */
    orion_wait_policy_t policy;
    orion_command_control_t *command;
    const orion_reply_control_t *reply;
    orion_segment_t command_segment, reply_segment;
    uint64_t range_base, range_bytes, arena_bytes;
    int socket;                              /* -1 = none (twin) */
    char server[128];                        /* for messages */
    void (*stop)(orion_memory_link_t *link); /* of the transport: before the segments go; may be NULL */
    void *transport;                         /* the transport's own */

    /* per reply slot, used by its thread alone */
    orion_padded_wait_t waits[ORION_REPLY_SLOTS];

    /* staging: claims under the caller's bulk lock */
    uint32_t stage_next, stage_sequence;
    uint32_t stage_last[ORION_STAGE_COUNT]; /* sequence of the latest use; 0 = free */
    orion_wait_t stage_claim_wait;
    orion_copier_t copier; /* into the chunks */

    /* the event ring's reader, one thread */
    orion_ring_consumer_t events;
    orion_wait_t event_wait;
    const orion_record_t *event; /* read and not yet delivered */

    /* what came on the socket, under this lock; never held on a fast path */
    pthread_mutex_t notices;
    orion_pending_extent_t pending[ORION_EXTENTS_PENDING];
    uint32_t pending_count;
    int32_t epitaph_result;
    char epitaph[256]; /* "" = none */

    _Alignas(16) uint8_t event_copy[ORION_RECORD_MAX];
};

/* Reserves the candidate ranges and names them, and what this process can do, in the hello. */
void orion_memory_propose(orion_hello_t *hello);
/* Gives back every candidate but `keep` (0 = all of them). */
void orion_memory_settle(const orion_hello_t *hello, uint64_t keep);

/* A link without segments: state page, locks. Then fill in segments, socket and range and call orion_memory_start. */
orion_memory_link_t *orion_memory_create(const char *transport, const char *server, char *why, size_t why_bytes);
orion_status_t orion_memory_start(orion_memory_link_t *link, const orion_welcome_t *welcome, char *why,
                                  size_t why_bytes);

/* event_wait with no room for an event: ORION_TOO_BIG as soon as there is one. Beside the thread that reads them. */
orion_status_t orion_memory_event_there(orion_memory_link_t *link, int64_t timeout_ns);

/* A notice has come, with its descriptor or -1 (taken over). */
void orion_memory_notice(orion_memory_link_t *link, const orion_notice_t *notice, int fd);

/* For the files that share a memory link: after a sleep, or before an error: OK, or why there will be no answer
 * (PEER_GONE; INVALID in a forked child). Reads what came on the socket: a system call. */
orion_status_t orion_memory_look(orion_memory_link_t *link);
/* Where a thread of the client sleeps for `word`; `sleeping` counts those that do. */
orion_wait_place_t orion_memory_place(orion_memory_link_t *link, const uint32_t *word, uint32_t *sleeping);

void orion_memory_close(orion_link_t *link);

#endif
