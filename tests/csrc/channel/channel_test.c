/* SPDX-License-Identifier: Apache-2.0 */
/* Channels between two threads, two processes and across a fork: messages, calls, bulk, timeouts, ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../check.h"
#include "../sleeper.h"
#include "channel_pair.h"

#define SECOND 1000000000LL

static orion_message_t message; /* large: not on the stack of each claim */

static void messages_of_every_length_arrive_whole_and_in_order(void)
{
    pair_t p = pair_open(NULL);
    uint8_t sent[ORION_CHANNEL_INLINE];
    for (uint32_t bytes = 0; bytes <= ORION_CHANNEL_INLINE; bytes += bytes < 200 ? 1 : 97) {
        memset(sent, (int)bytes, sizeof(sent));
        CHECK_EQUAL(orion_channel_send(p.a, bytes & 0xff, sent, bytes, NULL, SECOND), ORION_OK);
        CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
        CHECK_EQUAL(message.kind, ORION_MESSAGE_SEND);
        CHECK_EQUAL(message.tag, bytes & 0xff);
        CHECK_EQUAL(message.bytes, bytes);
        CHECK(memcmp(message.data, sent, bytes) == 0);
        CHECK(message.bulk.data == NULL);
        orion_message_release(&message);
    }
    pair_close(&p);
}

static void a_full_ring_makes_the_sender_wait_and_loses_nothing(void)
{
    pair_t p = pair_open(NULL);
    uint64_t sent = 0, got = 0;
    while (orion_channel_send(p.a, 0, &sent, sizeof(sent), NULL, 0) == ORION_OK)
        sent++;
    CHECK(sent > 1000);
    CHECK_EQUAL(orion_channel_send(p.a, 0, &sent, sizeof(sent), NULL, 2000000), ORION_TIMEOUT);
    for (; got < sent; got++) {
        uint64_t value;
        CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
        memcpy(&value, message.data, sizeof(value));
        CHECK_EQUAL(value, got);
    }
    CHECK_EQUAL(orion_channel_receive(p.b, 0, &message), ORION_TIMEOUT);
    CHECK_EQUAL(orion_channel_receive(p.b, 3000000, &message), ORION_TIMEOUT);
    CHECK_EQUAL(orion_channel_send(p.a, 0, &sent, sizeof(sent), NULL, 0), ORION_OK);
    pair_close(&p);
}

static void a_wake_that_came_before_the_sleep_is_followed_by_another(void)
{
    if (!pair_over_shm())
        return; /* about futexes */
    pair_t p = pair_open(NULL);
    orion_store_release(&p.b->own->sleeping, 1); /* b says that it will sleep, and still takes what comes */
    CHECK_EQUAL(orion_channel_send(p.a, 0, "1", 1, NULL, SECOND), ORION_OK); /* wakes nobody */
    sleeper_t s = {.word = &p.a->own->head, .old = orion_load_relaxed(&p.a->own->head)};
    sleeper_start(&s); /* now it sleeps: it has seen that message */
    CHECK_EQUAL(orion_channel_send(p.a, 0, "2", 1, NULL, SECOND), ORION_OK);
    CHECK_EQUAL(sleeper_join(&s), ORION_OK);
    orion_store_release(&p.b->own->sleeping, 2);
    pair_close(&p);
}

/* ---- calls ---- */

typedef struct server {
    orion_channel_t *channel;
    uint64_t answered;
    orion_status_t end;
} server_t;

/* Answers with what came, bulk as bulk; tag 99 is refused, tag 98 is never answered. */
static void *serve(void *arg)
{
    server_t *s = arg;
    orion_message_t *m = malloc(sizeof(*m));
    MUST(m != NULL);
    while ((s->end = orion_channel_receive(s->channel, -1, m)) == ORION_OK) {
        orion_bulk_t bulk = {.data = m->bulk.data, .bytes = m->bulk.bytes};
        bool whole = m->bulk.data != NULL && m->data == m->bulk.data;
        if (m->kind == ORION_MESSAGE_CALL && m->tag != 98) {
            orion_status_t status = orion_channel_reply(
                s->channel, m, m->tag == 99 ? ORION_MESSAGE_ERROR : ORION_MESSAGE_REPLY, m->tag, m->data, m->bytes,
                m->bulk.data != NULL && !whole ? &bulk : NULL, SECOND);
            MUST(status == ORION_OK || status == ORION_PEER_GONE);
            s->answered++;
        }
        orion_message_release(m);
    }
    free(m);
    return NULL;
}

