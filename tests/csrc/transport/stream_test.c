/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions on a socket whose other end misbehaves: servers that fall silent, stop reading, send garbage or half a frame,
 * and clients that write what they like or read nothing. Each ends in one sentence, in bounded time, in bounded memory.
 * ORION_HOSTILE_WORDS: how many words of garbage, default 10^6. */
#define _GNU_SOURCE
#include "../check.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/atomic.h"
#include "base/fd.h"
#include "echo_worker.h"
#include "shm/layout.h"
#include "transport/stream_port.h"
#include "transport/tcp.h"
#include "wire/frame.h"

#define EPOCH 7u
#define S 1000000000LL

static char why[400];

/* ---- scripted servers ---- */

typedef struct script {
    int socket;
    void (*play)(struct script *s);
    const void *bytes; /* what play_bytes sends */
    size_t count;
    uint32_t stop; /* atomic: the client is done */
} script_t;

static void *serve(void *arg)
{
    script_t *s = arg;
    char hello[sizeof(orion_hello_t)];
    orion_welcome_t w;
    MUST(orion_fd_receive(s->socket, hello, sizeof(hello), NULL, 0, check_now_ns() + 5 * S) == ORION_OK);
    orion_welcome_init(&w);
    w.epoch = EPOCH;
    w.slots = ORION_REPLY_SLOTS;
    MUST(orion_fd_send(s->socket, &w, sizeof(w), NULL, 0) == ORION_OK);
    s->play(s);
    (void)close(s->socket);
    return NULL;
}

typedef struct session {
    script_t script;
    pthread_t thread;
    orion_link_t *link;
} session_t;

static void begin(session_t *s, void (*play)(script_t *script), const void *bytes, size_t count)
{
    int pair[2];
    orion_hello_t hello;
    orion_welcome_t welcome;
    MUST(echo_tcp_pair(pair) == 0);
    memset(s, 0, sizeof(*s));
    s->script = (script_t){.socket = pair[1], .play = play, .bytes = bytes, .count = count};
    MUST(pthread_create(&s->thread, NULL, serve, &s->script) == 0);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    why[0] = '\0';
    MUST(orion_tcp_open_socket(pair[0], "the test", &hello, &welcome, &s->link, why, sizeof(why)) == ORION_OK);
}

static void end(session_t *s)
{
    orion_store_release(&s->script.stop, 1);
    orion_link_close(s->link);
    MUST(pthread_join(s->thread, NULL) == 0);
}

static orion_status_t post(session_t *s, uint16_t slot, uint32_t sequence, uint32_t bytes)
{
    orion_record_t *record;
    orion_status_t status = orion_link_claim(s->link, ORION_RECORD_HEADER + bytes, &record);
    if (status != ORION_OK)
        return status;
    record->opcode = 1;
    record->slot = slot;
    record->sequence = sequence;
    memset(orion_record_payload(record), 0, bytes);
    orion_link_commit(s->link);
    return ORION_OK;
}

static orion_status_t call(session_t *s, uint32_t sequence, const orion_reply_t **reply_p)
{
    orion_status_t status = post(s, 0, sequence, 8);
    return status == ORION_OK ? orion_link_await(s->link, 0, sequence, reply_p) : status;
}

static void send_frame(int socket, uint16_t kind, uint16_t slot, uint32_t sequence, const void *payload, uint32_t bytes)
{
    orion_record_t head = {ORION_RECORD_HEADER + bytes, kind, slot, sequence, EPOCH};
    (void)orion_fd_send(socket, &head, sizeof(head), NULL, 0);
    if (bytes != 0)
        (void)orion_fd_send(socket, payload, bytes, NULL, 0);
}

static void until_stop(script_t *s)
{
    while (orion_load_acquire(&s->stop) == 0)
        (void)usleep(10000);
}

static void play_nothing(script_t *s)
{
    until_stop(s);
}

