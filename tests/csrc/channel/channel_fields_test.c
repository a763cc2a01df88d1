/* SPDX-License-Identifier: Apache-2.0 */
/* Each field that the other side of a channel can write, spoiled by itself beside an otherwise right deed: it is a protocol
 * error with the sentence of its own, or, where any value is as good as another, the channel goes on. Chance
 * (channel_hostile_test.c) finds what nobody thought of; this finds a check that has gone. */
#define _GNU_SOURCE
#include "base/fd.h"
#include "base/sys.h"
#include "channel/greeting.h"
#include "channel_pair.h"

#define VALUES 8
#define SECOND 1000000000LL
#define ANY {0, 1, 2, 3, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff}

typedef enum deed { A_MESSAGE, A_CALL, A_LONG_MESSAGE, AN_ANNOUNCED_MESSAGE, AN_ANSWER, A_LONG_ANSWER } deed_t;

typedef struct field {
    const char *name;
    deed_t deed;
    uint32_t offset, bytes; /* in the segment; IN_RECORD: from the deed's record on */
    bool in_record, added;  /* added: the values are, to what is there */
    const char *complaint;  /* NULL: any value will do */
    uint64_t values[VALUES];
    uint32_t count;
} field_t;

#define LIST(...) __VA_ARGS__, sizeof((uint64_t[])__VA_ARGS__) / 8
#define BYTES_OF(type, field) sizeof(((type *)0)->field)
#define CONTROL(deed, field) \
    #field, deed, offsetof(orion_channel_control_t, field), BYTES_OF(orion_channel_control_t, field), false
#define RECORD(deed, field) \
    "record " #field, deed, offsetof(orion_record_t, field), BYTES_OF(orion_record_t, field), true
#define PLACE(deed, field)                                                            \
    "place " #field, deed, ORION_RECORD_HEADER + offsetof(orion_bulk_place_t, field), \
        BYTES_OF(orion_bulk_place_t, field), true
#define REPLY(deed, field)                                                              \
    "reply " #field, deed, ORION_CHANNEL_SLOTS_OFFSET + offsetof(orion_reply_t, field), \
        BYTES_OF(orion_reply_t, field), false
#define REPLY_PLACE(field)                                                                                \
    "reply place " #field, A_LONG_ANSWER,                                                                 \
        ORION_CHANNEL_SLOTS_OFFSET + offsetof(orion_reply_t, data) + offsetof(orion_bulk_place_t, field), \
        BYTES_OF(orion_bulk_place_t, field), false

#define BEYOND "a message names memory beyond the end of its extent"
#define NEVER_SENT "a message names memory that was never sent"
#define NO_REFERENCE "a message names a reference that does not exist"
#define NO_MESSAGE "a record is no message"
#define NO_ANSWER "an answer makes no sense"
#define LENGTH "a record's length is no multiple of 8 from 16 on"
#define ARENA (1u << 20) /* also the length of its one extent */

