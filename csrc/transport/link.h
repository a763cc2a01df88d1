/* SPDX-License-Identifier: Apache-2.0 */
/* The client's end of a session. The hot operations go through one table so that the shared-memory transports, the
 * in-process twin and the fault-injecting wrapper are one thing to everything above.
 *
 * Threads: claim..commit by one thread at a time (the caller holds its producer lock); stage_claim likewise under its
 * bulk lock; await by one thread per slot; event_wait by one thread; everything else from any thread. */
#ifndef ORION_TRANSPORT_LINK_H
#define ORION_TRANSPORT_LINK_H

#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/status.h"
#include "wire/hello.h"
#include "wire/record.h"

typedef struct orion_link orion_link_t;

typedef struct orion_stage {
    uint32_t index;    /* goes into the record as it is */
    uint32_t sequence; /* goes into the record as it is */
    void *data;
    size_t bytes;
    size_t least; /* a copy in several chunks fills so much of each: less costs more than overlapping gains */
} orion_stage_t;

typedef struct orion_link_ops {
    const char *name;
    orion_status_t (*claim)(orion_link_t *link, uint32_t record_bytes, orion_record_t **record_p);
    void (*commit)(orion_link_t *link);
    orion_status_t (*await)(orion_link_t *link, uint32_t slot, uint32_t sequence, const orion_reply_t **reply_p);
    orion_status_t (*stage_claim)(orion_link_t *link, orion_stage_t *stage_p);
    orion_status_t (*stage_send)(orion_link_t *link, const orion_stage_t *stage, const void *from, size_t bytes);
    void (*stage_abort)(orion_link_t *link, const orion_stage_t *stage);
    orion_status_t (*stage_await)(orion_link_t *link, const orion_stage_t *stage);
    orion_status_t (*stage_collect)(orion_link_t *link, const orion_stage_t *stage, void *to, size_t bytes);
    orion_status_t (*extent_map)(orion_link_t *link, uint64_t offset, uint64_t bytes, void **p);
    orion_status_t (*extent_unmap)(orion_link_t *link, uint64_t offset, uint64_t bytes);
    orion_status_t (*event_wait)(orion_link_t *link, int64_t timeout_ns, void *buffer, size_t capacity,
                                 size_t *bytes_p);
    orion_status_t (*probe)(orion_link_t *link, char *why, size_t why_bytes, int32_t *cuda_result_p);
    void (*fork_child)(orion_link_t *link);
    void (*close)(orion_link_t *link);
} orion_link_ops_t;

struct orion_link {
    const orion_link_ops_t *ops;
};

/* address: "unix:PATH", "HOST:PORT" (transport/tcp.h says what then carries the data), "local:LIBRARY?device=null".
 * hello comes from orion_hello_init plus the caller's wishes and transport; token (ORION_TOKEN), flags, candidates and
 * range_bytes are added here. On failure `why` holds one sentence naming the address and what to change; on ORION_REFUSED the server's
 * answer is in *welcome_p too. ORION_FAULTS in the environment wraps the link (transport/faulty.h). */
orion_status_t orion_link_open(const char *address, const orion_hello_t *hello, orion_welcome_t *welcome_p,
                               orion_link_t **link_p, char *why, size_t why_bytes);

/* Room for one record of record_bytes (header included, rounded up to 8). `bytes` and `epoch` of the header are filled
 * in; the caller writes opcode, slot, sequence and the payload, then commits. Waits while the ring is full.
 * ORION_TOO_BIG beyond ORION_RECORD_MAX; ORION_INVALID in a forked child. A claim that is never committed is void. */
static inline orion_status_t orion_link_claim(orion_link_t *link, uint32_t record_bytes, orion_record_t **record_p)
{
    return link->ops->claim(link, record_bytes, record_p);
}

/* Publishes the claimed record and wakes the worker if it sleeps. */
static inline void orion_link_commit(orion_link_t *link)
{
    link->ops->commit(link);
}

