/* SPDX-License-Identifier: Apache-2.0 */
/* What every byte stream promises, between two threads of this process. `stream_test tcp|tls|ucx|ucx_shm` says which. */
#define _GNU_SOURCE
#include "../check.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "stream/libssl.h"
#include "stream/libucp.h"
#include "stream/socket.h"
#include "stream/tls.h"
#include "stream/ucx.h"

static const char *kind = "tcp";

#define MS 1000000LL
#define MUCH (8u << 20) /* more than any socket buffers */

typedef struct pair {
    orion_bytestream_t *here, *there;
} pair_t;

static void connect_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    char name[64], why[200] = "";
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0);
    MUST(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    snprintf(name, sizeof(name), "127.0.0.1:%u", ntohs(address.sin_port));
    pair[0] = orion_socket_connect(name, why, sizeof(why));
    MUST(pair[0] >= 0);
    pair[1] = accept(listener, NULL, NULL);
    MUST(pair[1] >= 0);
    (void)close(listener);
}

static void *begin(void *stream)
{
    char why[300] = "";
    orion_status_t status = (strcmp(kind, "tls") == 0 ? orion_tls_handshake : orion_ucx_meet)(stream, 10000 * MS, why,
                                                                                              sizeof(why));
    if (status != ORION_OK)
        fprintf(stderr, "%s\n", why);
    MUST(status == ORION_OK);
    return NULL;
}

static orion_bytestream_t *open_end(int socket, bool server)
{
    static const uint8_t key[32] = "a key of thirty-two bytes, ours";
    orion_bytestream_t *s = NULL;
    char why[300] = "";
    orion_status_t status = strcmp(kind, "tls") == 0
                                ? orion_bytestream_of_tls(socket, server, key, &s, why, sizeof(why))
                            : strcmp(kind, "tcp") == 0
                                ? orion_bytestream_of_socket(socket, &s)
                                : orion_bytestream_of_ucx(socket, server, key, &s, why, sizeof(why));
    if (status != ORION_OK)
        fprintf(stderr, "%s\n", why);
    MUST(status == ORION_OK);
    return s;
}

static pair_t open_pair(void)
{
    int sockets[2];
    pthread_t other;
    connect_pair(sockets);
    pair_t p = {open_end(sockets[0], false), open_end(sockets[1], true)};
    if (strcmp(kind, "tcp") != 0) {
        MUST(pthread_create(&other, NULL, begin, p.there) == 0);
        (void)begin(p.here);
        MUST(pthread_join(other, NULL) == 0);
    }
    return p;
}

static void close_pair(pair_t *p)
{
    orion_bytestream_close(p->here);
    orion_bytestream_close(p->there);
}

/* What byte number `at` of a stream is. */
static uint8_t byte_at(size_t at)
{
    return (uint8_t)((at * 2654435761u) >> 13);
}

static orion_status_t send_one(orion_bytestream_t *s, const void *data, size_t bytes, size_t *sent_p)
{
    struct iovec part = {(void *)(uintptr_t)data, bytes};
    return orion_bytestream_send(s, &part, 1, sent_p);
}

/* Until it is under way. */
static orion_status_t put(orion_bytestream_t *s, const void *data, size_t bytes)
{
    orion_status_t status = ORION_OK;
    for (size_t n = 0; bytes > 0 && (status == ORION_OK || status == ORION_AGAIN); n = 0) {
        status = send_one(s, data, bytes, &n);
        if (status == ORION_AGAIN)
            (void)orion_bytestream_wait(s, ORION_BYTESTREAM_WRITE, 20 * MS);
        data = (const uint8_t *)data + n;
        bytes -= n;
    }
    (void)orion_bytestream_settled(s);
    return status;
}

static orion_status_t receive_one(orion_bytestream_t *s, void *to, size_t bytes, bool wait, size_t *received_p)
{
    struct iovec room = {to, bytes};
    return orion_bytestream_receive(s, &room, 1, wait, received_p);
}

/* Until something has come. */
static orion_status_t get(orion_bytestream_t *s, void *to, size_t bytes, size_t *received_p)
{
    orion_status_t status = ORION_AGAIN;
    for (int i = 0; i < 100 && status == ORION_AGAIN; i++)
        status = receive_one(s, to, bytes, true, received_p);
    return status;
}

typedef struct writer {
    orion_bytestream_t *stream;
    size_t bytes;
    orion_status_t status;
} writer_t;

