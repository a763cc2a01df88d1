/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as what a server says to a client over a socket: the first byte says whether they begin with the welcome, or
 * behind a good one with replies, chunks, events and the epitaph. A session that ends says why. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/tcp.h"

#define EPOCH 7u
#define CHUNK 24u /* what is asked of a staging chunk; from malloc: the sanitizer watches its end */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int condition)
{
    if (!condition)
        abort();
}

static int say(int socket, const void *data, size_t size)
{
    return size == 0 || send(socket, data, size, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)size;
}

static void call(orion_link_t *link)
{
    const orion_reply_t *reply;
    orion_record_t *record;
    static volatile uint8_t sink;
    if (orion_link_claim(link, ORION_RECORD_HEADER, &record) != ORION_OK)
        return;
    *record = (orion_record_t){ORION_RECORD_HEADER, 1, 1, 1, EPOCH};
    orion_link_commit(link);
    if (orion_link_await(link, 1, 1, &reply) != ORION_OK)
        return;
    need(reply->bytes <= ORION_REPLY_DATA);
    for (uint32_t i = 0; i < reply->bytes; i++)
        sink = reply->data[i];
    (void)sink;
}

static void collect(orion_link_t *link)
{
    orion_stage_t stage;
    uint8_t *to = malloc(CHUNK);
    need(to != NULL);
    if (orion_link_stage_claim(link, &stage) == ORION_OK)
        (void)orion_link_stage_collect(link, &stage, to, CHUNK);
    free(to);
}

static void hear(orion_link_t *link)
{
    uint8_t event[100];
    size_t bytes;
    while (orion_link_event_wait(link, 0, event, sizeof(event), &bytes) == ORION_OK)
        need(bytes <= sizeof(event));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    orion_link_t *link;
    orion_hello_t hello;
    orion_welcome_t welcome, answer;
    char why[256] = "";
    int sockets[2];
    (void)setenv("ORION_INSECURE_TCP", "1", 1); /* a socket that is no TCP's cannot say whether it leaves the host */
    if (size < 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0)
        return 0;
    orion_welcome_init(&welcome);
    welcome.epoch = EPOCH;
    welcome.slots = ORION_REPLY_SLOTS;
    int said = (data[0] & 1) == 0 || say(sockets[1], &welcome, sizeof(welcome));
    said = said && say(sockets[1], data + 1, size - 1);
    (void)shutdown(sockets[1], SHUT_WR);
    orion_hello_init(&hello);
    if (!said) {
        orion_fd_close(sockets[0]);
    } else if (orion_tcp_open_socket(sockets[0], "fuzz", &hello, &answer, &link, why, sizeof(why)) == ORION_OK) {
        if (data[0] & 2)
            collect(link);
        call(link);
        collect(link);
        hear(link);
        why[0] = '\0';
        if (orion_link_probe(link, why, sizeof(why), NULL) != ORION_OK)
            need(why[0] != '\0');
        orion_link_close(link);
    } else {
        need(why[0] != '\0' && strnlen(why, sizeof(why)) < sizeof(why));
    }
    orion_fd_close(sockets[1]);
    return 0;
}
