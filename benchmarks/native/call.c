/* SPDX-License-Identifier: Apache-2.0 */
/* A call over link and port against a trivial worker in another process: round trip by payload, spin against sleep,
 * and the rate of one-way records. Beside it, in the same run, the floor: one line, a line pair, a futex. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/atomic.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/futex.h"
#include "sample.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/port.h"
#include "transport/shm.h"

enum { OP_ECHO = 1, OP_POST = 2, OP_STAGE = 3 };

#define CALLS 20000
#define POSTS 20000 /* a batch: five laps of the ring at 64 bytes */
#define BATCHES 25

static void serve(int socket, int cpu)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_port_t *port;
    char bytes[sizeof(hello)], why[256];
    if (cpu < 0) {
        bench_unpin();
    } else {
        (void)bench_pin(cpu);
    }
    if (orion_fd_receive(socket, bytes, sizeof(bytes), NULL, 0, -1) != ORION_OK)
        _exit(1);
    if (orion_hello_decode(bytes, sizeof(bytes), &hello, why, sizeof(why)) != ORION_OK)
        _exit(1);
    orion_port_config_t config = {.epoch = 1, .flags = hello.flags, .witness_fd = socket};
    if (orion_port_create(&config, &port, why, sizeof(why)) != ORION_OK)
        _exit(1);
    int fds[2];
    orion_welcome_init(&welcome);
    orion_port_describe(port, &welcome);
    orion_port_fds(port, &fds[0], &fds[1]);
    if (orion_fd_send(socket, &welcome, sizeof(welcome), fds, 2) != ORION_OK)
        _exit(1);
    uint8_t *sink = malloc(ORION_STAGE_BYTES);
    for (;;) {
        const orion_record_t *record;
        if (orion_port_next(port, -1, &record) != ORION_OK)
            _exit(0);
        const uint8_t *payload = orion_record_payload_const(record);
        if (record->opcode == OP_ECHO) {
            orion_port_reply(port, record->slot, record->sequence, 0, 0, payload, orion_record_payload_bytes(record));
        } else if (record->opcode == OP_STAGE) {
            uint32_t words[2];
            memcpy(words, payload, sizeof(words));
            memcpy(sink, orion_port_stage(port, words[0]), ORION_STAGE_BYTES);
            orion_port_stage_done(port, words[0], words[1]);
        }
    }
}

typedef struct caller {
    orion_link_t *link;
    uint32_t payload, sequence;
    uint32_t gap_us; /* between calls: lets the worker fall asleep */
    double p99;
} caller_t;

static void must(orion_status_t status, const char *what)
{
    if (status == ORION_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, orion_status_name(status));
    exit(1);
}

static void post(caller_t *c, uint16_t opcode, uint16_t slot, const void *data, uint32_t bytes)
{
    orion_record_t *record;
    must(orion_link_claim(c->link, ORION_RECORD_HEADER + bytes, &record), "claim");
    record->opcode = opcode;
    record->slot = slot;
    record->sequence = ++c->sequence;
    memcpy(orion_record_payload(record), data, bytes);
    orion_link_commit(c->link);
}

static double run_calls(void *arg)
{
    static double times[CALLS];
    caller_t *c = arg;
    uint8_t payload[4096] = {1}, answer[4096];
    int calls = c->gap_us != 0 ? 200 : CALLS;
    for (int i = 0; i < calls; i++) {
        const orion_reply_t *reply;
        if (c->gap_us != 0)
            (void)usleep(c->gap_us);
        int64_t start = bench_now_ns();
        post(c, OP_ECHO, 0, payload, c->payload);
        must(orion_link_await(c->link, 0, c->sequence, &reply), "await");
        memcpy(answer, reply->data, c->payload);
        times[i] = (double)(bench_now_ns() - start);
    }
    c->p99 = bench_percentile(times, calls, 0.99);
    return bench_median(times, calls);
}

/* The same without a clock in each call. */
static double run_call_loop(void *arg)
{
    static double times[BATCHES];
    caller_t *c = arg;
    uint8_t payload[4096] = {1}, answer[4096];
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < CALLS / BATCHES; i++) {
            const orion_reply_t *reply;
            post(c, OP_ECHO, 0, payload, c->payload);
            must(orion_link_await(c->link, 0, c->sequence, &reply), "await");
            memcpy(answer, reply->data, c->payload);
        }
        times[batch] = (double)(bench_now_ns() - start) / (CALLS / BATCHES);
    }
    return bench_median(times, BATCHES);
}

