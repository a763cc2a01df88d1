/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of a UCX stream whose other end says nothing, something else, too much, or an address that is not proved. None of
 * that reaches UCX, whose reading of an address is its own business and happens in a cage. */
#define _GNU_SOURCE
#include "../check.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "stream/libucp.h"
#include "stream/ucx.h"

#define MS 1000000LL

static const uint8_t ours[ORION_UCX_KEY_BYTES] = "a key of thirty-two bytes, ours";
static const uint8_t other[ORION_UCX_KEY_BYTES] = "a key of thirty-two bytes, none";
static char why[300];

static orion_bytestream_t *open_end(int socket, bool server, const uint8_t *key)
{
    orion_bytestream_t *s = NULL;
    orion_status_t status = orion_bytestream_of_ucx(socket, server, key, &s, why, sizeof(why));
    if (status != ORION_OK)
        fprintf(stderr, "%s\n", why);
    MUST(status == ORION_OK);
    return s;
}

/* An end that hears these bytes on its socket. */
static void hears(bool server, const void *bytes, size_t count, const char *complaint)
{
    int sockets[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    orion_bytestream_t *s = open_end(sockets[0], server, ours);
    MUST(send(sockets[1], bytes, count, 0) == (ssize_t)count);
    CHECK_EQUAL(orion_ucx_meet(s, 2000 * MS, why, sizeof(why)), ORION_PROTOCOL);
    CHECK(strstr(why, complaint) != NULL);
    CHECK_EQUAL(orion_ucx_meet(s, 10 * MS, why, sizeof(why)), ORION_PROTOCOL); /* and stays so */
    orion_bytestream_close(s);
    (void)close(sockets[1]);
}

static void what_is_no_address_is_refused(void)
{
    static const uint8_t noise[64] = {1, 2, 3};
    uint32_t head[10] = {0x5843556f, 0};
    for (int server = 0; server < 2; server++) {
        hears(server, noise, sizeof(noise), "no address");
        head[1] = 0;
        hears(server, head, sizeof(head), "no address");
        head[1] = 1u << 30;
        hears(server, head, sizeof(head), "no address");
    }
}

static void address_that_is_not_proved_is_refused(void)
{
    uint8_t intro[40 + 77] = {0};
    uint32_t head[2] = {0x5843556f, 77};
    memcpy(intro, head, sizeof(head));
    hears(true, intro, sizeof(intro), "not proved");
    hears(false, intro, sizeof(intro), "not proved");
}

static void own_address_sent_back_is_refused(void)
{
    int sockets[2];
    uint8_t intro[9000];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    orion_bytestream_t *s = open_end(sockets[0], false, ours);
    ssize_t n = recv(sockets[1], intro, sizeof(intro), 0);
    MUST(n > 40 && send(sockets[1], intro, (size_t)n, 0) == n);
    CHECK_EQUAL(orion_ucx_meet(s, 2000 * MS, why, sizeof(why)), ORION_PROTOCOL);
    CHECK(strstr(why, "not proved") != NULL);
    orion_bytestream_close(s);
    (void)close(sockets[1]);
}

static void address_in_pieces_is_waited_for_and_silence_given_up(void)
{
    int sockets[2];
    uint32_t head[2] = {0x5843556f, 77};
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    orion_bytestream_t *s = open_end(sockets[0], true, ours);
    CHECK_EQUAL(orion_ucx_meet(s, 20 * MS, why, sizeof(why)), ORION_TIMEOUT);
    MUST(send(sockets[1], head, sizeof(head), 0) == sizeof(head));
    CHECK_EQUAL(orion_ucx_meet(s, 20 * MS, why, sizeof(why)), ORION_TIMEOUT);
    CHECK(strstr(why, "in time") != NULL);
    (void)close(sockets[1]);
    CHECK_EQUAL(orion_ucx_meet(s, 2000 * MS, why, sizeof(why)), ORION_PEER_GONE);
    orion_bytestream_close(s);
}

typedef struct meeting {
    orion_bytestream_t *stream;
    orion_status_t status;
} meeting_t;

static void *meet(void *arg)
{
    meeting_t *m = arg;
    m->status = orion_ucx_meet(m->stream, 1000 * MS, NULL, 0);
    return NULL;
}

static void another_key_is_refused(void)
{
    int sockets[2];
    pthread_t thread;
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    meeting_t server = {.stream = open_end(sockets[1], true, other)};
    orion_bytestream_t *client = open_end(sockets[0], false, ours);
    MUST(pthread_create(&thread, NULL, meet, &server) == 0);
    CHECK(orion_ucx_meet(client, 500 * MS, why, sizeof(why)) != ORION_OK);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(server.status, ORION_PROTOCOL);
    orion_bytestream_close(client);
    orion_bytestream_close(server.stream);
}

int main(int argc, char **argv)
{
    static const check_case_t cases[] = {
        CASE(what_is_no_address_is_refused), CASE(address_that_is_not_proved_is_refused),
        CASE(own_address_sent_back_is_refused), CASE(address_in_pieces_is_waited_for_and_silence_given_up),
        CASE(another_key_is_refused)};
    if (orion_libucp(why, sizeof(why)) == NULL) {
        printf("skipped: %s\n", why);
        return 77;
    }
    return check_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
