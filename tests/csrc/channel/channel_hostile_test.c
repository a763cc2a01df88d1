/* SPDX-License-Identifier: Apache-2.0 */
/* An end that scribbles over everything it can write, its whole segment, while the other one receives, sends, calls and
 * answers: that one gets a protocol error or goes on; it never crashes and never reads outside (run it under the
 * sanitizers). ORION_HOSTILE_WORDS: how many random words, default 10^6. */
#define _GNU_SOURCE
#include <malloc.h>

#include "base/fd.h"
#include "base/sys.h"
#include "channel/greeting.h"
#include "channel_pair.h"

typedef struct target {
    pair_t p; /* a scribbles, b is the victim */
    uint32_t *words;
    uint64_t random, scribbled;
    uint64_t messages, answers, protocols;
    orion_message_t message;
} target_t;

static void attach(target_t *t)
{
    static uint8_t large[8192];
    if (t->p.a != NULL)
        pair_close(&t->p);
    orion_channel_options_t options = {.arena_limit = 1 << 20};
    t->p = pair_open(&options);
    t->words = (uint32_t *)(void *)t->p.a->own;
    /* so that there is an extent to name */
    MUST(orion_channel_send(t->p.a, 0, large, sizeof(large), NULL, 0) == ORION_OK);
    MUST(orion_channel_receive(t->p.b, 0, &t->message) == ORION_OK);
    orion_message_release(&t->message);
}

/* Words that get past the first checks are likelier than by chance alone. */
static uint32_t nasty_word(target_t *t, uint32_t at)
{
    uint64_t r = check_random(&t->random);
    uint32_t word = (uint32_t)(r >> 32);
    switch (r % 9) {
    case 0:
        return word;
    case 1:
        return (t->p.b->in.tail + word % 4096) & ~7u; /* an index a little further */
    case 2:
        return word % 512 & ~7u;
    case 3:
        return t->p.a->out.epoch;
    case 4:
        return ORION_CHANNEL_RECORD_MAX - 16 + word % 32;
    case 5:
        return word & 0x00ff00ffu; /* kinds, flags, slots */
    case 6:
        return 0u - (word & 0xff);
    case 7:
        return t->p.b->sequence + word % 2;
    default:
        return at % 2 == 0 ? word & 0xffff : 0;
    }
}

static void scribble(target_t *t)
{
    uint64_t r = check_random(&t->random);
    uint32_t offset = (uint32_t)(r >> 16), at;
    switch (r % 8) {
    case 0:
    case 1:
        at = offsetof(orion_channel_control_t, head) / 4;
        break;
    case 2:
        at = offset % (sizeof(orion_channel_control_t) / 4);
        break;
    case 3:
        at = offset % (ORION_CHANNEL_SEGMENT_BYTES / 4);
        break;
    case 4: /* an answer */
        at = (ORION_CHANNEL_SLOTS_OFFSET + offset % 4 * ORION_REPLY_BYTES) / 4 + (offset >> 8) % 12;
        break;
    default: /* where the next record is */
        at = (ORION_CHANNEL_RING_OFFSET + (t->p.b->in.tail & (ORION_CHANNEL_RING_BYTES - 1))) / 4 + offset % 16;
        break;
    }
    orion_store_relaxed(&t->words[at % (ORION_CHANNEL_SEGMENT_BYTES / 4)], nasty_word(t, at));
    t->scribbled++;
}

/* A whole record whose bulk names something: chance alone seldom gets that far. */
static void put_bulk(target_t *t)
{
    orion_channel_t *a = t->p.a, *b = t->p.b;
    uint64_t r = check_random(&t->random);
    orion_record_t header = {64, (uint16_t)((r % 5) | ORION_CHANNEL_BULK | (r >> 4 & 0xf0)), (uint16_t)(r >> 20 & 63),
                             1, a->out.epoch};
    orion_bulk_place_t place = {.offset = check_random(&t->random) % 3 == 0 ? r : r % 9000,
                                .bytes = (r >> 32) % 5 == 0 ? check_random(&t->random) : (r >> 36) % 9000,
                                .extent = (r >> 50) % 3 == 0 ? ORION_EXTENT_PIECES : (uint32_t)(r >> 52) % 3,
                                .reference = (uint32_t)(r >> 8) % 1100,
                                .generation = (uint32_t)(r >> 60),
                                .filling = (uint32_t)(r >> 59) & 1};
    orion_store_relaxed(&a->own->filled, (uint32_t)(r >> 40));
    uint32_t at = b->in.tail & (ORION_CHANNEL_RING_BYTES - 1);
    if (at + 64 > ORION_CHANNEL_RING_BYTES)
        return;
    uint8_t *to = orion_channel_ring(a->own) + at;
    memcpy(to, &header, sizeof(header));
    memcpy(to + sizeof(header), &place, sizeof(place));
    orion_store_release(&a->own->head, b->in.tail + 64);
    t->scribbled += 13;
}

