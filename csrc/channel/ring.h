/* SPDX-License-Identifier: Apache-2.0 */
/* The index ring: one producer process, one consumer process, byte records that never wrap. Carries commands (client
 * to worker) and events (worker to client). Own indices are private copies; the other side's index is read once and
 * bounded; a record is copied once into private memory before anything in it is believed. */
#ifndef ORION_CHANNEL_RING_H
#define ORION_CHANNEL_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/atomic.h"
#include "base/status.h"
#include "wire/record.h"

typedef struct orion_ring_producer {
    uint8_t *data;
    uint32_t *head_p;       /* shared, ours */
    const uint32_t *tail_p; /* shared, the other side's */
    uint32_t size;          /* power of two */
    uint32_t epoch;
    uint32_t head;    /* free-running; what *head_p says */
    uint32_t tail;    /* last seen of *tail_p: the ring has at least size - (head - tail) free bytes */
    uint32_t claimed; /* bytes that the next commit publishes, padding included */
} orion_ring_producer_t;

typedef struct orion_ring_consumer {
    const uint8_t *data;
    const uint32_t *head_p; /* shared, the other side's */
    uint32_t *tail_p;       /* shared, ours */
    uint32_t size;
    uint32_t record_max; /* longest record accepted, header included */
    uint32_t epoch;
    uint32_t tail;      /* free-running; what has been consumed */
    uint32_t published; /* what *tail_p says */
    uint32_t head;      /* last seen of *head_p */
    uint8_t *copy;      /* private, record_max bytes, 16-aligned */
    const char *complaint;
} orion_ring_consumer_t;

/* Both ends of a fresh ring start at zero; the shared words must be zero. */
void orion_ring_producer_init(orion_ring_producer_t *ring, uint8_t *data, uint32_t size, uint32_t *head_p,
                              const uint32_t *tail_p, uint32_t epoch);
void orion_ring_consumer_init(orion_ring_consumer_t *ring, const uint8_t *data, uint32_t size, const uint32_t *head_p,
                              uint32_t *tail_p, uint32_t epoch, uint8_t *copy, uint32_t record_max);

/* Reads the consumer's index anew. ORION_PROTOCOL if it claims to have read what was never written. */
orion_status_t orion_ring_refresh(orion_ring_producer_t *ring);

/* Room for a record of `bytes` (rounded, at most size / 4), or NULL when the ring is full as far as we know. */
static inline orion_record_t *orion_ring_claim(orion_ring_producer_t *ring, uint32_t bytes)
{
    uint32_t offset = ring->head & (ring->size - 1);
    uint32_t to_end = ring->size - offset;
    uint32_t padding = bytes <= to_end ? 0 : to_end;
    if (__builtin_expect(ring->size - (ring->head - ring->tail) < bytes + padding, 0))
        return NULL;
    if (__builtin_expect(padding != 0, 0)) {
        orion_record_t pad = {padding, ORION_OPCODE_PAD, ORION_SLOT_NONE, 0, ring->epoch};
        __builtin_memcpy(ring->data + offset, &pad, sizeof(pad) <= padding ? sizeof(pad) : 8);
        offset = 0;
    }
    ring->claimed = bytes + padding;
    orion_record_t *record = (orion_record_t *)(void *)(ring->data + offset);
    record->bytes = bytes;
    record->epoch = ring->epoch;
    return record;
}

static inline void orion_ring_commit(orion_ring_producer_t *ring)
{
    ring->head += ring->claimed;
    ring->claimed = 0;
    orion_store_release(ring->head_p, ring->head); /* release: pairs with the acquire in orion_ring_look */
}

/* Has the producer published more than we have consumed? Reads the shared index only when we are behind it. */
static inline bool orion_ring_look(orion_ring_consumer_t *ring, uint32_t *head_p)
{
    uint32_t head = orion_load_acquire(ring->head_p); /* acquire: pairs with the release in orion_ring_commit */
    *head_p = head;
    return head != ring->tail;
}

/* The next record as a private copy, valid until the next call. ORION_AGAIN: empty. ORION_PROTOCOL: the producer broke
 * the rules (ring->complaint says how) and nothing more can be read. */
orion_status_t orion_ring_next(orion_ring_consumer_t *ring, const orion_record_t **record_p);

/* Tells the producer what has been consumed. true: there was something to tell. */
static inline bool orion_ring_publish(orion_ring_consumer_t *ring)
{
    if (ring->published == ring->tail)
        return false;
    ring->published = ring->tail;
    orion_store_release(ring->tail_p, ring->tail); /* release: pairs with the acquire in orion_ring_refresh */
    return true;
}

/* Each eighth of a ring is often enough: the producer has seven more. */
static inline bool orion_ring_publish_due(const orion_ring_consumer_t *ring)
{
    return ring->tail - ring->published >= ring->size / 8;
}

#endif
