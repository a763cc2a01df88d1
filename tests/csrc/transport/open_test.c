/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a link: what goes wrong is said in one sentence that names the address. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../check.h"
#include "base/fd.h"
#include "echo_worker.h"
#include "transport/link.h"
#include "transport/shm.h"

static char why[400];

static orion_status_t try_open(const char *address, uint32_t wanted)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_link_t *link = NULL;
    orion_hello_init(&hello);
    hello.transport = wanted;
    why[0] = '\0';
    orion_status_t status = orion_link_open(address, &hello, &welcome, &link, why, sizeof(why));
    if (status == ORION_OK)
        orion_link_close(link);
    return status;
}

static void a_server_that_is_not_there_is_named(void)
{
    CHECK_EQUAL(try_open("unix:/nonexistent/orion.sock", 0), ORION_SYSTEM);
    CHECK(strstr(why, "/nonexistent/orion.sock") != NULL);
    CHECK_EQUAL(try_open("127.0.0.1:1", ORION_TRANSPORT_DEVSHM), ORION_SYSTEM);
    CHECK(strstr(why, "127.0.0.1:1") != NULL);
}

static void tcp_needs_an_address_of_its_own(void)
{
    CHECK_EQUAL(try_open("127.0.0.1:1", ORION_TRANSPORT_TCP), ORION_SYSTEM);
    CHECK(strstr(why, "127.0.0.1:1") != NULL);
    CHECK_EQUAL(try_open("unix:/nonexistent/orion.sock", ORION_TRANSPORT_TCP), ORION_INVALID);
    CHECK(strstr(why, "HOST:PORT") != NULL);
}

static void addresses_that_are_none_are_refused(void)
{
    static const char *const bad[] = {"", "unix:", "nonsense", ":7", "host:", "[::1:"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(try_open(bad[i], ORION_TRANSPORT_DEVSHM) != ORION_OK);
        CHECK(strlen(why) > 10);
    }
    char path[300];
    memset(path, 'a', sizeof(path));
    memcpy(path, "unix:/", 6);
    path[299] = '\0';
    CHECK_EQUAL(try_open(path, 0), ORION_SYSTEM);
}

static void a_library_that_is_no_worker_is_named(void)
{
    CHECK_EQUAL(try_open("local:/nonexistent/libworker.so", 0), ORION_SYSTEM);
    CHECK(strstr(why, "/nonexistent/libworker.so") != NULL);
    CHECK_EQUAL(try_open("local:libm.so.6", 0), ORION_SYSTEM);
    CHECK(strstr(why, "orion_twin_start") != NULL);
    CHECK_EQUAL(try_open("local:", 0), ORION_INVALID);
}

/* The server's half of a socket pair, answering a hello with the given bytes. */
typedef struct script {
    int socket;
    const void *answer;
    size_t bytes;
} script_t;

static void *play(void *arg)
{
    script_t *s = arg;
    char hello[sizeof(orion_hello_t)];
    if (orion_fd_receive(s->socket, hello, sizeof(hello), NULL, 0, check_now_ns() + 5000000000LL) == ORION_OK) {
        (void)orion_fd_send(s->socket, s->answer, s->bytes, NULL, 0);
    }
    orion_fd_close(s->socket);
    return NULL;
}

static orion_status_t open_against(const void *answer, size_t bytes, orion_welcome_t *welcome_p)
{
    int pair[2];
    pthread_t thread;
    orion_hello_t hello;
    orion_link_t *link = NULL;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    script_t s = {pair[1], answer, bytes};
    MUST(pthread_create(&thread, NULL, play, &s) == 0);
    orion_hello_init(&hello);
    why[0] = '\0';
    orion_status_t status = orion_shm_open_socket(pair[0], "the test", &hello, welcome_p, &link, why, sizeof(why));
    MUST(pthread_join(thread, NULL) == 0);
    MUST(status != ORION_OK);
    return status;
}

static void a_bad_welcome_is_refused(void)
{
    orion_welcome_t w, got;
    orion_welcome_init(&w);
    CHECK_EQUAL(open_against(&w, 0, &got), ORION_PEER_GONE);
    CHECK_EQUAL(open_against(&w, 16, &got), ORION_PEER_GONE);
    CHECK_EQUAL(open_against(&w, sizeof(w) - 1, &got), ORION_PEER_GONE);
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_PROTOCOL);
    w.epoch = 1;
    w.slots = 128;
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_PROTOCOL); /* no segments */
    w.slots = 129;
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_PROTOCOL);
    w.slots = 128;
    w.range_base = 0x123000; /* a range that nobody proposed */
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_PROTOCOL);
    w.range_base = 0;
    strcpy(w.command_name, "../../etc/passwd");
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_PROTOCOL);
    w.version = 9;
    w.bytes = 4000;
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_VERSION);
    w.magic = 0;
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_PROTOCOL);
}