/* An answer to the call that comes next. */
static void put_answer(target_t *t)
{
    uint64_t r = check_random(&t->random);
    orion_reply_t *reply = orion_channel_slot(t->p.a->own, t->p.b->slot_hint);
    orion_store_relaxed(&reply->result, (int32_t)((r % 8) | (r >> 3 & 0xff88)));
    orion_store_relaxed(&reply->bytes, (r >> 20) % 4 == 0 ? (uint32_t)(r >> 32) : (uint32_t)(r >> 32) % 5000);
    orion_store_release(&reply->sequence, t->p.b->sequence + 1);
    t->scribbled += 3;
}

/* What a process does with a channel, whatever comes. Returns false when the channel has ended. */
static bool use(target_t *t)
{
    orion_channel_t *b = t->p.b;
    static uint8_t data[2000], into[5000];
    orion_message_t *m = &t->message;
    orion_status_t status = ORION_OK;
    volatile uint32_t sum = 0;
    for (int i = 0; i < 8 && status == ORION_OK; i++) {
        status = i % 2 == 0 ? orion_channel_receive(b, 0, m) : orion_channel_receive_into(b, 0, into, sizeof(into), m);
        if (status == ORION_TOO_BIG)
            status = orion_channel_receive(b, 0, m);
        if (status != ORION_OK)
            break;
        const uint8_t *bytes = m->data, *bulk = m->bulk.data;
        for (size_t k = 0; k < m->bytes; k++)
            sum += bytes[k]; /* every byte is there */
        if (bulk != NULL)
            sum += bulk[0] + bulk[m->bulk.bytes - 1];
        t->messages++;
        if (m->kind == ORION_MESSAGE_CALL)
            status = orion_channel_reply(b, m, ORION_MESSAGE_REPLY, 0, data, sum % sizeof(data), NULL, 0);
        orion_message_release(m);
    }
    if (status == ORION_OK || status == ORION_TIMEOUT)
        status = orion_channel_send(b, 0, data, sum % sizeof(data), NULL, 0);
    if (status == ORION_OK || status == ORION_TIMEOUT) {
        orion_bulk_t bulk = {.data = data, .bytes = sizeof(data)};
        status = orion_channel_send(b, 0, NULL, 0, &bulk, 0);
    }
    if (status == ORION_OK || status == ORION_TIMEOUT) {
        status = orion_channel_call(b, 0, data, 8, NULL, 0, m);
        if (status == ORION_OK) {
            const uint8_t *bytes = m->data;
            for (size_t k = 0; k < m->bytes; k++)
                sum += bytes[k];
            t->answers++;
            orion_message_release(m);
        }
    }
    if (status == ORION_OK || status == ORION_TIMEOUT || status == ORION_NO_MEMORY)
        return orion_channel_state(b) == ORION_OK;
    MUST(status == ORION_PROTOCOL);
    MUST(strlen(orion_channel_why(b, NULL)) > 20);
    t->protocols++;
    return false;
}

static void garbage_everywhere_is_a_protocol_error_at_most(void)
{
    static target_t t;
    uint64_t words = check_number("ORION_HOSTILE_WORDS", 1000000);
    t = (target_t){.random = check_number("ORION_SEED", 20261123)};
    attach(&t);
    while (t.scribbled < words) {
        uint64_t r = check_random(&t.random), count = r % 3 == 0 ? (r >> 8) % 1024 : 0;
        for (uint64_t i = 0; i < count; i++)
            scribble(&t);
        if (r % 3 == 1)
            put_bulk(&t);
        if (r % 3 == 2)
            put_answer(&t);
        if (!use(&t))
            attach(&t);
    }
    printf("     %llu words: %llu messages, %llu answers, %llu protocol errors\n", (unsigned long long)t.scribbled,
           (unsigned long long)t.messages, (unsigned long long)t.answers, (unsigned long long)t.protocols);
    CHECK(t.protocols > words / 10000);     /* it did bite */
    CHECK(t.messages > 0 && t.answers > 0); /* and some garbage looked like a message, or an answer */
    pair_close(&t.p);
}

