/* SPDX-License-Identifier: Apache-2.0 */
/* What the client makes of servers that ask for its token: a right one, and every wrong one. */
#define _GNU_SOURCE
#include "../check.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "echo_worker.h"
#include "shm/layout.h"
#include "stream/libssl.h"
#include "transport/greet.h"
#include "transport/tcp.h"
#include "wire/token.h"

#define TOKEN "me.correct-horse-battery-staple"
#define S 1000000000LL

static char why[400];

typedef struct server {
    int socket;
    const char *token; /* that it goes by; NULL: it asks for none */
    uint32_t flags;    /* of its welcome */
    const char *noise; /* that it sends behind it */
    uint32_t flip;     /* + 1: that byte of the welcome is another than the one it has proved */
    bool twice, unasked, silent, notice_instead;
    bool heard, right; /* it has had an answer, and that was right */
    pthread_t thread;
} server_t;

static void send_challenge(const server_t *s, orion_exchange_t *exchange)
{
    orion_notice_t challenge;
    orion_notice_init(&challenge, s->notice_instead ? ORION_NOTICE_EXTENT : ORION_NOTICE_CHALLENGE);
    memset(exchange->server_nonce, 0x5a, sizeof(exchange->server_nonce));
    memcpy(challenge.nonce, exchange->server_nonce, sizeof(challenge.nonce));
    (void)orion_fd_send(s->socket, &challenge, sizeof(challenge), NULL, 0);
}

static void *serve(void *arg)
{
    server_t *s = arg;
    orion_token_t token;
    orion_exchange_t exchange;
    orion_notice_t answer;
    orion_welcome_t welcome;
    uint8_t mac[ORION_MAC_BYTES];
    char text[200];
    MUST(orion_fd_receive(s->socket, &exchange.hello, sizeof(exchange.hello), NULL, 0, check_now_ns() + 5 * S) ==
         ORION_OK);
    orion_welcome_init(&welcome);
    welcome.epoch = 1;
    welcome.slots = ORION_REPLY_SLOTS;
    welcome.flags = s->flags;
    if (s->token != NULL || s->unasked) {
        send_challenge(s, &exchange);
        if (s->twice)
            send_challenge(s, &exchange);
        s->heard = orion_fd_receive(s->socket, &answer, sizeof(answer), NULL, 0, check_now_ns() + 2 * S) == ORION_OK;
    }
    if (s->heard && s->token != NULL) {
        MUST(orion_token_parse(s->token, &token, text, sizeof(text)));
        memcpy(exchange.client_nonce, answer.nonce, sizeof(answer.nonce));
        orion_token_answer(&token, &exchange, mac);
        s->right = answer.kind == ORION_NOTICE_ANSWER && orion_same_bytes(mac, answer.mac, sizeof(mac));
        if (!s->silent)
            orion_token_proof(&token, &exchange, &welcome, welcome.proof);
    }
    if (s->flip != 0)
        ((uint8_t *)&welcome)[s->flip - 1] ^= 1;
    (void)orion_fd_send(s->socket, &welcome, sizeof(welcome), NULL, 0);
    if (s->noise != NULL)
        (void)orion_fd_send(s->socket, s->noise, strlen(s->noise), NULL, 0);
    (void)shutdown(s->socket, SHUT_WR);
    while (recv(s->socket, text, sizeof(text), 0) > 0) { /* to its end: closing earlier could take the welcome along */
    }
    (void)close(s->socket);
    return NULL;
}

static orion_status_t greet(server_t *s, int over_tcp, orion_greet_key_t *key)
{
    int pair[2], fds[2];
    orion_hello_t hello;
    orion_welcome_t welcome;
    MUST((over_tcp ? echo_tcp_pair(pair) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)) == 0);
    s->socket = pair[1];
    MUST(pthread_create(&s->thread, NULL, serve, s) == 0);
    orion_hello_init(&hello);
    why[0] = '\0';
    orion_status_t status = orion_greet(pair[0], "the test", &hello, &welcome, fds, key, why, sizeof(why));
    (void)close(pair[0]);
    MUST(pthread_join(s->thread, NULL) == 0);
    return status;
}

static void both_sides_prove_the_token_and_have_one_key(void)
{
    server_t s = {.token = TOKEN};
    orion_greet_key_t key;
    setenv("ORION_TOKEN", TOKEN, 1);
    CHECK_EQUAL(greet(&s, 1, &key), ORION_OK);
    CHECK(s.heard && s.right && key.proven);
    orion_greet_key_t again;
    server_t t = {.token = TOKEN};
    CHECK_EQUAL(greet(&t, 1, &again), ORION_OK);
    CHECK(memcmp(key.key, again.key, sizeof(key.key)) != 0); /* each session its own */
}

static void server_with_another_secret_is_refused(void)
{
    server_t s = {.token = "me.another-secret-than-ours"};
    setenv("ORION_TOKEN", TOKEN, 1);
    CHECK_EQUAL(greet(&s, 1, NULL), ORION_PROTOCOL);
    CHECK(!s.right);
    CHECK(strstr(why, "does not know the secret of token me") != NULL);
    CHECK(strstr(why, "battery") == NULL);
}

static void server_that_proves_nothing_is_refused_even_on_a_unix_socket(void)
{
    setenv("ORION_TOKEN", TOKEN, 1);
    for (int over_tcp = 0; over_tcp < 2; over_tcp++) {
        server_t s = {.token = TOKEN, .silent = true};
        CHECK_EQUAL(greet(&s, over_tcp, NULL), ORION_PROTOCOL);
        CHECK(strstr(why, "does not know the secret") != NULL);
    }
}