static void calls_bring_back_what_was_answered(void)
{
    pair_t p = pair_open(NULL);
    server_t s = {.channel = p.b};
    pthread_t thread;
    static uint8_t data[300000];
    MUST(pthread_create(&thread, NULL, serve, &s) == 0);
    static const size_t lengths[] = {0, 1, 8, 47, 48, 49, 64, 255, 4080, 4081, 70000, sizeof(data)};
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            memset(data, round + (int)i, lengths[i]);
            CHECK_EQUAL(orion_channel_call(p.a, 5, data, lengths[i], NULL, 10 * SECOND, &message), ORION_OK);
            CHECK_EQUAL(message.kind, ORION_MESSAGE_REPLY);
            CHECK_EQUAL(message.tag, 5);
            CHECK_EQUAL(message.bytes, lengths[i]);
            CHECK(memcmp(message.data, data, lengths[i]) == 0);
            orion_message_release(&message);
        }
    }
    CHECK_EQUAL(orion_channel_call(p.a, 99, "no", 2, NULL, SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.kind, ORION_MESSAGE_ERROR);
    orion_bulk_t bulk = {.data = data, .bytes = sizeof(data)};
    CHECK_EQUAL(orion_channel_call(p.a, 7, "head", 4, &bulk, SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.bytes, 4);
    CHECK(memcmp(message.data, "head", 4) == 0);
    CHECK_EQUAL(message.bulk.bytes, sizeof(data));
    CHECK(memcmp(message.bulk.data, data, sizeof(data)) == 0);
    orion_message_release(&message);
    orion_channel_shutdown(p.a);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(s.end, ORION_PEER_GONE);
    pair_close(&p);
}

static void unanswered_calls_time_out_and_their_slots_come_back(void)
{
    pair_t p = pair_open(NULL);
    static orion_message_t requests[ORION_CHANNEL_CALLS];
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++)
            CHECK_EQUAL(orion_channel_call(p.a, 0, &i, 4, NULL, 0, &message), ORION_TIMEOUT);
        /* each slot waits for its late answer: there is none for another call */
        CHECK_EQUAL(orion_channel_call(p.a, 0, NULL, 0, NULL, 3000000, &message), ORION_TIMEOUT);
        for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++)
            CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &requests[i]), ORION_OK);
        static uint8_t large[10000]; /* late answers that hold blocks give them back */
        for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++)
            CHECK_EQUAL(
                orion_channel_reply(p.b, &requests[i], ORION_MESSAGE_REPLY, 0, large, sizeof(large), NULL, SECOND),
                ORION_OK);
    }
    uint64_t call;
    CHECK_EQUAL(orion_channel_call_begin(p.a, 0, "x", 1, NULL, SECOND, &call), ORION_OK);
    CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &requests[0]), ORION_OK);
    CHECK(!orion_channel_call_ready(p.a, call, 1000));
    CHECK_EQUAL(orion_channel_reply(p.b, &requests[0], ORION_MESSAGE_REPLY, 1, "y", 1, NULL, 0), ORION_OK);
    CHECK(orion_channel_call_ready(p.a, call, 0));
    CHECK_EQUAL(orion_channel_call_await(p.a, call, 0, &message), ORION_OK);
    CHECK_EQUAL(message.bytes, 1);
    CHECK_EQUAL(orion_channel_call_await(p.a, 12345, 0, &message), ORION_INVALID);
    pair_close(&p);
}

typedef struct sender {
    orion_channel_t *channel;
    const void *data;
    size_t bytes;
    orion_status_t status;
} sender_t;

static void *begin_one(void *arg)
{
    uint64_t call;
    sender_t *s = arg;
    s->status = orion_channel_call_begin(s->channel, 7, s->data, s->bytes, NULL, -1, &call);
    return NULL;
}

static void a_call_that_waits_for_a_slot_holds_up_nobody(void)
{
    pair_t p = pair_open(NULL);
    pthread_t thread;
    uint64_t call;
    sender_t s = {p.a, "late", 4, ORION_AGAIN};
    for (uint32_t i = 0; i < ORION_CHANNEL_CALLS; i++)
        CHECK_EQUAL(orion_channel_call_begin(p.a, 1, "x", 1, NULL, 0, &call), ORION_OK);
    MUST(pthread_create(&thread, NULL, begin_one, &s) == 0);
    while (orion_load_relaxed(&p.a->slot_seekers) == 0)
        (void)usleep(100);
    CHECK_EQUAL(orion_channel_send(p.a, 2, "through", 7, NULL, SECOND), ORION_OK);
    CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
    CHECK_EQUAL(orion_channel_reply(p.b, &message, ORION_MESSAGE_REPLY, 0, NULL, 0, NULL, 0), ORION_OK);
    CHECK_EQUAL(orion_channel_call_await(p.a, orion_call_id(message.slot, message.sequence), SECOND, &message),
                ORION_OK);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(s.status, ORION_OK);
    pair_close(&p);
}

typedef struct caller {
    orion_channel_t *channel;
    uint64_t seed;
    int rounds;
    bool failed;
} caller_t;