/* The other half of the attack: words that change while they are read. */
typedef struct race {
    target_t *t;
    uint32_t *words;
    uint32_t stop;
} race_t;

static void *scribble_on(void *arg)
{
    race_t *race = arg;
    uint64_t random = 99;
    while (orion_load_relaxed(&race->stop) == 0) {
        for (int i = 0; i < 64; i++) {
            uint64_t r = check_random(&random);
            uint32_t at = r % 3 == 0 ? 32 : (uint32_t)((r >> 8) % (ORION_CHANNEL_SEGMENT_BYTES / 4));
            orion_store_relaxed(&race->words[at],
                                r % 3 == 0 ? (uint32_t)(r >> 32) % 0x20000 & ~7u : (uint32_t)(r >> 40));
        }
    }
    return NULL;
}

static void garbage_that_changes_while_it_is_read_is_no_worse(void)
{
    static target_t t;
    uint64_t rounds = check_number("ORION_HOSTILE_WORDS", 1000000) / 20000;
    t = (target_t){.random = 4711};
    for (uint64_t round = 0; round < rounds; round++) {
        attach(&t);
        race_t race = {&t, t.words, 0};
        pthread_t thread;
        MUST(pthread_create(&thread, NULL, scribble_on, &race) == 0);
        for (int i = 0; i < 100000 && use(&t); i++)
            continue;
        orion_store_relaxed(&race.stop, 1);
        MUST(pthread_join(thread, NULL) == 0);
    }
    CHECK(t.protocols > 0);
    pair_close(&t.p);
}

/* A record of the given kind as the hostile end's next one; NULL: no place. */
static void put_record(orion_channel_t *a, uint32_t kind, const orion_bulk_place_t *place)
{
    orion_record_t *record;
    uint32_t extra = place != NULL ? sizeof(*place) : 0;
    MUST(orion_channel_claim(a, ORION_RECORD_HEADER + extra, 0, &record) == ORION_OK);
    record->opcode = (uint16_t)(kind | (place != NULL ? ORION_CHANNEL_BULK | ORION_CHANNEL_WHOLE : 0));
    record->slot = ORION_SLOT_NONE;
    record->sequence = 0;
    if (place != NULL)
        memcpy(orion_record_payload(record), place, sizeof(*place));
    orion_channel_commit(a);
}

static void a_message_that_is_announced_and_not_filled_holds_up_nobody(void)
{
    static target_t t;
    static uint8_t to[8192];
    orion_bulk_place_t place = {.bytes = 8192, .reference = 5, .generation = 1, .filling = 1};
    for (int how = 0; how < 3; how++) {
        attach(&t);
        orion_channel_t *a = t.p.a, *b = t.p.b;
        orion_message_t *m = &t.message;
        if (how > 0)
            put_record(a, ORION_MESSAGE_SEND, &place);
        if (how == 1) {
            for (uint32_t pages = 0; pages < 3; pages++) { /* more than it announced, at last */
                orion_store_release(&a->own->filled, pages);
                CHECK_EQUAL(orion_channel_receive(b, 0, m), ORION_TIMEOUT);
                CHECK_EQUAL(orion_channel_receive_into(b, 1000000, to, sizeof(to), m), ORION_TIMEOUT);
                CHECK_EQUAL(orion_channel_receive_into(b, 1000000, to, 100, m), ORION_TOO_BIG);
                CHECK_EQUAL(m->bulk.bytes, sizeof(to));
            }
            orion_store_release(&a->own->filled, 0xffffffffu);
            CHECK_EQUAL(orion_channel_receive_into(b, 1000000, to, sizeof(to), m), ORION_TIMEOUT);
            put_record(a, ORION_CHANNEL_FILLED, NULL);
            CHECK_EQUAL(orion_channel_receive_into(b, 0, to, sizeof(to), m), ORION_OK);
            CHECK(m->data == to && m->bytes == sizeof(to));
            orion_message_release(m);
        }
        /* completed without a beginning; begun and not completed */
        put_record(a, how < 2 ? ORION_CHANNEL_FILLED : ORION_MESSAGE_SEND, NULL);
        CHECK_EQUAL(orion_channel_receive(b, 0, m), ORION_PROTOCOL);
        CHECK(strstr(orion_channel_why(b, NULL), "complete") != NULL);
        pair_close(&t.p);
        t.p = (pair_t){NULL, NULL};
    }
}