typedef struct slow_server {
    int socket;
    int notices;
} slow_server_t;

/* Asks to wait, as often as told, each time longer than the client would wait without; then refuses. */
static void *play_slowly(void *arg)
{
    slow_server_t *s = arg;
    char hello[sizeof(orion_hello_t)];
    orion_welcome_t w;
    MUST(orion_fd_receive(s->socket, hello, sizeof(hello), NULL, 0, check_now_ns() + 5000000000LL) == ORION_OK);
    for (int i = 0; i < s->notices; i++) {
        orion_notice_t n;
        orion_notice_init(&n, ORION_NOTICE_WAIT);
        (void)orion_fd_send(s->socket, &n, sizeof(n), NULL, 0);
        (void)usleep(2000000);
    }
    orion_welcome_init(&w);
    w.status = ORION_REFUSED;
    strcpy(w.message, "after all: no");
    if (s->notices > 0)
        (void)orion_fd_send(s->socket, &w, sizeof(w), NULL, 0);
    if (s->notices == 0)
        (void)usleep(6000000);
    orion_fd_close(s->socket);
    return NULL;
}

static orion_status_t open_slowly(int notices)
{
    int pair[2];
    pthread_t thread;
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_link_t *link = NULL;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    slow_server_t s = {pair[1], notices};
    MUST(pthread_create(&thread, NULL, play_slowly, &s) == 0);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    orion_status_t status = orion_shm_open_socket(pair[0], "the test", &hello, &welcome, &link, why, sizeof(why));
    MUST(pthread_join(thread, NULL) == 0);
    return status;
}

static void a_server_that_asks_to_wait_is_waited_for(void)
{
    CHECK_EQUAL(open_slowly(3), ORION_REFUSED);
    CHECK(strstr(why, "after all") != NULL);
}

static void a_listener_that_says_nothing_is_given_up(void)
{
    int64_t start = check_now_ns();
    CHECK_EQUAL(open_slowly(0), ORION_TIMEOUT);
    CHECK(check_now_ns() - start >= ORION_HELLO_SILENCE_NS);
    CHECK(strstr(why, "the test") != NULL);
}

static void a_refusal_brings_its_reason(void)
{
    orion_welcome_t w, got = {0};
    orion_welcome_init(&w);
    w.status = ORION_REFUSED;
    w.cuda_result = 100;
    strcpy(w.message, "no vGPU is free");
    CHECK_EQUAL(open_against(&w, sizeof(w), &got), ORION_REFUSED);
    CHECK_EQUAL(got.cuda_result, 100);
    CHECK(strstr(why, "no vGPU is free") != NULL);
}

static void nothing_is_left_reserved_after_a_failure(void)
{
    orion_welcome_t w, got;
    orion_welcome_init(&w);
    char maps[64];
    (void)open_against(&w, sizeof(w), &got);
    FILE *f = fopen("/proc/self/maps", "r");
    MUST(f != NULL);
    int found = 0;
    char line[512];
    snprintf(maps, sizeof(maps), "100000000000-");
    while (fgets(line, sizeof(line), f) != NULL)
        found |= strncmp(line, maps, strlen(maps)) == 0;
    (void)fclose(f);
    CHECK_EQUAL(found, 0);
}

static void faults_in_the_environment_must_be_readable(void)
{
    MUST(setenv("ORION_FAULTS", "drop=much", 1) == 0);
    CHECK_EQUAL(try_open("unix:/nonexistent", 0), ORION_INVALID);
    CHECK(strstr(why, "ORION_FAULTS") != NULL);
    (void)unsetenv("ORION_FAULTS");
}

CHECK_MAIN(CASE(a_server_that_is_not_there_is_named), CASE(tcp_needs_an_address_of_its_own),
           CASE(addresses_that_are_none_are_refused), CASE(a_library_that_is_no_worker_is_named),
           CASE(a_bad_welcome_is_refused), CASE(a_refusal_brings_its_reason),
           CASE(a_server_that_asks_to_wait_is_waited_for), CASE(a_listener_that_says_nothing_is_given_up),
           CASE(nothing_is_left_reserved_after_a_failure), CASE(faults_in_the_environment_must_be_readable))