static void *call_often(void *arg)
{
    caller_t *c = arg;
    orion_message_t *m = calloc(1, sizeof(*m));
    MUST(m != NULL);
    for (int i = 0; i < c->rounds && !c->failed; i++) {
        uint64_t words[20];
        size_t bytes = 8 + check_random(&c->seed) % sizeof(words) / 8 * 8 % 152;
        for (size_t k = 0; k < bytes / 8; k++)
            words[k] = check_random(&c->seed);
        if (orion_channel_send(c->channel, 1, words, 8, NULL, 10 * SECOND) != ORION_OK ||
            orion_channel_call(c->channel, 2, words, bytes, NULL, 10 * SECOND, m) != ORION_OK || m->bytes != bytes ||
            memcmp(m->data, words, bytes) != 0)
            c->failed = true;
        orion_message_release(m);
    }
    free(m);
    return NULL;
}

static void threads_on_both_sides_share_a_channel(void)
{
    enum { CALLERS = 5, SERVERS = 3 };
    pair_t p = pair_open(NULL);
    caller_t callers[CALLERS];
    server_t servers[SERVERS];
    pthread_t calling[CALLERS], serving[SERVERS];
    int rounds = (int)check_number("ORION_TEST_ROUNDS", 3000);
    for (int i = 0; i < SERVERS; i++) {
        servers[i] = (server_t){.channel = p.b};
        MUST(pthread_create(&serving[i], NULL, serve, &servers[i]) == 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller_t){p.a, (uint64_t)i * 77 + 1, rounds, false};
        MUST(pthread_create(&calling[i], NULL, call_often, &callers[i]) == 0);
    }
    uint64_t answered = 0;
    for (int i = 0; i < CALLERS; i++) {
        MUST(pthread_join(calling[i], NULL) == 0);
        CHECK(!callers[i].failed);
    }
    orion_channel_shutdown(p.a);
    for (int i = 0; i < SERVERS; i++) {
        MUST(pthread_join(serving[i], NULL) == 0);
        answered += servers[i].answered;
    }
    CHECK_EQUAL(answered, (uint64_t)CALLERS * (uint64_t)rounds);
    pair_close(&p);
}

/* ---- bulk ---- */

static void blocks_go_over_without_a_copy_and_come_back(void)
{
    if (!pair_over_shm())
        return; /* see blocks_over_a_stream_are_copies */
    pair_t p = pair_open(NULL);
    orion_block_t *block;
    CHECK_EQUAL(orion_block_create(p.a, 1 << 20, 0, &block), ORION_OK);
    uint8_t *data = orion_block_data(block);
    CHECK_EQUAL((uintptr_t)data % ORION_BLOCK_ALIGN, 0);
    CHECK_EQUAL(orion_block_bytes(block), 1 << 20);
    memset(data, 1, 1 << 20);
    orion_bulk_t bulk = {.data = data + 4096, .bytes = 1000, .block = block};
    CHECK_EQUAL(orion_channel_send(p.a, 3, "part", 4, &bulk, SECOND), ORION_OK);
    CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.bulk.bytes, 1000);
    CHECK_EQUAL(message.bytes, 4);
    CHECK_EQUAL(((const uint8_t *)message.bulk.data)[999], 1);
    data[4096 + 999] = 2; /* the very same memory */
    CHECK_EQUAL(((const uint8_t *)message.bulk.data)[999], 2);
    orion_block_free(block);
    /* still held over there: another block is elsewhere */
    CHECK_EQUAL(orion_block_create(p.a, 1 << 20, 0, &block), ORION_OK);
    CHECK(orion_block_data(block) != data);
    orion_block_free(block);
    orion_message_release(&message);
    CHECK_EQUAL(orion_block_create(p.a, 1 << 20, 0, &block), ORION_OK);
    CHECK(orion_block_data(block) == data);
    bulk = (orion_bulk_t){.data = data + (1 << 20) - 10, .bytes = 11, .block = block};
    CHECK_EQUAL(orion_channel_send(p.a, 3, NULL, 0, &bulk, SECOND), ORION_INVALID); /* beyond its end */
    CHECK_EQUAL(orion_channel_send(p.b, 3, NULL, 0, &bulk, SECOND), ORION_INVALID); /* not of that side */
    orion_block_free(block);
    pair_close(&p);
}

static void blocks_over_a_stream_are_copies(void)
{
    if (pair_over_shm())
        return;
    pair_t p = pair_open(NULL);
    orion_block_t *block;
    CHECK_EQUAL(orion_block_create(p.a, 1 << 20, 0, &block), ORION_OK);
    uint8_t *data = orion_block_data(block);
    CHECK_EQUAL((uintptr_t)data % ORION_BLOCK_ALIGN, 0);
    memset(data, 1, 1 << 20);
    orion_bulk_t bulk = {.data = data + 4096, .bytes = 1000, .block = block};
    CHECK_EQUAL(orion_channel_send(p.a, 3, "part", 4, &bulk, SECOND), ORION_OK);
    data[4096 + 999] = 2;
    CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.bulk.bytes, 1000);
    CHECK_EQUAL((uintptr_t)message.bulk.data % ORION_BLOCK_ALIGN, 0);
    CHECK_EQUAL(((const uint8_t *)message.bulk.data)[999], 1);
    orion_message_release(&message);
    bulk = (orion_bulk_t){.data = data + (1 << 20) - 10, .bytes = 11, .block = block};
    CHECK_EQUAL(orion_channel_send(p.a, 3, NULL, 0, &bulk, SECOND), ORION_INVALID); /* beyond its end */
    CHECK_EQUAL(orion_channel_send(p.b, 3, NULL, 0, &bulk, SECOND), ORION_INVALID); /* not of that side */
    orion_block_free(block);
    pair_close(&p);
}

