/* SPDX-License-Identifier: Apache-2.0 */
/* A vGPU session: what client and worker use (csrc/transport), with a worker that does nothing but answer. Large
 * messages go through the staging chunks: copied in by the client, copied out by the worker, several on their way. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/copy.h"
#include "base/fd.h"
#include "shm/layout.h"
#include "transport/link.h"
#include "transport/port.h"
#include "transport/shm.h"
#include "twin.h"

enum { OP_ECHO = 1, OP_POST = 2, OP_STAGE = 3 };

static orion_link_t *link_;
static orion_port_t *port;
static uint32_t sequence;
static int connection = -1;

static void must(orion_status_t status, const char *what)
{
    twin_must(status == ORION_OK, what);
}

static int connected(int side)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    twin_path(address.sun_path, sizeof(address.sun_path), "sock");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (side == 0) {
        (void)twin_exchange("", 1, NULL);
        twin_must(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
        return fd;
    }
    (void)unlink(address.sun_path);
    twin_must(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0, "listen");
    (void)twin_exchange("", 1, NULL);
    int accepted = accept(fd, NULL, NULL);
    (void)close(fd);
    twin_must(accepted >= 0, "accept");
    return accepted;
}

static void session_open(int side)
{
    orion_hello_t hello;
    orion_welcome_t welcome;
    char why[256], bytes[sizeof(hello)];
    int fds[2];
    connection = connected(side);
    if (side == 0) {
        orion_hello_init(&hello);
        hello.flags = ORION_FLAG_NO_RANGE;
        must(orion_shm_open_socket(connection, "benchmark", &hello, &welcome, &link_, why, sizeof(why)), "open");
        return;
    }
    must(orion_fd_receive(connection, bytes, sizeof(bytes), NULL, 0, -1), "hello");
    must(orion_hello_decode(bytes, sizeof(bytes), &hello, why, sizeof(why)), "hello");
    orion_port_config_t config = {.epoch = 1, .flags = hello.flags, .witness_fd = connection};
    must(orion_port_create(&config, &port, why, sizeof(why)), "create");
    orion_welcome_init(&welcome);
    orion_port_describe(port, &welcome);
    orion_port_fds(port, &fds[0], &fds[1]);
    must(orion_fd_send(connection, &welcome, sizeof(welcome), fds, 2), "welcome");
}

static void session_close(void)
{
    orion_link_close(link_);
    if (port != NULL) {
        orion_port_close(port);
        (void)close(connection);
    }
    link_ = NULL;
    port = NULL;
}

static void post(uint16_t opcode, uint16_t slot, const void *data, size_t bytes)
{
    orion_record_t *record;
    must(orion_link_claim(link_, ORION_RECORD_HEADER + (uint32_t)bytes, &record), "claim");
    record->opcode = opcode;
    record->slot = slot;
    record->sequence = ++sequence;
    orion_copy_small(orion_record_payload(record), data, bytes);
    orion_link_commit(link_);
}

static void session_call(const void *out, void *in, size_t bytes)
{
    const orion_reply_t *reply;
    post(OP_ECHO, 0, out, bytes);
    must(orion_link_await(link_, 0, sequence, &reply), "await");
    orion_copy_small(in, reply->data, bytes);
}

static const orion_record_t *next(void)
{
    const orion_record_t *record;
    orion_status_t status;
    do {
        status = orion_port_next(port, -1, &record);
    } while (status == ORION_AGAIN);
    must(status, "next");
    return record;
}

static void session_answer(void *buffer, size_t bytes)
{
    const orion_record_t *record = next(); /* in memory of the worker's own: it answers from there */
    (void)buffer;
    orion_port_reply(port, record->slot, record->sequence, 0, 0, orion_record_payload_const(record), (uint32_t)bytes);
}

static void session_send(const void *out, size_t bytes)
{
    if (bytes <= ORION_REPLY_DATA) {
        post(OP_POST, ORION_SLOT_NONE, out, bytes);
        return;
    }
    for (size_t at = 0, n; at < bytes; at += n) {
        orion_stage_t stage;
        must(orion_link_stage_claim(link_, &stage), "stage_claim");
        n = orion_stage_part(&stage, bytes);
        n = n < bytes - at ? n : bytes - at;
        must(orion_link_stage_send(link_, &stage, (const uint8_t *)out + at, n), "stage_send");
        uint32_t words[3] = {stage.index, stage.sequence, (uint32_t)n};
        post(OP_STAGE, ORION_SLOT_NONE, words, sizeof(words));
    }
}

static void session_receive(void *buffer, size_t bytes)
{
    if (bytes <= ORION_REPLY_DATA) {
        memcpy(buffer, orion_record_payload_const(next()), bytes);
        return;
    }
    uint32_t words[3];
    for (size_t at = 0; at < bytes; at += words[2]) {
        memcpy(words, orion_record_payload_const(next()), sizeof(words));
        orion_copy_from_peer((uint8_t *)buffer + at, orion_port_stage(port, words[0]), words[2]); /* as devices do */
        orion_port_stage_done(port, words[0], words[1]);
    }
}

const twin_t twin = {.name = "orion session",
                     .call_max = ORION_REPLY_DATA,
                     .send_max = 1 << 30,
                     .open = session_open,
                     .close = session_close,
                     .call = session_call,
                     .answer = session_answer,
                     .send = session_send,
                     .receive = session_receive};
