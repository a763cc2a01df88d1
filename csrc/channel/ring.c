/* SPDX-License-Identifier: Apache-2.0 */
/* The consumer's checks and the producer's slow path, see ring.h. */
#include "channel/ring.h"

#include "base/copy.h"

void orion_ring_producer_init(orion_ring_producer_t *ring, uint8_t *data, uint32_t size, uint32_t *head_p,
                              const uint32_t *tail_p, uint32_t epoch)
{
    *ring = (orion_ring_producer_t){.data = data, .head_p = head_p, .tail_p = tail_p, .size = size, .epoch = epoch};
}

void orion_ring_consumer_init(orion_ring_consumer_t *ring, const uint8_t *data, uint32_t size, const uint32_t *head_p,
                              uint32_t *tail_p, uint32_t epoch, uint8_t *copy, uint32_t record_max)
{
    *ring = (orion_ring_consumer_t){.data = data,
                                    .head_p = head_p,
                                    .tail_p = tail_p,
                                    .size = size,
                                    .epoch = epoch,
                                    .copy = copy,
                                    .record_max = record_max};
}

orion_status_t orion_ring_refresh(orion_ring_producer_t *ring)
{
    uint32_t tail = orion_load_acquire(ring->tail_p); /* acquire: pairs with the release in orion_ring_publish */
    if (ring->head - tail > ring->head - ring->tail)
        return ORION_PROTOCOL; /* backwards, or ahead of what we wrote */
    ring->tail = tail;
    return ORION_OK;
}

static orion_status_t refuse(orion_ring_consumer_t *ring, const char *complaint)
{
    ring->complaint = complaint;
    return ORION_PROTOCOL;
}

/* Payloads are a multiple of 8 and mostly below 64 bytes: no call for those. */
static inline void copy_payload(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
#ifdef __SANITIZE_THREAD__
    /* A producer that breaks the rules may write here meanwhile, and what it gets is a torn record of its own, which is
     * checked after this. Aligned words are all that the copy asks of the hardware; ThreadSanitizer has to be told. */
    for (uint32_t i = 0; i < bytes; i += 8) {
        uint64_t word = orion_load_relaxed((const uint64_t *)(const void *)(from + i));
        __builtin_memcpy(to + i, &word, sizeof(word));
    }
    return;
#endif
    if (bytes > 256) {
        orion_copy_from_peer(to, from, bytes);
        return;
    }
    for (; bytes >= 16; bytes -= 16, to += 16, from += 16) {
        __builtin_memcpy(to, from, 16);
        orion_compiler_barrier(); /* keeps the loop a loop: it would become the call we avoid */
    }
    if (bytes >= 8)
        __builtin_memcpy(to, from, 8);
}

orion_status_t orion_ring_next(orion_ring_consumer_t *ring, const orion_record_t **record_p)
{
    for (;;) {
        if (ring->tail == ring->head) {
            uint32_t head;
            if (!orion_ring_look(ring, &head))
                return ORION_AGAIN;
            if (head - ring->tail > ring->size)
                return refuse(ring, "its write index jumped by more than the ring holds");
            if (head % ORION_RECORD_ALIGN != 0)
                return refuse(ring, "its write index is not a multiple of 8");
            ring->head = head;
        }
        uint32_t available = ring->head - ring->tail;
        /* masked, not only known to be in bounds: the mask holds under misprediction too */
        uint32_t offset = ring->tail & (ring->size - 1);
        const uint8_t *at = ring->data + offset;
        uint32_t to_end = ring->size - offset;

        /* The first 8 bytes (bytes, opcode, slot) once; then the other 8. A pad at the end may be 8 bytes long. */
        uint64_t words[2];
        words[0] = orion_load_relaxed((const uint64_t *)(const void *)at);
        uint32_t bytes = (uint32_t)words[0];
        uint16_t opcode = (uint16_t)(words[0] >> 32);
        if (opcode == ORION_OPCODE_PAD) {
            if (bytes != to_end || bytes > available)
                return refuse(ring, "it padded something else than the ring's end");
            ring->tail += bytes;
            continue;
        }
        if (bytes < ORION_RECORD_HEADER || bytes % ORION_RECORD_ALIGN != 0) {
            return refuse(ring, "a record's length is no multiple of 8 from 16 on");
        }
        if (bytes > ring->record_max)
            return refuse(ring, "a record is longer than allowed");
        if (bytes > available || bytes > to_end)
            return refuse(ring, "a record is longer than what was published");
        bytes = (uint32_t)orion_index_nospec(bytes, (uint64_t)ring->record_max + 1);
        words[1] = orion_load_relaxed((const uint64_t *)(const void *)(at + 8));
        uint32_t epoch = (uint32_t)(words[1] >> 32);
        if (epoch != ring->epoch)
            return refuse(ring, "a record belongs to another session");
        __builtin_memcpy(ring->copy, words, sizeof(words));
        copy_payload(ring->copy + sizeof(words), at + sizeof(words), bytes - ORION_RECORD_HEADER);
        ring->tail += bytes;
        *record_p = (const orion_record_t *)(const void *)ring->copy;
        return ORION_OK;
    }
}