static void held_messages_and_blocks_outlive_the_channel(void)
{
    pair_t p = pair_open(NULL);
    orion_block_t *block;
    orion_held_t *held;
    CHECK_EQUAL(orion_block_create(p.a, 5000, 0, &block), ORION_OK);
    memset(orion_block_data(block), 7, 5000);
    orion_bulk_t bulk = {.data = orion_block_data(block), .bytes = 5000, .block = block};
    CHECK_EQUAL(orion_channel_send(p.a, 0, NULL, 0, &bulk, SECOND), ORION_OK);
    CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
    const uint8_t *data = message.bulk.data;
    CHECK_EQUAL(orion_message_hold(&message, &held), ORION_OK);
    orion_message_release(&message);
    pair_close(&p);
    CHECK_EQUAL(data[4999], 7);
    memset(orion_block_data(block), 8, 5000);
    CHECK_EQUAL(data[4999], pair_over_shm() ? 8 : 7);
    orion_held_release(held);
    orion_block_free(block);
}

static void the_arena_is_bounded_and_long_messages_go_in_pieces(void)
{
    orion_channel_options_t small = {.arena_limit = 1 << 20};
    pair_t p = pair_open(&small);
    server_t s = {.channel = p.b};
    pthread_t thread;
    orion_block_t *block, *other;
    CHECK_EQUAL(orion_block_create(p.a, (1 << 20) + 1, 0, &block), ORION_NO_MEMORY);
    CHECK_EQUAL(orion_block_create(p.a, 700000, 0, &block), ORION_OK);
    CHECK_EQUAL(orion_block_create(p.a, 700000, 0, &other), ORION_NO_MEMORY); /* nobody could give any back */
    orion_bulk_t bulk = {.data = orion_block_data(block), .bytes = 700000, .block = block};
    CHECK_EQUAL(orion_channel_send(p.a, 0, NULL, 0, &bulk, SECOND), ORION_OK);
    orion_block_free(block);
    if (pair_over_shm())
        CHECK_EQUAL(orion_block_create(p.a, 700000, 2000000, &other), ORION_TIMEOUT); /* the other side could */
    MUST(pthread_create(&thread, NULL, serve, &s) == 0);
    CHECK_EQUAL(orion_block_create(p.a, 700000, 10 * SECOND, &other), ORION_OK);
    orion_block_free(other);
    size_t bytes = 9 << 20;
    uint8_t *large = malloc(bytes);
    MUST(large != NULL);
    for (size_t i = 0; i < bytes; i++)
        large[i] = (uint8_t)(i * 7 + i / 255);
    /* 9 MiB through an arena of 1 MiB */
    CHECK_EQUAL(orion_channel_send(p.a, 0, large, bytes, NULL, 10 * SECOND), ORION_OK);
    orion_channel_shutdown(p.a);
    MUST(pthread_join(thread, NULL) == 0);
    pair_close(&p);

    p = pair_open(&small);
    orion_bulk_t all = {.data = large, .bytes = bytes};
    CHECK_EQUAL(orion_channel_send(p.b, 4, "head", 4, &all, 1000000), ORION_TIMEOUT); /* nobody takes the pieces */
    CHECK_EQUAL(orion_channel_send(p.b, 1, "next", 4, NULL, SECOND), ORION_OK);
    CHECK_EQUAL(orion_channel_receive(p.a, SECOND, &message), ORION_OK); /* what was given up is never seen */
    CHECK_EQUAL(message.tag, 1);
    orion_message_release(&message);
    free(large);
    pair_close(&p);
}

static void *send_one(void *arg)
{
    sender_t *s = arg;
    s->status = orion_channel_send(s->channel, 9, s->data, s->bytes, NULL, 20 * SECOND);
    return NULL;
}

static void pieces_are_put_together_again(void)
{
    orion_channel_options_t small = {.arena_limit = 1 << 20};
    pair_t p = pair_open(&small);
    size_t bytes = (5 << 20) + 13;
    uint8_t *large = malloc(bytes);
    MUST(large != NULL);
    for (size_t i = 0; i < bytes; i++)
        large[i] = (uint8_t)(i * 7 + i / 255);
    sender_t s = {p.a, large, bytes, ORION_AGAIN};
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, send_one, &s) == 0);
    orion_status_t status;
    do {
        status = orion_channel_receive(p.b, 1000000, &message); /* time may be up in the middle: it goes on next time */
    } while (status == ORION_TIMEOUT);
    CHECK_EQUAL(status, ORION_OK);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(s.status, ORION_OK);
    CHECK_EQUAL(message.tag, 9);
    CHECK_EQUAL(message.bytes, bytes);
    CHECK(memcmp(message.data, large, bytes) == 0);
    orion_message_release(&message);
    free(large);
    pair_close(&p);
}