static void play_pulses(script_t *s)
{
    orion_frame_reply_t reply = {.result = 5};
    for (int i = 0; i < 5; i++) { /* longer than the client's patience with silence */
        send_frame(s->socket, ORION_FRAME_PULSE, 0, 0, NULL, 0);
        (void)usleep(1000000);
    }
    send_frame(s->socket, ORION_FRAME_REPLY, 0, 1, &reply, sizeof(reply));
    until_stop(s);
}

static void play_bytes(script_t *s)
{
    char request[ORION_RECORD_HEADER];
    (void)orion_fd_receive(s->socket, request, sizeof(request), NULL, 0, check_now_ns() + 5 * S);
    (void)orion_fd_send(s->socket, s->bytes, s->count, NULL, 0);
    (void)shutdown(s->socket, SHUT_WR);
    until_stop(s);
}

static void a_server_that_falls_silent_is_given_up(void)
{
    session_t s;
    const orion_reply_t *reply;
    MUST(setenv("ORION_TCP_TIMEOUT", "3", 1) == 0);
    begin(&s, play_nothing, NULL, 0);
    int64_t start = check_now_ns();
    CHECK_EQUAL(call(&s, 1, &reply), ORION_PEER_GONE);
    int64_t took = check_now_ns() - start;
    CHECK(took >= 3 * S && took < 8 * S);
    int32_t result = -1;
    CHECK_EQUAL(orion_link_probe(s.link, why, sizeof(why), &result), ORION_PEER_GONE);
    CHECK(strstr(why, "ORION_TCP_TIMEOUT") != NULL && strstr(why, "the test") != NULL);
    CHECK_EQUAL(result, 0);
    CHECK_EQUAL(call(&s, 2, &reply), ORION_PEER_GONE); /* at once */
    CHECK(check_now_ns() - start < 9 * S);
    end(&s);
}

static void a_server_that_stops_reading_is_given_up(void)
{
    session_t s;
    MUST(setenv("ORION_TCP_TIMEOUT", "3", 1) == 0);
    begin(&s, play_nothing, NULL, 0);
    int64_t start = check_now_ns();
    orion_status_t status = ORION_OK;
    for (int i = 0; i < 100000 && status == ORION_OK; i++)
        status = post(&s, ORION_SLOT_NONE, 0, 16384);
    CHECK_EQUAL(status, ORION_PEER_GONE);
    CHECK(check_now_ns() - start < 10 * S);
    end(&s);
    /* and with a chunk on its way, which is sent from the caller's memory */
    begin(&s, play_nothing, NULL, 0);
    start = check_now_ns();
    for (status = ORION_OK; status == ORION_OK;) {
        orion_stage_t stage = {.index = 1, .sequence = 1};
        static uint8_t bytes[ORION_STAGE_BYTES];
        status = orion_link_stage_send(s.link, &stage, bytes, sizeof(bytes));
    }
    CHECK_EQUAL(status, ORION_PEER_GONE);
    CHECK(check_now_ns() - start < 10 * S);
    end(&s);
}

static void a_slow_server_that_shows_it_lives_is_waited_for(void)
{
    session_t s;
    const orion_reply_t *reply;
    MUST(setenv("ORION_TCP_TIMEOUT", "3", 1) == 0);
    begin(&s, play_pulses, NULL, 0);
    CHECK_EQUAL(call(&s, 1, &reply), ORION_OK);
    CHECK_EQUAL(reply->result, 5);
    end(&s);
}

static void a_timeout_must_be_a_number_of_seconds(void)
{
    static const char *const bad[] = {"soon", "-1", "1", "2", "86401", "1e3"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int pair[2];
        orion_hello_t hello;
        orion_welcome_t welcome;
        orion_link_t *link;
        MUST(echo_tcp_pair(pair) == 0);
        MUST(setenv("ORION_TCP_TIMEOUT", bad[i], 1) == 0);
        orion_hello_init(&hello);
        CHECK_EQUAL(orion_tcp_open_socket(pair[0], "x", &hello, &welcome, &link, why, sizeof(why)), ORION_INVALID);
        CHECK(strstr(why, "ORION_TCP_TIMEOUT") != NULL);
        (void)close(pair[1]);
    }
    (void)unsetenv("ORION_TCP_TIMEOUT");
}