/* The median over batches: one that lost its processor to somebody says nothing about the ring. */
static double run_posts(void *arg)
{
    static double times[BATCHES];
    caller_t *c = arg;
    uint8_t payload[512] = {1};
    const orion_reply_t *reply;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < POSTS; i++)
            post(c, OP_POST, ORION_SLOT_NONE, payload, c->payload);
        post(c, OP_ECHO, 0, payload, 8);
        must(orion_link_await(c->link, 0, c->sequence, &reply), "await");
        times[batch] = (double)(bench_now_ns() - start) / POSTS;
    }
    return bench_median(times, BATCHES);
}

typedef struct futex_pair {
    _Alignas(128) uint32_t ping;
    _Alignas(128) uint32_t pong;
} futex_pair_t;

static double run_futex(void *arg)
{
    futex_pair_t *f = arg;
    int64_t start = bench_now_ns();
    for (int i = 0; i < 300; i++) {
        uint32_t seen = orion_load_acquire(&f->pong);
        (void)orion_fetch_add(&f->ping, 1);
        (void)orion_futex_wake(&f->ping, 1);
        while (orion_load_acquire(&f->pong) == seen)
            (void)orion_futex_wait(&f->pong, seen, 100000000);
    }
    return (double)(bench_now_ns() - start) / 300;
}

static pid_t futex_peer(futex_pair_t *f)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)bench_pin(1);
    for (uint32_t seen = 0;;) {
        uint32_t now = orion_load_acquire(&f->ping);
        if (now == seen) {
            (void)orion_futex_wait(&f->ping, seen, 1000000000);
            continue;
        }
        seen = now;
        (void)orion_fetch_add(&f->pong, 1);
        (void)orion_futex_wake(&f->pong, 1);
    }
}

static caller_t connect_worker(pid_t *pid_p, int cpu)
{
    int pair[2];
    char why[256];
    caller_t c = {0};
    orion_hello_t hello;
    orion_welcome_t welcome;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(1);
    *pid_p = fork();
    if (*pid_p == 0) {
        (void)close(pair[0]);
        serve(pair[1], cpu);
    }
    (void)close(pair[1]);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    must(orion_shm_open_socket(pair[0], "benchmark", &hello, &welcome, &c.link, why, sizeof(why)), "open");
    return c;
}

int main(void)
{
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    pid_t worker;
    (void)bench_pin(0);
    caller_t c = connect_worker(&worker, 1);
    bench_floor_open();
    bench_begin("call");
    char name[64];
    static const uint32_t payloads[] = {8, 48, 64, 256, 4080};
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        c.payload = payloads[i];
        snprintf(name, sizeof(name), "call_%u", payloads[i]);
        bench_result_t r = bench_sample(run_calls, &c, samples);
        bench_figure(name, "ns", &r);
        snprintf(name, sizeof(name), "call_%u_p99_of_last", payloads[i]);
        bench_number(name, "ns", c.p99);
        snprintf(name, sizeof(name), "call_loop_%u", payloads[i]);
        r = bench_sample(run_call_loop, &c, samples);
        bench_figure(name, "ns", &r);
    }
    static const uint32_t posts[] = {8, 48, 240};
    for (size_t i = 0; i < sizeof(posts) / sizeof(posts[0]); i++) {
        c.payload = posts[i];
        snprintf(name, sizeof(name), "one_way_%u", posts[i] + ORION_RECORD_HEADER);
        bench_result_t r = bench_sample(run_posts, &c, samples);
        bench_figure(name, "ns per record", &r);
    }
    c.payload = 48;
    c.gap_us = 2000;
    bench_result_t r = bench_sample(run_calls, &c, 3);
    bench_figure("call_asleep_48", "ns", &r);
    c.gap_us = 0;
    orion_link_close(c.link);
    (void)waitpid(worker, NULL, 0);

    c = connect_worker(&worker, 0); /* both on one processor */
    c.payload = 48;
    r = bench_sample(run_call_loop, &c, 3);
    bench_figure("call_one_processor_48", "ns", &r);
    orion_link_close(c.link);
    (void)waitpid(worker, NULL, 0);

    c = connect_worker(&worker, -1); /* as programs run: the scheduler decides where */
    bench_unpin();
    c.payload = 48;
    r = bench_sample(run_calls, &c, samples);
    bench_figure("call_unpinned_48", "ns", &r);
    (void)bench_pin(0);
    orion_link_close(c.link);
    (void)waitpid(worker, NULL, 0);

    futex_pair_t *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t peer = futex_peer(f);
    r = bench_sample(run_futex, f, 5);
    bench_figure("futex_round_trip", "ns", &r);
    (void)kill(peer, SIGKILL);
    (void)waitpid(peer, NULL, 0);
    bench_end();
    bench_floor_close();
    return 0;
}
