/* SPDX-License-Identifier: Apache-2.0 */
/* A session over TCP on this host against bare sockets in the same run: the round trip of a call beside a ping-pong of
 * the same bytes, one-way records, and bulk data both ways beside send and recv of the same size. The bare peers wait as
 * a plain program does, in recv; "polling" is the same with both ends looking all the time. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "sample.h"
#include "sockets.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/stream_port.h"
#include "transport/tcp.h"
#include "wire/frame.h"

enum { OP_ECHO = 1, OP_POST = 2, OP_IN = 3, OP_OUT = 4 };

#define CALLS 3000
#define POSTS 20000
#define LARGEST (64u << 20)

static uint8_t *heap; /* the worker's, and the bare peer's */

/* ---- bare sockets ---- */

static void send_all(int socket, const void *data, size_t bytes)
{
    for (const uint8_t *at = data; bytes > 0;) {
        ssize_t n = send(socket, at, bytes, MSG_NOSIGNAL);
        if (n <= 0)
            exit(0);
        at += n;
        bytes -= (size_t)n;
    }
}

static void receive_all(int socket, void *data, size_t bytes, int flags)
{
    for (uint8_t *at = data; bytes > 0;) {
        ssize_t n = recv(socket, at, bytes, flags);
        if (n < 0 && flags != 0)
            continue;
        if (n <= 0)
            exit(0);
        at += n;
        bytes -= (size_t)n;
    }
}

enum { BARE_PING = 1, BARE_IN = 2, BARE_OUT = 3 };

typedef struct bare_request {
    uint32_t kind, bytes, answer, flags;
} bare_request_t;

static void serve_bare(int socket)
{
    bare_request_t r;
    int flags = 0;
    for (;;) {
        receive_all(socket, &r, sizeof(r), flags);
        flags = (int)r.flags;
        if (r.kind == BARE_PING || r.kind == BARE_IN)
            receive_all(socket, heap, r.bytes, r.kind == BARE_PING ? flags : 0);
        send_all(socket, heap, r.answer);
    }
}

typedef struct bare {
    int socket;
    uint32_t bytes, flags;
    uint8_t *host;
} bare_t;

/* As many bytes each way as a call and its reply of that payload have on the wire. */
static double run_bare_ping(void *arg)
{
    static double times[CALLS];
    bare_t *b = arg;
    struct {
        bare_request_t r;
        uint8_t payload[4096];
    } m = {{BARE_PING, b->bytes, ORION_RECORD_HEADER + (uint32_t)sizeof(orion_frame_reply_t) + b->bytes, b->flags},
           {0}};
    for (int i = 0; i < CALLS; i++) {
        uint8_t answer[8192];
        if (i == CALLS - 1)
            m.r.flags = 0; /* afterwards the peer sleeps: it is not in the way of others */
        int64_t start = bench_now_ns();
        send_all(b->socket, &m, sizeof(m.r) + b->bytes);
        receive_all(b->socket, answer, m.r.answer, (int)b->flags);
        times[i] = (double)(bench_now_ns() - start);
    }
    return bench_median(times, CALLS);
}

static int rounds(uint32_t bytes)
{
    return bytes >= 1u << 24 ? 3 : 20;
}

static double run_bare_in(void *arg)
{
    static double rates[20];
    bare_t *b = arg;
    bare_request_t r = {BARE_IN, b->bytes, 1, 0};
    for (int i = 0; i < rounds(b->bytes); i++) {
        uint8_t answer;
        int64_t start = bench_now_ns();
        send_all(b->socket, &r, sizeof(r));
        send_all(b->socket, b->host, b->bytes);
        receive_all(b->socket, &answer, 1, 0);
        rates[i] = (double)b->bytes / (double)(bench_now_ns() - start);
    }
    return bench_median(rates, rounds(b->bytes));
}

static double run_bare_out(void *arg)
{
    static double rates[20];
    bare_t *b = arg;
    bare_request_t r = {BARE_OUT, 0, b->bytes, 0};
    for (int i = 0; i < rounds(b->bytes); i++) {
        int64_t start = bench_now_ns();
        send_all(b->socket, &r, sizeof(r));
        receive_all(b->socket, b->host, b->bytes, 0);
        rates[i] = (double)b->bytes / (double)(bench_now_ns() - start);
    }
    return bench_median(rates, rounds(b->bytes));
}

/* ---- a session ---- */