/* What the server sends instead of an answer, and what the client says of it. */
static void expect_garbage(const void *bytes, size_t count, const char *says)
{
    session_t s;
    const orion_reply_t *reply;
    begin(&s, play_bytes, bytes, count);
    int64_t start = check_now_ns();
    orion_status_t status = call(&s, 1, &reply);
    MUST(orion_link_probe(s.link, why, sizeof(why), NULL) == ORION_PEER_GONE);
    if (status != ORION_PEER_GONE || strstr(why, says) == NULL || check_now_ns() - start > 2 * S) {
        fprintf(stderr, "%s: instead of \"%s\": %s\n", check_current, says, why);
        check_failed = 1;
    }
    end(&s);
}

static void a_frame(uint32_t bytes, uint16_t kind, uint16_t slot, uint32_t sequence, uint32_t epoch, const char *says)
{
    uint8_t frame[512] = {0};
    orion_record_t head = {bytes, kind, slot, sequence, epoch};
    memcpy(frame, &head, sizeof(head));
    expect_garbage(frame, sizeof(frame), says);
}

static void garbage_from_the_server_ends_the_session_with_a_sentence(void)
{
    uint8_t noise[4096];
    uint64_t random = 4711;
    for (size_t i = 0; i < sizeof(noise); i += 8) {
        uint64_t word = check_random(&random);
        memcpy(noise + i, &word, 8);
    }
    expect_garbage(noise, sizeof(noise), "garbage");
    expect_garbage("HTTP/1.1 400 Bad Request\r\n\r\n    ", 32, "garbage");
    a_frame(0, ORION_FRAME_PULSE, 0, 0, EPOCH, "length");
    a_frame(20, ORION_FRAME_PULSE, 0, 0, EPOCH, "length");
    a_frame(0xfffffff8u, ORION_FRAME_REPLY, 0, 1, EPOCH, "longer");
    a_frame(ORION_RECORD_MAX + 8, ORION_FRAME_REPLY, 0, 1, EPOCH, "longer");
    a_frame(16, ORION_FRAME_PULSE, 0, 0, EPOCH + 1, "another session");
    a_frame(16, 0, 0, 0, EPOCH, "no kind");
    a_frame(16, 77, 0, 0, EPOCH, "unknown kind");
    a_frame(16, ORION_FRAME_CREDIT, 0, 0, EPOCH, "unknown kind");
    a_frame(16, ORION_FRAME_REPLY, 0, 1, EPOCH, "reply to nobody");
    a_frame(32, ORION_FRAME_REPLY, ORION_REPLY_SLOTS, 1, EPOCH, "reply to nobody");
    a_frame(16, ORION_FRAME_DONE, ORION_STAGE_COUNT, 1, EPOCH, "unknown staging chunk");
    a_frame(64, ORION_FRAME_STAGE, 200, 1, EPOCH, "nobody can take");
    a_frame(64, ORION_FRAME_STAGE, 0, 1, EPOCH, "nobody can take"); /* a chunk that was not asked for */
    a_frame(ORION_STAGE_BYTES + 24, ORION_FRAME_STAGE, 0, 1, EPOCH, "longer than a chunk");
    a_frame(24, ORION_FRAME_EVENT, 0, 9, EPOCH, "events");
    a_frame(24, ORION_FRAME_NOTICE, 0, 0, EPOCH, "notice");
    uint8_t frame[32 + 8] = {0};
    orion_record_t head = {sizeof(frame), ORION_FRAME_REPLY, 0, 1, EPOCH};
    orion_frame_reply_t reply = {.bytes = 9};
    memcpy(frame, &head, sizeof(head));
    memcpy(frame + sizeof(head), &reply, sizeof(reply));
    expect_garbage(frame, sizeof(frame), "claims more");
}

