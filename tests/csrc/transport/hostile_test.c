/* SPDX-License-Identifier: Apache-2.0 */
/* A client that scribbles over everything it can write while the port reads: the port answers with a protocol error or
 * goes on; it never crashes and never reads outside (run it under the sanitizers). ORION_HOSTILE_WORDS: how many random
 * words, default 10^6. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "../check.h"
#include "base/atomic.h"
#include "shm/layout.h"
#include "transport/port.h"

typedef struct target {
    uint8_t *command, *reply;
    orion_port_t *port;
    uint64_t random;
    uint64_t records, protocols;
} target_t;

static void attach(target_t *t)
{
    char why[200];
    orion_port_config_t config = {.epoch = 7, .witness_fd = -1};
    if (t->port != NULL)
        orion_port_close(t->port);
    orion_store_relaxed(&((orion_command_control_t *)t->command)->head, 0);
    MUST(orion_port_attach(&config, t->command, t->reply, &t->port, why, sizeof(why)) == ORION_OK);
}

static void target_make(target_t *t, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    t->random = seed;
    t->command = mmap(NULL, ORION_COMMAND_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    t->reply = mmap(NULL, ORION_REPLY_SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(t->command != MAP_FAILED && t->reply != MAP_FAILED);
    attach(t);
}

static void target_free(target_t *t)
{
    orion_port_close(t->port);
    (void)munmap(t->command, ORION_COMMAND_SEGMENT_BYTES);
    (void)munmap(t->reply, ORION_REPLY_SEGMENT_BYTES);
}

/* What a worker does with a record, whatever is in it. */
static void use(target_t *t, const orion_record_t *record)
{
    uint32_t bytes = orion_record_payload_bytes(record), sum = 0;
    const uint8_t *payload = orion_record_payload_const(record);
    for (uint32_t i = 0; i < bytes; i++)
        sum += payload[i]; /* every byte is there */
    orion_port_reply(t->port, record->slot, record->sequence, (int32_t)sum, 0, payload, bytes);
    uint32_t index = record->sequence % 24;
    uint8_t *chunk = orion_port_stage(t->port, index);
    MUST((chunk != NULL) == (index < ORION_STAGE_COUNT));
    if (chunk != NULL)
        orion_store_relaxed(&chunk[ORION_STAGE_BYTES - 1], 1);
    orion_port_stage_done(t->port, index, sum);
    (void)orion_port_event(t->port, payload, bytes);
    t->records++;
}

static void poll_port(target_t *t)
{
    for (int i = 0; i < 64; i++) {
        const orion_record_t *record;
        orion_status_t status = orion_port_next(t->port, 0, &record);
        if (status == ORION_AGAIN)
            return;
        if (status == ORION_PROTOCOL) {
            MUST(strlen(orion_port_complaint(t->port)) > 10);
            t->protocols++;
            attach(t);
            return;
        }
        MUST(status == ORION_OK);
        use(t, record);
    }
}

/* Words that get past the first checks are likelier than by chance alone. */
static uint32_t nasty_word(target_t *t)
{
    uint64_t r = check_random(&t->random);
    uint32_t word = (uint32_t)(r >> 32);
    switch (r & 7) {
    case 0:
        return word;
    case 1:
        return word % (ORION_RING_BYTES + 64) & ~7u;
    case 2:
        return word % 512 & ~7u;
    case 3:
        return 7; /* the epoch */
    case 4:
        return ORION_RECORD_MAX - 16 + word % 32;
    case 5:
        return word & 0x00ffffffu; /* a small opcode, or a pad */
    case 6:
        return 0u - (word & 0xff);
    default:
        return word & 0xffff;
    }
}

static void scribble(target_t *t)
{
    uint32_t *words = (uint32_t *)t->command;
    uint64_t r = check_random(&t->random);
    uint32_t at;
    switch (r % 8) {
    case 0:
    case 1:
        at = offsetof(orion_command_control_t, head) / 4;
        break;
    case 2:
        at = (uint32_t)(r >> 16) % (ORION_COMMAND_CONTROL_BYTES / 4);
        break;
    case 3:
        at = (uint32_t)((r >> 16) % (ORION_COMMAND_SEGMENT_BYTES / 4));
        break;
    case 4:
    case 5:
        at = ORION_COMMAND_RING_OFFSET / 4 + (uint32_t)(r >> 16) % 32;
        break; /* where the next record is */
    default:
        at = ORION_COMMAND_RING_OFFSET / 4 + (uint32_t)(r >> 16) % (ORION_RING_BYTES / 4);
        break;
    }
    orion_store_relaxed(&words[at], nasty_word(t));
}

