/* SPDX-License-Identifier: Apache-2.0 */
/* Those who have connected and not said hello: none holds up another, and each has its time. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../check.h"
#include "base/fd.h"
#include "channel/channel.h"
#include "channel/lobby.h"
#include "channel_pair.h"

#define HELLO "hello yo"
#define SECOND 1000000000LL

typedef struct place {
    orion_lobby_t lobby;
    struct sockaddr_in address;
} place_t;

static void open_place(place_t *p)
{
    socklen_t bytes = sizeof(p->address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    p->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)&p->address, bytes) == 0 && listen(fd, 128) == 0);
    MUST(getsockname(fd, (struct sockaddr *)&p->address, &bytes) == 0);
    MUST(orion_lobby_open(&p->lobby, fd, strlen(HELLO)) == ORION_OK);
}

static void close_place(place_t *p)
{
    orion_lobby_close(&p->lobby);
    (void)close(p->lobby.listener);
}

/* Says so many letters of its hello. */
static int come(const place_t *p, size_t letters)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(fd >= 0 && connect(fd, (const struct sockaddr *)&p->address, sizeof(p->address)) == 0);
    MUST(send(fd, HELLO, letters, MSG_NOSIGNAL) == (ssize_t)letters);
    return fd;
}

static orion_status_t next(place_t *p, int64_t deadline, int *socket_p)
{
    orion_status_t status;
    do {
        status = orion_lobby_next(&p->lobby, deadline, socket_p);
    } while (status == ORION_AGAIN);
    return status;
}

static int said_hello(int fd)
{
    char text[sizeof(HELLO)] = "";
    return recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) == sizeof(text) - 1 && strcmp(text, HELLO) == 0;
}

static void one_that_says_hello_passes_so_many_who_do_not(int silent_ends)
{
    static int silent[200];
    place_t p;
    int served;
    open_place(&p);
    for (int i = 0; i < silent_ends; i++)
        silent[i] = come(&p, (size_t)i % strlen(HELLO)); /* some have begun */
    int fd = come(&p, strlen(HELLO));
    int64_t start = check_now_ns();
    CHECK_EQUAL(next(&p, start + 60 * SECOND, &served), ORION_OK);
    CHECK(said_hello(served));
    CHECK(check_now_ns() - start < 10 * SECOND); /* one after the other they would take a second each */
    for (int i = 0; i < silent_ends; i++)
        (void)close(silent[i]);
    (void)close(fd);
    (void)close(served);
    close_place(&p);
}

static void silent_ends_hold_up_nobody(void)
{
    one_that_says_hello_passes_so_many_who_do_not(30);
}

static void more_silent_ends_than_seats_hold_up_nobody(void)
{
    one_that_says_hello_passes_so_many_who_do_not(ORION_LOBBY_SEATS + 40);
}

static void silent_end_is_dismissed_in_time(void)
{
    place_t p;
    int served;
    char byte;
    open_place(&p);
    int fd = come(&p, 3);
    int64_t start = check_now_ns();
    CHECK_EQUAL(next(&p, start + 2 * ORION_LOBBY_NS, &served), ORION_TIMEOUT);
    CHECK(check_now_ns() - start >= 2 * ORION_LOBBY_NS);
    CHECK_EQUAL(recv(fd, &byte, 1, 0) > 0, 0); /* hung up: end of file, or reset for the letters that nobody read */
    CHECK_EQUAL(p.lobby.count, 0);
    (void)close(fd);
    close_place(&p);
}

static void nobody_there_is_a_timeout_at_once(void)
{
    place_t p;
    int served;
    open_place(&p);
    CHECK_EQUAL(orion_lobby_next(&p.lobby, check_now_ns(), &served), ORION_TIMEOUT);
    CHECK_EQUAL(orion_lobby_next(&p.lobby, 0, &served), ORION_TIMEOUT);
    close_place(&p);
}

static void who_is_on_the_way_in_gets_time_after_the_deadline(void)
{
    place_t p;
    int served = -1;
    open_place(&p);
    int fd = come(&p, 3);
    int64_t deadline = check_now_ns();
    CHECK_EQUAL(orion_lobby_next(&p.lobby, deadline, &served), ORION_AGAIN);
    CHECK_EQUAL(p.lobby.count, 1);
    MUST(send(fd, HELLO + 3, strlen(HELLO) - 3, MSG_NOSIGNAL) == (ssize_t)strlen(HELLO) - 3);
    CHECK_EQUAL(next(&p, deadline, &served), ORION_OK);
    CHECK(said_hello(served));
    (void)close(fd);
    (void)close(served);
    close_place(&p);
}

static void one_that_hangs_up_is_next_and_not_waited_for(void)
{
    place_t p;
    int served;
    open_place(&p);
    (void)close(come(&p, 0));
    CHECK_EQUAL(next(&p, -1, &served), ORION_OK);
    CHECK(!said_hello(served));
    (void)close(served);
    close_place(&p);
}

