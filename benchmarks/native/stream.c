/* SPDX-License-Identifier: Apache-2.0 */
/* Byte streams beside the bare socket in the same run: the round trip of a message, and 1 MiB one way, over a plain
 * stream, TLS and UCX (those of them that are here). Both ends look all the time, bare ones too, as ucx_perftest does. */
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

#include "base/fd.h"
#include "sample.h"
#include "sockets.h"
#include "stream/libssl.h"
#include "stream/libucp.h"
#include "stream/socket.h"
#include "stream/tls.h"
#include "stream/ucx.h"

#define PINGS 500
#define BULKS 10
#define BULK (1u << 20)

typedef enum kind { BARE, PLAIN, TLS, UCX } kind_t;

static const char *const names[] = {"bare", "plain", "tls", "ucx"};
static const uint8_t key[32] = "a key for a benchmark";
static uint8_t buffer[BULK];

typedef struct end {
    int socket;
    orion_bytestream_t *stream; /* NULL: bare */
    uint32_t bytes;
} end_t;

static void put(end_t *e, const uint8_t *data, size_t bytes)
{
    while (bytes > 0) {
        size_t n = 0;
        struct iovec part = {(void *)(uintptr_t)data, bytes};
        orion_status_t status = e->stream != NULL ? orion_bytestream_send(e->stream, &part, 1, &n)
                                                  : orion_socket_send(e->socket, &part, 1, &n);
        if (status != ORION_OK && status != ORION_AGAIN)
            exit(0);
        data += n;
        bytes -= n;
    }
}

static void get(end_t *e, uint8_t *to, size_t bytes)
{
    while (bytes > 0) {
        size_t n = 0;
        struct iovec room = {to, bytes};
        orion_status_t status = e->stream != NULL ? orion_bytestream_receive(e->stream, &room, 1, false, &n)
                                                  : orion_socket_receive(e->socket, &room, 1, false, &n);
        if (status != ORION_OK && status != ORION_AGAIN)
            exit(0);
        if (status == ORION_AGAIN)
            n = 0;
        to += n;
        bytes -= n;
    }
}

/* Each request: how many bytes follow, and how many shall come back. Between samples the peer sleeps. */
static void serve(end_t *e)
{
    uint32_t request[2];
    for (;;) {
        struct pollfd polled[ORION_BYTESTREAM_FDS] = {{.fd = e->socket, .events = POLLIN}};
        if (e->stream != NULL)
            (void)orion_bytestream_wait(e->stream, ORION_BYTESTREAM_READ, -1);
        else
            (void)poll(polled, 1, -1);
        for (get(e, (uint8_t *)request, sizeof(request)); request[0] != 0;
             get(e, (uint8_t *)request, sizeof(request))) {
            get(e, buffer, request[0]);
            put(e, buffer, request[1]);
        }
    }
}

static double exchange(end_t *e, uint32_t there, uint32_t back)
{
    uint32_t request[2] = {there, back};
    int64_t start = bench_now_ns();
    put(e, (uint8_t *)request, sizeof(request));
    put(e, buffer, there);
    get(e, buffer, back);
    return (double)(bench_now_ns() - start);
}

static void rest(end_t *e)
{
    uint32_t request[2] = {0, 0};
    put(e, (uint8_t *)request, sizeof(request));
    for (int i = 0; i < 100 && e->stream != NULL && !orion_bytestream_settled(e->stream); i++) {
    }
}

static double run_ping(void *arg)
{
    static double times[PINGS];
    end_t *e = arg;
    for (int i = 0; i < PINGS; i++)
        times[i] = exchange(e, e->bytes, e->bytes);
    rest(e);
    return bench_median(times, PINGS);
}

static double run_bulk(void *arg)
{
    static double rates[BULKS];
    for (int i = 0; i < BULKS; i++)
        rates[i] = BULK / exchange(arg, BULK, 1);
    rest(arg);
    return bench_median(rates, BULKS);
}

static void open_end(end_t *e, kind_t kind, bool server)
{
    char why[300] = "";
    orion_status_t status = kind == PLAIN ? orion_bytestream_of_socket(e->socket, &e->stream)
                            : kind == TLS
                                ? orion_bytestream_of_tls(e->socket, server, key, &e->stream, why, sizeof(why))
                            : kind == UCX
                                ? orion_bytestream_of_ucx(e->socket, server, key, &e->stream, why, sizeof(why))
                                : ORION_OK;
    if (status == ORION_OK && kind >= TLS)
        status = (kind == TLS ? orion_tls_handshake : orion_ucx_meet)(e->stream, 5000000000, why, sizeof(why));
    if (status != ORION_OK)
        fprintf(stderr, "%s: %s\n", names[kind], why);
    must(status == ORION_OK, names[kind]);
}

static end_t start(kind_t kind, pid_t *pid_p)
{
    int pair[2];
    connect_pair(pair);
    *pid_p = fork();
    must(*pid_p >= 0, "fork");
    end_t e = {.socket = pair[*pid_p == 0]};
    (void)close(pair[*pid_p != 0]);
    (void)bench_pin(*pid_p == 0);
    open_end(&e, kind, *pid_p == 0);
    if (*pid_p == 0)
        serve(&e);
    return e;
}

/* Each kind beside the bare socket, sample by sample. */
static void compare(const char *what, const char *unit, bench_run_t run, end_t ends[4])
{
    double values[4][BENCH_SAMPLES_MAX], ratios[4][BENCH_SAMPLES_MAX];
    char text[64];
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 9);
    if (samples > BENCH_SAMPLES_MAX)
        samples = BENCH_SAMPLES_MAX;
    for (int i = 0; i < samples; i++) {
        for (int k = BARE; k <= UCX; k++) {
            if (ends[k].socket < 0)
                continue;
            values[k][i] = run(&ends[k]);
            ratios[k][i] = values[k][i] / values[BARE][i];
        }
    }
    for (int k = BARE; k <= UCX; k++) {
        if (ends[k].socket < 0)
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
    end_t ends[4];
    pid_t pids[4];
    for (int k = BARE; k <= UCX; k++) {
        bool here = (k != TLS || orion_libssl(NULL, 0) != NULL) && (k != UCX || orion_libucp(NULL, 0) != NULL);
        ends[k] = here ? start((kind_t)k, &pids[k]) : (end_t){.socket = -1};
    }
    bench_begin("stream");
    static const uint32_t sizes[] = {64, 4096};
    for (size_t i = 0; i < 2; i++) {
        char what[32];
        for (int k = BARE; k <= UCX; k++)
            ends[k].bytes = sizes[i];
        snprintf(what, sizeof(what), "ping_%u", sizes[i]);
        compare(what, "ns", run_ping, ends);
    }
    compare("bulk_1024_kib", "GB/s", run_bulk, ends);
    bench_end();
    for (int k = BARE; k <= UCX; k++) {
        if (ends[k].socket < 0)
            continue;
        (void)kill(pids[k], SIGTERM);
        (void)waitpid(pids[k], NULL, 0);
    }
    return 0;
}
