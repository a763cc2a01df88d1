/* SPDX-License-Identifier: Apache-2.0 */
/* Bulk data through the staging chunks to a worker process that copies it out (two copies, pipelined), both ways,
 * against memcpy of the same size in the same run. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "sample.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/port.h"
#include "transport/shm.h"

enum { OP_IN = 1, OP_OUT = 2, OP_SYNC = 3 };

#define LARGEST (64u << 20)

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
    uint8_t *heap = malloc(LARGEST);
    memset(heap, 1, LARGEST);
    for (;;) {
        const orion_record_t *record;
        uint32_t words[4];
        if (orion_port_next(port, -1, &record) != ORION_OK)
            _exit(0);
        memcpy(words, orion_record_payload_const(record), sizeof(words)); /* stage, sequence, offset, bytes */
        if (record->opcode == OP_SYNC) {
            orion_port_reply(port, 0, record->sequence, 0, 0, NULL, 0);
            continue;
        }
        uint8_t *chunk = orion_port_stage(port, words[0]), *at = heap + words[2];
        if (record->opcode == OP_IN) {
            memcpy(at, chunk, words[3]);
        } else {
            memcpy(chunk, at, words[3]);
        }
        orion_port_stage_done(port, words[0], words[1]);
    }
}

typedef struct mover {
    orion_link_t *link;
    uint8_t *host, *other;
    uint32_t bytes, sequence;
} mover_t;

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

static int rounds(const mover_t *m)
{
    return m->bytes >= 1u << 24 ? 3 : m->bytes >= 1u << 20 ? 20 : 200;
}

static double run_in(void *arg)
{
    static double rates[200];
    mover_t *m = arg;
    for (int i = 0; i < rounds(m); i++) {
        int64_t start = bench_now_ns();
        for (uint32_t at = 0; at < m->bytes; at += ORION_STAGE_BYTES) {
            orion_stage_t stage;
            uint32_t n = least(m->bytes - at, ORION_STAGE_BYTES);
            must(orion_link_stage_claim(m->link, &stage));
            memcpy(stage.data, m->host + at, n);
            post(m, OP_IN, &stage, at, n);
        }
        const orion_reply_t *reply;
        post(m, OP_SYNC, NULL, 0, 0);
        must(orion_link_await(m->link, 0, m->sequence, &reply));
        rates[i] = rate(start, m->bytes);
    }
    return bench_median(rates, rounds(m));
}

static double run_out(void *arg)
{
    static double rates[200];
    mover_t *m = arg;
    for (int i = 0; i < rounds(m); i++) {
        orion_stage_t stages[ORION_STAGE_COUNT];
        uint32_t ahead = 0, at = 0;
        int64_t start = bench_now_ns();
        for (uint32_t done = 0, index = 0; done < m->bytes; index++) {
            for (; ahead < m->bytes && ahead - done < 8 * ORION_STAGE_BYTES;
                 ahead += ORION_STAGE_BYTES) { /* 2 MiB in flight */
                orion_stage_t *stage = &stages[at++ % ORION_STAGE_COUNT];
                must(orion_link_stage_claim(m->link, stage));
                post(m, OP_OUT, stage, ahead, least(m->bytes - ahead, ORION_STAGE_BYTES));
            }
            const orion_stage_t *stage = &stages[index % ORION_STAGE_COUNT];
            uint32_t n = least(m->bytes - done, ORION_STAGE_BYTES);
            must(orion_link_stage_await(m->link, stage));
            memcpy(m->host + done, stage->data, n);
            done += n;
        }
        rates[i] = rate(start, m->bytes);
    }
    return bench_median(rates, rounds(m));
}

static double run_memcpy(void *arg)
{
    static double rates[200];
    mover_t *m = arg;
    for (int i = 0; i < rounds(m); i++) {
        int64_t start = bench_now_ns();
        memcpy(m->other, m->host, m->bytes);
        __asm__ volatile("" : : "r"(m->other) : "memory");
        rates[i] = rate(start, m->bytes);
    }
    return bench_median(rates, rounds(m));
}

int main(void)
{
    int pair[2], samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15);
    orion_hello_t hello;
    orion_welcome_t welcome;
    mover_t m = {0};
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
        bench_result_t copy = bench_sample(run_memcpy, &m, samples), in = bench_sample(run_in, &m, samples),
                       out = bench_sample(run_out, &m, samples);
        snprintf(name, sizeof(name), "memcpy_%u_kib", sizes[i] >> 10);
        bench_figure(name, "GB/s", &copy);
        snprintf(name, sizeof(name), "staging_in_%u_kib", sizes[i] >> 10);
        bench_figure(name, "GB/s", &in);
        snprintf(name, sizeof(name), "staging_in_%u_kib_of_memcpy", sizes[i] >> 10);
        bench_number(name, "ratio", copy.median > 0 ? in.median / copy.median : 0);
        snprintf(name, sizeof(name), "staging_out_%u_kib", sizes[i] >> 10);
        bench_figure(name, "GB/s", &out);
        snprintf(name, sizeof(name), "staging_out_%u_kib_of_memcpy", sizes[i] >> 10);
        bench_number(name, "ratio", copy.median > 0 ? out.median / copy.median : 0);
    }
    bench_end();
    bench_floor_close();
    orion_link_close(m.link);
    (void)waitpid(worker, NULL, 0);
    free(m.host);
    free(m.other);
    return 0;
}
