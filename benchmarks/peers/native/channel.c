/* SPDX-License-Identifier: Apache-2.0 */
/* The library's channel (orion/channel.h): calls answered by the other side, one-way messages, bulk by one copy into the
 * arena and one out of it by the receiver, and a block of the arena handed over as it is. */
#define _GNU_SOURCE
#include <string.h>

#include "orion/channel.h"
#include "twin.h"

static orion_channel_t *channel;
static orion_block_t *block;
static orion_message_t message;

static void must(orion_status_t status, const char *what)
{
    if (status != ORION_OK && channel != NULL)
        fprintf(stderr, "%s\n", orion_channel_why(channel, NULL));
    twin_must(status == ORION_OK, what);
}

static void channel_open(int side)
{
    char path[200], why[256] = "";
    orion_channel_options_t options = {.arena_limit = 1ULL << 30};
    twin_path(path, sizeof(path), "channel");
    if (side == 1) {
        orion_listener_t *listener;
        orion_status_t status = orion_listener_open(path, &options, &listener, why, sizeof(why));
        if (status == ORION_OK) {
            (void)twin_exchange("", 1, NULL);
            status = orion_listener_accept(listener, -1, &channel, why, sizeof(why));
            orion_listener_free(listener);
        }
        if (status != ORION_OK)
            fprintf(stderr, "%s\n", why);
        twin_must(status == ORION_OK, "accept");
        return;
    }
    (void)twin_exchange("", 1, NULL);
    orion_status_t status = orion_channel_connect(path, &options, -1, &channel, why, sizeof(why));
    if (status != ORION_OK)
        fprintf(stderr, "%s\n", why);
    twin_must(status == ORION_OK, "connect");
}

static void channel_close(void)
{
    if (block != NULL)
        orion_block_free(block);
    block = NULL;
    orion_channel_free(channel);
    channel = NULL;
}

static void channel_call(const void *out, void *in, size_t bytes)
{
    must(orion_channel_call(channel, 1, out, bytes, NULL, -1, &message), "call");
    memcpy(in, message.data, bytes);
    orion_message_release(&message);
}

static void channel_answer(void *buffer, size_t bytes)
{
    must(orion_channel_receive_into(channel, -1, buffer, bytes, &message), "receive");
    if (message.data != buffer)
        memcpy(buffer, message.data, bytes);
    must(orion_channel_reply(channel, &message, ORION_MESSAGE_REPLY, 1, buffer, bytes, NULL, -1), "reply");
    orion_message_release(&message);
}

static void channel_send(const void *out, size_t bytes)
{
    must(orion_channel_send(channel, 1, out, bytes, NULL, -1), "send");
}

static void channel_receive(void *buffer, size_t bytes)
{
    must(orion_channel_receive_into(channel, -1, buffer, bytes, &message), "receive");
    if (message.data != buffer)
        memcpy(buffer, message.data, bytes);
    orion_message_release(&message);
}

static void channel_hand(uint64_t stamp, size_t bytes)
{
    if (block != NULL && orion_block_bytes(block) != bytes) {
        orion_block_free(block);
        block = NULL;
    }
    if (block == NULL)
        must(orion_block_create(channel, bytes, -1, &block), "block");
    uint8_t *data = orion_block_data(block);
    memcpy(data, &stamp, sizeof(stamp));
    memcpy(data + bytes - sizeof(stamp), &stamp, sizeof(stamp));
    orion_bulk_t bulk = {.data = data, .bytes = bytes, .block = block};
    must(orion_channel_call(channel, 2, &stamp, sizeof(stamp), &bulk, -1, &message), "call");
    orion_message_release(&message);
}

static void channel_take(uint64_t *first_p, uint64_t *last_p)
{
    must(orion_channel_receive(channel, -1, &message), "receive");
    twin_must(message.bulk.bytes >= sizeof(*first_p), "receiving a block");
    const uint8_t *data = message.bulk.data;
    memcpy(first_p, data, sizeof(*first_p));
    memcpy(last_p, data + message.bulk.bytes - sizeof(*last_p), sizeof(*last_p));
    must(orion_channel_reply(channel, &message, ORION_MESSAGE_REPLY, 2, first_p, sizeof(*first_p), NULL, -1), "reply");
    orion_message_release(&message);
}

const twin_t twin = {.name = "orion channel",
                     .call_max = 1 << 16,
                     .send_max = 1 << 30,
                     .open = channel_open,
                     .close = channel_close,
                     .call = channel_call,
                     .answer = channel_answer,
                     .send = channel_send,
                     .receive = channel_receive,
                     .hand = channel_hand,
                     .take = channel_take};
