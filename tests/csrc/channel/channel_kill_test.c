/* SPDX-License-Identifier: Apache-2.0 */
/* SIGKILL at random instants, to either side: the other side gets an error within 100 ms, each time, and nothing is left
 * behind. So, too, when whoever listens is killed while others connect. ORION_KILLS: how often each, default 100. */
#define _GNU_SOURCE
#include <sys/socket.h>

#include "../check.h"
#include "../kills.h"
#include "orion/channel.h"

#define LARGE (300u * 1024u)

static const orion_channel_options_t options = {.arena_limit = 2u << 20, .token = ""};

static orion_channel_t *open_end(int socket)
{
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

/* The channel has ended by the death of the other side, and says so. */
static bool says_why(orion_channel_t *channel)
{
    bool clean = true;
    return strlen(orion_channel_why(channel, &clean)) > 10 && !clean;
}

/* The victim in a process of its own, the survivor in this one, so that its descriptors can be counted. */
static void kills(role_t victim_does, role_t survivor_does, bool with_heir, const char *who)
{
    static kills_t k;
    uint64_t random = check_number("ORION_SEED", 77) | 1;
    kills_begin(&k, 100);
    for (int i = 0; i < k.wanted; i++) {
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
        kills_soon(&k, victim, getpid(), 500 + check_random(&random) % 20000);
        orion_channel_t *channel = open_end(sockets[0]);
        orion_status_t status = ORION_PEER_GONE;
        if (channel != NULL) {
            CHECK_EQUAL(count_segments() >= 2, true);
            status = survivor_does(channel);
        }
        CHECK(kills_noticed(&k));
        CHECK_EQUAL(status, ORION_PEER_GONE);
        CHECK(channel == NULL || says_why(channel));
        orion_channel_free(channel);
        MUST(waitpid(victim, NULL, 0) == victim);
    }
    CHECK(kills_end(&k, who));
    CHECK_EQUAL(count_segments(), 0);
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

/* ---- listeners ---- */

/* Listens, says where, and serves one after the other. */
static void listen_and_serve(const char *address, int tell)
{
    orion_listener_t *listener = NULL;
    char why[256];
    if (orion_listener_open(address, &options, &listener, why, sizeof(why)) != ORION_OK) {
        fprintf(stderr, "%s\n", why);
        _exit(1);
    }
    char where[200] = "";
    (void)snprintf(where, sizeof(where), "%s", orion_listener_address(listener));
    MUST(write(tell, where, sizeof(where)) == sizeof(where));
    (void)close(tell);
    for (;;) {
        orion_channel_t *channel;
        if (orion_listener_accept(listener, -1, &channel, why, sizeof(why)) == ORION_OK) {
            (void)serve(channel);
            orion_channel_free(channel);
        }
    }
}

/* Connects, calls a few times, goes, and connects again; until something fails. */
static orion_status_t connect_often(const char *address, uint64_t seed)
{
    static orion_message_t reply;
    for (;;) {
        orion_channel_t *channel;
        char why[256] = "";
        orion_status_t status = orion_channel_connect(address, &options, WATCHDOG_NS, &channel, why, sizeof(why));
        if (status != ORION_OK) {
            MUST(strlen(why) > 10);
            return status;
        }
        for (uint64_t i = check_random(&seed) % 4; i > 0 && status == ORION_OK; i--) {
            status = orion_channel_call(channel, 2, "call", 4, NULL, -1, &reply);
            if (status == ORION_OK)
                orion_message_release(&reply);
        }
        if (status != ORION_OK)
            MUST(says_why(channel));
        orion_channel_free(channel);
        if (status != ORION_OK)
            return status;
    }
}

static orion_status_t connect_once(const char *address, uint64_t seed)
{
    orion_channel_t *channel;
    char why[256] = "";
    orion_status_t status = orion_channel_connect(address, &options, WATCHDOG_NS, &channel, why, sizeof(why));
    if (status != ORION_OK)
        return status;
    status = work(channel, seed);
    MUST(says_why(channel));
    orion_channel_free(channel);
    return status;
}

/* Each listener is at the address of the one that was killed before it. */
static void listener_kills(const char *address, orion_status_t (*survivor_does)(const char *, uint64_t),
                           const char *who)
{
    static kills_t k;
    uint64_t random = check_number("ORION_SEED", 79) | 1;
    kills_begin(&k, 100);
    for (int i = 0; i < k.wanted; i++) {
        int tell[2];
        char where[200] = "";
        MUST(pipe(tell) == 0);
        pid_t victim = fork();
        MUST(victim >= 0);
        if (victim == 0)
            listen_and_serve(address, tell[1]);
        (void)close(tell[1]);
        MUST(read(tell[0], where, sizeof(where)) == sizeof(where));
        (void)close(tell[0]);
        kills_soon(&k, victim, getpid(), 100 + check_random(&random) % 20000);
        orion_status_t status = survivor_does(where, check_random(&random));
        CHECK(kills_noticed(&k));
        if (status != ORION_PEER_GONE && status != ORION_REFUSED)
            fprintf(stderr, "kill %d: status %d\n", i, (int)status);
        CHECK(status == ORION_PEER_GONE || status == ORION_REFUSED);
        MUST(waitpid(victim, NULL, 0) == victim);
    }
    CHECK(kills_end(&k, who));
    CHECK_EQUAL(count_segments(), 0);
}

static void a_killed_listener_is_an_error_for_who_connects_by_name(void)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "orion-kill-test-%d", (int)getpid());
    listener_kills(name, connect_often, "who connects by name");
}

static void a_killed_listener_is_an_error_for_who_connects_by_path(void)
{
    char folder[] = "/tmp/orion-kill-test-XXXXXX", path[64];
    MUST(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof(path), "%s/socket", folder);
    listener_kills(path, connect_often, "who connects by path");
    (void)unlink(path); /* of the last one, whom nobody followed */
    CHECK_EQUAL(rmdir(folder), 0);
}

static void a_killed_listener_is_an_error_for_who_connects_over_tcp(void)
{
    listener_kills("tcp://127.0.0.1:0", connect_often, "who connects over tcp");
}

static void a_killed_server_is_an_error_for_its_caller_over_tcp(void)
{
    listener_kills("tcp://127.0.0.1:0", connect_once, "the caller over tcp");
}

CHECK_MAIN(CASE(a_killed_server_is_an_error_for_its_caller), CASE(a_killed_caller_is_an_end_for_its_server),
           CASE(a_child_of_the_killed_process_keeps_nothing_alive),
           CASE(a_killed_listener_is_an_error_for_who_connects_by_name),
           CASE(a_killed_listener_is_an_error_for_who_connects_by_path),
           CASE(a_killed_listener_is_an_error_for_who_connects_over_tcp),
           CASE(a_killed_server_is_an_error_for_its_caller_over_tcp))
