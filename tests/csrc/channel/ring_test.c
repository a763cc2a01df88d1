/* SPDX-License-Identifier: Apache-2.0 */
/* The ring: what a correct producer writes arrives once and in order; what no correct producer writes is refused
 * before it is believed. Also built with ThreadSanitizer. */
#define _GNU_SOURCE
#include "channel/ring.h"

#include <pthread.h>
#include <sched.h>

#include "../check.h"

#define SIZE 4096u
#define RECORD_MAX 1024u

typedef struct ring {
    _Alignas(64) uint8_t data[SIZE];
    _Alignas(128) uint32_t head;
    _Alignas(128) uint32_t tail;
    _Alignas(16) uint8_t copy[RECORD_MAX];
    orion_ring_producer_t producer;
    orion_ring_consumer_t consumer;
} ring_t;

static void ring_make(ring_t *r)
{
    memset(r, 0, sizeof(*r));
    orion_ring_producer_init(&r->producer, r->data, SIZE, &r->head, &r->tail, 7);
    orion_ring_consumer_init(&r->consumer, r->data, SIZE, &r->head, &r->tail, 7, r->copy, RECORD_MAX);
}

static int put(ring_t *r, uint32_t bytes, uint32_t sequence)
{
    orion_record_t *record = orion_ring_claim(&r->producer, bytes);
    if (record == NULL)
        return 0;
    record->opcode = 1;
    record->slot = 2;
    record->sequence = sequence;
    uint8_t *payload = orion_record_payload(record);
    for (uint32_t i = 0; i < bytes - ORION_RECORD_HEADER; i++)
        payload[i] = (uint8_t)(sequence + i);
    orion_ring_commit(&r->producer);
    return 1;
}

static int record_is(const orion_record_t *record, uint32_t bytes, uint32_t sequence)
{
    if (record->bytes != bytes || record->sequence != sequence || record->slot != 2)
        return 0;
    const uint8_t *payload = orion_record_payload_const(record);
    for (uint32_t i = 0; i < bytes - ORION_RECORD_HEADER; i++) {
        if (payload[i] != (uint8_t)(sequence + i))
            return 0;
    }
    return 1;
}

static void ring_delivers_every_length_at_every_offset(void)
{
    static ring_t r;
    const orion_record_t *record;
    uint32_t sequence = 0;
    for (uint32_t shift = 16; shift <= 64; shift += 8) {
        ring_make(&r);
        CHECK(put(&r, shift, ++sequence)); /* moves all that follow */
        CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
        for (uint32_t bytes = 16; bytes <= RECORD_MAX; bytes += 8) {
            orion_ring_publish(&r.consumer);
            CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_OK);
            CHECK(put(&r, bytes, ++sequence));
            CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
            CHECK(record_is(record, bytes, sequence));
            CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_AGAIN);
        }
    }
}

static void ring_is_full_at_its_size_and_not_before(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    for (uint32_t i = 0; i < SIZE / 64; i++)
        CHECK(put(&r, 64, i));
    CHECK(!put(&r, 16, 99));
    for (uint32_t i = 0; i < SIZE / 64; i++) {
        CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
        CHECK(record_is(record, 64, i));
    }
    CHECK(!put(&r, 16, 99)); /* not told yet */
    CHECK(orion_ring_publish_due(&r.consumer));
    CHECK(orion_ring_publish(&r.consumer));
    CHECK(!orion_ring_publish(&r.consumer));
    CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_OK);
    CHECK(put(&r, 16, 99));
}

static void a_claim_that_is_not_committed_is_void(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    CHECK(orion_ring_claim(&r.producer, 512) != NULL);
    CHECK(put(&r, 32, 5));
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
    CHECK(record_is(record, 32, 5));
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_AGAIN);
}

static void indices_run_past_their_32_bits(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    uint32_t start = 0u - 2048u; /* both sides have been at it for four gigabytes */
    r.head = r.tail = start;
    r.producer.head = r.producer.tail = start;
    r.consumer.head = r.consumer.tail = r.consumer.published = start;
    for (uint32_t i = 0; i < 500; i++) {
        CHECK(put(&r, 16 + 8 * (i % 30), i));
        CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
        CHECK(record_is(record, 16 + 8 * (i % 30), i));
        orion_ring_publish(&r.consumer);
        CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_OK);
    }
}

/* ---- a hostile producer ---- */

static void write_header(ring_t *r, uint32_t bytes, uint16_t opcode, uint32_t epoch)
{
    orion_record_t h = {bytes, opcode, 0, 1, epoch};
    memcpy(r->data, &h, sizeof(h));
}

static void ring_refuses_a_length(uint32_t bytes, uint32_t head)
{
    static ring_t r;
    const orion_record_t *record = NULL;
    ring_make(&r);
    write_header(&r, bytes, 1, 7);
    r.head = head;
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_PROTOCOL);
    CHECK(r.consumer.complaint != NULL);
    CHECK(record == NULL);
}

