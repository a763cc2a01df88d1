/* SPDX-License-Identifier: Apache-2.0 */
/* Channels over tcp against ends that do not keep to the rules, and what a stream makes different: hellos, tokens, frames
 * that make no sense, streams that take only a part, ends that die. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../check.h"
#include "channel/net.h"
#include "channel_pair.h"

#define SECOND 1000000000LL
#define TOKEN "tests.a-secret-of-the-tests"

static orion_message_t message;

/* ---- an end made by hand ---- */

typedef struct raw {
    orion_channel_t *channel; /* the other end */
    int socket;
} raw_t;

static int raw_connect(const orion_listener_t *listener, int room)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)atoi(strrchr(orion_listener_address(listener), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(fd >= 0);
    if (room > 0)
        MUST(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)) == 0);
    MUST(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
    return fd;
}

static void raw_write(int fd, const void *data, size_t bytes)
{
    MUST(send(fd, data, bytes, MSG_NOSIGNAL) == (ssize_t)bytes);
}

static orion_listener_t *listen_with(const char *token)
{
    orion_channel_options_t options = {.token = token, .arena_limit = 1 << 20};
    orion_listener_t *listener;
    char why[256] = "";
    MUST(unsetenv("ORION_TLS") == 0); /* of claims before this one */
    pair_must(orion_listener_open("tcp://127.0.0.1:0", &options, &listener, why, sizeof(why)), why);
    return listener;
}

static orion_net_hello_t raw_hello(void)
{
    return (orion_net_hello_t){.magic = ORION_NET_MAGIC,
                               .version = ORION_NET_VERSION,
                               .step = ORION_NET_HELLO,
                               .epoch = 5,
                               .arena_limit = 1 << 20};
}

static raw_t raw_open(int room)
{
    raw_t r;
    orion_net_hello_t hello = raw_hello();
    char why[256] = "";
    orion_listener_t *listener = listen_with("");
    r.socket = raw_connect(listener, room);
    raw_write(r.socket, &hello, sizeof(hello));
    pair_must(orion_listener_accept(listener, 10 * SECOND, &r.channel, why, sizeof(why)), why);
    MUST(recv(r.socket, &hello, sizeof(hello), MSG_WAITALL) == sizeof(hello));
    MUST(hello.step == ORION_NET_WELCOME && hello.epoch != 0);
    orion_listener_free(listener);
    return r;
}

static void raw_close(raw_t *r)
{
    orion_channel_free(r->channel);
    (void)close(r->socket);
}

/* ---- frames ---- */

typedef struct nonsense {
    orion_net_frame_t frame;
    const char *why;
} nonsense_t;

