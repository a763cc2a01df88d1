/* SPDX-License-Identifier: Apache-2.0 */
/* Encrypted streams whose other end has another key, speaks no TLS, breaks it, or dies in the middle. */
#define _GNU_SOURCE
#include "../check.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "stream/libssl.h"
#include "stream/tls.h"

#define MS 1000000LL

static const uint8_t ours[ORION_TLS_KEY_BYTES] = "a key of thirty-two bytes, ours";
static const uint8_t other[ORION_TLS_KEY_BYTES] = "a key of thirty-two bytes, none";
static char why[300];

static orion_bytestream_t *open_end(int socket, bool server, const uint8_t *key)
{
    orion_bytestream_t *s;
    MUST(orion_bytestream_of_tls(socket, server, key, &s, why, sizeof(why)) == ORION_OK);
    return s;
}

typedef struct shake {
    orion_bytestream_t *stream;
    orion_status_t status;
    char why[300];
} shake_t;

static void *shake_hands(void *arg)
{
    shake_t *s = arg;
    s->status = orion_tls_handshake(s->stream, 3000 * MS, s->why, sizeof(s->why));
    return NULL;
}

static void open_pair(orion_bytestream_t *ends[2], int sockets[2], const uint8_t *client, const uint8_t *server,
                      shake_t shakes[2])
{
    pthread_t thread;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    ends[0] = open_end(sockets[0], false, client);
    ends[1] = open_end(sockets[1], true, server);
    for (int i = 0; i < 2; i++)
        shakes[i] = (shake_t){.stream = ends[i]};
    MUST(pthread_create(&thread, NULL, shake_hands, &shakes[1]) == 0);
    (void)shake_hands(&shakes[0]);
    MUST(pthread_join(thread, NULL) == 0);
}

static orion_status_t receive(orion_bytestream_t *s, void *to, size_t bytes, size_t *n_p)
{
    struct iovec room = {to, bytes};
    orion_status_t status = ORION_AGAIN;
    for (int turn = 0; turn < 60 && status == ORION_AGAIN; turn++)
        status = orion_bytestream_receive(s, &room, 1, true, n_p);
    return status;
}

static orion_status_t send_bytes(orion_bytestream_t *s, const void *data, size_t bytes, size_t *n_p)
{
    struct iovec part = {(void *)(uintptr_t)data, bytes};
    return orion_bytestream_send(s, &part, 1, n_p);
}

static void one_key_opens_it(void)
{
    orion_bytestream_t *ends[2];
    int sockets[2];
    shake_t shakes[2];
    char got[8] = "";
    size_t n = 0;
    open_pair(ends, sockets, ours, ours, shakes);
    CHECK_EQUAL(shakes[0].status, ORION_OK);
    CHECK_EQUAL(shakes[1].status, ORION_OK);
    CHECK_EQUAL(send_bytes(ends[0], "hello", 6, &n), ORION_OK);
    CHECK_EQUAL(receive(ends[1], got, sizeof(got), &n), ORION_OK);
    CHECK(n == 6 && strcmp(got, "hello") == 0);
    orion_bytestream_close(ends[0]);
    orion_bytestream_close(ends[1]);
}

static void another_key_is_refused_by_both_ends(void)
{
    orion_bytestream_t *ends[2];
    int sockets[2];
    shake_t shakes[2];
    char got[8];
    size_t n = 0;
    open_pair(ends, sockets, ours, other, shakes);
    CHECK_EQUAL(shakes[0].status, ORION_PROTOCOL);
    CHECK_EQUAL(shakes[1].status, ORION_PROTOCOL);
    CHECK(strncmp(shakes[0].why, "TLS: ", 5) == 0);
    CHECK_EQUAL(send_bytes(ends[0], "hello", 6, &n), ORION_PEER_GONE); /* nothing goes out after that */
    CHECK_EQUAL(receive(ends[1], got, sizeof(got), &n), ORION_PROTOCOL);
    orion_bytestream_close(ends[0]);
    orion_bytestream_close(ends[1]);
}