static void *find_nobody(void *arg)
{
    place_t *p = arg;
    int served;
    MUST(next(p, 0, &served) == ORION_TIMEOUT);
    return NULL;
}

/* All its threads come at once. */
static int find_nobody_in_a_child(place_t *p)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        MUST(pthread_create(&threads[i], NULL, find_nobody, p) == 0);
    for (int i = 0; i < 4; i++)
        MUST(pthread_join(threads[i], NULL) == 0);
    return p->lobby.count == 0 && p->lobby.owner == getpid() ? 0 : 1;
}

static void child_leaves_the_guests_to_its_parent(void)
{
    place_t p;
    int served = -1, status;
    open_place(&p);
    int fd = come(&p, 3);
    CHECK_EQUAL(orion_lobby_next(&p.lobby, -1, &served), ORION_AGAIN);
    CHECK_EQUAL(p.lobby.count, 1);
    pid_t child = fork();
    if (child == 0)
        _exit(find_nobody_in_a_child(&p));
    MUST(waitpid(child, &status, 0) == child);
    CHECK_EQUAL(status, 0);
    MUST(send(fd, HELLO + 3, strlen(HELLO) - 3, MSG_NOSIGNAL) == (ssize_t)strlen(HELLO) - 3);
    CHECK_EQUAL(next(&p, -1, &served), ORION_OK);
    CHECK(said_hello(served));
    (void)close(fd);
    (void)close(served);
    close_place(&p);
}

typedef struct server {
    place_t *place;
    int *served_p; /* how many by all servers; atomic */
    int ok;
} server_t;

static void *serve_one(void *arg)
{
    server_t *s = arg;
    int served;
    s->ok = next(s->place, check_now_ns() + 60 * SECOND, &served) == ORION_OK && said_hello(served);
    (void)close(served);
    (void)__atomic_add_fetch(s->served_p, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* The thread that goes away with the second one has let the first one in; the other thread has to hear of it. */
static void guest_of_one_thread_is_served_by_another(void)
{
    place_t p;
    int served = 0;
    pthread_t threads[2];
    server_t servers[2] = {{&p, &served, 0}, {&p, &served, 0}};
    open_place(&p);
    int first = come(&p, 3);
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&threads[i], NULL, serve_one, &servers[i]) == 0);
    int second = come(&p, strlen(HELLO));
    while (__atomic_load_n(&served, __ATOMIC_SEQ_CST) == 0)
        (void)usleep(100);
    (void)send(first, HELLO + 3, strlen(HELLO) - 3, MSG_NOSIGNAL);
    (void)close(come(&p, strlen(HELLO))); /* should the first one's time have been over on a very slow machine */
    for (int i = 0; i < 2; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
        CHECK(servers[i].ok);
    }
    (void)close(first);
    (void)close(second);
    close_place(&p);
}

static void listener_accepts_past_silent_ends(const char *address, int domain, int type)
{
    const orion_channel_options_t options = {.token = ""};
    pair_accepting_t a = {NULL, NULL};
    orion_channel_t *channel;
    pthread_t thread;
    char why[256] = "";
    int silent[20];
    pair_must(orion_listener_open(address, &options, &a.listener, why, sizeof(why)), why);
    struct sockaddr_storage at;
    socklen_t bytes = sizeof(at);
    MUST(getsockname(orion_listener_fd(a.listener), (struct sockaddr *)&at, &bytes) == 0);
    for (int i = 0; i < 20; i++) {
        silent[i] = socket(domain, type | SOCK_CLOEXEC, 0);
        MUST(silent[i] >= 0 && connect(silent[i], (struct sockaddr *)&at, bytes) == 0);
    }
    MUST(pthread_create(&thread, NULL, pair_accept, &a) == 0); /* gives up after 10 s */
    pair_must(
        orion_channel_connect(orion_listener_address(a.listener), &options, 10 * SECOND, &channel, why, sizeof(why)),
        why);
    MUST(pthread_join(thread, NULL) == 0);
    for (int i = 0; i < 20; i++)
        (void)close(silent[i]);
    orion_channel_free(channel);
    orion_channel_free(a.channel);
    orion_listener_free(a.listener);
}

static void listeners_accept_past_silent_ends(void)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "orion-lobby-test-%d", (int)getpid());
    listener_accepts_past_silent_ends(name, AF_UNIX, SOCK_SEQPACKET);
    listener_accepts_past_silent_ends("tcp://127.0.0.1:0", AF_INET, SOCK_STREAM);
}

CHECK_MAIN(CASE(silent_ends_hold_up_nobody), CASE(more_silent_ends_than_seats_hold_up_nobody),
           CASE(silent_end_is_dismissed_in_time), CASE(nobody_there_is_a_timeout_at_once),
           CASE(who_is_on_the_way_in_gets_time_after_the_deadline), CASE(one_that_hangs_up_is_next_and_not_waited_for),
           CASE(child_leaves_the_guests_to_its_parent), CASE(guest_of_one_thread_is_served_by_another),
           CASE(listeners_accept_past_silent_ends))