/* The answer to (slot, sequence). The reply stays valid until the slot's thread commits its next call. */
static inline orion_status_t orion_link_await(orion_link_t *link, uint32_t slot, uint32_t sequence,
                                              const orion_reply_t **reply_p)
{
    return link->ops->await(link, slot, sequence, reply_p);
}

/* The next staging chunk, round robin; waits until the server is done with its previous use. A chunk whose record is
 * not sent after all is given back with stage_abort. */
static inline orion_status_t orion_link_stage_claim(orion_link_t *link, orion_stage_t *stage_p)
{
    return link->ops->stage_claim(link, stage_p);
}
/* How much of a copy of `bytes` goes into each chunk: little enough that the copies of both sides overlap, enough that
 * records do not matter. */
static inline size_t orion_stage_part(const orion_stage_t *stage, size_t bytes)
{
    size_t part = (bytes / 8 + 4095) & ~(size_t)4095;
    if (part < stage->least)
        part = stage->least;
    return part < stage->bytes ? part : stage->bytes;
}
/* Fills the chunk with what the server shall have (from == stage->data: it is there already), before the record that
 * names the chunk is committed. `from` may be reused when this returns. */
static inline orion_status_t orion_link_stage_send(orion_link_t *link, const orion_stage_t *stage, const void *from,
                                                   size_t bytes)
{
    return link->ops->stage_send(link, stage, from, bytes);
}
static inline void orion_link_stage_abort(orion_link_t *link, const orion_stage_t *stage)
{
    link->ops->stage_abort(link, stage);
}
/* Until the server is done with this use of the chunk. */
static inline orion_status_t orion_link_stage_await(orion_link_t *link, const orion_stage_t *stage)
{
    return link->ops->stage_await(link, stage);
}
/* The same, then the chunk's first `bytes` bytes are at `to`. */
static inline orion_status_t orion_link_stage_collect(orion_link_t *link, const orion_stage_t *stage, void *to,
                                                      size_t bytes)
{
    return link->ops->stage_collect(link, stage, to, bytes);
}

/* Receives the descriptor that the server sent for this extent and maps it at range_base + offset. */
static inline orion_status_t orion_link_extent_map(orion_link_t *link, uint64_t offset, uint64_t bytes, void **p)
{
    return link->ops->extent_map(link, offset, bytes, p);
}
/* Back to reserved, inaccessible addresses. */
static inline orion_status_t orion_link_extent_unmap(orion_link_t *link, uint64_t offset, uint64_t bytes)
{
    return link->ops->extent_unmap(link, offset, bytes);
}

/* Copies the payload of the next event. ORION_AGAIN when timeout_ns passed; ORION_TOO_BIG leaves the event there. With
 * capacity 0 it only waits for one and may run beside the thread that reads them. */
static inline orion_status_t orion_link_event_wait(orion_link_t *link, int64_t timeout_ns, void *buffer,
                                                   size_t capacity, size_t *bytes_p)
{
    return link->ops->event_wait(link, timeout_ns, buffer, capacity, bytes_p);
}

/* ORION_OK while the other side lives. ORION_PEER_GONE with the epitaph's text and CUresult if it left one
 * (else *cuda_result_p = 0). Cheap enough for error paths only: a system call. */
static inline orion_status_t orion_link_probe(orion_link_t *link, char *why, size_t why_bytes, int32_t *cuda_result_p)
{
    return link->ops->probe(link, why, why_bytes, cuda_result_p);
}

/* In the child of a fork (pthread_atfork): lets go of descriptors and mappings without a word to the server. */
static inline void orion_link_abandon_after_fork(orion_link_t *link)
{
    if (link != NULL)
        link->ops->fork_child(link);
}

static inline void orion_link_close(orion_link_t *link)
{
    if (link != NULL)
        link->ops->close(link);
}

#endif