/* Memory of this process that has been touched. */
static uint64_t resident_bytes(void)
{
    unsigned long long all, resident;
    FILE *f = fopen("/proc/self/statm", "r");
    MUST(f != NULL && fscanf(f, "%llu %llu", &all, &resident) == 2);
    (void)fclose(f);
    return resident * 4096;
}

/* The hostile end has one block and names it again and again. */
static void pieces_cost_memory_as_they_come_and_no_more_than_the_limit(void)
{
    enum { LIMIT = 64 << 20 }; /* what an arena limit of 1 MiB stands for */
    static target_t t;
    orion_bulk_place_t all = {.bytes = LIMIT, .extent = ORION_EXTENT_PIECES};
    orion_bulk_place_t piece = {.bytes = 1 << 18, .reference = 5, .generation = 1};
    attach(&t);
    (void)mallopt(M_PERTURB, 0); /* `meson test` has malloc fill what it gives */
    uint64_t before = resident_bytes();
    put_record(t.p.a, ORION_MESSAGE_SEND, &all);
    CHECK_EQUAL(orion_channel_receive(t.p.b, 0, &t.message), ORION_TIMEOUT);
    CHECK(resident_bytes() - before < LIMIT / 4); /* announced, not there */
    for (uint32_t sent = 0; sent < LIMIT; sent += 1 << 18) {
        put_record(t.p.a, ORION_CHANNEL_PART, &piece);
        CHECK_EQUAL(orion_channel_receive(t.p.b, 0, &t.message), sent + (1 << 18) < LIMIT ? ORION_TIMEOUT : ORION_OK);
    }
    CHECK_EQUAL(t.message.bytes, LIMIT);
    orion_message_release(&t.message);
    put_record(t.p.a, ORION_CHANNEL_PART, &piece); /* one more than all */
    CHECK_EQUAL(orion_channel_receive(t.p.b, 0, &t.message), ORION_PROTOCOL);

    attach(&t);
    all.bytes = LIMIT + 1;
    put_record(t.p.a, ORION_MESSAGE_SEND, &all);
    CHECK_EQUAL(orion_channel_receive(t.p.b, 0, &t.message), ORION_PROTOCOL);
    CHECK(strstr(orion_channel_why(t.p.b, NULL), "message_limit") != NULL);
    pair_close(&t.p);
    t.p = (pair_t){NULL, NULL};
}

static void packets_that_make_no_sense_end_the_channel(void)
{
    static const uint8_t nonsense[][24] = {{9}, {3, 0, 0, 0, 7}, {3}, {4, 0}, {0}};
    static const size_t lengths[] = {16, 16, 16, 5, 24};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        pair_t p = pair_open(NULL);
        MUST(send(orion_channel_fd(p.a), nonsense[i], lengths[i], MSG_NOSIGNAL) == (ssize_t)lengths[i]);
        CHECK_EQUAL(orion_channel_state(p.b), ORION_PROTOCOL);
        CHECK(strstr(orion_channel_why(p.b, NULL), "it ") != NULL);
        CHECK_EQUAL(orion_channel_state(p.a), ORION_PEER_GONE); /* and it hears of it */
        pair_close(&p);
    }
}

static void extents_that_are_no_sealed_memory_are_refused(void)
{
    static const struct {
        uint32_t index;
        uint64_t bytes;
        bool sealed;
    } offers[] = {{0, 4096, false}, {0, 8192, true}, {1, 4096, true}, {0, 1ULL << 40, true}, {0, 100, true}};
    for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
        pair_t p = pair_open(NULL);
        char why[200];
        int fd = offers[i].sealed ? orion_memfd_sized("test", 4096, why, sizeof(why)) : orion_memfd_create("test", 2);
        MUST(fd >= 0 && (offers[i].sealed || ftruncate(fd, 4096) == 0));
        orion_packet_t packet = {ORION_PACKET_EXTENT, offers[i].index, offers[i].bytes};
        MUST(orion_fd_send_packet(orion_channel_fd(p.a), &packet, sizeof(packet), &fd, 1) == ORION_OK);
        (void)close(fd);
        CHECK_EQUAL(orion_channel_state(p.b), ORION_PROTOCOL);
        pair_close(&p);
    }
}

CHECK_MAIN(CASE(garbage_everywhere_is_a_protocol_error_at_most),
           CASE(garbage_that_changes_while_it_is_read_is_no_worse),
           CASE(a_message_that_is_announced_and_not_filled_holds_up_nobody),
           CASE(pieces_cost_memory_as_they_come_and_no_more_than_the_limit),
           CASE(packets_that_make_no_sense_end_the_channel), CASE(extents_that_are_no_sealed_memory_are_refused))