static void more_events_than_agreed_are_garbage(void)
{
    static uint8_t bytes[ORION_EVENT_WINDOW + 8192];
    orion_record_t head = {4096 + ORION_RECORD_HEADER, ORION_FRAME_EVENT, 0, 4096, EPOCH};
    for (size_t at = 0; at + head.bytes <= sizeof(bytes); at += head.bytes)
        memcpy(bytes + at, &head, sizeof(head));
    expect_garbage(bytes, sizeof(bytes) / head.bytes * head.bytes, "more events");
}

static void half_a_frame_and_then_the_end_is_an_end(void)
{
    orion_record_t head = {48, ORION_FRAME_REPLY, 0, 1, EPOCH};
    uint8_t frame[48] = {0};
    memcpy(frame, &head, sizeof(head));
    for (size_t n = 0; n < sizeof(frame); n += 9)
        expect_garbage(frame, n, "closed the connection");
}

/* A worker that dies while it sends leaves half a frame; the supervisor's epitaph comes behind that. */
static void an_epitaph_behind_half_a_frame_is_found(void)
{
    uint8_t bytes[600] = {0};
    orion_notice_t notice;
    orion_record_t half = {4096, ORION_FRAME_REPLY, 0, 1, EPOCH};
    orion_record_t head = {ORION_EPITAPH_FRAME_BYTES, ORION_FRAME_NOTICE, 0, 0, EPOCH};
    orion_notice_init(&notice, ORION_NOTICE_EPITAPH);
    notice.cuda_result = 700;
    orion_field_set(notice.message, sizeof(notice.message), "a kernel used an illegal address");
    for (size_t n = 0; n < 200; n += 33) {
        memcpy(bytes, &half, sizeof(half));
        memcpy(bytes + n, &head, sizeof(head));
        memcpy(bytes + n + sizeof(head), &notice, sizeof(notice));
        expect_garbage(bytes, n + sizeof(head) + sizeof(notice), "illegal address");
    }
}

/* ---- hostile clients ---- */

static orion_port_t *make_port(int pair[2])
{
    orion_port_t *port;
    orion_port_config_t config = {.epoch = EPOCH, .witness_fd = -1};
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    MUST(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0);
    MUST(orion_port_create_stream(&config, pair[1], &port, why, sizeof(why)) == ORION_OK);
    return port;
}

/* What a worker does with a record, whatever is in it. */
static void use(orion_port_t *port, const orion_record_t *record)
{
    uint32_t bytes = orion_record_payload_bytes(record), sum = 0, index = record->sequence % 24;
    const uint8_t *payload = orion_record_payload_const(record);
    for (uint32_t i = 0; i < bytes; i++)
        sum += payload[i]; /* every byte is there */
    orion_port_reply(port, record->slot, record->sequence, (int32_t)sum, 0, payload, bytes);
    uint8_t *chunk = orion_port_stage(port, index);
    MUST((chunk != NULL) == (index < ORION_STAGE_COUNT));
    if (chunk != NULL)
        chunk[ORION_STAGE_BYTES - 1] = 1;
    orion_port_stage_done(port, index, sum);
    orion_port_stage_give(port, index, sum, bytes);
    (void)orion_port_event(port, payload, bytes);
}

static uint32_t nasty_word(uint64_t *random)
{
    uint64_t r = check_random(random);
    uint32_t word = (uint32_t)(r >> 32);
    switch (r & 7) {
    case 0:
        return word;
    case 1:
        return word % 512 & ~7u;
    case 2:
    case 3:
        return EPOCH;
    case 4:
        return ORION_RECORD_MAX - 16 + word % 32;
    case 5:
        return (word % 20 << 16) | (ORION_FRAME_FIRST + word % 9);
    case 6:
        return 0u - (word & 0xff);
    default:
        return word & 0xffff;
    }
}

