/* SPDX-License-Identifier: Apache-2.0 */
/* Channels between two processes: round trip by payload, one-way messages, bulk by one copy, by pieces and by handing
 * over a block, and what waiting costs. Beside them, in the same run: a line, a line pair, memcpy. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orion/channel.h"
#include "sample.h"

enum { TAG_ECHO = 1, TAG_SINK = 2, TAG_USAGE = 3, TAG_TAKE = 4 };

#define CALLS 20000
#define POSTS 20000
#define BATCHES 25

static void must(orion_status_t status, const char *what)
{
    if (status == ORION_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, orion_status_name(status));
    exit(1);
}

static double used_seconds(void)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static orion_channel_t *open_end(int socket, uint64_t limit)
{
    orion_channel_t *channel;
    orion_channel_options_t options = {.arena_limit = limit};
    char why[256] = "";
    if (orion_channel_open_socket(socket, &options, -1, &channel, why, sizeof(why)) != ORION_OK) {
        fprintf(stderr, "open: %s\n", why);
        exit(1);
    }
    return channel;
}

static void serve(int socket, int cpu, uint64_t limit)
{
    static orion_message_t m;
    if (cpu < 0) {
        bench_unpin();
    } else {
        (void)bench_pin(cpu);
    }
    orion_channel_t *channel = open_end(socket, limit);
    while (orion_channel_receive(channel, -1, &m) == ORION_OK) {
        double used;
        if (m.kind == ORION_MESSAGE_CALL && m.tag == TAG_ECHO) {
            must(orion_channel_reply(channel, &m, ORION_MESSAGE_REPLY, 0, m.data, m.bytes, NULL, -1), "reply");
        } else if (m.tag == TAG_TAKE) { /* released before the answer */
            orion_message_release(&m);
            must(orion_channel_reply(channel, &m, ORION_MESSAGE_REPLY, 0, NULL, 0, NULL, -1), "reply");
        } else if (m.kind == ORION_MESSAGE_CALL) {
            used = used_seconds();
            must(orion_channel_reply(channel, &m, ORION_MESSAGE_REPLY, 0, &used, sizeof(used), NULL, -1), "reply");
        }
        orion_message_release(&m);
    }
    _exit(0);
}

typedef struct caller {
    orion_channel_t *channel;
    orion_message_t reply;
    orion_block_t *block;
    uint8_t *data;
    size_t payload;
    double p99;
} caller_t;

static void call(caller_t *c, uint32_t tag, const void *data, size_t bytes)
{
    must(orion_channel_call(c->channel, tag, data, bytes, NULL, -1, &c->reply), "call");
    orion_message_release(&c->reply);
}

static double run_calls(void *arg)
{
    static double times[CALLS];
    caller_t *c = arg;
    int calls = c->payload > 100000 ? 200 : CALLS;
    for (int i = 0; i < calls; i++) {
        int64_t start = bench_now_ns();
        call(c, TAG_ECHO, c->data, c->payload);
        times[i] = (double)(bench_now_ns() - start);
    }
    c->p99 = bench_percentile(times, calls, 0.99);
    return bench_median(times, calls);
}

static double run_call_loop(void *arg)
{
    static double times[BATCHES];
    caller_t *c = arg;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < CALLS / BATCHES; i++)
            call(c, TAG_ECHO, c->data, c->payload);
        times[batch] = (double)(bench_now_ns() - start) / (CALLS / BATCHES);
    }
    return bench_median(times, BATCHES);
}

/* The median over batches: one that lost its processor to somebody says nothing about the ring. */
static double run_posts(void *arg)
{
    static double times[BATCHES];
    caller_t *c = arg;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < POSTS; i++)
            must(orion_channel_send(c->channel, TAG_SINK, c->data, c->payload, NULL, -1), "send");
        call(c, TAG_ECHO, c->data, 8);
        times[batch] = (double)(bench_now_ns() - start) / POSTS;
    }
    return bench_median(times, BATCHES);
}

/* GB/s: one copy, by the sender; the other end has a view. */
static double run_bulk(void *arg)
{
    static double rates[BATCHES];
    caller_t *c = arg;
    int times = (int)((256u << 20) / c->payload / BATCHES) + 1;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < times; i++)
            must(orion_channel_send(c->channel, TAG_SINK, c->data, c->payload, NULL, -1), "send");
        call(c, TAG_ECHO, c->data, 8);
        rates[batch] = (double)c->payload * times / (double)(bench_now_ns() - start);
    }
    return bench_median(rates, BATCHES);
}

static double run_memcpy(void *arg)
{
    static double rates[BATCHES];
    caller_t *c = arg;
    uint8_t *to = c->data + (128u << 20);
    int times = (int)((256u << 20) / c->payload / BATCHES) + 1;
    for (int batch = 0; batch < BATCHES; batch++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < times; i++) {
            memcpy(to, c->data, c->payload);
            __asm__ volatile("" ::"r"(to) : "memory");
        }
        rates[batch] = (double)c->payload * times / (double)(bench_now_ns() - start);
    }
    return bench_median(rates, BATCHES);
}