static const field_t fields[] = {
    {CONTROL(A_MESSAGE, head), true, "its write index jumped by more than the ring holds",
     LIST({ORION_CHANNEL_RING_BYTES, 0x7ffffff8, 0x80000000, 0xffffff80})},
    {CONTROL(A_MESSAGE, head), true, "its write index is not a multiple of 8", LIST({1, 4, 7, 0xffff})},
    {CONTROL(A_MESSAGE, tail), true, "it claims to have read what was never written",
     LIST({1u << 20, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff})},
    {CONTROL(A_MESSAGE, sleeping), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, bell), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, cpu), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, closed), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, space_waiting), false, NULL, ANY, VALUES},
    {CONTROL(A_LONG_MESSAGE, arena_waiting), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, releases), false, NULL, ANY, VALUES},
    {CONTROL(A_CALL, slot_waiting[0]), false, NULL, ANY, VALUES},
    {CONTROL(AN_ANNOUNCED_MESSAGE, filled), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, released[0]), false, NULL, ANY, VALUES},
    {CONTROL(A_MESSAGE, header.magic), false, NULL, ANY, VALUES}, /* read when the channel opens, and never again */
    {CONTROL(A_MESSAGE, header.epoch), false, NULL, ANY, VALUES},

    {RECORD(A_MESSAGE, bytes), false, LENGTH, LIST({0, 8, 12, 15, 17, 23, 0x80000001, 0xffffffff})},
    {RECORD(A_MESSAGE, bytes), false, "a record is longer than what was published", LIST({32, 40, 4096})},
    {RECORD(A_MESSAGE, bytes), false, "a record is longer than allowed",
     LIST({ORION_CHANNEL_RECORD_MAX + 8, ORION_CHANNEL_RING_BYTES, 0x80000000, 0xfffffff8})},
    {RECORD(A_MESSAGE, opcode), false, NO_MESSAGE,
     LIST({5, 6, 7, 0xff05, ORION_MESSAGE_SEND | ORION_CHANNEL_BULK, ORION_CHANNEL_PART | ORION_CHANNEL_BULK})},
    {RECORD(A_MESSAGE, opcode), false, "it padded something else than the ring's end", LIST({0})},
    {RECORD(A_MESSAGE, opcode), false, "a call names a reply slot that does not exist", LIST({ORION_MESSAGE_CALL})},
    {RECORD(A_MESSAGE, opcode), false, "a piece of a message is empty", LIST({ORION_CHANNEL_PART})},
    {RECORD(A_MESSAGE, opcode), false, "it completed a message that it had not begun", LIST({ORION_CHANNEL_FILLED})},
    {RECORD(A_LONG_MESSAGE, opcode), false, "a piece came without the message that it belongs to",
     LIST({ORION_CHANNEL_PART | ORION_CHANNEL_BULK})},
    {RECORD(A_MESSAGE, slot), false, NULL, LIST({0, 31, 32, 0xffff})},
    {RECORD(A_CALL, slot), false, "a call names a reply slot that does not exist", LIST({32, 33, 0x8000, 0xffff})},
    {RECORD(A_MESSAGE, sequence), false, NULL, ANY, VALUES},
    {RECORD(A_MESSAGE, epoch), true, "a record belongs to another session", LIST({1, 0x80000000, 0xffffffff})},

    {PLACE(A_LONG_MESSAGE, offset), false, BEYOND, LIST({ARENA - 4096, ARENA, ARENA + 1, 1ULL << 63, UINT64_MAX})},
    {PLACE(A_LONG_MESSAGE, bytes), false, BEYOND, LIST({0, ARENA + 1, 1ULL << 63, UINT64_MAX})},
    {PLACE(A_LONG_MESSAGE, extent), false, NEVER_SENT, LIST({1, 63, 64, 0x80000000, 0xfffffffe})},
    {PLACE(A_LONG_MESSAGE, extent), false, NULL, LIST({ORION_EXTENT_PIECES})}, /* it never comes */
    {PLACE(A_LONG_MESSAGE, reference), false, NO_REFERENCE, LIST({ORION_CHANNEL_REFERENCES, 0x80000000, 0xffffffff})},
    {PLACE(A_LONG_MESSAGE, generation), false, NO_REFERENCE, LIST({0})},
    {PLACE(A_LONG_MESSAGE, filling), false, "it began a message and did not complete it", LIST({1, 2, 0xffffffff})},
    {PLACE(AN_ANNOUNCED_MESSAGE, offset), false, BEYOND, LIST({ARENA, UINT64_MAX})},
    {PLACE(AN_ANNOUNCED_MESSAGE, bytes), false, BEYOND, LIST({0, ARENA + 1, UINT64_MAX})},
    {PLACE(AN_ANNOUNCED_MESSAGE, extent), false, NEVER_SENT, LIST({1, 64, 0xfffffffe})},
    {PLACE(AN_ANNOUNCED_MESSAGE, extent), false, "it completed a message that it had not begun",
     LIST({ORION_EXTENT_PIECES})},
    {PLACE(AN_ANNOUNCED_MESSAGE, filling), false, "it completed a message that it had not begun", LIST({0})},

    {REPLY(AN_ANSWER, sequence), true, NULL, LIST({1, 0x80000000, 0xffffffff})}, /* to no call of ours */
    {REPLY(AN_ANSWER, result), false, NO_ANSWER, LIST({0, 1, 2, 5, 6, 7, 0xfffffff8, 0xffffffff})},
    {REPLY(AN_ANSWER, result), false, NO_ANSWER, LIST({ORION_MESSAGE_REPLY | ORION_CHANNEL_BULK})},
    {REPLY(AN_ANSWER, bytes), false, NO_ANSWER, LIST({ORION_REPLY_DATA + 1, 0x80000000, 0xffffffff})},
    {REPLY(AN_ANSWER, sticky), false, NULL, ANY, VALUES},
    {REPLY_PLACE(offset), false, BEYOND, LIST({ARENA - 4096, ARENA, 1ULL << 63, UINT64_MAX})},
    {REPLY_PLACE(bytes), false, BEYOND, LIST({0, ARENA + 1, 1ULL << 63, UINT64_MAX})},
    {REPLY_PLACE(extent), false, NEVER_SENT, LIST({1, 64, 0xfffffffe, 0xffffffff})},
    {REPLY_PLACE(reference), false, NO_REFERENCE, LIST({ORION_CHANNEL_REFERENCES, 0xffffffff})},
    {REPLY_PLACE(generation), false, NO_REFERENCE, LIST({0})},
    {REPLY_PLACE(filling), false, NULL, ANY, VALUES}, /* an answer is there or not */
};

