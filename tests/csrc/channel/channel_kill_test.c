/* SPDX-License-Identifier: Apache-2.0 */
/* SIGKILL at random instants, to either side: the other side gets an error within 100 ms and nothing is left behind.
 * ORION_KILLS: how often each, default 100. The promise is measured at the median, and every single one has ten seconds:
 * the machine may be busy. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../check.h"
#include "../process.h"
#include "orion/channel.h"

#define PROMISE_NS 100000000LL
#define WATCHDOG_NS 10000000000LL
#define KILLS_MAX 100000
#define LARGE (300u * 1024u)

static orion_channel_t *open_end(int socket)
{
    orion_channel_options_t options = {.arena_limit = 2u << 20};
    orion_channel_t *channel = NULL;
    char why[256];
    /* killed before it said hello: fine, if that is said in time */
    return orion_channel_open_socket(socket, &options, WATCHDOG_NS, &channel, why, sizeof(why)) == ORION_OK ? channel
                                                                                                            : NULL;
}

/* Answers calls and takes messages until something fails. */
static orion_status_t serve(orion_channel_t *channel)
{
    static orion_message_t m;
    static uint8_t to[12 * LARGE];
    for (uint32_t i = 0;; i++) {
        orion_status_t status = i % 2 == 0 ? orion_channel_receive(channel, -1, &m)
                                           : orion_channel_receive_into(channel, -1, to, sizeof(to), &m);
        if (status == ORION_OK && m.kind == ORION_MESSAGE_CALL)
            status = orion_channel_reply(channel, &m, ORION_MESSAGE_REPLY, m.tag, m.data, m.bytes, NULL, -1);
        if (status != ORION_OK)
            return status;
        orion_message_release(&m);
    }
}

/* A mixed load: calls and messages, short, long and in pieces; until something fails. */
static orion_status_t work(orion_channel_t *channel, uint64_t seed)
{
    static uint8_t data[12 * LARGE];
    static orion_message_t reply;
    for (;;) {
        uint64_t r = check_random(&seed);
        size_t bytes = (r >> 8) % 4 == 0 ? (r >> 16) % LARGE : (r >> 16) % 500;
        orion_status_t status;
        switch (r % 4) {
        case 0:
            status = orion_channel_send(channel, 1, data, bytes, NULL, -1);
            break;
        case 1:
            status = orion_channel_send(channel, 1, data, (r >> 40) % 32 == 0 ? sizeof(data) : 8, NULL, -1);
            break;
        default:
            status = orion_channel_call(channel, 2, data, bytes, NULL, -1, &reply);
            if (status == ORION_OK && reply.bytes != bytes)
                return ORION_INVALID;
            if (status == ORION_OK)
                orion_message_release(&reply);
        }
        if (status != ORION_OK)
            return status;
    }
}

/* Mapped segments and extents. There are no names: what nobody maps and no descriptor holds does not exist. */
static int count_segments(void)
{
    int n = 0;
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    MUST(f != NULL);
    while (fgets(line, sizeof(line), f) != NULL)
        n += strstr(line, "memfd:orion-") != NULL || strstr(line, "/dev/shm/") != NULL;
    (void)fclose(f);
    return n;
}

typedef orion_status_t (*role_t)(orion_channel_t *channel);

static orion_status_t work_on(orion_channel_t *channel)
{
    return work(channel, 4711);
}

/* The victim in a process of its own, the survivor in this one, so that its descriptors can be counted. */
static void kills(role_t victim_does, role_t survivor_does, bool with_heir, const char *who)
{
    static int64_t times[KILLS_MAX];
    uint64_t random = check_number("ORION_SEED", 77) | 1, wanted = check_number("ORION_KILLS", 100);
    int count = wanted > KILLS_MAX ? KILLS_MAX : (int)wanted;
    int descriptors = count_descriptors();
    int64_t *when = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(when != MAP_FAILED);
    for (int i = 0; i < count; i++) {
        int sockets[2];
        MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) == 0);
        pid_t victim = fork();
        MUST(victim >= 0);
        if (victim == 0) {
            (void)close(sockets[0]);
            orion_channel_t *channel = open_end(sockets[1]);
            if (channel == NULL)
                _exit(0);
            if (with_heir && fork() == 0) { /* a child of its own must not keep the channel alive */
                (void)usleep(300000);
                _exit(0);
            }
            (void)victim_does(channel);
            _exit(0);
        }
        (void)close(sockets[1]);
        pid_t killer = kill_later(victim, 500 + check_random(&random) % 20000, when);
        orion_channel_t *channel = open_end(sockets[0]);
        if (channel != NULL) {
            CHECK_EQUAL(count_segments() >= 2, true);
            CHECK_EQUAL(survivor_does(channel), ORION_PEER_GONE);
            int64_t now = check_now_ns();
            bool clean = true;
            CHECK(strlen(orion_channel_why(channel, &clean)) > 10);
            CHECK(!clean);
            orion_channel_free(channel);
            times[i] = now > *when ? now - *when : 0;
        }
        MUST(waitpid(killer, NULL, 0) == killer);
        MUST(waitpid(victim, NULL, 0) == victim);
    }
    CHECK_EQUAL(count_descriptors(), descriptors);
    CHECK_EQUAL(count_segments(), 0);
    (void)munmap(when, 4096);
    qsort(times, (size_t)count, sizeof(*times), ascending);
    printf("     %s noticed after %.1f ms (median), %.1f ms (worst of %d)\n", who, (double)times[count / 2] / 1e6,
           (double)times[count - 1] / 1e6, count);
    CHECK(times[count / 2] <= PROMISE_NS);
    CHECK(times[count - 1] <= WATCHDOG_NS);
}

static void a_killed_server_is_an_error_for_its_caller(void)
{
    kills(serve, work_on, false, "the caller");
}

static void a_killed_caller_is_an_end_for_its_server(void)
{
    kills(work_on, serve, false, "the server");
}

static void a_child_of_the_killed_process_keeps_nothing_alive(void)
{
    kills(work_on, serve, true, "the server of a process with a child");
}

CHECK_MAIN(CASE(a_killed_server_is_an_error_for_its_caller), CASE(a_killed_caller_is_an_end_for_its_server),
           CASE(a_child_of_the_killed_process_keeps_nothing_alive))