static void frames_that_make_no_sense_end_the_channel(void)
{
    static const nonsense_t all[] = {
        {{.kind = 0}, "kind is unknown"},
        {{.kind = 99}, "kind is unknown"},
        {{.kind = ORION_NET_TAIL, .reserved = 1}, "header makes no sense"},
        {{.kind = ORION_NET_TAIL, .bytes = 8}, "payload where none belongs"},
        {{.kind = ORION_NET_TAIL, .sequence = 8}, "never sent"},
        {{.kind = ORION_NET_RING, .bytes = 0}, "room for"},
        {{.kind = ORION_NET_RING, .bytes = 12}, "room for"},
        {{.kind = ORION_NET_RING, .bytes = 256 * 1024 + 8}, "room for"},
        {{.kind = ORION_NET_RING, .bytes = 0xfffffff8}, "room for"},
        {{.kind = ORION_NET_REPLY, .index = 32}, "answer makes no sense"},
        {{.kind = ORION_NET_REPLY, .bytes = 4081}, "answer makes no sense"},
        {{.kind = ORION_NET_REPLY, .sequence = 1}, "not open"},
        {{.kind = ORION_NET_BULK, .index = 1024, .sequence = 1, .bytes = 1, .total = 1}, "makes no sense"},
        {{.kind = ORION_NET_BULK, .sequence = 0, .bytes = 1, .total = 1}, "makes no sense"},
        {{.kind = ORION_NET_BULK, .sequence = 1, .bytes = ORION_NET_CHUNK + 1, .total = 1 << 20}, "makes no sense"},
        {{.kind = ORION_NET_BULK, .sequence = 1, .bytes = 2, .total = 1}, "longer than it was announced"},
        {{.kind = ORION_NET_BULK, .sequence = 1, .bytes = 1, .total = (1 << 20) + 1}, "arena_limit"},
        {{.kind = ORION_NET_BULK, .sequence = 1, .bytes = 1, .total = UINT64_MAX}, "arena_limit"},
        {{.kind = ORION_NET_DROP, .index = 3, .sequence = 1}, "does not exist"},
        {{.kind = ORION_NET_DROP, .index = 60000, .sequence = 1}, "does not exist"},
        {{.kind = ORION_NET_RELEASE, .index = 1024, .sequence = 1}, "does not exist"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        raw_t r = raw_open(0);
        raw_write(r.socket, &all[i].frame, sizeof(all[i].frame));
        CHECK_EQUAL(orion_channel_receive(r.channel, 10 * SECOND, &message), ORION_PROTOCOL);
        CHECK(strstr(orion_channel_why(r.channel, NULL), all[i].why) != NULL);
        CHECK_EQUAL(orion_channel_send(r.channel, 0, "x", 1, NULL, 0), ORION_PROTOCOL);
        raw_close(&r);
    }
}

typedef struct bulk_message {
    orion_net_frame_t first;
    uint8_t bytes[16];
    orion_net_frame_t second;
    orion_record_t record;
    orion_bulk_place_t place;
} bulk_message_t;

static bulk_message_t bulk_message(void)
{
    bulk_message_t m = {
        .first = {.kind = ORION_NET_BULK, .index = 4, .sequence = 1, .bytes = 16, .total = 16},
        .second = {.kind = ORION_NET_RING, .bytes = sizeof(m.record) + sizeof(m.place)},
        .record = {.bytes = sizeof(m.record) + sizeof(m.place),
                   .opcode = ORION_MESSAGE_SEND | ORION_CHANNEL_BULK | ORION_CHANNEL_WHOLE,
                   .slot = ORION_SLOT_NONE,
                   .epoch = 5},
        .place = {.bytes = 16, .reference = 4, .generation = 1},
    };
    return m;
}

static void a_payload_is_named_once_and_as_it_was_sent(void)
{
    static_assert(sizeof(bulk_message_t) == 24 + 16 + 24 + 16 + 32, "no padding");
    bulk_message_t m = bulk_message();
    raw_t r = raw_open(0);
    raw_write(r.socket, &m, sizeof(m));
    CHECK_EQUAL(orion_channel_receive(r.channel, 10 * SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.bytes, 16);
    raw_write(r.socket, &m.second, sizeof(m) - offsetof(bulk_message_t, second)); /* the same once more */
    CHECK_EQUAL(orion_channel_receive(r.channel, 10 * SECOND, &message), ORION_PROTOCOL);
    raw_close(&r);
    for (int i = 0; i < 4; i++) {
        m = bulk_message();
        m.place.bytes += i == 0;
        m.place.generation += i == 1;
        m.place.reference += i == 2;
        m.place.reference += i == 3 ? 5000 : 0;
        r = raw_open(0);
        raw_write(r.socket, &m, sizeof(m));
        CHECK_EQUAL(orion_channel_receive(r.channel, 10 * SECOND, &message), ORION_PROTOCOL);
        raw_close(&r);
    }
}

/* ---- hellos ---- */

typedef struct accepting {
    orion_listener_t *listener;
    orion_channel_t *channel;
    orion_status_t status;
} accepting_t;

static void *accept_one(void *arg)
{
    accepting_t *a = arg;
    char why[256];
    a->status = orion_listener_accept(a->listener, 5 * SECOND, &a->channel, why, sizeof(why));
    return NULL;
}

static void ends_that_do_not_say_hello_are_dismissed(void)
{
    accepting_t a = {.listener = listen_with("")};
    orion_channel_t *channel = NULL;
    orion_net_hello_t hello[4] = {raw_hello(), raw_hello(), raw_hello(), raw_hello()}, answer;
    pthread_t thread;
    char why[256] = "", noise[sizeof(hello[0])];
    memset(noise, 'G', sizeof(noise));
    hello[0].version = 77;
    hello[1].step = ORION_NET_WELCOME;
    hello[2].epoch = 0;
    hello[3].flags = ORION_NET_UCX;
    int sockets[7];
    for (int i = 0; i < 4; i++) {
        sockets[i] = raw_connect(a.listener, 0);
        raw_write(sockets[i], &hello[i], sizeof(hello[i]));
    }
    sockets[4] = raw_connect(a.listener, 0);
    raw_write(sockets[4], noise, sizeof(noise));
    sockets[5] = raw_connect(a.listener, 0);
    (void)close(sockets[5]);
    sockets[6] = raw_connect(a.listener, 0); /* never says a word */
    MUST(pthread_create(&thread, NULL, accept_one, &a) == 0);
    orion_channel_options_t options = {.token = ""};
    pair_must(
        orion_channel_connect(orion_listener_address(a.listener), &options, 10 * SECOND, &channel, why, sizeof(why)),
        why);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(a.status, ORION_OK);
    CHECK(recv(sockets[3], &answer, sizeof(answer), MSG_WAITALL) == sizeof(answer));
    CHECK_EQUAL(answer.step, ORION_NET_REFUSAL);
    CHECK(strstr(answer.message, "tcp://") != NULL);
    for (int i = 0; i < 7; i++) {
        if (i != 5)
            (void)close(sockets[i]);
    }
    orion_channel_free(channel);
    orion_channel_free(a.channel);
    orion_listener_free(a.listener);
}

typedef struct token_case {
    const char *here, *there, *why; /* NULL = they meet */
} token_case_t;

static void a_token_is_proved_by_both_ends(void)
{
    static const token_case_t all[] = {
        {TOKEN, TOKEN, NULL},
        {TOKEN, "", "wants a token"},
        {TOKEN, "tests.another-secret-altogether", "secret of the token is another"},
        {TOKEN, "others.a-secret-of-the-tests", "another token"},
        {"", TOKEN, "has no token"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        accepting_t a = {.listener = listen_with(all[i].here)};
        orion_channel_t *channel = NULL;
        pthread_t thread;
        char why[256] = "";
        MUST(pthread_create(&thread, NULL, accept_one, &a) == 0);
        orion_channel_options_t options = {.token = all[i].there};
        orion_status_t status = orion_channel_connect(orion_listener_address(a.listener), &options, 10 * SECOND,
                                                      &channel, why, sizeof(why));
        orion_listener_shutdown(a.listener);
        MUST(pthread_join(thread, NULL) == 0);
        CHECK_EQUAL(status, all[i].why == NULL ? ORION_OK : ORION_REFUSED);
        CHECK(all[i].why == NULL || strstr(why, all[i].why) != NULL);
        CHECK(strstr(why, "a-secret") == NULL);
        orion_channel_free(channel);
        orion_channel_free(a.channel);
        orion_listener_free(a.listener);
    }
}

static void *impostor(void *arg)
{
    int listening = *(int *)arg, fd = accept(listening, NULL, NULL);
    orion_net_hello_t hello, no_proof = raw_hello();
    MUST(fd >= 0 && recv(fd, &hello, sizeof(hello), MSG_WAITALL) == sizeof(hello));
    no_proof.step = ORION_NET_CHALLENGE;
    raw_write(fd, &no_proof, sizeof(no_proof));
    MUST(recv(fd, &hello, sizeof(hello), MSG_WAITALL) == sizeof(hello));
    no_proof.step = ORION_NET_WELCOME;
    raw_write(fd, &no_proof, sizeof(no_proof));
    (void)recv(fd, &hello, 1, 0); /* until the victim goes */
    (void)close(fd);
    return NULL;
}

static void an_impostor_is_found_out(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(at);
    pthread_t thread;
    char address[64], why[256] = "";
    orion_channel_t *channel = NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    MUST(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 1) == 0);
    MUST(getsockname(fd, (struct sockaddr *)&at, &bytes) == 0);
    snprintf(address, sizeof(address), "tcp://127.0.0.1:%u", ntohs(at.sin_port));
    MUST(pthread_create(&thread, NULL, impostor, &fd) == 0);
    orion_channel_options_t options = {.token = TOKEN};
    CHECK_EQUAL(orion_channel_connect(address, &options, 10 * SECOND, &channel, why, sizeof(why)), ORION_REFUSED);
    CHECK(strstr(why, "does not know the secret of token tests") != NULL);
    MUST(pthread_join(thread, NULL) == 0);
    (void)close(fd);
}

static void other_hosts_need_a_token_to_listen_for(void)
{
    char why[256] = "";
    orion_listener_t *listener;
    orion_channel_options_t none = {.token = ""}, token = {.token = TOKEN}, insecure = {.token = "", .insecure = true};
    CHECK_EQUAL(orion_listener_open("tcp://0.0.0.0:0", &none, &listener, why, sizeof(why)), ORION_INVALID);
    CHECK(strstr(why, "token") != NULL && strstr(why, "insecure") != NULL);
    CHECK_EQUAL(orion_listener_open("ucx://0.0.0.0:0", &token, &listener, why, sizeof(why)), ORION_INVALID);
    CHECK(strstr(why, "insecure") != NULL);
    CHECK_EQUAL(orion_listener_open("tcp://0.0.0.0:0", &token, &listener, why, sizeof(why)), ORION_OK);
    orion_listener_free(listener);
    CHECK_EQUAL(orion_listener_open("tcp://0.0.0.0:0", &insecure, &listener, why, sizeof(why)), ORION_OK);
    orion_listener_free(listener);
    CHECK_EQUAL(orion_listener_open("a-name", &token, &listener, why, sizeof(why)), ORION_INVALID);
    token.token = "no-dot";
    CHECK_EQUAL(orion_listener_open("tcp://127.0.0.1:0", &token, &listener, why, sizeof(why)), ORION_INVALID);
    CHECK(strstr(why, "ID.SECRET") != NULL);
}

/* ---- what a stream makes different ---- */

static void what_the_stream_does_not_take_follows_by_itself(void)
{
    enum { MESSAGES = 60, BYTES = 4000 };
    static uint8_t sent[BYTES], got[65536];
    raw_t r = raw_open(4096);
    size_t wanted = 0, total = 0;
    int small = 4096;
    MUST(setsockopt(orion_channel_fd(r.channel) >= 0 ? r.channel->net->socket : -1, SOL_SOCKET, SO_SNDBUF, &small,
                    sizeof(small)) == 0);
    for (int i = 0; i < MESSAGES; i++) {
        CHECK_EQUAL(orion_channel_send(r.channel, 0, sent, BYTES, NULL, 0), ORION_OK);
        wanted += sizeof(orion_record_t) + BYTES;
    }
    while (total < wanted) { /* and no further call on the channel */
        ssize_t n = recv(r.socket, got, sizeof(got), 0);
        CHECK(n > 0);
        total += (size_t)n;
    }
    raw_close(&r);
}

typedef struct long_sender {
    orion_channel_t *channel;
    const uint8_t *data;
    size_t bytes;
    bool receives; /* one as long, then */
    orion_status_t status;
} long_sender_t;

static void *send_long(void *arg)
{
    long_sender_t *s = arg;
    orion_message_t *m = calloc(1, sizeof(*m));
    MUST(m != NULL);
    s->status = orion_channel_send(s->channel, 1, s->data, s->bytes, NULL, 20 * SECOND);
    if (s->status == ORION_OK && s->receives)
        s->status = orion_channel_receive(s->channel, 20 * SECOND, m);
    if (s->status == ORION_OK && s->receives)
        MUST(m->bytes == s->bytes && memcmp(m->data, s->data, m->bytes) == 0);
    orion_message_release(m);
    free(m);
    return NULL;
}

static void two_ends_that_send_at_once_do_not_block_each_other(void)
{
    size_t bytes = 40 << 20; /* more than sockets hold */
    uint8_t *data = malloc(bytes);
    pthread_t threads[2];
    MUST(data != NULL);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(i * 7 + i / 255);
    pair_t p = pair_open(NULL);
    long_sender_t s[] = {{p.a, data, bytes, true, ORION_AGAIN}, {p.b, data, bytes, true, ORION_AGAIN}};
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&threads[i], NULL, send_long, &s[i]) == 0);
    for (int i = 0; i < 2; i++) {
        MUST(pthread_join(threads[i], NULL) == 0);
        CHECK_EQUAL(s[i].status, ORION_OK);
    }
    free(data);
    pair_close(&p);
}