static void a_message_that_is_longer_than_the_other_side_takes_is_not_sent(void)
{
    /* What fits the arena is always taken. */
    static const orion_channel_options_t options[] = {{.arena_limit = 1 << 20, .message_limit = 2 << 20},
                                                      {.arena_limit = 1 << 20, .message_limit = 1}};
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        pair_t p = pair_open(&options[i]);
        server_t s = {.channel = p.b};
        pthread_t thread;
        size_t most = i == 0 ? 2 << 20 : 1 << 20;
        uint8_t *large = malloc(most + 1);
        MUST(large != NULL);
        for (size_t k = 0; k <= most; k++)
            large[k] = (uint8_t)(k * 7 + k / 255);
        MUST(pthread_create(&thread, NULL, serve, &s) == 0);
        orion_bulk_t bulk = {.data = large, .bytes = most + 1};
        CHECK_EQUAL(orion_channel_message_limit(p.a), most);
        CHECK_EQUAL(orion_channel_send(p.a, 0, large, most + 1, NULL, 10 * SECOND), ORION_TOO_BIG);
        CHECK_EQUAL(orion_channel_send(p.a, 0, "head", 4, &bulk, 10 * SECOND), ORION_TOO_BIG);
        CHECK_EQUAL(orion_channel_call(p.a, 0, large, most + 1, NULL, 10 * SECOND, &message), ORION_TOO_BIG);
        CHECK_EQUAL(orion_channel_send(p.a, 0, large, most, NULL, 10 * SECOND), ORION_OK); /* it lives on */
        CHECK_EQUAL(orion_channel_call(p.a, 5, "next", 4, NULL, 10 * SECOND, &message), ORION_OK);
        orion_message_release(&message);
        orion_channel_shutdown(p.a);
        MUST(pthread_join(thread, NULL) == 0);
        free(large);
        pair_close(&p);
    }
}

static void the_message_limit_follows_the_arena_limit(void)
{
    static const struct {
        uint64_t arena, message, expected;
    } table[] = {{0, 0, 4ULL << 30},          {1 << 20, 0, 64ULL << 20},
                 {1ULL << 40, 0, 4ULL << 40}, {UINT64_MAX / 2, 0, UINT64_MAX},
                 {1 << 20, 3 << 20, 3 << 20}, {3 << 20, 1 << 20, 3 << 20}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        orion_channel_options_t options = {.arena_limit = table[i].arena, .message_limit = table[i].message};
        CHECK_EQUAL(orion_channel_limits(&options).message, table[i].expected);
    }
}

static void long_messages_are_copied_while_they_come(void)
{
    static const size_t sizes[] = {64 << 10, (64 << 10) + 1, 300001, 1 << 20, (5 << 20) + 13};
    pair_t p = pair_open(NULL);
    size_t most = 6 << 20;
    uint8_t *large = malloc(most), *to = malloc(most);
    MUST(large != NULL && to != NULL);
    for (size_t i = 0; i < most; i++)
        large[i] = (uint8_t)(i * 7 + i / 255);
    for (size_t round = 0; round < 8 * sizeof(sizes) / sizeof(sizes[0]); round++) {
        size_t bytes = sizes[round / 8];
        sender_t s = {p.a, large + round, bytes, ORION_AGAIN};
        pthread_t thread;
        size_t room = round % 4 == 0 ? 0 : bytes;
        int64_t timeout_ns = round % 2 == 0 ? 20 * SECOND : 3000; /* time may be up in the middle */
        MUST(pthread_create(&thread, NULL, send_one, &s) == 0);
        orion_status_t status;
        do {
            status = round % 8 == 7 ? orion_channel_receive(p.b, timeout_ns, &message)
                                    : orion_channel_receive_into(p.b, timeout_ns, to, room, &message);
            if (status == ORION_TOO_BIG) {
                CHECK_EQUAL(message.tag, 9);
                CHECK_EQUAL(message.bulk.bytes, bytes);
                CHECK_EQUAL(room, 0);
                room = message.bulk.bytes;
            }
        } while (status == ORION_TIMEOUT || status == ORION_TOO_BIG);
        CHECK_EQUAL(status, ORION_OK);
        MUST(pthread_join(thread, NULL) == 0);
        CHECK_EQUAL(s.status, ORION_OK);
        CHECK_EQUAL(message.tag, 9);
        CHECK_EQUAL(message.bytes, bytes);
        CHECK(memcmp(message.data, large + round, bytes) == 0);
        CHECK((message.data == to) == (round % 8 != 7 && room != 0)); /* 0: it was complete before we looked */
        orion_message_release(&message);
    }
    CHECK_EQUAL(orion_channel_send(p.a, 3, "short", 5, NULL, 0), ORION_OK);
    CHECK_EQUAL(orion_channel_receive_into(p.b, SECOND, to, most, &message), ORION_OK);
    CHECK_EQUAL(message.tag, 3);
    CHECK(message.bytes == 5 && memcmp(message.data, "short", 5) == 0);
    orion_message_release(&message);
    if (pair_over_shm())                 /* over a stream it takes a while until it is told */
        CHECK_EQUAL(p.a->held_count, 1); /* all blocks came back; the last is noticed when one is wanted */
    free(large);
    free(to);
    pair_close(&p);
}