/* In pieces of many lengths, and from another place each time: what is offered again is the same bytes, not the same
 * memory. */
static void *write_bytes(void *arg)
{
    writer_t *w = arg;
    uint64_t dice = 7;
    w->status = ORION_OK;
    for (size_t at = 0; at < w->bytes && w->status == ORION_OK;) {
        size_t sent = 0, n = 1 + check_random(&dice) % 100000;
        n = n < w->bytes - at ? n : w->bytes - at;
        uint8_t *copy = malloc(n);
        MUST(copy != NULL);
        for (size_t i = 0; i < n; i++)
            copy[i] = byte_at(at + i);
        struct iovec parts[3] = {{copy, n / 3}, {copy + n / 3, 0}, {copy + n / 3, n - n / 3}};
        do {
            w->status = orion_bytestream_send(w->stream, parts, 3, &sent);
            if (w->status == ORION_AGAIN)
                (void)orion_bytestream_wait(w->stream, ORION_BYTESTREAM_WRITE, 20 * MS);
        } while (w->status == ORION_AGAIN);
        at += sent;
        free(copy);
    }
    return NULL;
}

static int read_bytes(orion_bytestream_t *s, size_t bytes)
{
    enum { ROOMS = 70, ROOM = 1000 };
    static uint8_t buffer[ROOMS * ROOM];
    struct iovec room[ROOMS]; /* many: bytes that come while the rooms are being filled must leave no gap */
    for (size_t i = 0; i < ROOMS; i++)
        room[i] = (struct iovec){buffer + i * ROOM, ROOM};
    for (size_t at = 0; at < bytes;) {
        size_t n = 0;
        orion_status_t status = orion_bytestream_receive(s, room, ROOMS, true, &n);
        if (status == ORION_AGAIN)
            continue;
        if (status != ORION_OK)
            return 0;
        for (size_t i = 0; i < n; i++) {
            if (buffer[i] != byte_at(at + i))
                return 0;
        }
        at += n;
    }
    return 1;
}

static void bytes_arrive_once_and_in_order_both_ways_at_once(void)
{
    pair_t p = open_pair();
    writer_t w[2] = {{p.here, MUCH, ORION_OK}, {p.there, MUCH, ORION_OK}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&threads[i], NULL, write_bytes, &w[i]) == 0);
    int there = 0, here = 0;
    /* in turns: each direction fills up while the other one is read */
    there = read_bytes(p.there, MUCH);
    here = read_bytes(p.here, MUCH);
    for (int i = 0; i < 2; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
        CHECK_EQUAL(w[i].status, ORION_OK);
    }
    CHECK(there && here);
    close_pair(&p);
}

static void full_stream_says_again_and_errno_stays(void)
{
    pair_t p = open_pair();
    static uint8_t zeros[1 << 20];
    size_t sent, total = 0;
    orion_status_t status;
    errno = EDOM;
    /* The kernel moves bytes from one side to the other and widens its buffers for a while after the first "again":
     * the stream is full when a round of waits for room has brought none. */
    for (size_t before = 1; before != total && total < 1u << 30;) {
        before = total;
        for (int i = 0; i < 5; i++) {
            while ((status = send_one(p.here, zeros, sizeof(zeros), &sent)) == ORION_OK && total < 1u << 30)
                total += sent;
            CHECK_EQUAL(status, ORION_AGAIN);
            (void)orion_bytestream_wait(p.here, ORION_BYTESTREAM_WRITE, 5 * MS);
        }
    }
    CHECK(total < 1u << 30);
    CHECK_EQUAL(errno, EDOM);
    close_pair(&p);
}

static void empty_stream_says_again_at_once_or_after_a_slice(void)
{
    pair_t p = open_pair();
    uint8_t byte;
    size_t n;
    errno = EDOM;
    CHECK_EQUAL(receive_one(p.here, &byte, 1, false, &n), ORION_AGAIN);
    int64_t start = check_now_ns();
    CHECK_EQUAL(receive_one(p.here, &byte, 1, true, &n), ORION_AGAIN);
    CHECK(check_now_ns() - start >= ORION_BYTESTREAM_SLICE_NS / 2);
    (void)orion_bytestream_wait(p.here, ORION_BYTESTREAM_READ, 5 * MS);
    CHECK_EQUAL(errno, EDOM);
    close_pair(&p);
}

static void *send_later(void *arg)
{
    static const uint8_t byte = 9;
    const struct timespec pause = {.tv_nsec = 30 * MS};
    (void)nanosleep(&pause, NULL); /* the other thread sleeps by now; if it does not, the claim holds all the same */
    MUST(put(arg, &byte, 1) == ORION_OK);
    return NULL;
}

