/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk data through the staging chunks to a worker process that copies it out (two copies, pipelined), both ways,
 * against memcpy of the same size in the same run. And a profile of it: of the time of a whole copy, what part each side
 * is copying, and what part the client waits. The rest of the client's time is in making and sending records. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/fd.h"
#include "sample.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/port.h"
#include "transport/shm.h"

enum { OP_IN = 1, OP_OUT = 2, OP_SYNC = 3 };

#define LARGEST (64u << 20)
#define IN_FLIGHT 8 /* chunks, as client/bulk.c asks for them */

static void serve(int socket)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_port_t *port;
    char bytes[sizeof(hello)], why[256];
    (void)bench_pin(1);
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
    orion_copier_t copier = {0};
    uint8_t *heap = malloc(LARGEST);
    memset(heap, 1, LARGEST);
    for (int64_t copied = 0;;) { /* ns of copying since the last sync, which takes it along */
        const orion_record_t *record;
        uint32_t words[4];
        if (orion_port_next(port, -1, &record) != ORION_OK)
            _exit(0);
        memcpy(words, orion_record_payload_const(record), sizeof(words)); /* stage, sequence, offset, bytes */
        if (record->opcode == OP_SYNC) {
            orion_port_reply(port, 0, record->sequence, 0, 0, &copied, sizeof(copied));
            copied = 0;
            continue;
        }
        uint8_t *chunk = orion_port_stage(port, words[0]), *at = heap + words[2];
        int64_t began = bench_now_ns();
        if (record->opcode == OP_IN) {
            orion_copy_from_peer(at, chunk, words[3]);
        } else {
            orion_copy_to_peer(&copier, chunk, at, words[3]);
        }
        copied += bench_now_ns() - began;
        orion_port_stage_done(port, words[0], words[1]);
    }
}

enum { CLIENT_COPIES, WORKER_COPIES, CLIENT_WAITS, PHASES };
#define ROUNDS_MAX 200

typedef struct mover {
    orion_link_t *link;
    uint8_t *host, *other;
    uint32_t bytes, sequence;
    double phases[PHASES][BENCH_SAMPLES_MAX]; /* parts of a copy's time: the median of each sample */
    int samples;
} mover_t;

/* Of the rounds of one sample. */
typedef struct profile {
    double rates[ROUNDS_MAX], parts[PHASES][ROUNDS_MAX];
    int64_t began, spent[PHASES];
    int rounds;
} profile_t;

static void must(orion_status_t status)
{
    if (status == ORION_OK)
        return;
    fprintf(stderr, "bulk: %s\n", orion_status_name(status));
    exit(1);
}