static void garbage_everywhere_is_a_protocol_error_at_most(void)
{
    target_t t;
    uint64_t words = check_number("ORION_HOSTILE_WORDS", 1000000);
    target_make(&t, check_number("ORION_SEED", 20261123));
    for (uint64_t i = 0; i < words; i++) {
        scribble(&t);
        if ((i & 3) == 0)
            poll_port(&t);
    }
    CHECK(t.protocols > words / 1000); /* it did bite */
    CHECK(t.records > 0);              /* and some garbage looked like a record */
    target_free(&t);
}

/* Well-formed headers whose words change while they are read: the other half of the attack. */
typedef struct race {
    target_t *t;
    uint32_t stop;
} race_t;

static void *scribble_on(void *arg)
{
    race_t *race = arg;
    target_t mine = {.command = race->t->command, .random = 99};
    while (orion_load_relaxed(&race->stop) == 0) {
        for (int i = 0; i < 64; i++)
            scribble(&mine);
        uint64_t bytes = 64 + (check_random(&mine.random) & 0x1f8);
        orion_record_t header = {(uint32_t)bytes, 3, 1, 1, 7};
        uint64_t words[2], *ring = (uint64_t *)(void *)(mine.command + ORION_COMMAND_RING_OFFSET);
        memcpy(words, &header, sizeof(header));
        orion_store_relaxed(&ring[0], words[0]);
        orion_store_relaxed(&ring[1], words[1]);
        orion_store_release(&((orion_command_control_t *)mine.command)->head, (uint32_t)bytes);
    }
    return NULL;
}

static void garbage_that_changes_while_it_is_read_is_no_worse(void)
{
    target_t t;
    pthread_t thread;
    race_t race = {&t, 0};
    target_make(&t, 4711);
    MUST(pthread_create(&thread, NULL, scribble_on, &race) == 0);
    uint64_t polls = check_number("ORION_HOSTILE_WORDS", 1000000) / 10;
    for (uint64_t i = 0; i < polls || t.protocols == 0; i++) /* on a busy machine the thread may start late */
        poll_port(&t);
    orion_store_relaxed(&race.stop, 1);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK(t.protocols > 0);
    target_free(&t);
}

/* ---- each field that a client can write, spoiled by itself beside an otherwise right record ---- */

#define VALUES 6
#define ANY {0, 1, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff}
#define CONTROL(field) #field, offsetof(orion_command_control_t, field), sizeof(((orion_command_control_t *)0)->field)
#define RECORD(field) \
    "record " #field, ORION_COMMAND_RING_OFFSET + offsetof(orion_record_t, field), sizeof(((orion_record_t *)0)->field)

static const struct {
    const char *field;
    uint32_t offset, bytes;
    const char *complaint; /* NULL: any value will do */
    uint32_t count;
    uint64_t values[VALUES];
} fields[] = {
    {CONTROL(head),
     "its write index jumped by more than the ring holds",
     3,
     {ORION_RING_BYTES + 8, 0x80000000, 0xfffffff8}},
    {CONTROL(head), "its write index is not a multiple of 8", 4, {1, 4, 23, 25}},
    {CONTROL(head), NULL, 1, {0}}, /* nothing was sent */
    {CONTROL(header.magic), NULL, VALUES, ANY},
    {CONTROL(header.epoch), NULL, VALUES, ANY},
    {CONTROL(proof), NULL, VALUES, ANY},
    {CONTROL(client_cpu), NULL, VALUES, ANY},
    {CONTROL(event_sleeping), NULL, VALUES, ANY},
    {CONTROL(space_waiting), NULL, VALUES, ANY},
    {CONTROL(stage_waiting[0]), NULL, VALUES, ANY},
    {CONTROL(slots[1].waiting), NULL, VALUES, ANY},
    {RECORD(bytes), "a record's length is no multiple of 8 from 16 on", 5, {0, 8, 17, 23, 0xffffffff}},
    {RECORD(bytes), "a record is longer than what was published", 2, {32, ORION_RECORD_MAX}},
    {RECORD(bytes), "a record is longer than allowed", 3, {ORION_RECORD_MAX + 8, 0x80000000, 0xfffffff8}},
    {RECORD(opcode), "it padded something else than the ring's end", 1, {ORION_OPCODE_PAD}},
    {RECORD(opcode), NULL, 3, {1, 0x8000, 0xffff}}, /* the dispatcher's to judge */
    {RECORD(slot), NULL, 4, {0, 127, 128, 0xffff}}, /* an answer to a slot that is none goes nowhere */
    {RECORD(sequence), NULL, VALUES, ANY},
    {RECORD(epoch), "a record belongs to another session", 4, {0, 6, 8, 0xffffffff}},
};