/* A block goes over and its release comes back: how long until its memory is ours again. */
static double run_handover(void *arg)
{
    static double times[CALLS];
    caller_t *c = arg;
    for (int i = 0; i < CALLS; i++) {
        orion_block_t *block;
        int64_t start = bench_now_ns();
        must(orion_block_create(c->channel, c->payload, -1, &block), "block");
        orion_bulk_t bulk = {.data = orion_block_data(block), .bytes = c->payload, .block = block};
        must(orion_channel_call(c->channel, TAG_TAKE, NULL, 0, &bulk, -1, &c->reply), "call");
        orion_message_release(&c->reply);
        orion_block_free(block);
        times[i] = (double)(bench_now_ns() - start);
    }
    return bench_median(times, CALLS);
}

static pid_t connect_server(caller_t *c, int cpu, uint64_t limit)
{
    int sockets[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(sockets[0]);
        serve(sockets[1], cpu, limit);
    }
    (void)close(sockets[1]);
    c->channel = open_end(sockets[0], limit);
    return pid;
}

static void disconnect(caller_t *c, pid_t pid)
{
    orion_channel_free(c->channel);
    (void)waitpid(pid, NULL, 0);
}

/* Of one processor, the other end's share while it waits for a message that does not come. */
static double idle_percent(caller_t *c)
{
    double before, after;
    (void)usleep(200000); /* the spin gives up first */
    must(orion_channel_call(c->channel, TAG_USAGE, NULL, 0, NULL, -1, &c->reply), "usage");
    memcpy(&before, c->reply.data, sizeof(before));
    int64_t start = bench_now_ns();
    (void)usleep(2000000);
    must(orion_channel_call(c->channel, TAG_USAGE, NULL, 0, NULL, -1, &c->reply), "usage");
    memcpy(&after, c->reply.data, sizeof(after));
    return 100 * (after - before) / ((double)(bench_now_ns() - start) / 1e9);
}

int main(void)
{
    static caller_t c;
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    char name[64];
    bench_result_t r;
    c.data = malloc(256u << 20);
    memset(c.data, 1, 256u << 20);
    (void)bench_pin(0);
    pid_t server = connect_server(&c, 1, 0);
    bench_floor_open();
    bench_begin("channel");
    static const uint32_t payloads[] = {8, 48, 64, 256, 1024, 4080, 65536, 1 << 20};
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        c.payload = payloads[i];
        snprintf(name, sizeof(name), "call_%u", payloads[i]);
        r = bench_sample(run_calls, &c, samples);
        bench_figure(name, "ns", &r);
        snprintf(name, sizeof(name), "call_%u_p99_of_last", payloads[i]);
        bench_number(name, "ns", c.p99);
        if (payloads[i] <= 256) {
            snprintf(name, sizeof(name), "call_loop_%u", payloads[i]);
            r = bench_sample(run_call_loop, &c, samples);
            bench_figure(name, "ns", &r);
        }
    }
    static const uint32_t posts[] = {8, 48, 64, 256};
    for (size_t i = 0; i < sizeof(posts) / sizeof(posts[0]); i++) {
        c.payload = posts[i];
        snprintf(name, sizeof(name), "one_way_%u", posts[i]);
        r = bench_sample(run_posts, &c, samples);
        bench_figure(name, "ns per message", &r);
    }
    static const uint32_t bulks[] = {64 << 10, 1 << 20, 64 << 20};
    for (size_t i = 0; i < sizeof(bulks) / sizeof(bulks[0]); i++) {
        c.payload = bulks[i];
        snprintf(name, sizeof(name), "memcpy_%u_kib", bulks[i] >> 10);
        bench_result_t floor = bench_sample(run_memcpy, &c, samples / 3 + 1);
        bench_figure(name, "GB/s", &floor);
        snprintf(name, sizeof(name), "bulk_%u_kib", bulks[i] >> 10);
        r = bench_sample(run_bulk, &c, samples / 3 + 1);
        bench_figure(name, "GB/s", &r);
        snprintf(name, sizeof(name), "bulk_%u_kib_of_memcpy", bulks[i] >> 10);
        bench_number(name, "ratio", r.median / floor.median);
        snprintf(name, sizeof(name), "handover_%u_kib", bulks[i] >> 10);
        r = bench_sample(run_handover, &c, samples / 3 + 1);
        bench_figure(name, "ns", &r);
    }
    bench_number("idle_percent_of_a_core", "%", idle_percent(&c));
    disconnect(&c, server);

    server = connect_server(&c, 1, 2u << 20); /* no block has room: in pieces, copied twice */
    c.payload = 64u << 20;
    r = bench_sample(run_bulk, &c, samples / 3 + 1);
    bench_figure("pieces_65536_kib", "GB/s", &r);
    disconnect(&c, server);

    server = connect_server(&c, 0, 0); /* both on one processor */
    c.payload = 48;
    r = bench_sample(run_call_loop, &c, 3);
    bench_figure("call_one_processor_48", "ns", &r);
    disconnect(&c, server);

    server = connect_server(&c, -1, 0); /* as programs run: the scheduler decides where */
    bench_unpin();
    r = bench_sample(run_calls, &c, samples);
    bench_figure("call_unpinned_48", "ns", &r);
    disconnect(&c, server);
    bench_end();
    bench_floor_close();
    return 0;
}
