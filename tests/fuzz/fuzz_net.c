/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as what the other side of a channel over a stream says: the first byte says whether as its hello, or as frames,
 * and in pieces of which size they come. Messages and answers that come out are whole. */
#include <stdlib.h>
#include <string.h>

#include "channel/net.h"
#include "message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct source {
    orion_bytestream_t base; /* first */
    const uint8_t *data;
    size_t left, piece;
} source_t;

static orion_status_t swallow(orion_bytestream_t *s, const struct iovec *parts, size_t count, size_t *sent_p)
{
    (void)s;
    *sent_p = orion_parts_bytes(parts, count);
    return ORION_OK;
}

static orion_status_t give(orion_bytestream_t *s, const struct iovec *room, size_t count, bool wait, size_t *received_p)
{
    source_t *f = (source_t *)(void *)s;
    size_t total = 0;
    (void)wait;
    for (size_t i = 0; i < count && total < f->piece && f->left > 0; i++) {
        size_t n = room[i].iov_len < f->left ? room[i].iov_len : f->left;
        n = n < f->piece - total ? n : f->piece - total;
        if (n > 0)
            memcpy(room[i].iov_base, f->data, n);
        f->data += n;
        f->left -= n;
        total += n;
        if (n < room[i].iov_len)
            break;
    }
    *received_p = total;
    return total > 0 ? ORION_OK : ORION_PEER_GONE;
}

static int arm(orion_bytestream_t *s, unsigned wishes, struct pollfd polled[ORION_BYTESTREAM_FDS])
{
    (void)s, (void)wishes, (void)polled;
    return 0;
}

static void nothing(orion_bytestream_t *s)
{
    (void)s;
}

static const orion_bytestream_ops_t ops = {
    .name = "fuzz", .send = swallow, .receive = give, .arm = arm, .fork_child = nothing, .close = nothing};

static void as_hello(const uint8_t *data, size_t size)
{
    orion_net_hello_t raw = {0}, hello;
    char why[100];
    memcpy(&raw, data, size < sizeof(raw) ? size : sizeof(raw));
    if (orion_net_hello_decode(&raw, &hello, why, sizeof(why)) == ORION_OK &&
        (memchr(hello.token, 0, sizeof(hello.token)) == NULL || hello.step > ORION_NET_WELCOME))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static orion_message_t message;
    static const orion_channel_options_t options = {0};
    const orion_net_terms_t terms = {7, 9, {1 << 16, 1 << 18}, {1 << 16, 1 << 18}};
    orion_channel_t *channel;
    bool clean;
    uint64_t call;
    if (size < 1)
        return 0;
    if (data[0] % 8 == 0) {
        as_hello(data + 1, size - 1);
        return 0;
    }
    source_t s = {.base = {.ops = &ops, .socket = -1, .over_socket = true}, .data = data + 1, .left = size - 1};
    s.piece = data[0] % 8 == 1 ? size : data[0] / 8 + 1u;
    if (orion_net_open(&s.base, &options, &terms, &channel, NULL, 0) != ORION_OK)
        return 0;
    if (orion_channel_call_begin(channel, 1, "x", 1, NULL, 0, &call) != ORION_OK)
        abort();
    while (orion_channel_receive(channel, 0, &message) == ORION_OK)
        use(&message);
    if (orion_channel_call_await(channel, call, 0, &message) == ORION_OK)
        use(&message);
    if (orion_channel_state(channel) != ORION_OK && orion_channel_why(channel, &clean)[0] == '\0')
        abort();
    orion_channel_free(channel);
    return 0;
}