static uint8_t data[8192];
static orion_message_t message, seen;

/* What is right so far; the victim has not looked yet. a is the hostile end. */
static void do_it(pair_t *p, deed_t deed, uint64_t *call_p)
{
    switch (deed) {
    case A_MESSAGE:
        MUST(orion_channel_send(p->a, 0, data, 8, NULL, 0) == ORION_OK);
        break;
    case A_CALL:
        MUST(orion_channel_call_begin(p->a, 0, data, 8, NULL, 0, call_p) == ORION_OK);
        break;
    case A_LONG_MESSAGE:
        MUST(orion_channel_send(p->a, 0, data, sizeof(data), NULL, 0) == ORION_OK);
        break;
    case AN_ANNOUNCED_MESSAGE: {
        static uint8_t announced[64 << 10];
        MUST(orion_channel_send(p->a, 0, announced, sizeof(announced), NULL, 0) == ORION_OK);
        break;
    }
    case AN_ANSWER:
    case A_LONG_ANSWER:
        MUST(orion_channel_call_begin(p->b, 0, data, 8, NULL, 0, call_p) == ORION_OK);
        MUST(orion_channel_receive(p->a, 0, &message) == ORION_OK);
        MUST(orion_channel_reply(p->a, &message, ORION_MESSAGE_REPLY, 0, data, deed == AN_ANSWER ? 8 : sizeof(data),
                                 NULL, 0) == ORION_OK);
        break;
    }
}

static void spoil(uint8_t *at, uint32_t bytes, bool added, uint64_t value)
{
    uint64_t word = 0;
    memcpy(&word, at, bytes);
    word = added ? word + value : value;
    memcpy(at, &word, bytes);
}

/* The victim looks at all that the other side may have written. ORION_PROTOCOL: and ends the channel. */
static orion_status_t look(orion_channel_t *b, uint64_t call)
{
    orion_status_t status = ORION_OK;
    if (call != 0) {
        status = orion_channel_call_await(b, call, 0, &seen);
        if (status == ORION_OK)
            orion_message_release(&seen);
        if (status == ORION_TIMEOUT)
            orion_channel_call_cancel(b, call);
        if (status == ORION_PROTOCOL)
            return status;
    }
    for (int i = 0; i < 4; i++) { /* a record that completes nothing is a timeout, too */
        status = orion_channel_receive(b, 0, &seen);
        if (status == ORION_PROTOCOL)
            return status;
        if (status == ORION_OK && seen.kind == ORION_MESSAGE_CALL)
            (void)orion_channel_reply(b, &seen, ORION_MESSAGE_REPLY, 0, data, 8, NULL, 0);
        if (status == ORION_OK)
            orion_message_release(&seen);
    }
    do { /* until the ring is full, and the index of its reader is read */
        status = orion_channel_send(b, 0, data, 4000, NULL, 0);
    } while (status == ORION_OK);
    return status;
}