static void serve(int socket)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_port_t *port;
    char bytes[sizeof(hello)], why[256];
    if (orion_fd_receive(socket, bytes, sizeof(bytes), NULL, 0, -1) != ORION_OK ||
        orion_hello_decode(bytes, sizeof(bytes), &hello, why, sizeof(why)) != ORION_OK)
        exit(1);
    orion_port_config_t config = {.epoch = 1};
    if (orion_port_create_stream(&config, dup(socket), &port, why, sizeof(why)) != ORION_OK)
        exit(1);
    orion_welcome_init(&welcome);
    orion_port_describe(port, &welcome);
    if (orion_fd_send(socket, &welcome, sizeof(welcome), NULL, 0) != ORION_OK)
        exit(1);
    for (;;) {
        const orion_record_t *record;
        uint32_t words[4]; /* stage, sequence, offset, bytes */
        orion_status_t status = orion_port_next(port, -1, &record);
        if (status == ORION_AGAIN)
            continue;
        if (status != ORION_OK)
            exit(0);
        const uint8_t *payload = orion_record_payload_const(record);
        if (record->opcode == OP_ECHO)
            orion_port_reply(port, record->slot, record->sequence, 0, 0, payload, orion_record_payload_bytes(record));
        if (record->opcode != OP_IN && record->opcode != OP_OUT)
            continue;
        memcpy(words, payload, sizeof(words));
        uint8_t *chunk = orion_port_stage(port, words[0]);
        if (record->opcode == OP_IN) {
            memcpy(heap + words[2], chunk, words[3]);
            orion_port_stage_done(port, words[0], words[1]);
        } else {
            memcpy(chunk, heap + words[2], words[3]);
            orion_port_stage_give(port, words[0], words[1], words[3]);
        }
    }
}

typedef struct caller {
    orion_link_t *link;
    uint8_t *host;
    uint32_t bytes, sequence;
} caller_t;

static void check(orion_status_t status)
{
    if (status == ORION_OK)
        return;
    fprintf(stderr, "tcp: %s\n", orion_status_name(status));
    exit(1);
}

static void post(caller_t *c, uint16_t opcode, uint16_t slot, const void *data, uint32_t bytes)
{
    orion_record_t *record;
    check(orion_link_claim(c->link, ORION_RECORD_HEADER + bytes, &record));
    record->opcode = opcode;
    record->slot = slot;
    record->sequence = ++c->sequence;
    memcpy(orion_record_payload(record), data, bytes);
    orion_link_commit(c->link);
}

static void call(caller_t *c, uint32_t bytes)
{
    uint8_t payload[4096] = {1}, answer[4096];
    const orion_reply_t *reply;
    post(c, OP_ECHO, 0, payload, bytes);
    check(orion_link_await(c->link, 0, c->sequence, &reply));
    memcpy(answer, reply->data, bytes);
}

static double run_calls(void *arg)
{
    static double times[CALLS];
    caller_t *c = arg;
    for (int i = 0; i < CALLS; i++) {
        int64_t start = bench_now_ns();
        call(c, c->bytes);
        times[i] = (double)(bench_now_ns() - start);
    }
    return bench_median(times, CALLS);
}

static double run_posts(void *arg)
{
    static double times[10];
    caller_t *c = arg;
    uint8_t payload[512] = {1};
    for (int batch = 0; batch < 10; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < POSTS; i++)
            post(c, OP_POST, ORION_SLOT_NONE, payload, c->bytes);
        call(c, 8);
        times[batch] = (double)(bench_now_ns() - start) / POSTS;
    }
    return bench_median(times, 10);
}

/* What a post costs its caller alone: short bursts that the buffer holds, the way launches come. */
static double run_bursts(void *arg)
{
    static double times[200];
    caller_t *c = arg;
    uint8_t payload[512] = {1};
    for (int burst = 0; burst < 200; burst++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < 64; i++)
            post(c, OP_POST, ORION_SLOT_NONE, payload, c->bytes);
        times[burst] = (double)(bench_now_ns() - start) / 64;
        call(c, 8);
    }
    return bench_median(times, 200);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* As the client cuts a copy: a chunk of a stream is filled before the next one is begun. */
#define CHUNK ORION_STAGE_BYTES

static double run_in(void *arg)
{
    static double rates[20];
    caller_t *c = arg;
    for (int i = 0; i < rounds(c->bytes); i++) {
        int64_t start = bench_now_ns();
        for (uint32_t at = 0; at < c->bytes; at += CHUNK) {
            orion_stage_t stage;
            uint32_t n = least(c->bytes - at, CHUNK);
            check(orion_link_stage_claim(c->link, &stage));
            check(orion_link_stage_send(c->link, &stage, c->host + at, n));
            uint32_t words[4] = {stage.index, stage.sequence, at, n};
            post(c, OP_IN, ORION_SLOT_NONE, words, sizeof(words));
        }
        call(c, 8);
        rates[i] = (double)c->bytes / (double)(bench_now_ns() - start);
    }
    return bench_median(rates, rounds(c->bytes));
}