static void wrong_arguments_are_refused_and_harm_nothing(void)
{
    pair_t p = pair_open(NULL);
    static uint8_t data[ORION_CHANNEL_INLINE + 1];
    orion_bulk_t bulk = {.data = data, .bytes = 10}, none = {.data = NULL, .bytes = 10};
    orion_message_t *odd = calloc(1, sizeof(*odd));
    MUST(odd != NULL);
    odd->slot = 77;
    CHECK_EQUAL(orion_channel_send(p.a, 256, data, 1, NULL, 0), ORION_INVALID);
    CHECK_EQUAL(orion_channel_send(p.a, 0, data, sizeof(data), &bulk, 0), ORION_TOO_BIG);
    CHECK_EQUAL(orion_channel_send(p.a, 0, data, 1, &none, 0), ORION_INVALID);
    CHECK_EQUAL(orion_channel_reply(p.a, odd, ORION_MESSAGE_REPLY, 0, data, 1, NULL, 0), ORION_INVALID);
    odd->slot = 1;
    CHECK_EQUAL(orion_channel_reply(p.a, odd, ORION_MESSAGE_CALL, 0, data, 1, NULL, 0), ORION_INVALID);
    orion_block_t *block;
    CHECK_EQUAL(orion_block_create(p.a, 0, 0, &block), ORION_INVALID);
    orion_held_t *held;
    CHECK_EQUAL(orion_message_hold(odd, &held), ORION_INVALID);
    CHECK_EQUAL(orion_channel_state(p.a), ORION_OK);
    free(odd);
    pair_close(&p);
}

/* ---- ends ---- */

static void what_was_sent_before_closing_is_still_received(void)
{
    pair_t p = pair_open(NULL);
    static uint8_t large[100000];
    bool clean = false;
    memset(large, 3, sizeof(large));
    CHECK_EQUAL(orion_channel_send(p.b, 2, "x", 1, NULL, 0), ORION_OK); /* never read: it must not matter */
    CHECK_EQUAL(orion_channel_send(p.a, 1, "last", 4, NULL, 0), ORION_OK);
    CHECK_EQUAL(orion_channel_send(p.a, 2, large, sizeof(large), NULL, SECOND), ORION_OK);
    orion_channel_shutdown(p.a);
    CHECK_EQUAL(orion_channel_receive(p.b, -1, &message), ORION_OK);
    CHECK_EQUAL(message.bytes, 4);
    CHECK_EQUAL(orion_channel_receive(p.b, -1, &message), ORION_OK);
    CHECK_EQUAL(message.bytes, sizeof(large));
    CHECK(memcmp(message.data, large, sizeof(large)) == 0);
    orion_message_release(&message);
    CHECK_EQUAL(orion_channel_receive(p.b, -1, &message), ORION_PEER_GONE);
    CHECK(strstr(orion_channel_why(p.b, &clean), "closed") != NULL);
    CHECK(clean);
    CHECK_EQUAL(orion_channel_send(p.b, 1, "x", 1, NULL, 0), ORION_PEER_GONE);
    pair_close(&p);
}

static void *shut_soon(void *arg)
{
    (void)usleep(2000);
    orion_channel_shutdown(arg);
    return NULL;
}

static void shutting_down_wakes_every_waiting_thread(void)
{
    for (int side = 0; side < 2; side++) {
        pair_t p = pair_open(NULL);
        pthread_t thread;
        int64_t start = check_now_ns();
        MUST(pthread_create(&thread, NULL, shut_soon, side == 0 ? p.a : p.b) == 0);
        CHECK_EQUAL(orion_channel_receive(p.a, -1, &message), side == 0 ? ORION_INVALID : ORION_PEER_GONE);
        CHECK(check_now_ns() - start < 5 * SECOND);
        MUST(pthread_join(thread, NULL) == 0);
        pair_close(&p);
        p = pair_open(NULL);
        MUST(pthread_create(&thread, NULL, shut_soon, side == 0 ? p.a : p.b) == 0);
        CHECK_EQUAL(orion_channel_call(p.a, 0, "x", 1, NULL, -1, &message),
                    side == 0 ? ORION_INVALID : ORION_PEER_GONE);
        MUST(pthread_join(thread, NULL) == 0);
        pair_close(&p);
    }
}