/* Messages and calls go on, both ways. */
static bool goes_on(pair_t *p)
{
    uint64_t call;
    while (orion_channel_receive(p->a, 0, &message) == ORION_OK)
        orion_message_release(&message);
    if (orion_channel_send(p->a, 7, data, sizeof(data), NULL, SECOND) != ORION_OK)
        return false;
    do {
        if (orion_channel_receive(p->b, SECOND, &seen) != ORION_OK)
            return false;
        orion_message_release(&seen);
    } while (seen.tag != 7);
    if (orion_channel_call_begin(p->b, 8, data, 8, NULL, SECOND, &call) != ORION_OK ||
        orion_channel_receive(p->a, SECOND, &message) != ORION_OK || message.tag != 8 ||
        orion_channel_reply(p->a, &message, ORION_MESSAGE_REPLY, 9, data, 8, NULL, SECOND) != ORION_OK ||
        orion_channel_call_await(p->b, call, SECOND, &seen) != ORION_OK || seen.tag != 9)
        return false;
    return orion_channel_state(p->b) == ORION_OK;
}

static bool holds(const field_t *f, uint64_t value)
{
    static const orion_channel_options_t options = {.arena_limit = ARENA};
    pair_t p = pair_open(&options);
    uint64_t call = 0;
    uint32_t offset = f->offset;
    if (f->in_record)
        offset += ORION_CHANNEL_RING_OFFSET + (p.b->in.tail & (ORION_CHANNEL_RING_BYTES - 1));
    do_it(&p, f->deed, &call);
    spoil((uint8_t *)p.a->own + offset, f->bytes, f->added, value);
    if (f->deed == A_LONG_MESSAGE) /* what comes behind it decides, too */
        MUST(orion_channel_send(p.a, 0, data, 8, NULL, 0) == ORION_OK);
    orion_status_t status = look(p.b, f->deed >= AN_ANSWER ? call : 0);
    const char *why = orion_channel_why(p.b, NULL);
    bool fine = f->complaint == NULL ? status == ORION_TIMEOUT && goes_on(&p)
                                     : status == ORION_PROTOCOL && strstr(why, f->complaint) != NULL &&
                                           orion_channel_state(p.a) == ORION_PEER_GONE;
    if (!fine)
        fprintf(stderr, "%s = %s%llx: status %d, \"%s\" instead of \"%s\"\n", f->name, f->added ? "+" : "",
                (unsigned long long)value, (int)status, why, f->complaint != NULL ? f->complaint : "");
    pair_close(&p);
    return fine;
}

static void each_field_is_checked_or_does_not_matter(void)
{
    uint32_t tried = 0;
    bool all = true;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        for (uint32_t k = 0; k < fields[i].count; k++, tried++)
            all &= holds(&fields[i], fields[i].values[k]);
    }
    printf("     %u values of %zu rows\n", tried, sizeof(fields) / sizeof(fields[0]));
    CHECK(all);
}

/* ---- the greeting, and the header of the segment that comes with it ---- */