static double run_out(void *arg)
{
    static double rates[20];
    caller_t *c = arg;
    for (int i = 0; i < rounds(c->bytes); i++) {
        orion_stage_t stages[ORION_STAGE_COUNT];
        uint32_t ahead = 0, at = 0;
        int64_t start = bench_now_ns();
        for (uint32_t done = 0, index = 0; done < c->bytes; index++) {
            for (; ahead < c->bytes && ahead - done < 8 * CHUNK; ahead += CHUNK) {
                orion_stage_t *stage = &stages[at++ % ORION_STAGE_COUNT];
                check(orion_link_stage_claim(c->link, stage));
                uint32_t words[4] = {stage->index, stage->sequence, ahead, least(c->bytes - ahead, CHUNK)};
                post(c, OP_OUT, ORION_SLOT_NONE, words, sizeof(words));
            }
            const orion_stage_t *stage = &stages[index % ORION_STAGE_COUNT];
            uint32_t n = least(c->bytes - done, CHUNK);
            check(orion_link_stage_collect(c->link, stage, c->host + done, n));
            done += n;
        }
        rates[i] = (double)c->bytes / (double)(bench_now_ns() - start);
    }
    return bench_median(rates, rounds(c->bytes));
}

static pid_t peer(void (*run)(int socket), int *socket_p, int pinned)
{
    int pair[2];
    connect_pair(pair);
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        (void)close(pair[0]);
        if (pinned)
            (void)bench_pin(1);
        heap = malloc(LARGEST);
        must(heap != NULL, "malloc");
        memset(heap, 1, LARGEST);
        run(pair[1]);
    }
    (void)close(pair[1]);
    *socket_p = pair[0];
    return pid;
}

/* Ours beside its floor, sample by sample, so that whatever else the machine does falls on both. */
static void compare(const char *name, bench_run_t floor_run, bare_t *b, bench_run_t run, caller_t *c, const char *unit)
{
    double floors[BENCH_SAMPLES_MAX], ours[BENCH_SAMPLES_MAX], ratios[BENCH_SAMPLES_MAX];
    char text[64];
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    if (samples > BENCH_SAMPLES_MAX)
        samples = BENCH_SAMPLES_MAX;
    for (int i = 0; i < samples; i++) {
        floors[i] = floor_run(b);
        ours[i] = run(c);
        ratios[i] = ours[i] / floors[i];
    }
    snprintf(text, sizeof(text), "bare_%s", name);
    bench_number(text, unit, bench_median(floors, samples));
    bench_number(name, unit, bench_median(ours, samples));
    snprintf(text, sizeof(text), "%s_ratio", name);
    bench_number(text, "of bare", bench_median(ratios, samples));
}

static caller_t connect_worker(pid_t *pid_p, int pinned)
{
    int socket;
    char why[256];
    orion_hello_t hello;
    orion_welcome_t welcome;
    caller_t c = {.bytes = 8};
    *pid_p = peer(serve, &socket, pinned);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    check(orion_tcp_open_socket(socket, "benchmark", &hello, &welcome, &c.link, why, sizeof(why)));
    return c;
}

static void calls(const char *prefix, bare_t *b, caller_t *c, int flags)
{
    static const uint32_t payloads[] = {48, 1024, 4080};
    char name[64];
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        b->flags = (uint32_t)flags;
        c->bytes = b->bytes = payloads[i];
        snprintf(name, sizeof(name), "%s_%u", prefix, payloads[i]);
        compare(name, run_bare_ping, b, run_calls, c, "ns");
    }
}

int main(void)
{
    char name[64];
    cpu_set_t before;
    bare_t b = {.bytes = 8};
    pid_t pid, unpinned_pid, bare_pid;
    (void)sched_getaffinity(0, sizeof(before), &before);
    caller_t unpinned = connect_worker(&unpinned_pid, 0);
    (void)bench_pin(0);
    bare_pid = peer(serve_bare, &b.socket, 1);
    caller_t c = connect_worker(&pid, 1);
    c.host = b.host = malloc(LARGEST);
    must(c.host != NULL, "malloc");
    memset(c.host, 1, LARGEST);
    bench_begin("tcp");
    calls("call", &b, &c,
          0);     /* on a processor each, nobody looks: a sleep and a wake each way, as in a plain program */
    c.bytes = 80; /* a launch */
    bench_number("one_way_96", "ns per record", run_posts(&c));
    bench_number("one_way_96_issued_in_bursts", "ns per record", run_bursts(&c));
    static const uint32_t sizes[] = {1u << 20, LARGEST};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        c.bytes = b.bytes = sizes[i];
        snprintf(name, sizeof(name), "in_%u_kib", sizes[i] >> 10);
        compare(name, run_bare_in, &b, run_in, &c, "GB/s");
        snprintf(name, sizeof(name), "out_%u_kib", sizes[i] >> 10);
        compare(name, run_bare_out, &b, run_out, &c, "GB/s");
    }
    orion_link_close(c.link);
    (void)waitpid(pid, NULL, 0);
    (void)sched_setaffinity(0, sizeof(before), &before); /* free to run anywhere, both ends look before they sleep */
    calls("call_looking", &b, &unpinned, MSG_DONTWAIT);
    bench_end();
    orion_link_close(unpinned.link);
    (void)kill(unpinned_pid, SIGTERM); /* later children hold our end of its socket, too */
    (void)waitpid(unpinned_pid, NULL, 0);
    (void)close(b.socket);
    (void)kill(bare_pid, SIGTERM);
    (void)waitpid(bare_pid, NULL, 0);
    free(c.host);
    return 0;
}