static void post(mover_t *m, uint16_t opcode, const orion_stage_t *stage, uint32_t offset, uint32_t bytes)
{
    orion_record_t *record;
    uint32_t words[4] = {stage != NULL ? stage->index : 0, stage != NULL ? stage->sequence : 0, offset, bytes};
    must(orion_link_claim(m->link, ORION_RECORD_HEADER + sizeof(words), &record));
    record->opcode = opcode;
    record->slot = opcode == OP_SYNC ? 0 : ORION_SLOT_NONE;
    record->sequence = ++m->sequence;
    memcpy(orion_record_payload(record), words, sizeof(words));
    orion_link_commit(m->link);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static double rate(int64_t start, uint32_t bytes)
{
    return (double)bytes / (double)(bench_now_ns() - start);
}

/* Waits until the worker has done all that was sent; returns how long it copied. */
static int64_t sync_up(mover_t *m)
{
    const orion_reply_t *reply;
    int64_t copied;
    post(m, OP_SYNC, NULL, 0, 0);
    must(orion_link_await(m->link, 0, m->sequence, &reply));
    memcpy(&copied, reply->data, sizeof(copied));
    return copied;
}

static void round_begins(profile_t *p)
{
    memset(p->spent, 0, sizeof(p->spent));
    p->began = bench_now_ns();
}

/* The time since `mark` belongs to the phase; returns now. */
static int64_t spend(profile_t *p, int phase, int64_t mark)
{
    int64_t now = bench_now_ns();
    p->spent[phase] += now - mark;
    return now;
}

static void round_ends(profile_t *p, int64_t ended, uint32_t bytes)
{
    double took = (double)(ended - p->began);
    for (int phase = 0; phase < PHASES; phase++)
        p->parts[phase][p->rounds] = (double)p->spent[phase] / took;
    p->rates[p->rounds++] = (double)bytes / took;
}

static double sample_ends(profile_t *p, mover_t *m)
{
    for (int phase = 0; phase < PHASES; phase++)
        m->phases[phase][m->samples % BENCH_SAMPLES_MAX] = bench_median(p->parts[phase], p->rounds);
    m->samples++;
    return bench_median(p->rates, p->rounds);
}

static int rounds(const mover_t *m)
{
    return m->bytes >= 1u << 24 ? 3 : m->bytes >= 1u << 20 ? 20 : 200;
}

static double run_in(void *arg)
{
    static profile_t p;
    mover_t *m = arg;
    p.rounds = 0;
    for (int i = 0; i < rounds(m); i++) {
        round_begins(&p);
        for (uint32_t at = 0, n; at < m->bytes; at += n) {
            orion_stage_t stage;
            int64_t mark = bench_now_ns();
            must(orion_link_stage_claim(m->link, &stage));
            mark = spend(&p, CLIENT_WAITS, mark);
            n = least(m->bytes - at, (uint32_t)orion_stage_part(&stage, m->bytes));
            must(orion_link_stage_send(m->link, &stage, m->host + at, n));
            (void)spend(&p, CLIENT_COPIES, mark);
            post(m, OP_IN, &stage, at, n);
        }
        int64_t mark = bench_now_ns();
        p.spent[WORKER_COPIES] = sync_up(m);
        round_ends(&p, spend(&p, CLIENT_WAITS, mark), m->bytes);
    }
    return sample_ends(&p, m);
}

static double run_out(void *arg)
{
    static profile_t p;
    mover_t *m = arg;
    p.rounds = 0;
    for (int i = 0; i < rounds(m); i++) {
        orion_stage_t stages[IN_FLIGHT];
        round_begins(&p);
        int64_t mark = p.began;
        for (uint32_t done = 0, ahead = 0, got = 0, asked = 0, n; done < m->bytes; got++) {
            for (; ahead < m->bytes && asked - got < IN_FLIGHT; asked++, ahead += n) {
                orion_stage_t *stage = &stages[asked % IN_FLIGHT];
                must(orion_link_stage_claim(m->link, stage));
                n = least(m->bytes - ahead, (uint32_t)orion_stage_part(stage, m->bytes));
                post(m, OP_OUT, stage, ahead, n);
            }
            const orion_stage_t *stage = &stages[got % IN_FLIGHT];
            n = least(m->bytes - done, (uint32_t)orion_stage_part(stage, m->bytes));
            mark = bench_now_ns();
            must(orion_link_stage_await(m->link, stage));
            mark = spend(&p, CLIENT_WAITS, mark);
            must(orion_link_stage_collect(m->link, stage, m->host + done, n));
            mark = spend(&p, CLIENT_COPIES, mark);
            done += n;
        }
        p.spent[WORKER_COPIES] = sync_up(m);
        round_ends(&p, mark, m->bytes);
    }
    return sample_ends(&p, m);
}

static double run_memcpy(void *arg)
{
    static double rates[ROUNDS_MAX];
    mover_t *m = arg;
    for (int i = 0; i < rounds(m); i++) {
        int64_t start = bench_now_ns();
        memcpy(m->other, m->host, m->bytes);
        __asm__ volatile("" : : "r"(m->other) : "memory");
        rates[i] = rate(start, m->bytes);
    }
    return bench_median(rates, rounds(m));
}

static void measure(mover_t *m, const char *way, bench_run_t run, const bench_result_t *copy, int samples)
{
    static const char *const phases[PHASES] = {"client_copies", "worker_copies", "client_waits"};
    char name[64];
    m->samples = 0;
    bench_result_t r = bench_sample(run, m, samples);
    snprintf(name, sizeof(name), "staging_%s_%u_kib", way, m->bytes >> 10);
    bench_figure(name, "GB/s", &r);
    snprintf(name, sizeof(name), "staging_%s_%u_kib_of_memcpy", way, m->bytes >> 10);
    bench_number(name, "ratio", copy->median > 0 ? r.median / copy->median : 0);
    for (int phase = 0; phase < PHASES; phase++) {
        snprintf(name, sizeof(name), "staging_%s_%u_kib_%s", way, m->bytes >> 10, phases[phase]);
        bench_number(name, "of the time",
                     bench_median(m->phases[phase], least((uint32_t)m->samples, BENCH_SAMPLES_MAX)));
    }
}

int main(void)
{
    int pair[2], samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    orion_hello_t hello;
    orion_welcome_t welcome;
    static mover_t m;
    char why[256], name[64];
    (void)bench_pin(0);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return 1;
    pid_t worker = fork();
    if (worker == 0) {
        (void)close(pair[0]);
        serve(pair[1]);
    }
    (void)close(pair[1]);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    must(orion_shm_open_socket(pair[0], "benchmark", &hello, &welcome, &m.link, why, sizeof(why)));
    m.host = malloc(LARGEST);
    m.other = malloc(LARGEST);
    if (m.host == NULL || m.other == NULL)
        return 1;
    memset(m.host, 1, LARGEST);
    memset(m.other, 1, LARGEST);
    bench_floor_open();
    bench_begin("bulk");
    static const uint32_t sizes[] = {64u << 10, 1u << 20, LARGEST};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        m.bytes = sizes[i];
        bench_result_t copy = bench_sample(run_memcpy, &m, samples);
        snprintf(name, sizeof(name), "memcpy_%u_kib", sizes[i] >> 10);
        bench_figure(name, "GB/s", &copy);
        measure(&m, "in", run_in, &copy, samples);
        measure(&m, "out", run_out, &copy, samples);
    }
    bench_end();
    bench_floor_close();
    orion_link_close(m.link);
    (void)waitpid(worker, NULL, 0);
    free(m.host);
    free(m.other);
    return 0;
}