static const struct {
    const char *name;
    bool header; /* of the segment, not the greeting */
    uint32_t offset, bytes;
    orion_status_t status;
    const char *complaint;
    uint64_t values[VALUES];
    uint32_t count;
} greetings[] = {
#define GREETING(field) #field, false, offsetof(orion_greeting_t, field), BYTES_OF(orion_greeting_t, field)
#define HEADER(field) \
    "header " #field, true, offsetof(orion_segment_header_t, field), BYTES_OF(orion_segment_header_t, field)
#define NOT_A_CHANNEL "the shared memory that it sent is not that of a channel"
    {GREETING(magic), ORION_PROTOCOL, "its greeting is not that of a channel", LIST({0, 1, UINT64_MAX})},
    {GREETING(version), ORION_VERSION, "of the channel protocol", LIST({0, 2, 0xffffffff})},
    {GREETING(kind), ORION_PROTOCOL, "its greeting makes no sense", LIST({0, 3, 4, 5, 0xffffffff})},
    {GREETING(kind), ORION_REFUSED, "it said no", LIST({ORION_PACKET_REFUSAL})},
    {GREETING(segment_bytes), ORION_PROTOCOL, "its greeting makes no sense",
     LIST({0, 4096, ORION_CHANNEL_SEGMENT_BYTES + 4096, UINT64_MAX})},
    {GREETING(epoch), ORION_PROTOCOL, "its greeting makes no sense", LIST({0})},
    {GREETING(epoch), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({1, 0xffffffff})},
    {GREETING(nonce), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({0, UINT64_MAX})},
    {GREETING(flags), ORION_OK, "", ANY, VALUES}, /* a pidfd that did not come is none */
    {GREETING(arena_limit), ORION_OK, "", LIST({0, 1, 1ULL << 63, UINT64_MAX})},
    {GREETING(message_limit), ORION_OK, "", LIST({0, 1, 1ULL << 63, UINT64_MAX})},
    {HEADER(magic), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({0, 1, UINT64_MAX})},
    {HEADER(version), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({0, 2, 0xffffffff})},
    {HEADER(epoch), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({0, 1, 0xffffffff})},
    {HEADER(segment_bytes), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({0, 4096, UINT64_MAX})},
    {HEADER(nonce), ORION_PROTOCOL, NOT_A_CHANNEL, LIST({0, UINT64_MAX})},
};

static orion_status_t open_against(bool in_header, uint32_t offset, uint32_t bytes, uint64_t value, char *why,
                                   size_t why_bytes)
{
    int sockets[2];
    char text[200];
    orion_channel_t *channel = NULL;
    orion_segment_t segment = ORION_SEGMENT_EMPTY;
    orion_greeting_t g = {.kind = ORION_PACKET_HELLO,
                          .version = ORION_CHANNEL_VERSION,
                          .magic = ORION_GREETING_MAGIC,
                          .epoch = 77,
                          .segment_bytes = ORION_CHANNEL_SEGMENT_BYTES,
                          .nonce = 4711,
                          .arena_limit = ARENA,
                          .message_limit = ARENA};
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
    MUST(orion_segment_create(&segment, "test", ORION_CHANNEL_SEGMENT_BYTES, true, text, sizeof(text)) == ORION_OK);
    orion_segment_header_fill(segment.address, ORION_CHANNEL_MAGIC, 77, ORION_CHANNEL_SEGMENT_BYTES, 4711);
    spoil((in_header ? (uint8_t *)segment.address : (uint8_t *)&g) + offset, bytes, false, value);
    MUST(orion_fd_send_packet(sockets[0], &g, sizeof(g), &segment.fd, 1) == ORION_OK);
    orion_status_t status = orion_channel_open_socket(sockets[1], NULL, SECOND, &channel, why, why_bytes);
    if (status == ORION_OK && orion_channel_send(channel, 0, data, sizeof(data), NULL, 0) == ORION_PROTOCOL)
        status = ORION_PROTOCOL;
    orion_channel_free(channel);
    orion_segment_close(&segment);
    (void)close(sockets[0]);
    return status;
}

static void each_field_of_a_greeting_is_checked_or_does_not_matter(void)
{
    bool all = true;
    for (size_t i = 0; i < sizeof(greetings) / sizeof(greetings[0]); i++) {
        for (uint32_t k = 0; k < greetings[i].count; k++) {
            char why[256] = "";
            orion_status_t status = open_against(greetings[i].header, greetings[i].offset, greetings[i].bytes,
                                                 greetings[i].values[k], why, sizeof(why));
            if (status == greetings[i].status && strstr(why, greetings[i].complaint) != NULL)
                continue;
            fprintf(stderr, "%s = %llx: status %d, \"%s\"\n", greetings[i].name,
                    (unsigned long long)greetings[i].values[k], (int)status, why);
            all = false;
        }
    }
    CHECK(all);
}

CHECK_MAIN(CASE(each_field_is_checked_or_does_not_matter), CASE(each_field_of_a_greeting_is_checked_or_does_not_matter))