static void a_forked_child_cannot_touch_the_channel(void)
{
    pair_t p = pair_open(NULL);
    orion_block_t *block;
    CHECK_EQUAL(orion_block_create(p.a, 5000, 0, &block), ORION_OK);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        uint64_t call;
        bool ok = orion_channel_send(p.a, 0, "x", 1, NULL, -1) == ORION_INVALID;
        ok = ok && orion_channel_receive(p.a, -1, &message) == ORION_INVALID;
        ok = ok && orion_channel_call_begin(p.a, 0, "x", 1, NULL, -1, &call) == ORION_INVALID;
        ok = ok && orion_channel_arm(p.a) == ORION_INVALID && orion_channel_state(p.a) == ORION_INVALID;
        ok = ok && strstr(orion_channel_why(p.a, NULL), "fork") != NULL;
        orion_block_free(block);
        orion_channel_shutdown(p.a);
        orion_channel_free(p.a);
        if (strcmp(pair_transport(), "ucx") != 0) { /* UCX does not work in the child of a process that used it */
            pair_t own = pair_open(NULL);           /* but may have some of its own */
            ok = ok && orion_channel_send(own.a, 0, "x", 1, NULL, -1) == ORION_OK;
            pair_close(&own);
        }
        _exit(ok ? 0 : 1);
    }
    int how;
    MUST(waitpid(child, &how, 0) == child);
    CHECK_EQUAL(how, 0);
    CHECK_EQUAL(orion_channel_send(p.a, 0, "x", 1, NULL, 0), ORION_OK); /* the parent's is as it was */
    CHECK_EQUAL(orion_channel_receive(p.b, SECOND, &message), ORION_OK);
    orion_block_free(block);
    pair_close(&p);
}

/* ---- event loops ---- */

static bool readable(orion_channel_t *channel, int ms)
{
    struct pollfd f = {.fd = orion_channel_fd(channel), .events = POLLIN};
    return poll(&f, 1, ms) == 1;
}

static void an_armed_descriptor_becomes_readable_once(void)
{
    if (strcmp(pair_transport(), "ucx") == 0)
        return; /* what arrives takes a moment there, and UCX's own business wakes, too: tests/orion_shm has the claim */
    pair_t p = pair_open(NULL);
    CHECK_EQUAL(orion_channel_send(p.a, 0, "x", 1, NULL, 0), ORION_OK);
    CHECK(!readable(p.b, 0)); /* nobody asked */
    CHECK_EQUAL(orion_channel_arm(p.b), ORION_AGAIN);
    CHECK_EQUAL(orion_channel_receive(p.b, 0, &message), ORION_OK);
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(orion_channel_arm(p.b), ORION_OK);
        CHECK(!readable(p.b, 0));
        CHECK_EQUAL(orion_channel_send(p.a, 0, "x", 1, NULL, 0), ORION_OK);
        CHECK_EQUAL(orion_channel_send(p.a, 0, "y", 1, NULL, 0), ORION_OK);
        CHECK(readable(p.b, 5000));
        CHECK_EQUAL(orion_channel_disarm(p.b), ORION_OK);
        CHECK(!readable(p.b, 0));
        CHECK_EQUAL(orion_channel_receive(p.b, 0, &message), ORION_OK);
        CHECK_EQUAL(orion_channel_receive(p.b, 0, &message), ORION_OK);
    }
    uint64_t call;
    CHECK_EQUAL(orion_channel_call_begin(p.b, 0, "q", 1, NULL, 0, &call), ORION_OK);
    CHECK_EQUAL(orion_channel_call_arm(p.b, call), ORION_OK);
    CHECK_EQUAL(orion_channel_receive(p.a, 0, &message), ORION_OK);
    CHECK(!readable(p.b, 0));
    CHECK_EQUAL(orion_channel_reply(p.a, &message, ORION_MESSAGE_REPLY, 0, "r", 1, NULL, 0), ORION_OK);
    CHECK(readable(p.b, 5000));
    CHECK_EQUAL(orion_channel_call_arm(p.b, call), ORION_AGAIN);
    CHECK_EQUAL(orion_channel_call_await(p.b, call, 0, &message), ORION_OK);
    CHECK_EQUAL(orion_channel_disarm(p.b), ORION_OK);
    CHECK_EQUAL(orion_channel_arm(p.b), ORION_OK);
    orion_channel_shutdown(p.a);
    CHECK(readable(p.b, 5000)); /* the end, too */
    CHECK_EQUAL(orion_channel_disarm(p.b), ORION_PEER_GONE);
    pair_close(&p);
}

/* ---- addresses ---- */

static void *connect_to(void *arg)
{
    orion_channel_t *channel = NULL;
    char why[256];
    if (orion_channel_connect(arg, NULL, 10 * SECOND, &channel, why, sizeof(why)) != ORION_OK)
        fprintf(stderr, "%s\n", why);
    return channel;
}