static void garbage_from_a_client_is_a_protocol_error_at_most(void)
{
    uint64_t random = check_number("ORION_SEED", 20261123) | 1;
    uint64_t words = check_number("ORION_HOSTILE_WORDS", 1000000), protocols = 0, records = 0;
    static uint8_t sink[1 << 16];
    orion_port_t *port = NULL;
    int pair[2];
    for (uint64_t sent = 0; sent < words;) {
        if (port == NULL)
            port = make_port(pair);
        uint32_t message[64];
        uint32_t count = 4 + (uint32_t)(check_random(&random) % 60);
        for (uint32_t i = 0; i < count; i++)
            message[i] = nasty_word(&random);
        if ((check_random(&random) & 3) != 0) { /* a frame that gets past the first checks */
            count &= ~1u;
            message[0] = count * 4;
            message[3] = EPOCH;
        }
        sent += count;
        (void)send(pair[0], message, count * 4, MSG_NOSIGNAL);
        while (recv(pair[0], sink, sizeof(sink), MSG_DONTWAIT) > 0) {
        }
        for (;;) {
            const orion_record_t *record;
            orion_status_t status = orion_port_next(port, 0, &record);
            if (status == ORION_OK) {
                use(port, record);
                records++;
                continue;
            }
            if (status == ORION_PROTOCOL) {
                MUST(strlen(orion_port_complaint(port)) > 10);
                protocols++;
                orion_port_close(port);
                port = NULL;
                (void)close(pair[0]);
            }
            break;
        }
    }
    CHECK(protocols > words / 10000); /* it did bite */
    CHECK(records > protocols);
    if (port != NULL) {
        orion_port_close(port);
        (void)close(pair[0]);
    }
}

/* The worker does not wait for it, does not gather answers without end, and serves it once it reads again. */
static void a_client_that_reads_nothing_holds_up_itself_only(void)
{
    int pair[2];
    orion_port_t *port = make_port(pair);
    uint8_t data[4000] = {0};
    static uint8_t sink[1 << 20];
    uint32_t asked = 0, served = 0, quiet = 0;
    size_t received = 0;
    int64_t start = check_now_ns();
    while (quiet < 100) {
        const orion_record_t *record;
        orion_record_t head = {ORION_RECORD_HEADER, 1, (uint16_t)(asked % ORION_REPLY_SLOTS), asked, EPOCH};
        ssize_t n = send(pair[0], &head, sizeof(head), MSG_NOSIGNAL | MSG_DONTWAIT);
        MUST(n == -1 || n == (ssize_t)sizeof(head));
        asked += n > 0;
        if (orion_port_next(port, 0, &record) == ORION_OK) {
            orion_port_reply(port, record->slot, record->sequence, 0, 0, data, sizeof(data));
            served++;
            quiet = 0;
        } else {
            quiet += n <= 0;
        }
        MUST(check_now_ns() - start < 60 * S);
    }
    CHECK(served < asked);
    CHECK((uint64_t)served * sizeof(data) < 16u << 20);
    while (served < asked || received < (size_t)asked * (32 + sizeof(data))) {
        const orion_record_t *record;
        ssize_t n = recv(pair[0], sink, sizeof(sink), MSG_DONTWAIT);
        received += n > 0 ? (size_t)n : 0;
        if (orion_port_next(port, 0, &record) == ORION_OK) {
            orion_port_reply(port, record->slot, record->sequence, 0, 0, data, sizeof(data));
            served++;
        }
        MUST(check_now_ns() - start < 60 * S);
    }
    CHECK_EQUAL(received, (size_t)asked * (32 + sizeof(data)));
    orion_port_close(port);
    (void)close(pair[0]);
}