static void welcome_that_was_changed_on_its_way_is_refused(void)
{
    static const uint32_t places[] = {offsetof(orion_welcome_t, flags), offsetof(orion_welcome_t, session_id),
                                      offsetof(orion_welcome_t, device), offsetof(orion_welcome_t, proof)};
    setenv("ORION_TOKEN", TOKEN, 1);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        server_t s = {.token = TOKEN, .flip = places[i] + 1};
        CHECK_EQUAL(greet(&s, 1, NULL), ORION_PROTOCOL);
        CHECK(strstr(why, "does not know the secret") != NULL);
    }
}

static void server_over_tcp_that_asks_for_no_token_is_refused(void)
{
    server_t s = {0};
    setenv("ORION_TOKEN", TOKEN, 1);
    CHECK_EQUAL(greet(&s, 1, NULL), ORION_PROTOCOL);
    CHECK(strstr(why, "--token-file") != NULL);
}

static void unix_socket_needs_no_token(void)
{
    server_t s = {0};
    orion_greet_key_t key;
    setenv("ORION_TOKEN", TOKEN, 1);
    CHECK_EQUAL(greet(&s, 0, &key), ORION_OK);
    CHECK(!key.proven);
}

static void challenge_without_a_token_or_a_second_one_is_refused(void)
{
    server_t unasked = {.unasked = true}, twice = {.token = TOKEN, .twice = true};
    unsetenv("ORION_TOKEN");
    CHECK_EQUAL(greet(&unasked, 1, NULL), ORION_PROTOCOL);
    CHECK(strstr(why, "asked for a token") != NULL);
    CHECK(!unasked.heard);
    setenv("ORION_TOKEN", TOKEN, 1);
    CHECK_EQUAL(greet(&twice, 1, NULL), ORION_PROTOCOL);
    CHECK(strstr(why, "twice") != NULL);
}

static void notice_that_does_not_belong_there_is_refused(void)
{
    server_t s = {.token = TOKEN, .notice_instead = true};
    setenv("ORION_TOKEN", TOKEN, 1);
    CHECK_EQUAL(greet(&s, 1, NULL), ORION_PROTOCOL);
}

/* A whole session, whose server has flags in its welcome and then says something. */
static orion_status_t open_session(server_t *s, const char *tls)
{
    int pair[2];
    orion_hello_t hello;
    orion_welcome_t welcome;
    orion_link_t *link;
    MUST(echo_tcp_pair(pair) == 0);
    MUST(setenv("ORION_TOKEN", TOKEN, 1) == 0 && setenv("ORION_TLS", tls, 1) == 0);
    s->socket = pair[1];
    MUST(pthread_create(&s->thread, NULL, serve, s) == 0);
    orion_hello_init(&hello);
    hello.flags = ORION_FLAG_NO_RANGE;
    why[0] = '\0';
    orion_status_t status = orion_tcp_open_socket(pair[0], "the test", &hello, &welcome, &link, why, sizeof(why));
    if (status == ORION_OK)
        orion_link_close(link);
    MUST(pthread_join(s->thread, NULL) == 0);
    (void)unsetenv("ORION_TLS");
    return status;
}

static void server_that_promises_tls_and_speaks_something_else_is_refused(void)
{
    if (orion_libssl(why, sizeof(why)) == NULL) {
        printf("skipped: %s\n", why);
        return;
    }
    server_t noise = {.token = TOKEN, .flags = ORION_FLAG_TLS, .noise = "HTTP/1.1 200 OK\r\n\r\n"};
    CHECK_EQUAL(open_session(&noise, "required"), ORION_PROTOCOL);
    CHECK(strstr(why, "no stream over TLS") != NULL);
    server_t silent = {.token = TOKEN, .flags = ORION_FLAG_TLS};
    CHECK(open_session(&silent, "required") != ORION_OK);
    CHECK(strstr(why, "no stream over TLS") != NULL);
}

static void server_that_encrypts_unasked_or_not_at_all_is_refused(void)
{
    server_t unasked = {.token = TOKEN, .flags = ORION_FLAG_TLS}, plain = {.token = TOKEN};
    CHECK_EQUAL(open_session(&unasked, "off"), ORION_PROTOCOL);
    CHECK(strstr(why, "nobody asked") != NULL);
    if (orion_libssl(why, sizeof(why)) == NULL)
        return;
    CHECK_EQUAL(open_session(&plain, "required"), ORION_REFUSED);
    CHECK(strstr(why, "does not encrypt") != NULL);
}

static void token_that_is_none_is_named_before_anything_is_sent(void)
{
    int pair[2], fds[2];
    orion_hello_t hello;
    orion_welcome_t welcome;
    char byte;
    MUST(echo_tcp_pair(pair) == 0);
    setenv("ORION_TOKEN", "nonsense", 1);
    orion_hello_init(&hello);
    CHECK_EQUAL(orion_greet(pair[0], "x", &hello, &welcome, fds, NULL, why, sizeof(why)), ORION_INVALID);
    CHECK(strstr(why, "ORION_TOKEN") != NULL);
    CHECK(recv(pair[1], &byte, 1, MSG_DONTWAIT) < 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

CHECK_MAIN(CASE(both_sides_prove_the_token_and_have_one_key), CASE(server_with_another_secret_is_refused),
           CASE(server_that_proves_nothing_is_refused_even_on_a_unix_socket),
           CASE(welcome_that_was_changed_on_its_way_is_refused),
           CASE(server_over_tcp_that_asks_for_no_token_is_refused), CASE(unix_socket_needs_no_token),
           CASE(challenge_without_a_token_or_a_second_one_is_refused),
           CASE(notice_that_does_not_belong_there_is_refused),
           CASE(server_that_promises_tls_and_speaks_something_else_is_refused),
           CASE(server_that_encrypts_unasked_or_not_at_all_is_refused),
           CASE(token_that_is_none_is_named_before_anything_is_sent))