static void a_long_message_that_is_given_up_leaves_the_channel_in_order(void)
{
    size_t bytes = 64 << 20;
    uint8_t *data = malloc(bytes);
    MUST(data != NULL);
    memset(data, 7, bytes);
    pair_t p = pair_open(NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(orion_channel_send(p.a, 1, data, bytes, NULL, 2000000), ORION_TIMEOUT); /* nobody reads */
    CHECK_EQUAL(orion_channel_send(p.a, 2, "next", 4, NULL, SECOND), ORION_OK);
    memset(data, 8, bytes);
    CHECK_EQUAL(orion_channel_receive(p.b, 10 * SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.tag, 2);
    long_sender_t s = {p.a, data, bytes, false, ORION_AGAIN};
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, send_long, &s) == 0);
    CHECK_EQUAL(orion_channel_receive(p.b, 20 * SECOND, &message), ORION_OK);
    CHECK_EQUAL(message.bytes, bytes);
    CHECK_EQUAL(((const uint8_t *)message.data)[bytes / 2], 8);
    orion_message_release(&message);
    MUST(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(s.status, ORION_OK);
    free(data);
    pair_close(&p);
}

static void an_end_that_dies_is_gone_at_once(void)
{
    accepting_t a = {.listener = listen_with("")};
    int ready[2];
    MUST(pipe(ready) == 0);
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        orion_channel_t *channel;
        char why[256];
        orion_channel_options_t options = {.token = ""};
        if (orion_channel_connect(orion_listener_address(a.listener), &options, 10 * SECOND, &channel, why,
                                  sizeof(why)) == ORION_OK)
            (void)!write(ready[1], "x", 1);
        (void)pause();
        _exit(0);
    }
    (void)accept_one(&a);
    CHECK_EQUAL(a.status, ORION_OK);
    bool clean = true;
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    MUST(kill(child, SIGKILL) == 0);
    int64_t start = check_now_ns();
    CHECK_EQUAL(orion_channel_receive(a.channel, 10 * SECOND, &message), ORION_PEER_GONE);
    CHECK(check_now_ns() - start < 5 * SECOND);
    CHECK(strstr(orion_channel_why(a.channel, &clean), "died") != NULL);
    CHECK(!clean);
    MUST(waitpid(child, NULL, 0) == child);
    (void)close(ready[0]);
    (void)close(ready[1]);
    orion_channel_free(a.channel);
    orion_listener_free(a.listener);
}

CHECK_MAIN(CASE(frames_that_make_no_sense_end_the_channel), CASE(a_payload_is_named_once_and_as_it_was_sent),
           CASE(ends_that_do_not_say_hello_are_dismissed), CASE(a_token_is_proved_by_both_ends),
           CASE(an_impostor_is_found_out), CASE(other_hosts_need_a_token_to_listen_for),
           CASE(what_the_stream_does_not_take_follows_by_itself),
           CASE(two_ends_that_send_at_once_do_not_block_each_other),
           CASE(a_long_message_that_is_given_up_leaves_the_channel_in_order), CASE(an_end_that_dies_is_gone_at_once))