static void a_client_that_reads_no_events_blocks_nobody(void)
{
    int pair[2], sent = 0;
    orion_port_t *port = make_port(pair);
    uint8_t event[512] = {0};
    while (orion_port_event(port, event, sizeof(event)) == ORION_OK)
        sent++;
    CHECK(sent >= 100 && sent <= 128);
    CHECK_EQUAL(orion_port_event(port, event, sizeof(event)), ORION_AGAIN);
    CHECK_EQUAL(orion_port_event(port, event, ORION_EVENT_MAX + 1), ORION_TOO_BIG);
    orion_record_t credit = {ORION_RECORD_HEADER, ORION_FRAME_CREDIT, 0, ORION_EVENT_WINDOW + 16, EPOCH};
    MUST(send(pair[0], &credit, sizeof(credit), 0) == (ssize_t)sizeof(credit));
    const orion_record_t *record;
    CHECK_EQUAL(orion_port_next(port, S, &record), ORION_PROTOCOL);
    CHECK(strstr(orion_port_complaint(port), "never sent") != NULL);
    orion_port_close(port);
    (void)close(pair[0]);
}

static void *wake_often(void *arg)
{
    for (int i = 0; i < 300; i++) {
        orion_port_wake(arg);
        (void)usleep(500);
    }
    return NULL;
}

static void a_wake_ends_every_wait(void)
{
    int pair[2];
    pthread_t thread;
    const orion_record_t *record;
    orion_port_t *port = make_port(pair);
    orion_port_wake(port); /* before it waits */
    CHECK_EQUAL(orion_port_next(port, -1, &record), ORION_AGAIN);
    CHECK_EQUAL(orion_port_next(port, 2000000, &record), ORION_AGAIN); /* once per wake; then the timeout */
    MUST(pthread_create(&thread, NULL, wake_often, port) == 0);
    for (int i = 0; i < 50; i++)
        CHECK_EQUAL(orion_port_next(port, -1, &record), ORION_AGAIN);
    MUST(pthread_join(thread, NULL) == 0);
    (void)close(pair[0]);
    (void)orion_port_next(port, 0, &record); /* a wake may be left over */
    CHECK_EQUAL(orion_port_next(port, -1, &record), ORION_PEER_GONE);
    orion_port_close(port);
}

/* A client that waits hears from a worker that has nothing to say; one that has not spoken yet may still expect its
 * welcome, which is not ours to send. */
static void a_quiet_worker_pulses_once_the_client_has_spoken(void)
{
    int pair[2];
    uint8_t bytes[64];
    const orion_record_t *record;
    orion_port_t *port = make_port(pair);
    CHECK_EQUAL(orion_port_next(port, 3 * S / 2, &record), ORION_AGAIN);
    CHECK(recv(pair[0], bytes, sizeof(bytes), MSG_DONTWAIT) < 0);
    orion_record_t head = {ORION_RECORD_HEADER, 1, ORION_SLOT_NONE, 0, EPOCH};
    MUST(send(pair[0], &head, sizeof(head), 0) == (ssize_t)sizeof(head));
    CHECK_EQUAL(orion_port_next(port, S, &record), ORION_OK);
    CHECK_EQUAL(orion_port_next(port, 3 * S, &record), ORION_AGAIN);
    ssize_t n = recv(pair[0], bytes, sizeof(bytes), MSG_DONTWAIT);
    CHECK(n >= 16 && n <= 64 && n % 16 == 0);
    memcpy(&head, bytes, sizeof(head));
    CHECK_EQUAL(head.opcode, ORION_FRAME_PULSE);
    orion_port_close(port);
    (void)close(pair[0]);
}

CHECK_MAIN(CASE(a_server_that_falls_silent_is_given_up), CASE(a_server_that_stops_reading_is_given_up),
           CASE(a_slow_server_that_shows_it_lives_is_waited_for), CASE(a_timeout_must_be_a_number_of_seconds),
           CASE(garbage_from_the_server_ends_the_session_with_a_sentence), CASE(more_events_than_agreed_are_garbage),
           CASE(half_a_frame_and_then_the_end_is_an_end), CASE(an_epitaph_behind_half_a_frame_is_found),
           CASE(garbage_from_a_client_is_a_protocol_error_at_most),
           CASE(a_client_that_reads_nothing_holds_up_itself_only), CASE(a_client_that_reads_no_events_blocks_nobody),
           CASE(a_wake_ends_every_wait), CASE(a_quiet_worker_pulses_once_the_client_has_spoken))