static void listeners_are_found_by_name_and_by_path(void)
{
    char name[64], path[64], why[256];
    snprintf(name, sizeof(name), "shm://test-%d", (int)getpid());
    snprintf(path, sizeof(path), "/tmp/orion-test-%d", (int)getpid());
    char *addresses[] = {name, path};
    for (int i = 0; i < 2; i++) {
        orion_listener_t *listener, *second;
        orion_channel_t *channel;
        pthread_t thread;
        void *other;
        CHECK_EQUAL(orion_channel_connect(addresses[i], NULL, 0, &channel, why, sizeof(why)), ORION_REFUSED);
        CHECK(strstr(why, addresses[i]) != NULL);
        CHECK_EQUAL(orion_listener_open(addresses[i], NULL, &listener, why, sizeof(why)), ORION_OK);
        CHECK_EQUAL(orion_listener_open(addresses[i], NULL, &second, why, sizeof(why)), ORION_REFUSED);
        CHECK_EQUAL(orion_listener_accept(listener, 2000000, &channel, why, sizeof(why)), ORION_TIMEOUT);
        MUST(pthread_create(&thread, NULL, connect_to, addresses[i]) == 0);
        CHECK_EQUAL(orion_listener_accept(listener, 10 * SECOND, &channel, why, sizeof(why)), ORION_OK);
        MUST(pthread_join(thread, &other) == 0);
        CHECK(other != NULL);
        CHECK_EQUAL(orion_channel_peer_pid(channel), getpid());
        CHECK_EQUAL(orion_channel_send(channel, 0, "x", 1, NULL, 0), ORION_OK);
        CHECK_EQUAL(orion_channel_receive(other, SECOND, &message), ORION_OK);
        orion_channel_free(channel);
        orion_channel_free(other);
        orion_listener_free(listener);
        CHECK(access(path, F_OK) != 0);
    }
    /* the file of a listener that was killed is in nobody's way */
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        orion_listener_t *listener;
        _exit(orion_listener_open(path, NULL, &listener, why, sizeof(why)) == ORION_OK ? 0 : 1);
    }
    MUST(waitpid(child, NULL, 0) == child);
    CHECK(access(path, F_OK) == 0);
    orion_listener_t *listener;
    CHECK_EQUAL(orion_listener_open(path, NULL, &listener, why, sizeof(why)), ORION_OK);
    orion_listener_free(listener);
}

static void addresses_that_make_no_sense_say_why(void)
{
    static const char *const wrong[] = {"",        "shm://",    "http://x",      "a/b",         "shm://a/b",
                                        "tcp://h", "tcp://h:x", "ucx://h:70000", "tcp://::1:80"};
    char why[256], longest[400];
    orion_channel_t *channel;
    orion_listener_t *listener;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why[0] = '\0';
        CHECK_EQUAL(orion_channel_connect(wrong[i], NULL, 0, &channel, why, sizeof(why)), ORION_INVALID);
        CHECK(strlen(why) > 10);
        CHECK_EQUAL(orion_listener_open(wrong[i], NULL, &listener, why, sizeof(why)), ORION_INVALID);
    }
    memset(longest, 'n', sizeof(longest));
    longest[399] = '\0';
    CHECK_EQUAL(orion_channel_connect(longest, NULL, 0, &channel, why, sizeof(why)), ORION_INVALID);
    longest[150] = '\0';
    CHECK_EQUAL(orion_channel_connect(longest, NULL, 0, &channel, why, sizeof(why)), ORION_INVALID);
}

CHECK_MAIN(CASE(messages_of_every_length_arrive_whole_and_in_order),
           CASE(a_full_ring_makes_the_sender_wait_and_loses_nothing),
           CASE(a_wake_that_came_before_the_sleep_is_followed_by_another), CASE(calls_bring_back_what_was_answered),
           CASE(unanswered_calls_time_out_and_their_slots_come_back),
           CASE(a_call_that_waits_for_a_slot_holds_up_nobody), CASE(threads_on_both_sides_share_a_channel),
           CASE(blocks_go_over_without_a_copy_and_come_back), CASE(blocks_over_a_stream_are_copies),
           CASE(held_messages_and_blocks_outlive_the_channel),
           CASE(the_arena_is_bounded_and_long_messages_go_in_pieces), CASE(pieces_are_put_together_again),
           CASE(a_message_that_is_longer_than_the_other_side_takes_is_not_sent),
           CASE(the_message_limit_follows_the_arena_limit), CASE(long_messages_are_copied_while_they_come),
           CASE(wrong_arguments_are_refused_and_harm_nothing), CASE(what_was_sent_before_closing_is_still_received),
           CASE(shutting_down_wakes_every_waiting_thread), CASE(a_forked_child_cannot_touch_the_channel),
           CASE(an_armed_descriptor_becomes_readable_once), CASE(listeners_are_found_by_name_and_by_path),
           CASE(addresses_that_make_no_sense_say_why))
