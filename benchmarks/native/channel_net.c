/* SPDX-License-Identifier: Apache-2.0 */
/* Channels over tcp and ucx beside a bare socket in the same run: the round trip of a call, and 1 MiB one way with its
 * acknowledgement. The bare ends sleep in recv; the channel's look for a while first. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orion/channel.h"
#include "sample.h"
#include "stream/libucp.h"
#include "stream/socket.h"

#define CALLS 500
#define BULKS 10
#define BULK (1u << 20)
#define SECOND 1000000000LL

enum { BARE, TCP, UCX, KINDS };

static const char *const names[KINDS] = {"bare", "tcp", "ucx"};
static uint8_t buffer[BULK];

typedef struct end {
    orion_channel_t *channel; /* NULL: bare */
    int socket;
    uint32_t bytes;
    pid_t pid; /* 0: not here */
} end_t;

static void must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

/* ---- a bare socket ---- */

static void put(int socket, const void *data, size_t bytes)
{
    for (const uint8_t *at = data; bytes > 0;) {
        struct iovec part = {(void *)(uintptr_t)at, bytes};
        size_t n = 0;
        orion_status_t status = orion_socket_send(socket, &part, 1, &n);
        if (status != ORION_OK && status != ORION_AGAIN)
            exit(0);
        at += n;
        bytes -= n;
    }
}

static void get(int socket, void *to, size_t bytes)
{
    for (uint8_t *at = to; bytes > 0;) {
        struct iovec room = {at, bytes};
        size_t n = 0;
        orion_status_t status = orion_socket_receive(socket, &room, 1, true, &n);
        if (status != ORION_OK && status != ORION_AGAIN)
            exit(0);
        if (status == ORION_OK) {
            at += n;
            bytes -= n;
        }
    }
}

/* Each request: how many bytes follow, and how many shall come back. */
static void serve_bare(int socket)
{
    uint32_t request[2];
    for (;;) {
        get(socket, request, sizeof(request));
        get(socket, buffer, request[0]);
        put(socket, buffer, request[1]);
    }
}

static end_t start_bare(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    end_t e = {.pid = fork()};
    must(e.pid >= 0, "fork");
    if (e.pid == 0) {
        (void)bench_pin(1);
        int fd = accept(listener, NULL, NULL);
        must(fd >= 0 && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "accept");
        serve_bare(fd);
    }
    e.socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(e.socket, (struct sockaddr *)&address, size) == 0, "connect");
    must(setsockopt(e.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "TCP_NODELAY");
    (void)close(listener);
    return e;
}

/* ---- channels ---- */

static void serve_channel(orion_channel_t *channel)
{
    static orion_message_t m;
    while (orion_channel_receive(channel, -1, &m) == ORION_OK) {
        bool large = m.bulk.data != NULL;
        orion_status_t status = orion_channel_reply(channel, &m, ORION_MESSAGE_REPLY, 0, m.data, large ? 0 : m.bytes,
                                                    NULL, -1);
        orion_message_release(&m);
        if (status != ORION_OK)
            break;
    }
    _exit(0);
}

static end_t start_channel(const char *address)
{
    orion_channel_options_t options = {.token = ""};
    orion_listener_t *listener;
    char why[300] = "";
    end_t e = {.socket = -1};
    if (orion_listener_open(address, &options, &listener, why, sizeof(why)) != ORION_OK) {
        fprintf(stderr, "%s\n", why);
        return e;
    }
    e.pid = fork();
    must(e.pid >= 0, "fork");
    if (e.pid == 0) {
        orion_channel_t *channel;
        (void)bench_pin(1);
        must(orion_listener_accept(listener, 20 * SECOND, &channel, why, sizeof(why)) == ORION_OK, why);
        serve_channel(channel);
    }
    must(orion_channel_connect(orion_listener_address(listener), &options, 20 * SECOND, &e.channel, why, sizeof(why)) ==
             ORION_OK,
         why);
    orion_listener_free(listener);
    return e;
}

static void call(end_t *e, size_t bytes)
{
    static orion_message_t reply;
    must(orion_channel_call(e->channel, 0, buffer, bytes, NULL, 20 * SECOND, &reply) == ORION_OK, "call");
    orion_message_release(&reply);
}

/* ---- both ---- */

static double exchange(end_t *e, uint32_t there, uint32_t back)
{
    uint32_t request[2] = {there, back};
    int64_t start = bench_now_ns();
    if (e->channel != NULL) {
        call(e, there);
    } else {
        put(e->socket, request, sizeof(request));
        put(e->socket, buffer, there);
        get(e->socket, buffer, back);
    }
    return (double)(bench_now_ns() - start);
}

static double run_calls(end_t *e)
{
    static double times[CALLS];
    for (int i = 0; i < CALLS; i++)
        times[i] = exchange(e, e->bytes, e->bytes);
    return bench_median(times, CALLS);
}

static double run_bulk(end_t *e)
{
    static double rates[BULKS];
    for (int i = 0; i < BULKS; i++)
        rates[i] = BULK / exchange(e, BULK, 1);
    return bench_median(rates, BULKS);
}

/* Each kind beside the bare socket, sample by sample. */
static void compare(const char *what, const char *unit, double (*run)(end_t *e), end_t ends[KINDS])
{
    double values[KINDS][BENCH_SAMPLES_MAX], ratios[KINDS][BENCH_SAMPLES_MAX];
    char text[64];
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 9);
    if (samples > BENCH_SAMPLES_MAX)
        samples = BENCH_SAMPLES_MAX;
    for (int i = 0; i < samples; i++) {
        for (int k = BARE; k < KINDS; k++) {
            if (ends[k].pid == 0)
                continue;
            values[k][i] = run(&ends[k]);
            ratios[k][i] = values[k][i] / values[BARE][i];
        }
    }
    for (int k = BARE; k < KINDS; k++) {
        if (ends[k].pid == 0)
            continue;
        snprintf(text, sizeof(text), "%s_%s", names[k], what);
        bench_number(text, unit, bench_median(values[k], samples));
        snprintf(text, sizeof(text), "%s_%s_ratio", names[k], what);
        if (k != BARE)
            bench_number(text, "of bare", bench_median(ratios[k], samples));
    }
}

int main(void)
{
    end_t ends[KINDS];
    (void)bench_pin(0);
    ends[BARE] = start_bare();
    ends[TCP] = start_channel("tcp://127.0.0.1:0");
    ends[UCX] = (end_t){.pid = 0};
    if (orion_libucp(NULL, 0) != NULL)
        ends[UCX] = start_channel("ucx://127.0.0.1:0");
    bench_begin("channel_net");
    static const uint32_t sizes[] = {48, 4000};
    for (size_t i = 0; i < 2; i++) {
        char what[32];
        for (int k = BARE; k < KINDS; k++)
            ends[k].bytes = sizes[i];
        snprintf(what, sizeof(what), "call_%u", sizes[i]);
        compare(what, "ns", run_calls, ends);
    }
    compare("bulk_1024_kib", "GB/s", run_bulk, ends);
    bench_end();
    for (int k = BARE; k < KINDS; k++) {
        orion_channel_free(ends[k].pid != 0 ? ends[k].channel : NULL);
        if (ends[k].pid == 0)
            continue;
        (void)kill(ends[k].pid, SIGTERM);
        (void)waitpid(ends[k].pid, NULL, 0);
    }
    return 0;
}