static void sleeper_wakes_when_a_byte_comes(void)
{
    pair_t p = open_pair();
    pthread_t thread;
    uint8_t byte = 0;
    size_t n = 0;
    orion_status_t status;
    MUST(pthread_create(&thread, NULL, send_later, p.there) == 0);
    int64_t start = check_now_ns();
    while ((status = receive_one(p.here, &byte, 1, false, &n)) == ORION_AGAIN && check_now_ns() - start < 5000 * MS)
        (void)orion_bytestream_wait(p.here, ORION_BYTESTREAM_READ, 5000 * MS);
    CHECK_EQUAL(status, ORION_OK);
    CHECK_EQUAL(byte, 9);
    CHECK(check_now_ns() - start < 4000 * MS);
    MUST(pthread_join(thread, NULL) == 0);
    close_pair(&p);
}

static void end_comes_behind_the_last_byte(void)
{
    pair_t p = open_pair();
    uint8_t bytes[3] = {1, 2, 3}, got[8];
    size_t n = 0, total = 0;
    orion_status_t status;
    CHECK_EQUAL(put(p.there, bytes, 3), ORION_OK);
    orion_bytestream_close(p.there);
    while ((status = receive_one(p.here, got + total, sizeof(got) - total, true, &n)) == ORION_OK ||
           status == ORION_AGAIN)
        total += status == ORION_OK ? n : 0;
    CHECK_EQUAL(status, ORION_PEER_GONE);
    CHECK_EQUAL(total, 3);
    CHECK_EQUAL(got[2], 3);
    while ((status = send_one(p.here, bytes, 3, &n)) == ORION_OK) {
    }
    CHECK_EQUAL(status, ORION_PEER_GONE);
    orion_bytestream_close(p.here);
}

static void forked_child_takes_nothing_from_its_parent(void)
{
    pair_t p = open_pair();
    uint8_t byte = 4;
    size_t n;
    pid_t pid = fork();
    MUST(pid >= 0);
    if (pid == 0) {
        orion_bytestream_fork_child(p.here);
        orion_bytestream_close(p.here);
        _exit(0);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(put(p.here, &byte, 1), ORION_OK);
    byte = 0;
    CHECK_EQUAL(get(p.there, &byte, 1, &n), ORION_OK);
    CHECK_EQUAL(byte, 4);
    close_pair(&p);
}

static void loopback_is_this_host(void)
{
    int sockets[2];
    connect_pair(sockets);
    CHECK(orion_socket_is_local(sockets[0]));
    orion_fd_close(sockets[0]);
    orion_fd_close(sockets[1]);
}

static void wrong_addresses_are_refused_with_a_sentence(void)
{
    static const char *const wrong[] = {"", ":", "host", "host:", ":77", "127.0.0.1:1", "no such host:1"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char why[300] = "";
        CHECK_EQUAL(orion_socket_connect(wrong[i], why, sizeof(why)), -1);
        CHECK(strstr(why, wrong[i]) != NULL);
    }
}

/* `stream_test [STREAM [CLAIM]]` */
int main(int argc, char **argv)
{
    static const check_case_t cases[] = {CASE(bytes_arrive_once_and_in_order_both_ways_at_once),
                                         CASE(full_stream_says_again_and_errno_stays),
                                         CASE(empty_stream_says_again_at_once_or_after_a_slice),
                                         CASE(sleeper_wakes_when_a_byte_comes),
                                         CASE(end_comes_behind_the_last_byte),
                                         CASE(forked_child_takes_nothing_from_its_parent),
                                         CASE(loopback_is_this_host),
                                         CASE(wrong_addresses_are_refused_with_a_sentence)};
    char why[200] = "";
    if (argc > 1)
        kind = argv[1];
    if (strcmp(kind, "ucx_shm") == 0) /* what UCX calls so; else it takes its tcp */
        MUST(setenv("UCX_TLS", "posix", 1) == 0);
    if ((strcmp(kind, "tls") == 0 && orion_libssl(why, sizeof(why)) == NULL) ||
        (strncmp(kind, "ucx", 3) == 0 && orion_libucp(why, sizeof(why)) == NULL)) {
        printf("skipped: %s\n", why);
        return 77;
    }
    return check_main(argc - 1, argv + 1, cases, sizeof(cases) / sizeof(cases[0]));
}