static bool holds(target_t *t, size_t row, uint64_t value)
{
    static const orion_record_t right = {24, 3, 1, 1, 7};
    const orion_record_t *record;
    const char *complaint = fields[row].complaint, *said = "";
    orion_command_control_t *control = (orion_command_control_t *)t->command;
    memset(t->command, 0, ORION_COMMAND_CONTROL_BYTES);
    attach(t);
    memcpy(orion_command_ring(t->command), &right, sizeof(right));
    orion_store_release(&control->head, right.bytes);
    memcpy(t->command + fields[row].offset, &value, fields[row].bytes);
    orion_status_t status = orion_port_next(t->port, 0, &record);
    if (status == ORION_OK)
        use(t, record);
    if (status == ORION_PROTOCOL)
        said = orion_port_complaint(t->port);
    bool fine = complaint == NULL ? status != ORION_PROTOCOL : status == ORION_PROTOCOL && strcmp(said, complaint) == 0;
    if (!fine)
        fprintf(stderr, "%s = %llx: status %d, \"%s\" instead of \"%s\"\n", fields[row].field,
                (unsigned long long)value, (int)status, said, complaint != NULL ? complaint : "");
    return fine;
}

static void each_field_is_checked_or_does_not_matter(void)
{
    target_t t;
    bool all = true;
    target_make(&t, 1);
    for (size_t row = 0; row < sizeof(fields) / sizeof(fields[0]); row++) {
        for (uint32_t i = 0; i < fields[row].count; i++)
            all &= holds(&t, row, fields[row].values[i]);
    }
    CHECK(all);
    target_free(&t);
}

static void a_client_that_reads_no_events_blocks_nobody(void)
{
    target_t t;
    uint8_t event[512] = {0};
    target_make(&t, 1);
    int sent = 0;
    while (orion_port_event(t.port, event, sizeof(event)) == ORION_OK)
        sent++;
    CHECK(sent >= 100);
    CHECK_EQUAL(orion_port_event(t.port, event, sizeof(event)), ORION_AGAIN);
    CHECK_EQUAL(orion_port_event(t.port, event, ORION_EVENT_MAX + 1), ORION_TOO_BIG);
    static const uint32_t never_sent[] = {ORION_EVENT_BYTES + 8, 12345678, 0x80000000, 0xfffffff8, 0xffffffff};
    for (size_t i = 0; i < sizeof(never_sent) / sizeof(never_sent[0]); i++) {
        orion_store_relaxed(&((orion_command_control_t *)t.command)->event_tail, never_sent[i]);
        CHECK_EQUAL(orion_port_event(t.port, event, sizeof(event)), ORION_PROTOCOL);
    }
    target_free(&t);
}

static void a_wake_reaches_a_port_that_is_about_to_sleep(void)
{
    target_t t;
    const orion_record_t *record;
    target_make(&t, 1);
    orion_port_wake(t.port); /* before it waits */
    int64_t start = check_now_ns();
    CHECK_EQUAL(orion_port_next(t.port, -1, &record), ORION_AGAIN);
    CHECK(check_now_ns() - start < 5000000000LL);
    CHECK_EQUAL(orion_port_next(t.port, 2000000, &record), ORION_AGAIN); /* once per wake; then the timeout */
    CHECK_EQUAL(orion_port_next(t.port, 0, &record), ORION_AGAIN);
    target_free(&t);
}

static void *wake_often(void *arg)
{
    race_t *race = arg;
    while (orion_load_relaxed(&race->stop) == 0) {
        orion_port_wake(race->t->port);
        (void)usleep(200);
    }
    return NULL;
}

static void wakes_from_other_threads_end_every_wait(void)
{
    target_t t;
    pthread_t thread;
    race_t race = {&t, 0};
    const orion_record_t *record;
    target_make(&t, 1);
    MUST(pthread_create(&thread, NULL, wake_often, &race) == 0);
    for (int i = 0; i < 300; i++)
        CHECK_EQUAL(orion_port_next(t.port, -1, &record), ORION_AGAIN);
    orion_store_relaxed(&race.stop, 1);
    MUST(pthread_join(thread, NULL) == 0);
    target_free(&t);
}

CHECK_MAIN(CASE(garbage_everywhere_is_a_protocol_error_at_most),
           CASE(garbage_that_changes_while_it_is_read_is_no_worse), CASE(each_field_is_checked_or_does_not_matter),
           CASE(a_client_that_reads_no_events_blocks_nobody), CASE(a_wake_reaches_a_port_that_is_about_to_sleep),
           CASE(wakes_from_other_threads_end_every_wait))