static void ring_refuses_lengths_below_a_header(void)
{
    for (uint32_t bytes = 0; bytes < 16; bytes++)
        ring_refuses_a_length(bytes, 64);
}
static void ring_refuses_lengths_that_are_no_multiple_of_8(void)
{
    ring_refuses_a_length(20, 64);
}
static void ring_refuses_a_length_over_what_was_published(void)
{
    ring_refuses_a_length(72, 64);
}
static void ring_refuses_a_length_over_the_limit(void)
{
    ring_refuses_a_length(RECORD_MAX + 8, SIZE);
}
static void ring_refuses_a_length_near_4_gib(void)
{
    ring_refuses_a_length(0xfffffff8u, SIZE);
}
static void ring_refuses_a_head_beyond_its_capacity(void)
{
    ring_refuses_a_length(64, SIZE + 8);
}
static void ring_refuses_a_head_off_alignment(void)
{
    ring_refuses_a_length(64, 68);
}

static void ring_refuses_a_head_that_moves_back(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    CHECK(put(&r, 64, 1));
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
    r.head = 0;
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_PROTOCOL);
}

static void ring_refuses_a_record_across_its_end(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    for (uint32_t i = 0; i < SIZE / 64 - 1; i++)
        CHECK(put(&r, 64, i));
    for (uint32_t i = 0; i < SIZE / 64 - 1; i++)
        CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
    orion_record_t h = {128, 1, 0, 1, 7};
    memcpy(r.data + SIZE - 64, &h, sizeof(h));
    r.head += 128;
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_PROTOCOL);
}

static void ring_refuses_a_pad_that_is_not_at_the_end(void)
{
    static ring_t r;
    const orion_record_t *record;
    static const uint32_t lengths[] = {0, 8, 64, SIZE - 8, SIZE + 8, 0xffffffffu};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        ring_make(&r);
        write_header(&r, lengths[i], ORION_OPCODE_PAD, 7);
        r.head = 64;
        CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_PROTOCOL);
    }
}

static void ring_refuses_words_of_another_life(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    write_header(&r, 64, 1, 6);
    r.head = 64;
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_PROTOCOL);
}

static void a_producer_refuses_a_reader_that_read_the_future(void)
{
    static ring_t r;
    ring_make(&r);
    CHECK(put(&r, 64, 1));
    r.tail = 72;
    CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_PROTOCOL);
    r.tail = 0u - 8u;
    CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_PROTOCOL);
    r.tail = 64;
    CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_OK);
    r.tail = 56;
    CHECK_EQUAL(orion_ring_refresh(&r.producer), ORION_PROTOCOL);
}

static void a_copy_does_not_change_with_the_ring(void)
{
    static ring_t r;
    const orion_record_t *record;
    ring_make(&r);
    CHECK(put(&r, 256, 3));
    CHECK_EQUAL(orion_ring_next(&r.consumer, &record), ORION_OK);
    memset(r.data, 0xff, SIZE);
    CHECK(record_is(record, 256, 3));
}

/* ---- two threads ---- */

#define ROUNDS 200000u

static void *produce(void *arg)
{
    ring_t *r = arg;
    uint64_t random = 42;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t bytes = 16 + 8 * (uint32_t)(check_random(&random) >> 59);
        while (!put(r, bytes, i)) {
            MUST(orion_ring_refresh(&r->producer) == ORION_OK);
            (void)sched_yield();
        }
    }
    return NULL;
}

static void two_threads_agree_on_every_record(void)
{
    static ring_t r;
    pthread_t thread;
    uint64_t random = 42;
    ring_make(&r);
    MUST(pthread_create(&thread, NULL, produce, &r) == 0);
    for (uint32_t i = 0; i < ROUNDS;) {
        const orion_record_t *record;
        orion_status_t status = orion_ring_next(&r.consumer, &record);
        if (status == ORION_AGAIN) {
            orion_ring_publish(&r.consumer);
            (void)sched_yield();
            continue;
        }
        MUST(status == ORION_OK);
        MUST(record_is(record, 16 + 8 * (uint32_t)(check_random(&random) >> 59), i));
        if (orion_ring_publish_due(&r.consumer))
            orion_ring_publish(&r.consumer);
        i++;
    }
    MUST(pthread_join(thread, NULL) == 0);
}

CHECK_MAIN(CASE(ring_delivers_every_length_at_every_offset), CASE(ring_is_full_at_its_size_and_not_before),
           CASE(a_claim_that_is_not_committed_is_void), CASE(indices_run_past_their_32_bits),
           CASE(ring_refuses_lengths_below_a_header), CASE(ring_refuses_lengths_that_are_no_multiple_of_8),
           CASE(ring_refuses_a_length_over_what_was_published), CASE(ring_refuses_a_length_over_the_limit),
           CASE(ring_refuses_a_length_near_4_gib), CASE(ring_refuses_a_head_beyond_its_capacity),
           CASE(ring_refuses_a_head_off_alignment), CASE(ring_refuses_a_head_that_moves_back),
           CASE(ring_refuses_a_record_across_its_end), CASE(ring_refuses_a_pad_that_is_not_at_the_end),
           CASE(ring_refuses_words_of_another_life), CASE(a_producer_refuses_a_reader_that_read_the_future),
           CASE(a_copy_does_not_change_with_the_ring), CASE(two_threads_agree_on_every_record))