static void plain_bytes_are_refused_with_a_sentence(void)
{
    for (int server = 0; server < 2; server++) {
        int sockets[2];
        char got[8];
        size_t n = 0;
        static const char text[600] = "\x10\0\0\0 plain records of an orion session, which begin with a length";
        MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
        orion_bytestream_t *s = open_end(sockets[0], server, ours);
        MUST(send(sockets[1], text, sizeof(text), 0) == sizeof(text));
        CHECK_EQUAL(receive(s, got, sizeof(got), &n), ORION_PROTOCOL);
        CHECK(s->complaint != NULL && strncmp(s->complaint, "TLS: ", 5) == 0);
        CHECK_EQUAL(receive(s, got, sizeof(got), &n), ORION_PROTOCOL); /* and stays so */
        orion_bytestream_close(s);
        (void)close(sockets[1]);
    }
}

static void silent_end_is_given_up_in_time(void)
{
    int sockets[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    orion_bytestream_t *s = open_end(sockets[0], false, ours);
    CHECK_EQUAL(orion_tls_handshake(s, 30 * MS, why, sizeof(why)), ORION_TIMEOUT);
    CHECK(strstr(why, "in time") != NULL);
    orion_bytestream_close(s);
    (void)close(sockets[1]);
}

/* The worker dies in the middle of a record; who watched over it has other words for the end. */
static void last_words_are_found_behind_half_a_record(void)
{
    static const size_t cuts[] = {0, 1, 4, 5, 100, 1000};
    for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
        orion_bytestream_t *ends[2];
        int sockets[2];
        shake_t shakes[2];
        uint8_t words[344], got[2000], record[5 + 16384 + 256] = {0x17, 0x03, 0x03, 0x20, 0x00};
        size_t n = 0;
        open_pair(ends, sockets, ours, ours, shakes);
        MUST(shakes[0].status == ORION_OK && shakes[1].status == ORION_OK);
        memset(words, 0x77, sizeof(words));
        words[343] = 1;
        CHECK_EQUAL(send_bytes(ends[1], "last", 4, &n), ORION_OK);
        MUST(send(sockets[1], record, cuts[i], 0) == (ssize_t)cuts[i]);
        MUST(send(sockets[1], words, sizeof(words), 0) == sizeof(words));
        orion_bytestream_close(ends[1]);
        CHECK_EQUAL(receive(ends[0], got, sizeof(got), &n), ORION_OK);
        CHECK_EQUAL(n, 4);
        orion_status_t status = receive(ends[0], got, sizeof(got), &n);
        CHECK(status == ORION_PEER_GONE || status == ORION_PROTOCOL);
        CHECK(orion_bytestream_last_words(ends[0], got, sizeof(words)));
        CHECK(memcmp(got, words, sizeof(words)) == 0);
        orion_bytestream_close(ends[0]);
    }
}

static void changed_bytes_are_noticed(void)
{
    orion_bytestream_t *ends[2];
    int sockets[2];
    shake_t shakes[2];
    uint8_t bytes[600], got[600];
    size_t n = 0;
    open_pair(ends, sockets, ours, ours, shakes);
    MUST(shakes[0].status == ORION_OK);
    CHECK_EQUAL(send_bytes(ends[0], "a hundred pounds", 17, &n), ORION_OK);
    /* take the record off its way, and put it back with a bit turned */
    ssize_t record = recv(sockets[1], bytes, sizeof(bytes), MSG_DONTWAIT);
    MUST(record > 22);
    bytes[10] ^= 1;
    MUST(send(sockets[0], bytes, (size_t)record, 0) == record);
    CHECK_EQUAL(receive(ends[1], got, sizeof(got), &n), ORION_PROTOCOL);
    orion_bytestream_close(ends[0]);
    orion_bytestream_close(ends[1]);
}

int main(int argc, char **argv)
{
    static const check_case_t cases[] = {CASE(one_key_opens_it),
                                         CASE(another_key_is_refused_by_both_ends),
                                         CASE(plain_bytes_are_refused_with_a_sentence),
                                         CASE(silent_end_is_given_up_in_time),
                                         CASE(last_words_are_found_behind_half_a_record),
                                         CASE(changed_bytes_are_noticed)};
    if (orion_libssl(why, sizeof(why)) == NULL) {
        printf("skipped: %s\n", why);
        return 77;
    }
    return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
