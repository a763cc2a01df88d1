/* SPDX-License-Identifier: Apache-2.0 */
/* Long messages of a channel that their receiver reads in place: one copy, by the sender, into the arena; beside memcpy of
 * the same bytes in the same sample. And messages that have no room there and go in pieces. Everything else of a channel
 * is a row of peers/bench_peers.py. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "orion/channel.h"
#include "sample.h"

#define LARGEST (64u << 20)
#define BATCHES 25
#define BATCH_BYTES (10u << 20)

static void must(orion_status_t status, const char *what)
{
    if (status == ORION_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, orion_status_name(status));
    exit(1);
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

/* Has each message, gives it back, and answers calls: whoever is answered knows that all before has come. */
static void serve(int socket, uint64_t limit)
{
    static orion_message_t m;
    bench_hurry();
    (void)bench_pin(1);
    orion_channel_t *channel = open_end(socket, limit);
    while (orion_channel_receive(channel, -1, &m) == ORION_OK) {
        orion_message_release(&m);
        if (m.kind == ORION_MESSAGE_CALL)
            must(orion_channel_reply(channel, &m, ORION_MESSAGE_REPLY, 0, NULL, 0, NULL, -1), "reply");
    }
    _exit(0);
}

typedef struct sender {
    orion_channel_t *channel;
    orion_message_t reply;
    uint8_t *data, *other;
    size_t bytes;
} sender_t;

static double copy_rate(const sender_t *s, int times)
{
    int64_t start = bench_now_ns();
    for (int i = 0; i < times; i++) {
        memcpy(s->other, s->data, s->bytes);
        __asm__ volatile("" ::"r"(s->other) : "memory");
    }
    return (double)s->bytes * times / (double)(bench_now_ns() - start);
}

static double send_rate(sender_t *s, int times)
{
    int64_t start = bench_now_ns();
    for (int i = 0; i < times; i++)
        must(orion_channel_send(s->channel, 1, s->data, s->bytes, NULL, -1), "send");
    must(orion_channel_call(s->channel, 1, NULL, 0, NULL, -1, &s->reply), "call");
    orion_message_release(&s->reply);
    return (double)s->bytes * times / (double)(bench_now_ns() - start);
}

/* Bytes per ns; batches of the two take turns, so that both see the same minute. */
static double run_sends(void *arg)
{
    static double sends[BATCHES], copies[BATCHES];
    sender_t *s = arg;
    int times = (int)(BATCH_BYTES / s->bytes) + 1, batches = s->bytes < LARGEST ? BATCHES : 5;
    for (int batch = 0; batch < batches; batch++) {
        copies[batch] = copy_rate(s, times);
        sends[batch] = send_rate(s, times);
    }
    double rate = bench_median(sends, batches);
    bench_second(rate / bench_median(copies, batches));
    return rate;
}

static void measure(const char *what, size_t bytes, uint64_t limit, int samples)
{
    static sender_t s;
    int sockets[2];
    char name[64];
    if (s.data == NULL &&
        (posix_memalign((void **)&s.data, 4096, LARGEST) != 0 || posix_memalign((void **)&s.other, 4096, LARGEST) != 0))
        exit(1);
    memset(s.data, 1, LARGEST);
    memset(s.other, 1, LARGEST);
    s.bytes = bytes;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0)
        exit(1);
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(sockets[0]);
        serve(sockets[1], limit);
    }
    (void)close(sockets[1]);
    s.channel = open_end(sockets[0], limit);
    (void)run_sends(&s);
    bench_result_t r = bench_sample(run_sends, &s, samples);
    snprintf(name, sizeof(name), "%s_%zu_kib", what, bytes >> 10);
    bench_figures(name, "GB/s", "of_memcpy", &r);
    snprintf(name, sizeof(name), "%s_%zu_kib_of_memcpy", what, bytes >> 10);
    bench_number(name, "", r.second);
    orion_channel_free(s.channel);
    (void)waitpid(pid, NULL, 0);
}

int main(void)
{
    static const size_t sizes[] = {64 << 10, 1 << 20, LARGEST};
    int samples = (int)bench_setting("ORION_BENCH_SAMPLES", 15) / 3 + 1;
    bench_hurry();
    (void)bench_pin(0);
    bench_floor_open();
    bench_begin("arena");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        measure("one_copy", sizes[i], 0, samples);
    measure("pieces", LARGEST, 2u << 20, samples);
    bench_end();
    bench_floor_close();
    return 0;
}
